"""Runs leave their stack one by one; the rest go on as if nothing had been, in a smaller stack when half have left."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from small_sweeps import EASY, NETWORKS, as_the_program, directories, jobs, outcomes, results, tables, write
from training_here import train_here

from grok_lightning.callbacks.lifecycle import Lifecycle
from grok_lightning.callbacks.states import Ending, RunStates
from grok_lightning.fit import Fit
from grok_lightning.hardware.compilation import WORTH_COMPILING
from grok_lightning.records.checkpoint import load
from grok_lightning.records.record import read_metrics
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run import training
from grok_lightning.sweep.run.training import train

Command = Callable[..., tuple[int, str, str]]
DIVERGES = 1e30
LEAVING = EASY | {"evaluation.every": 2, "evaluation.stop_after": 2, "trainer.max_steps": 20, "checkpoint.every": 3}
RATES = [0.0001, 0.003, DIVERGES, 0.03]  # budget spent; grokked at 4; diverged at 1; grokked at 2


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each fit had."""
    found: list[int] = []
    original = training.build_fit

    def noted(stack: Stack, *rest: Any) -> Fit:
        found.append(len(stack.configs))
        return original(stack, *rest)

    monkeypatch.setattr(training, "build_fit", noted)
    return found


def endings(name: str) -> list[tuple[str, int]]:
    """How each run ended, and when, by its learning rate."""
    found = {result["config"]["model"]["optimizer"]["lr"]: result for result in results(name).values()}
    return [(found[rate]["status"], found[rate]["steps"]) for rate in sorted(found)]


def test_runs_leave_and_the_stack_is_closed_up(command: Command, sizes: list[int]) -> None:
    grid = {"model.optimizer.lr": RATES}
    assert command("sweep", write("stacked", grid, **LEAVING), "--stack-size", 4)[0] == 0
    assert sizes == [4, 2, 1]
    wanted = [("finished", 20), ("stopped", 6), ("stopped", 4), ("diverged", 2)]
    assert endings("stacked") == wanted
    assert {result["stack"] for result in results("stacked").values()} == {4}  # at the start
    assert [path.name for path in Path("checkpoints/stacked").iterdir() if path.name.startswith(".")] == [".locks"]

    assert command("sweep", write("single", grid, **LEAVING), "--stack-size", 1)[0] == 0
    assert endings("single") == wanted
    for one, two in zip(directories("stacked"), directories("single"), strict=True):
        assert (one.name, kinds(one)) == (two.name, kinds(two))
        for row, single in zip(read_metrics(one), read_metrics(two), strict=True):
            assert row == pytest.approx(single, rel=1e-5, nan_ok=True)
        # of a run that diverged a stack of several has kept nothing from before
        if "1e+30" not in one.name:
            assert kinds(Path("checkpoints/stacked", one.name)) == kinds(Path("checkpoints/single", two.name))
            weights = [load(Path("checkpoints", name, one.name, "last.ckpt")) for name in ("stacked", "single")]
            assert weights[0]["global_step"] == weights[1]["global_step"]
            for key, weight in weights[0]["state_dict"].items():
                torch.testing.assert_close(weight, weights[1]["state_dict"][key], rtol=1e-4, atol=1e-6)


def kinds(directory: Path) -> set[str]:
    return {"events" if "tfevents" in path.name else path.name for path in directory.iterdir()}


@pytest.mark.slow
def test_closing_up_changes_nothing(command: Command, sizes: list[int]) -> None:
    (job,) = jobs(write("e", {"model.optimizer.lr": RATES}, **LEAVING), 4)
    for name in ("closed", "open"):
        configs = [config | {"experiment": name} for config in job.configs]
        stack = Stack(str(Path.cwd()), name, configs, job.hashes, events=False)
        with as_the_program():
            train(replace(stack, close_up=name == "closed"))
    assert sizes == [4, 2, 1, 4]
    for one, two in zip(directories("closed"), directories("open"), strict=True):
        for row, other in zip(read_metrics(one), read_metrics(two), strict=True):
            assert row == pytest.approx(other, rel=1e-5, nan_ok=True)
    assert endings("closed") == endings("open")


@pytest.mark.parametrize("keep", ["grok", pytest.param("none", marks=pytest.mark.slow)])
def test_no_more_is_kept_than_was_asked_for(command: Command, keep: str) -> None:
    path = write("e", {"model.optimizer.lr": RATES[:3]}, **LEAVING)
    assert command("sweep", path, "--stack-size", 4, "--keep", keep, "--events", "off")[0] == 0
    left = {file.name for file in Path("checkpoints/e").rglob("*") if file.is_file()}
    assert left - {".locks"} == ({"grok.ckpt"} if keep == "grok" else set())
    assert not [file for file in Path("lightning_logs/e").rglob("*") if kinds(file.parent) & {"events", "curves.png"}]


@pytest.mark.parametrize("network", ["MLP", pytest.param("Transformer", marks=pytest.mark.slow)])
def test_a_run_that_diverges_never_touches_its_neighbours(command: Command, network: str) -> None:
    """To the bit: it could as well have been another run."""
    found = []
    for name, rate in (("diverging", DIVERGES), ("other", 0.002)):
        path = write(name, {"model.optimizer.lr": [0.001, rate, 0.003]}, **NETWORKS[network])
        assert command("sweep", path, "--stack-size", 3, "--events", "off")[0] == 0
        found.append((tables(name), outcomes(name)))
    assert [result["status"] for result in results("diverging").values()] == ["finished", "finished", "diverged"]
    both = found[0][0].keys() & found[1][0].keys()
    assert len(both) == 2
    for hashed in both:
        assert found[0][0][hashed] == found[1][0][hashed]
        assert found[0][1][hashed] == found[1][1][hashed]


@pytest.mark.parametrize(
    ("left", "compiled", "rest", "closes"),
    [
        (4, False, 1000, True),
        (5, False, 1000, False),
        (4, False, 1, True),
        (4, False, 0, False),
        (4, True, WORTH_COMPILING, True),
        (4, True, WORTH_COMPILING - 1, False),
    ],
)
def test_a_stack_is_closed_up_when_half_have_left_and_it_pays(
    left: int, compiled: bool, rest: int, closes: bool
) -> None:
    states = RunStates([Path(str(run)) for run in range(8)], [{"train": 1, "val": 1}] * 8)
    for run in range(left, 8):
        states.end(run, Ending("stopped", 500, 500))
    module = Mock(compiled=compiled, diverged_at_R=torch.full((8,), -1), evaluation={})
    trainer = Mock(sanity_checking=False, global_step=500, max_steps=500 + rest, should_stop=False)
    trainer.state.fn = "fit"
    detection = Mock(states=states, **{"note.return_value": []})
    lives = [Lifecycle(detection, Mock(), Mock(), None, Mock(), close_up=close_up) for close_up in (True, False)]
    lives[0].on_validation_end(trainer, module)
    assert (lives[0].closing_up, trainer.should_stop) == (closes, closes)
    lives[1].on_validation_end(trainer, module)
    assert not lives[1].closing_up
