"""A user's mistakes in a sweep end in one line and status 2, before anything is written or run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_sweeps import NETWORKS, results, write
from training_here import train_here

Command = Callable[..., tuple[int, str, str]]
TRANSFORMER = NETWORKS["Transformer"]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)


def refusal(command: Command, *arguments: object) -> str:
    before = sorted(Path().rglob("*"))
    status, out, err = command("sweep", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("grok-lightning: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert sorted(Path().rglob("*")) == before
    return err


NO_SWEEPS = [
    ("", ["no mapping"]),
    ("grid: {}", ["grid is empty"]),
    ("grid: {data.train_fraction: []}", ["data.train_fraction", "at least one value"]),
    ("set: {data.modulus: 7}", ["neither grid nor zip"]),
    ("grid: {seed_everything: [0, 1]}\nexclude: [{seed_everything: 0..1}]", ["exclude leaves none"]),
    ("gird: {seed_everything: [0]}", ["'gird'", "did you mean grid?"]),
    ("base: divison\ngrid: {seed_everything: [0]}", ["divison", "did you mean division?"]),
    ("grid: {seed_everything: [0]", ["cannot be read as YAML"]),
]


def test_a_file_that_is_no_sweep(command: Command) -> None:
    for content, words in NO_SWEEPS:
        Path("e.yaml").write_text(content)
        err = refusal(command, "e.yaml")
        assert all(word in err for word in [*words, "e.yaml"])


@pytest.mark.parametrize(
    ("grid", "more", "words"),
    [
        ({"data.train_fractoin": [0.3]}, {}, ["data.train_fractoin", "did you mean", "data.train_fraction"]),
        ({"data.modulus": [7, "seven"]}, {}, ["the run with data.modulus seven", "'seven'", "an integer"]),
        ({"model.optimizer": ["AdamW", "AdamX"]}, {"model.optimizer.lr": None}, ["AdamX", "did you mean"]),
        ({"data.train_fraction": [0.5, 1.5]}, {}, ["the run with", "data.train_fraction 1.5", "between 0 and 1"]),
        ({"model.network.heads": [2, 3]}, TRANSFORMER | {"model.network": "Transformer"}, ["heads 3", "128"]),
        ({"seed_everything": [0]}, {"data.modulu": 7}, ["data.modulu", "did you mean", "data.modulus"]),
        ({"seed_everything": [0]}, {"trainer.devices": 2}, ["trainer.devices is 2", "1 device each", "--workers"]),
        ({"trainer.devices": [1, 2]}, {}, ["the run with trainer.devices 2", "1 device each"]),
        ({"seed_everything": [0]}, {"trainer.num_nodes": 2}, ["trainer.num_nodes is 2", "1 node each"]),
        ({"seed_everything": [0]}, {"trainer.max_epochs": 3}, ["trainer.max_epochs", "trainer.max_steps"]),
        ({"model.warmup": [10, 10.0]}, {}, ["model.warmup", "same value twice"]),
    ],
)
def test_a_run_that_cannot_be(command: Command, grid: dict[str, Any], more: dict[str, Any], words: list[str]) -> None:
    err = refusal(command, write("e", grid, **more))
    assert all(word in err for word in [*words, "e.yaml"])


def test_two_combinations_that_are_the_same_run(command: Command) -> None:
    """One names what the other one leaves at its default."""
    optimizers = [{"class_path": "AdamW", "lr": 0.01}, {"class_path": "AdamW", "lr": 0.01, "weight_decay": 1.0}]
    err = refusal(command, write("e", {"model.optimizer": optimizers}, **{"model.optimizer.lr": None}))
    assert "is the same run as" in err
    assert "leave one of the two out" in err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--shard 0/3", ["--shard is '0/3'", "i/n"]),
        ("--shard 4/3", ["--shard is '4/3'"]),
        ("--shard x", ["--shard is 'x'"]),
        ("--shard 1/0", ["--shard is '1/0'"]),
        ("--workers 0", ["--workers is '0'", "at least 1"]),
        ("--workers two", ["--workers", "two"]),
        ("--stack-size 0", ["size is '0'", "at least 1"]),
        ("--stack-size=-3", ["size is '-3'", "at least 1"]),
        ("--executor slurm", ["executor", "slurm", "ray"]),
        ("--keep all", ["keep", "all", "grok"]),
        ("--events perhaps", ["events", "perhaps", "off"]),
        ("--root e.yaml", ["--root", "e.yaml"]),
        ("--wrokers 2", ["--wrokers", "did you mean --workers?"]),
        ("absent.yaml", ["absent.yaml", "no such file"]),
        ("other/e.yaml", ["2 files are named e"]),
    ],
)
def test_options_of_the_command(command: Command, option: str, words: list[str]) -> None:
    path = write("e", {"seed_everything": [0, 1]})
    Path("other").mkdir()
    Path("other/e.yaml").write_text(path.read_text())
    err = refusal(command, path, *option.split())
    assert all(word in err for word in words)


def test_options_may_come_before_the_file(command: Command) -> None:
    path = write("e", {"seed_everything": [0, 1]})
    assert "--shard is '0/3'" in refusal(command, "--shard", "0/3", path)


def test_no_file_at_all(command: Command) -> None:
    assert "file" in refusal(command)
    assert "no such file" in refusal(command, "status", "absent.yaml")


def test_what_writes_nothing(command: Command) -> None:
    path = write("e", {"seed_everything": [0, 1]})
    for arguments, word in ((("status", path), "2 runs, 2 not done"), ((path, "--dry-run"), "2 runs")):
        status, out, err = command("sweep", *arguments)
        assert (status, err) == (0, "")
        assert word in out
    assert [str(found) for found in Path().rglob("*")] == ["e.yaml"]


@pytest.mark.slow
def test_the_directory_of_another_sweep(command: Command) -> None:
    """Unless it is the same sweep that has moved: it shares runs with what is there."""
    for name in ("a", "b"):
        Path(name).mkdir()
    path = write("e", {"seed_everything": [0]}, **{"trainer.max_steps": 2})
    first = path.rename("a/e.yaml")
    assert command("sweep", first, "--events", "off")[0] == 0
    second = write("e", {"seed_everything": [1]}, **{"trainer.max_steps": 2}).rename("b/e.yaml")
    err = refusal(command, second)
    assert "another sweep" in err
    assert "rename one of the two" in err
    assert len(results("e")) == 1
    content = yaml.safe_load(first.read_text()) | {"grid": {"seed_everything": [0, 1]}}
    second.write_text(yaml.safe_dump(content))
    assert command("sweep", second, "--events", "off")[0] == 0
    assert len(results("e")) == 2
