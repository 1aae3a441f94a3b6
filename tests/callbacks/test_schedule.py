"""Evaluations happen at the points of the schedule and at the last step, and nowhere else."""

from collections.abc import Callable
from itertools import pairwise
from math import inf
from unittest.mock import Mock

import pytest
from hypothesis import assume, given, settings
from hypothesis.strategies import integers, just
from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.errors import UserError
from grok_lightning.models import Transformer
from grok_lightning.module import GrokModule

END = 5000


def any_schedule(test: Callable[..., None]) -> Callable[..., None]:
    numbers = given(per_decade=just(0) | integers(1, 100), every=just(0) | integers(1, END))
    return settings(max_examples=8)(numbers(test))


def points(per_decade: int, every: int) -> set[int]:
    logarithmic = {round(10 ** (i / per_decade)) for i in range(4 * per_decade + 1)} if per_decade else set()
    regular = set(range(0, END + 1, every)) if every else set()
    return {0} | {point for point in logarithmic | regular if point <= END}


@any_schedule
def test_the_points_are_log_spaced_and_regular(per_decade: int, every: int) -> None:
    schedule = EvaluationSchedule(per_decade, every)
    assert {step for step in range(END + 1) if schedule.is_point(step)} == points(per_decade, every)


@any_schedule
def test_next_point_is_the_first_point_after_a_step(per_decade: int, every: int) -> None:
    schedule = EvaluationSchedule(per_decade, every)
    ordered = sorted(points(per_decade, every))
    for before, after in pairwise(ordered):
        assert {schedule.next_point(step) for step in range(before, after)} == {after}


@any_schedule
def test_next_point_walks_strictly_on_through_points(per_decade: int, every: int) -> None:
    assume(per_decade or every)
    schedule = EvaluationSchedule(per_decade, every)
    step: float = 0
    while step <= END:
        following = schedule.next_point(int(step))
        assert following > step
        assert schedule.is_point(int(following))
        step = following


def test_an_empty_schedule_has_no_next_point() -> None:
    assert EvaluationSchedule(0, 0).next_point(0) == inf


@pytest.mark.parametrize("name", ["per_decade", "every"])
def test_negative_numbers_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"^evaluation\.{name} is -1; .*at least 0$"):
        EvaluationSchedule(**{name: -1})


def trainer(step: int, max_steps: int = 1000, fn: str = "fit", sanity_checking: bool = False) -> Mock:
    return Mock(
        global_step=step, max_steps=max_steps, val_check_batch=1, state=Mock(fn=fn), sanity_checking=sanity_checking
    )


@pytest.mark.parametrize("hook", ["on_train_start", "on_validation_end"])
@pytest.mark.parametrize(("step", "expected"), [(0, 1), (1, 2), (99, 100), (100, 126), (940, 1000), (999, 1000)])
def test_the_interval_moves_to_the_next_point_and_never_beyond_the_budget(hook: str, step: int, expected: int) -> None:
    stub = trainer(step)
    getattr(EvaluationSchedule(10, 0), hook)(stub, Mock())
    assert stub.val_check_batch == expected


def test_a_schedule_without_points_leaves_the_last_step() -> None:
    stub = trainer(0)
    EvaluationSchedule(0, 0).on_train_start(stub, Mock())
    assert stub.val_check_batch == 1000


@pytest.mark.parametrize("stub", [trainer(0, fn="validate"), trainer(0, sanity_checking=True)])
def test_evaluations_outside_training_move_nothing(stub: Mock) -> None:
    EvaluationSchedule(0, 50).on_validation_end(stub, Mock())
    assert stub.val_check_batch == 1


class Evaluations(Callback):
    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.steps.append(trainer.global_step)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*IterableDataset.*")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.parametrize(("per_decade", "every"), [(5, 7), (0, 0)])
def test_the_trainer_evaluates_at_the_points_and_at_the_last_step(per_decade: int, every: int) -> None:
    data = ModularArithmeticDataModule(modulus=7, batch_size=8)
    module = GrokModule(
        data.vocabulary_size,
        data.length,
        data.answer_length,
        network=lambda *shape: Transformer(*shape, layers=1, width=8, heads=2),
    )
    evaluations = Evaluations()
    trainer = Trainer(
        max_steps=60,
        max_epochs=-1,
        val_check_interval=1,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[EvaluationSchedule(per_decade, every), evaluations],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 60
    assert evaluations.steps == sorted({point for point in points(per_decade, every) if 0 < point <= 60} | {60})
