"""Test rows of a sweep's runs, the accuracies and losses in its table, and the names of its directories."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from small_sweeps import EASY, directories, results, write
from training_here import train_here

from grok_lightning.records.runs import SEPARATOR, hash_of_name

Command = Callable[..., tuple[int, str, str]]
# of a stack, over at 16, 1 and 4 steps or so; every run has test rows
LEAVING = EASY | {"evaluation.every": 2, "evaluation.stop_after": 2, "trainer.max_steps": 16, "data.val_fraction": 0.2}
RATES = [0.0001, 0.003, 1e30, 0.03]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)


def test_runs_that_leave_a_stack_have_the_values_of_single_runs(command: Command) -> None:
    found = {}
    for name, size in (("stacked", 4), ("single", 1)):
        path = write(name, {"model.optimizer.lr": RATES}, **LEAVING)
        status, out, _ = command("sweep", path, "--stack-size", size, "--events", "off", "--keep", "last")
        assert status == 0
        found[name] = results(name)
        table = out.splitlines()[-5:]
        assert "train acc (loss)" in table[0]
        assert "test acc (loss)" in table[0]
    assert len({result["steps"] for result in found["stacked"].values()}) == 4
    for (run, one), two in zip(found["stacked"].items(), found["single"].values(), strict=True):
        assert one["counts"] == two["counts"] == {"train": 24, "val": 9, "test": 16}
        tested = [{key: value for key, value in each["final"].items() if "test/" in key} for each in (one, two)]
        assert tested[0] == pytest.approx(tested[1], rel=1e-5)
        assert bool(tested[0]) == (one["status"] != "diverged")
        if tested[0]:
            assert command("test", "--ckpt_path", Path("checkpoints/stacked", run, "last.ckpt"))[0] == 0
            again = yaml.safe_load(Path("lightning_logs/stacked", run, "test.json").read_text())
            assert again["step"] == one["steps"]
            assert {key: again[key] for key in tested[0]} == pytest.approx(tested[0], rel=1e-5)


def test_the_table_tells_runs_that_learned_from_those_that_did_not(command: Command) -> None:
    path = write("e", {"model.optimizer.lr": [1e-9, 0.03]}, **EASY, **{"trainer.max_steps": 20})
    lines = command("sweep", path, "--events", "off")[1].splitlines()[-3:]
    ends = sorted((result["final"] for result in results("e").values()), key=lambda final: final["val/acc"])
    for line, final in zip(lines[1:], ends, strict=True):
        assert f"{int(1000 * final['val/acc'] + 1e-9) / 10}% ({final['val/loss']:.3g})" in line
    assert "test" not in lines[0]
    assert command("sweep", "status", path)[1].splitlines()[-3:] == lines


def test_text_is_memorized(command: Command) -> None:
    data = {"class_path": "TextDataModule", "strings": ["ab"], "batch_size": 4}
    fixed = {"data": data, "data.modulus": None, "data.batch_size": None, "trainer.max_steps": 80}
    network = {"class_path": "Transformer", "layers": 1, "width": 16, "heads": 2}
    path = write("e", {"seed_everything": [0, 1]}, **fixed, **{"model.network": network, "evaluation.every": 20})
    _, out, err = command("sweep", path, "--events", "off")
    head, line = out.splitlines()[-2:]
    assert head.split() == ["runs", "memorized", "memorized", "at", "train", "acc", "(loss)"]
    assert "2 of 2" in line
    assert "100.0%" in line
    assert "grokked" not in out + err
    for directory in directories("e"):  # of an earlier version, which said that they had grokked
        path_of = directory / "result.json"
        result = yaml.safe_load(path_of.read_text())
        result.pop("counts")
        path_of.write_text(json.dumps(result | {"grok_step": result["memorize_step"]}))
    assert command("sweep", "status", path)[1].splitlines()[-2:] == [head, line]


def test_names_have_no_operators_between_options_and_older_ones_are_found(command: Command) -> None:
    grid = {"data.formula": ["x - y", "x + y"], "seed_everything": [0, 1]}
    path = write("e", grid, **{"trainer.max_steps": 2})
    assert command("sweep", path, "--events", "off")[0] == 0
    names = [directory.name for directory in directories("e")]
    hashes = [result["config_hash"] for result in results("e").values()]
    wanted = [f"formula=x{sign}y__seed={seed}" for sign in "+-" for seed in (0, 1)]
    assert names == [SEPARATOR.join(pair) for pair in zip(wanted, hashes, strict=True)]
    for name in names:  # as earlier versions named them
        old = f"{name[:-18].replace('__', '+')}-{name[-16:]}"
        assert hash_of_name(old) == hash_of_name(name) == name[-16:]
        for top in ("lightning_logs", "checkpoints"):
            shutil.move(Path(top, "e", name), Path(top, "e", old))
    before = {path: path.stat().st_mtime_ns for path in Path("lightning_logs/e").rglob("result.json")}
    grown = write("e", {**grid, "seed_everything": [0, 1, 2]}, **{"trainer.max_steps": 2})
    assert "4 over, 2 to do" in command("sweep", grown, "--dry-run")[1]
    path = write("e", grid, **{"trainer.max_steps": 2})
    assert command("sweep", path, "--events", "off")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in Path("lightning_logs/e").rglob("result.json")} == before
    old = directories("e")[0]
    last = Path("checkpoints/e", old.name, "last.ckpt")
    assert command("fit", "--ckpt_path", last, "--trainer.max_steps", 4)[0] == 0
    for _ in range(2):  # a run that a fit went on with is another one now
        assert command("sweep", path, "--events", "off")[0] == 0
        assert [each.name for each in directories("e") if SEPARATOR in each.name] == names[:1]
    assert len(directories("e")) == 5
