"""A run is its resolved config: done once, left as ``fit`` leaves it, and found again whatever the file looks like."""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_sweeps import EASY, as_the_program, directories, outcomes, results, tables, write
from training_here import train_here

from grok_lightning.options.parsing import recorded_run, resolve
from grok_lightning.records.checkpoint import CONFIG_KEY, load
from grok_lightning.records.record import read_metrics
from grok_lightning.sweep.file import build_options
from grok_lightning.sweep.plan.runs import read_plan

Command = Callable[..., tuple[int, str, str]]
ADAMW = "grok_lightning.optim.AdamW"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)


def untouched(name: str) -> dict[Path, tuple[int, bytes]]:
    """All files of an experiment's runs, and when they were written."""
    files = [path for top in ("lightning_logs", "checkpoints") for path in Path(top, name).rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files if ".sweep" not in path.parts}


def test_only_what_is_missing_is_done(command: Command) -> None:
    grid = {"seed_everything": [0, 1]}
    assert command("sweep", write("e", grid), "--events", "off")[0] == 0
    before = untouched("e")
    assert len(directories("e")) == 2

    status, out, err = command("sweep", write("e", grid), "--events", "on", "--keep", "none")  # these change no result
    assert (status, err) == (0, "")
    assert "0 of 2" in out
    assert untouched("e") == before

    assert command("sweep", write("e", {"seed_everything": [1, 2, 0]}), "--events", "off")[0] == 0
    assert len(directories("e")) == 3
    assert untouched("e").items() >= before.items()

    status, _, err = command("sweep", write("e", grid, **{"trainer.max_steps": 41}), "--events", "off")
    assert status == 0
    assert "3 runs of other options are there too; they stay" in err
    assert sorted(result["steps"] for result in results("e").values()) == [40, 40, 40, 41, 41]
    assert untouched("e").items() >= before.items()


def hashes(grid: dict[str, Any], more: dict[str, Any]) -> set[str]:
    return {run.hash for run in read_plan(write("e", grid, **more)).runs}


GRID: dict[str, Any] = {"seed_everything": [0, 1], "data.train_fraction": [0.5, 0.4]}


@pytest.fixture(scope="module")
def of_the_grid(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("grid"))
        return hashes(GRID, {})


@pytest.mark.parametrize(
    ("grid", "more"),
    [
        pytest.param({"data.train_fraction": [0.4, 0.5], "seed_everything": "0..1"}, {}, marks=pytest.mark.slow),
        ({"seed_everything": [0, 1], "data.train-fraction": ["5e-1", 0.4]}, {}),
        (GRID, {"model.warmup": 10, "model.optimizer.weight_decay": 1, "data.val_fraction": None}),
        pytest.param(
            GRID,
            {"model.optimizer": {"class_path": ADAMW, "init_args": {"lr": 0.01}}, "model.optimizer.lr": None},
            marks=pytest.mark.slow,
        ),
        pytest.param(GRID, {"model.optimizer.lr": "1e-2", "data.modulus": "7"}, marks=pytest.mark.slow),
        (GRID, {"model.compile": True, "checkpoint.keep": "none", "checkpoint.every": 7, "trainer.logger": False}),
        pytest.param(
            GRID,
            {"measures": ["Collapse"], "trainer.enable_progress_bar": False, "trainer.accelerator": "auto"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["order", "spelling", "defaults", "whole class", "numbers as text", "no results", "looking on"],
)
def test_what_changes_no_result_changes_no_hash(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    of_the_grid: set[str],
    grid: dict[str, Any],
    more: dict[str, Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hashes(grid, more) == of_the_grid


@pytest.mark.parametrize(
    "more",
    [
        {"model.optimizer.lr": 0.02},
        {"model.optimizer": "Muon", "model.optimizer.lr": None},
        pytest.param({"data.formula": "x * y"}, marks=pytest.mark.slow),
        pytest.param({"evaluation.every": 5}, marks=pytest.mark.slow),
        pytest.param({"trainer.precision": "64-true"}, marks=pytest.mark.slow),
        pytest.param({"model.filters": ["Clip"]}, marks=pytest.mark.slow),
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_may_change_a_result_changes_every_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_the_grid: set[str], more: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not hashes(GRID, more) & of_the_grid


BASES: dict[str, dict[str, list[Any]]] = {
    "division": {
        "data.train_fraction": [0.3, "5e-1"],
        "model.optimizer": ["Muon", {"class_path": "AdamW", "weight_decay": 0}],
    },
    "coursework/division": {"data.batch_size": [16, "full", "paper"], "model.weight_norm": ["free", 1, 2.0]},
    "coursework-followup/lstm": {
        "model.optimizer.betas": [[0.9, 0.98], [0.9, 0.9]],
        "trainer.precision": ["bf16-mixed", "32-true"],
    },
    "grokfast2024/ema": {"model.filters": [[], ["Clip"], [{"class_path": "GrokfastEMA", "strength": 2}]]},
}


@pytest.mark.parametrize(
    "base", ["grokfast2024/ema", *(pytest.param(base, marks=pytest.mark.slow) for base in [*BASES][:-1])]
)
def test_a_run_has_the_hash_that_its_fit_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    """Of 2,000 runs almost none is resolved by itself."""
    monkeypatch.chdir(tmp_path)
    seeds = -(-2000 // prod(map(len, BASES[base].values())))
    grid = BASES[base] | {"seed_everything": f"0..{seeds - 1}"}
    fixed = {"data.modulus": 11, "trainer.accelerator": "cpu"}
    Path("s.yaml").write_text(yaml.safe_dump({"base": base, "set": fixed, "grid": grid}, sort_keys=False))
    plan = read_plan("s.yaml")
    assert len({run.hash for run in plan.runs}) == len(plan.runs) >= 2000
    for place in range(1, 2000, 700):
        Path("run.yaml").write_text(yaml.safe_dump(build_options(plan.grid, plan.grid.points[place])))
        with as_the_program():
            recorded = recorded_run(resolve(["fit", "--config", "run.yaml"]))
        assert recorded.hash == plan.runs[place].hash


def test_a_run_leaves_what_its_fit_leaves(command: Command) -> None:
    more = EASY | {"checkpoint.steps": [20], "evaluation.stop_after": 3}
    assert command("sweep", write("e", {"seed_everything": [3]}, **more))[0] == 0
    (directory,) = directories("e")
    assert command("fit", "--config", directory / "config.yaml", "--experiment", "alone", "--run", "a")[0] == 0
    alone = Path("lightning_logs/alone/a")
    assert kinds(directory) == kinds(alone) == {"config.yaml", "metrics.csv", "result.json", "curves.png", "events"}
    checkpoints = [Path("checkpoints") / path.relative_to("lightning_logs") for path in (directory, alone)]
    assert kinds(checkpoints[0]) == kinds(checkpoints[1]) == {"last.ckpt", "grok.ckpt", "step=20.ckpt"}
    assert (directory / "metrics.csv").read_bytes() == (alone / "metrics.csv").read_bytes()
    assert outcomes("e") == outcomes("alone")
    for name in ("last.ckpt", "grok.ckpt", "step=20.ckpt"):
        one, two = (load(path / name) for path in checkpoints)
        assert one["global_step"] == two["global_step"]
        assert all(torch.equal(weight, two["state_dict"][key]) for key, weight in one["state_dict"].items())
    config = yaml.safe_load((directory / "config.yaml").read_text())
    assert config == results("e")[directory.name]["config"] == load(checkpoints[0] / "last.ckpt")[CONFIG_KEY]
    assert (config["experiment"], config["run"]) == ("e", directory.name)


def kinds(directory: Path) -> set[str]:
    return {"events" if "tfevents" in path.name else path.name for path in directory.iterdir()}


@pytest.mark.slow
def test_what_a_run_of_a_stack_leaves_is_taken_as_a_single_run_s(command: Command) -> None:
    """By test, generate and a fit with a larger budget, which goes on as that of a run that was never in a stack."""
    more = EASY | {"data.val_fraction": 0.3}
    for name, size in (("stacked", 2), ("single", 1)):
        grid = {"seed_everything": [0, 1]}
        assert command("sweep", write(name, grid, **more), "--stack-size", size)[0] == 0
        assert {result["stack"] for result in results(name).values()} == {size}
    for one, two in zip(directories("stacked"), directories("single"), strict=True):
        assert kinds(one) == kinds(two)
        assert kinds(Path("checkpoints/stacked", one.name)) == kinds(Path("checkpoints/single", two.name))
    last = Path("checkpoints/stacked", directories("stacked")[1].name, "last.ckpt")
    assert "accuracy 100.00%" in command("test", "--ckpt_path", last)[1]
    status, out, _ = command("generate", last.with_name("grok.ckpt"), "3o5=")
    assert (status, "3o5= 0" in out) == (0, True)
    ended = []
    for name in ("stacked", "single"):
        last = Path("checkpoints", name, directories(name)[1].name, "last.ckpt")
        assert command("fit", "--ckpt_path", last, "--trainer.max_steps", 60)[0] == 0
        ended.append(read_metrics(directories(name)[1]))
    assert [row["step"] for row in ended[0]] == [0, 10, 20, 30, 40, 50, 60]
    for one, two in zip(*ended, strict=True):
        assert one == pytest.approx(two, rel=1e-4, nan_ok=True)


@pytest.mark.slow
def test_a_run_that_a_fit_went_on_with_is_its_own_from_then_on(command: Command) -> None:
    """The sweep does its own run again, beside it."""
    path = write("e", {"seed_everything": [0, 1]})
    assert command("sweep", path, "--events", "off")[0] == 0
    before = tables("e")
    longer = directories("e")[0]
    last = Path("checkpoints/e", longer.name, "last.ckpt")
    assert command("fit", "--ckpt_path", last, "--trainer.max_steps", 50)[0] == 0
    theirs = untouched("e")
    for _ in range(2):
        assert command("sweep", path, "--events", "off")[0] == 0
        assert len(directories("e")) == 3
        assert sorted(result["steps"] for result in results("e").values()) == [40, 40, 50]
        assert untouched("e").items() >= theirs.items()
    (again,) = (path for path in directories("e") if "__again__" in path.name)
    assert (again / "metrics.csv").read_bytes() == before[again.name[-16:]]
