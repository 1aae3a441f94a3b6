"""When a run is evaluated: at step 0, at log-spaced points, every N steps, and at the last step."""

from collections.abc import Collection
from math import inf
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.errors import UserError


def next_point(step: int, every: int, per_decade: int) -> float:
    """The first step after a given one that is a multiple of ``every`` or an integer nearest to 10 ** (i / per_decade).

    Args:
        step: The step, or -1.
        every: 0 for none.
        per_decade: 0 for none.

    Returns:
        The step; infinity if there is none. Step 0 is a multiple of all.
    """
    points: list[float] = [inf]
    if every:
        points.append((step // every + 1) * every)
    if per_decade:
        exponent = 0
        while (point := round(10 ** (exponent / per_decade))) <= step:
            exponent += 1
        points.append(0 if step < 0 else point)
    return min(points)


class EvaluationSchedule(Callback):
    """Evaluates at the points of a schedule, by moving the Trainer's validation interval to the next one.

    Args:
        per_decade: Evaluations per decade of steps; 0 for none. Evenly spaced in the logarithm: the integers nearest to
            10 ** (i / per_decade).
        every: Also evaluate every N steps; 0 for never.

    Raises:
        UserError: If a number is negative.
    """

    def __init__(self, per_decade: int = 16, every: int = 200) -> None:
        for name, value in (("per_decade", per_decade), ("every", every)):
            if value < 0:
                raise UserError(f"evaluation.{name} is {value}; it must be at least 0")
        self.per_decade, self.every = per_decade, every

    def is_point(self, step: int) -> bool:
        """Whether the schedule itself evaluates at a step; the last step of a budget need not be one."""
        return step == 0 or self.next_point(step - 1) == step

    def next_point(self, step: int) -> float:
        """The first point after a step; infinity if there is none."""
        return next_point(step, self.every, self.per_decade)

    def find_gap(self, steps: Collection[int], last: int) -> int | None:
        """The first point up to ``last`` that is not among the steps of a run's evaluations; None if there is none."""
        point: float = 0
        while point <= last and point in steps:
            point = self.next_point(int(point))
        return int(point) if point <= last else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._move(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._move(trainer)

    def _move(self, trainer: Trainer) -> None:
        # Lightning validates when (batches so far) % val_check_batch == 0; the next point n is the only multiple of n
        # up to n, so any increasing schedule works, over an endless loader and on resume.
        point = min(self.next_point(trainer.global_step), trainer.max_steps)
        schedule: Any = trainer
        schedule.val_check_batch = max(int(point), trainer.global_step + 1)
