"""What is done when runs start, are evaluated and end, and in which order."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from grok_lightning.callbacks.guards import Diverged
from grok_lightning.callbacks.lifecycle import Lifecycle
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.callbacks.states import Ending, GrokDetection, RunStates
from grok_lightning.errors import UserError


class Life:
    """A Lifecycle whose parts only note what they are asked for."""

    def __init__(self, path: Path, runs: int = 1, stop_after: int = 0) -> None:
        directories = [path / str(run) for run in range(runs)]
        self.states = RunStates(directories, [{"train": 100, "val": 100}] * runs, stop_after=stop_after)
        self.parts = Mock()
        self.cycle = Lifecycle(
            GrokDetection(self.states, EvaluationSchedule(0, 10)),
            self.parts.measures,
            self.parts.recorder,
            self.parts.figures,
            self.parts.checkpoints,
        )
        self.module = Mock(compiled=False, diverged_at_R=torch.full((runs,), -1))
        self.trainer = Mock(global_step=0, max_steps=100, is_global_zero=True, sanity_checking=False)
        self.trainer.state.fn, self.trainer.should_stop = "fit", False
        self.cycle.on_fit_start(self.trainer, self.module)

    def evaluate(self, step: int, *val: float) -> None:
        self.trainer.global_step = step
        self.module.evaluation = {"train/acc": torch.ones(len(val)), "val/acc": torch.tensor(val).double()}
        self.module.lost_R.return_value = self.module.diverged_at_R >= 0
        self.cycle.on_validation_epoch_end(self.trainer, self.module)
        self.cycle.on_validation_end(self.trainer, self.module)

    def taken(self) -> list[str]:
        """What was done since the last call, in order."""
        names = [call[0] for call in self.parts.method_calls]
        self.parts.reset_mock()
        return names


def test_an_evaluation_is_measured_noted_recorded_and_then_ends_runs(tmp_path: Path) -> None:
    life = Life(tmp_path, runs=2, stop_after=1)
    life.cycle.on_train_start(life.trainer, life.module)
    assert life.taken() == ["checkpoints.forget_groks", "recorder.begin"]
    life.evaluate(10, 0.5, 1.0)
    assert life.taken() == [
        *("measures.take", "checkpoints.mark_grokked", "recorder.append"),
        *("checkpoints.save_last", "figures.draw_curves", "recorder.write", "checkpoints.tidy"),
    ]
    assert life.states.endings == [None, Ending("stopped", 10, 10)]
    assert not life.trainer.should_stop
    life.evaluate(20, 1.0, 1.0)
    assert life.trainer.should_stop
    assert [len(rows) for rows in life.states.rows] == [2, 1]


def test_a_single_run_ends_with_its_fit_and_shows_its_pictures_last(tmp_path: Path) -> None:
    life = Life(tmp_path, stop_after=1)
    life.cycle.on_train_start(life.trainer, life.module)
    life.evaluate(10, 1.0)
    assert life.trainer.should_stop
    assert "recorder.write" not in life.taken()
    life.cycle.on_train_end(life.trainer, life.module)
    done = ["checkpoints.save_last", "figures.draw_curves", "recorder.write", "checkpoints.tidy", "figures.show_images"]
    assert life.taken() == done
    life.cycle.on_fit_end(life.trainer, life.module)
    assert life.taken() == []


def test_a_fit_with_nothing_to_train_still_writes_its_record(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.trainer.global_step = 100
    life.cycle.on_fit_end(life.trainer, life.module)
    assert life.taken()[:4] == [
        *("checkpoints.forget_groks", "recorder.begin"),
        "checkpoints.save_last",
        "figures.draw_curves",
    ]
    assert life.states.endings == [Ending("finished", 100, 100)]


def test_a_diverged_run_keeps_what_it_saved_before(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.module.diverged_at_R[0] = 7
    life.trainer.global_step = 9
    with pytest.raises(Diverged) as raised:
        life.cycle.on_validation_end(life.trainer, life.module)
    assert life.taken() == []
    life.cycle.on_exception(life.trainer, life.module, raised.value)
    assert life.taken() == ["figures.draw_curves", "recorder.write", "checkpoints.tidy", "figures.show_images"]
    assert life.states.endings == [Ending("diverged", 7, 9)]


@pytest.mark.parametrize(("runs", "drawn"), [(1, ["figures.draw_curves"]), (2, [])])
def test_a_stopped_run_has_its_curves_so_far_and_nothing_else(tmp_path: Path, runs: int, drawn: list[Any]) -> None:
    life = Life(tmp_path, runs)
    life.cycle.on_exception(life.trainer, life.module, UserError("stopped"))
    assert life.taken() == drawn
    assert life.states.in_training() == list(range(runs))


@pytest.mark.parametrize("fn", ["validate", "test"])
def test_evaluations_outside_a_fit_are_not_kept(tmp_path: Path, fn: str) -> None:
    life = Life(tmp_path)
    life.trainer.state.fn = fn
    life.evaluate(10, 1.0)
    assert life.taken() == []
    assert life.states.rows == [[]]
