"""Checkpoints at an interval and log-spaced: announced beforehand, complete however a run is stopped."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY
from training_here import train_here

from grok_lightning import Experiment, load_run
from grok_lightning.callbacks.checkpoints import count_points
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.errors import UserError
from grok_lightning.files import show_bytes
from grok_lightning.module import GrokModule
from grok_lightning.records.checkpoint import load
from grok_lightning.records.runs import drop_later_steps, find_steps, trajectory_name

Command = Callable[..., tuple[int, str, str]]
BUDGET = ["--trainer.max_steps", "45", "--checkpoint.every", "20"]
FIT = ["fit", *TINY, *BUDGET, "--experiment", "e"]
LOG = [1, 2, 5, 10, 22]  # 3 per decade, up to 45


def steps_of(run: str) -> list[int]:
    return [int(path.stem.removeprefix("step=")) for path in find_steps(Path("checkpoints/e") / run)]


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load(path)["state_dict"]
    return state


def assert_same_files(one: str, other: str) -> None:
    mine, theirs = (find_steps(Path("checkpoints/e") / run) for run in (one, other))
    assert [path.name for path in mine] == [path.name for path in theirs]
    for left, right in zip(mine, theirs, strict=True):
        ours, others = weights(left), weights(right)
        assert all(torch.equal(ours[name], others[name]) for name in others)
        assert load(left)["global_step"] == int(left.stem.removeprefix("step="))


def test_all_steps_are_there_and_no_other(command: Command) -> None:
    options = ["--checkpoint.interval", "10", "--checkpoint.per_decade", "3", "--checkpoint.steps", "[7, 20]"]
    status, out, _ = command(*FIT, "--run", "a", *options)
    assert status == 0
    folder = Path("checkpoints/e/a")
    assert steps_of("a") == sorted({0, 7, *range(10, 45, 10), *LOG})
    assert (folder / "step=7.ckpt").exists()
    assert (folder / "step=0000010.ckpt").exists()
    assert (folder / "step=20.ckpt").exists()
    assert not (folder / "step=0000020.ckpt").exists()
    full, light = folder / "step=7.ckpt", folder / "step=0000010.ckpt"
    assert full.stat().st_size > 2.5 * light.stat().st_size
    line = next(line for line in out.splitlines() if line.startswith("checkpoint.interval: "))
    size = show_bytes(light.stat().st_size).split()[0]
    assert line.startswith("checkpoint.interval: at most 9 checkpoints of ")
    assert float(line.split(" of ")[1].split()[0]) == pytest.approx(float(size), rel=0.1)


def test_a_checkpoint_on_the_way_is_evaluated_and_not_resumed(command: Command) -> None:
    assert command(*FIT, "--run", "a", "--checkpoint.interval", "15")[0] == 0
    path = "checkpoints/e/a/step=0000015.ckpt"
    status, _, err = command("fit", "--ckpt_path", path)
    assert status == 2
    assert "holds weights only" in err
    assert "--init_from" in err
    assert command("validate", "--ckpt_path", path)[0] == 0
    assert command("predict", "--ckpt_path", path, "--output", "a.csv")[0] == 0
    status, out, _ = command("generate", path, "3+5=")
    run = load_run(path)
    assert status == 0
    assert out == f"3+5= {run.predict(x=3, y=5)[0]}\n"
    assert run.step == 15
    assert run.metrics["step"].max() == 45
    way = list(run.trajectory())
    assert [each.step for each in way] == [0, 15, 30, 45]
    for each, file in zip(way, find_steps(Path("checkpoints/e/a")), strict=True):
        assert torch.equal(each.model.embedding, weights(file)["network.embeddings.tokens.weight"])
    assert torch.equal(way[-1].model.embedding, load_run("checkpoints/e/a/last.ckpt").model.embedding)
    assert not torch.equal(way[0].model.embedding, way[1].model.embedding)
    assert command(*FIT, "--run", "b", "--init_from", path, "--trainer.max_steps", "2")[0] == 0


def test_an_interrupted_run_has_the_same_files(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--checkpoint.interval", "7", "--checkpoint.per_decade", "3"]
    assert command(*FIT, "--run", "whole", *options)[0] == 0
    step = GrokModule.training_step

    def die(self, batch, batch_idx):
        if self.trainer.global_step >= 28:
            raise OSError("the machine went down")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(GrokModule, "training_step", die)
        assert command(*FIT, "--run", "cut", *options)[0] == 1
    folder = Path("checkpoints/e/cut")
    assert load(folder / "last.ckpt")["global_step"] == 20
    assert steps_of("cut")[-1] == 28
    (folder / "step=0000044.ckpt").write_bytes((folder / "step=0000028.ckpt").read_bytes())  # of another future
    status, out, _ = command("fit", "--experiment", "e", "--run", "cut", "--ckpt_path", "last")
    assert status == 0
    assert "checkpoint.interval: at most 5 checkpoints" in out  # 21, 22, 28, 35, 42
    assert_same_files("cut", "whole")
    assert steps_of("whole") == sorted({*range(0, 46, 7), *LOG})


@pytest.mark.parametrize("keep", ["none", "grok", "last"])
def test_they_stay_whatever_is_kept(command: Command, keep: str) -> None:
    assert command(*FIT, "--run", "a", "--checkpoint.interval", "20", "--checkpoint.keep", keep)[0] == 0
    assert steps_of("a") == [0, 20, 40]
    assert Path("checkpoints/e/a/last.ckpt").exists() == (keep == "last")


def test_without_the_options_there_are_none(command: Command) -> None:
    status, out, _ = command(*FIT, "--run", "a")
    assert status == 0
    assert steps_of("a") == []
    assert "checkpoints of" not in out
    with pytest.raises(UserError, match=r"has no step=N\.ckpt; train with --checkpoint.interval"):
        load_run("checkpoints/e/a/last.ckpt").trajectory()


def test_they_are_refused_before_anything_is_written(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for option, value in (("interval", "-1"), ("per_decade", "-3"), ("interval", "1.5")):
        status, _, err = command(*FIT, f"--checkpoint.{option}", value)
        assert status == 2
        assert f"checkpoint.{option}" in err
        assert err.count("\n") == 1
    monkeypatch.setattr("grok_lightning.callbacks.checkpoints.find_free_bytes", lambda _: 30_000)
    status, _, err = command(*FIT, "--run", "a", "--checkpoint.interval", "1")
    assert status == 2
    assert err.count("\n") == 1
    assert "--checkpoint.interval: at most 46 checkpoints of" in err
    assert "but only 30 kB are free" in err
    assert not Path("checkpoints").exists()
    assert not Path("lightning_logs").exists()


def test_a_stack_saves_each_runs_own(
    command: Command, write_yaml: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    train_here(monkeypatch)
    fixed = {"data.modulus": 11, "data.batch_size": 16, "model.network.width": 16, "model.network.heads": 2}
    fixed |= {
        "model.network.layers": 1,
        "trainer.max_steps": 30,
        "trainer.precision": "32-true",
        "evaluation.every": 10,
    }
    fixed |= {"checkpoint.interval": 10, "checkpoint.per_decade": 1}
    grid = {"model.optimizer.lr": [0.001, 0.003], "seed_everything": [0, 1]}
    path = write_yaml({"set": fixed, "grid": grid}, "s.yaml")
    status, out, _ = command("sweep", path, "--dry-run")
    assert status == 0
    assert "and checkpoint.interval: at most 20 checkpoints of" in out
    status, out, _ = command("sweep", path, "--workers", "1", "--stack-size", "3")
    assert status == 0
    assert "s: checkpoint.interval: at most 20 checkpoints of" in out
    folders = sorted(Path("checkpoints/s").glob("*__*"))
    assert len(folders) == 4
    for folder in folders:
        assert [file.name for file in find_steps(folder)] == [trajectory_name(step) for step in (0, 1, 10, 20, 30)]
    run = load_run(find_steps(folders[1])[2])
    lr = run.config["model"]["optimizer"]["lr"]
    same = ["--model.optimizer.lr", str(lr), "--seed_everything", str(run.config["seed_everything"])]
    options = [part for name, value in fixed.items() for part in (f"--{name}", str(value))]
    assert command("fit", *options, *same, "--experiment", "e", "--run", "single", "--threads", "1")[0] == 0
    for mine, theirs in zip(find_steps(folders[1]), find_steps(Path("checkpoints/e/single")), strict=True):
        ours, others = weights(mine), weights(theirs)
        for name in others:
            if name.endswith("key.bias"):  # has no gradient but rounding
                continue
            torch.testing.assert_close(ours[name], others[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("interval", [0, 1, 7, 100])
@pytest.mark.parametrize("per_decade", [0, 1, 16])
def test_points_are_those_of_the_evaluation_schedule(interval: int, per_decade: int) -> None:
    schedule = EvaluationSchedule(per_decade, interval)
    for step, last in ((None, 0), (None, 250), (0, 100), (99, 100), (100, 100), (57, 1000)):
        first = 0 if step is None else step + 1
        wanted = sum(schedule.is_point(point) for point in range(first, last + 1))
        wanted -= 1 if step is None and not interval and not per_decade else 0
        assert count_points(interval, per_decade, step, last) == wanted


def test_the_short_name_of_the_evaluations_stays_theirs(command: Command) -> None:
    config = Experiment("addition", per_decade=3, interval=7).config
    assert (config["evaluation"]["per_decade"], config["checkpoint"]["per_decade"]) == (3, 0)
    assert config["checkpoint"]["interval"] == 7


def test_names_and_sizes(tmp_path: Path) -> None:
    for step in (100, 20, 3_000_000, 12_345_678):
        (tmp_path / trajectory_name(step)).touch()
    for name in ("step=100.ckpt", "step=7.ckpt", "step=x.ckpt", "last.ckpt", "step=-1.ckpt"):
        (tmp_path / name).touch()
    numbers = [int(path.stem[5:]) for path in find_steps(tmp_path)]
    assert numbers == [7, 20, 100, 3_000_000, 12_345_678]
    drop_later_steps(tmp_path, 20)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[5:6].isdigit()) == [
        "step=0000020.ckpt", "step=100.ckpt", "step=7.ckpt",
    ]  # fmt: skip
    assert [show_bytes(size) for size in (0, 999, 1800, 1_800_000, 450e6, 12.34e9, 999_600)] == [
        "0 B", "999 B", "1.8 kB", "1.8 MB", "450 MB", "12 GB", "1 MB",
    ]  # fmt: skip
