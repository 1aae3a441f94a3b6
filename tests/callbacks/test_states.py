"""Detection keeps every run's evaluations up to its end, tells each run's first grok once, and knows who is done."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from grok_lightning.callbacks.checkpoints import Checkpoints
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.callbacks.states import SUSTAIN, Ending, GrokDetection, RunStates
from grok_lightning.errors import UserError
from grok_lightning.records.checkpoint import GROK
from grok_lightning.records.record import read_metrics, write_metrics

COUNTS = {"train": [100, 60, 80], "val": [100, 140, 120]}


def detection(tmp_path: Path, runs: int = 1, **options: Any) -> GrokDetection:
    directories = [tmp_path / str(run) for run in range(runs)]
    counts = [{split: COUNTS[split][run] for split in COUNTS} for run in range(runs)]
    return GrokDetection(RunStates(directories, counts, **options), EvaluationSchedule(0, 10))


def evaluate(
    found: GrokDetection, step: int, train: list[float], val: list[float], diverged: list[int] | None = None
) -> list[int]:
    evaluation = {"train/acc": torch.tensor(train), "val/acc": torch.tensor(val, dtype=torch.float64)}
    module = Mock(evaluation=evaluation, diverged_at_R=torch.tensor(diverged or [-1] * len(train)))
    return found.note(Mock(global_step=step), module)


def resume(found: GrokDetection, step: int, diverged: list[int] | None = None) -> None:
    module = Mock(diverged_at_R=torch.tensor(diverged or [-1] * len(found.states)))
    found.restore(Mock(global_step=step, max_steps=1000), module)


def over(found: GrokDetection) -> list[bool]:
    return [ending is not None for ending in found.states.endings]


def test_a_run_memorizes_and_then_groks(tmp_path: Path) -> None:
    found = detection(tmp_path)
    assert found.states.phase(0) == "memorizing"
    phases = []
    for step, (train, val) in enumerate([(0.1, 0.1), (0.98, 0.1), (0.99, 0.1), (1.0, 0.98), (1.0, 0.99), (1.0, 0.2)]):
        evaluate(found, step, [train], [val])
        phases.append(found.states.phase(0))
    assert phases == ["memorizing", "memorizing", "memorized", "memorized", "grokked", "grokked"]
    steps = found.states.milestones(0)
    assert (steps["memorize_step"], steps["grok_step"], steps["sustained_grok_step"]) == (2, 4, None)


def test_each_run_has_its_own_rows_counts_and_milestones(tmp_path: Path) -> None:
    found = detection(tmp_path, runs=2)
    assert found.states.counts == [{"train": 100, "val": 100}, {"train": 60, "val": 140}]
    evaluate(found, 0, [0.25, 0.5], [0.125, 0.375])
    evaluate(found, 10, [1.0, 0.5], [1.0, 0.5])
    assert found.states.rows[1] == [
        {"step": 0, "train/acc": 0.5, "val/acc": 0.375},
        {"step": 10, "train/acc": 0.5, "val/acc": 0.5},
    ]
    assert [found.states.milestones(run)["grok_step"] for run in (0, 1)] == [10, None]


def test_the_first_grok_of_each_run_is_marked_once(tmp_path: Path) -> None:
    found = detection(tmp_path, runs=2)
    vals = [[0.1, 0.1], [0.1, 1.0], [0.1, 0.5], [1.0, 1.0], [0.0, 1.0], [1.0, 1.0]]
    told = [evaluate(found, step, [1.0, 1.0], val) for step, val in enumerate(vals)]
    assert told == [[], [1], [], [0], [], []]


def test_each_run_is_done_when_it_has_stood_for_long_enough(tmp_path: Path) -> None:
    found = detection(tmp_path, runs=2, stop_after=2)
    done = []
    for step, val in enumerate([[1.0, 0.1], [1.0, 1.0], [0.5, 1.0], [1.0, 1.0], [1.0, 1.0]]):
        evaluate(found, step, [1.0, 1.0], val)
        done.append([found.states.is_done(0), found.states.is_done(1)])
    assert done == [[False, False], [True, False], [False, True], [False, True], [True, True]]


def test_without_stop_after_no_run_is_done(tmp_path: Path) -> None:
    found = detection(tmp_path)
    for step in range(20):
        evaluate(found, step, [1.0], [1.0])
        assert not found.states.is_done(0)


def test_a_run_that_is_over_or_diverged_gets_no_more_rows(tmp_path: Path) -> None:
    found = detection(tmp_path, runs=2)
    evaluate(found, 0, [0.1, 0.2], [0.1, 0.2])
    found.states.end(0, Ending("stopped", 0, 0))
    evaluate(found, 10, [0.1, 0.2], [0.1, 0.2])
    evaluate(found, 20, [0.1, 0.2], [0.1, 0.2], diverged=[-1, 15])
    assert [[row["step"] for row in rows] for rows in found.states.rows] == [[0], [0, 10]]


def test_a_resumed_stack_knows_who_had_left(tmp_path: Path) -> None:
    for run, last in enumerate((1.0, 0.5)):
        accuracies = {0: 0.0, 10: 1.0, 20: last}
        write_metrics(
            tmp_path / str(run),
            [{"step": step, "train/acc": 1.0, "val/acc": acc} for step, acc in accuracies.items()],
        )
    found = detection(tmp_path, runs=2, stop_after=2)
    resume(found, 20)
    assert over(found) == [True, False]
    resume(found, 10)
    assert over(found) == [False, False]


def test_a_resumed_stack_knows_who_had_left_because_it_diverged(tmp_path: Path) -> None:
    """Not the run that diverged since the last evaluation: it leaves at the next one, as it would have."""
    for run, steps in enumerate([(0, 10), (0, 10, 20), (0, 10, 20)]):
        write_metrics(tmp_path / str(run), [{"step": step, "train/acc": 0.0, "val/acc": 0.0} for step in steps])
    found = detection(tmp_path, runs=3)
    resume(found, 25, diverged=[20, 20, -1])
    assert over(found) == [True, False, False]


@pytest.mark.parametrize(("stop_after", "needed"), [(0, SUSTAIN), (5, 5)])
def test_a_grok_is_sustained_after_as_many_evaluations_as_would_stop(
    tmp_path: Path, stop_after: int, needed: int
) -> None:
    found = detection(tmp_path, stop_after=stop_after)
    sustained = []
    for step in range(needed):
        evaluate(found, step, [1.0], [1.0])
        sustained.append(found.states.milestones(0)["sustained_grok_step"])
    assert sustained == [None] * (needed - 1) + [0]


def test_resuming_keeps_the_points_up_to_the_checkpoint(tmp_path: Path) -> None:
    steps = [0, 10, 15, 20, 25, 30]
    write_metrics(tmp_path / "0", [{"step": step, "train/acc": 1.0, "val/acc": step / 100} for step in steps])
    found = detection(tmp_path)
    resume(found, 25)
    assert [row["step"] for row in found.states.rows[0]] == [0, 10, 20]
    assert found.states.rows[0] == [row for row in read_metrics(tmp_path / "0") if row["step"] in (0, 10, 20)]


def test_a_fresh_start_reads_no_rows(tmp_path: Path) -> None:
    write_metrics(tmp_path / "0", [{"step": 0, "train/acc": 0.0, "val/acc": 0.5}])
    found = detection(tmp_path)
    evaluate(found, 0, [0.25], [0.125])
    resume(found, 0)
    assert found.states.rows == [[{"step": 0, "train/acc": 0.25, "val/acc": 0.125}]]


@pytest.mark.parametrize(("checkpoint_step", "kept"), [(10, False), (20, True)])
def test_a_grok_after_the_checkpoint_is_forgotten(tmp_path: Path, checkpoint_step: int, kept: bool) -> None:
    accuracies = {0: 0.0, 10: 0.5, 20: 1.0}
    write_metrics(
        tmp_path / "0", [{"step": step, "train/acc": 1.0, "val/acc": acc} for step, acc in accuracies.items()]
    )
    found = detection(tmp_path)
    resume(found, checkpoint_step)
    assert found.states.has_grokked(0) == kept
    (tmp_path / GROK).touch()
    Checkpoints(found.states, [tmp_path], [{}]).forget_groks(Mock(is_global_zero=True))
    assert (tmp_path / GROK).exists() == kept
    assert evaluate(found, 30, [1.0], [1.0]) == ([] if kept else [0])


@pytest.mark.parametrize(
    ("option", "value"),
    [("threshold", 0), ("threshold", -0.5), ("threshold", 1.01), ("threshold", float("nan")), ("stop_after", -1)],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, option: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"^evaluation\.{option} is {value}; it must .*[^\n]$"):
        detection(tmp_path, **{option: value})
