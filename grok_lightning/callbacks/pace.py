"""Number of steps that one call of ``training_step`` may take."""

from collections.abc import Callable
from math import inf
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PassThroughProfiler

from grok_lightning.callbacks.checkpoints import Checkpoints
from grok_lightning.module import GrokModule, never, one_by_one

PER_STEP_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


class Pace(Callback):
    """Has ``training_step`` take all steps up to the next evaluation, checkpoint, chosen step or the budget's end.

    A call takes a single step, with every hook, where each step is observed: by a user's callback with a hook of
    ``PER_STEP_HOOKS``, a profiler, several processes, or the gradient scaler of 16-mixed.

    Args:
        checkpoints: Tells when the next checkpoint is due and whether a signal was received.
        own: Callbacks that do not need to see each step.
    """

    def __init__(self, checkpoints: Checkpoints, own: list[Callback]) -> None:
        self.checkpoints, self.own = checkpoints, own
        self._first = True
        self._next_intervention: Callable[[int], float] = lambda _: inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GrokModule)
        self._first = True
        pl_module.interrupted = lambda: bool(self.checkpoints.signals.received)
        self._next_intervention = pl_module.interventions.next_step
        single = _observes_each_step(trainer, self.own)
        pl_module.steps_ahead = one_by_one if single else lambda: self._count_steps(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, GrokModule)
        pl_module.steps_ahead, pl_module.interrupted = one_by_one, never

    def _count_steps(self, trainer: Trainer) -> int:
        if self._first:  # the first step is taken alone: it may be compiled, which is timed
            self._first = False
            return 1
        step = trainer.global_step
        evaluation: Any = trainer.val_check_batch
        boundary = min(self.checkpoints.next_boundary(step), self._next_intervention(step))
        return max(0, int(min(trainer.max_steps, evaluation, boundary)) - step)


def _observes_each_step(trainer: Trainer, own: list[Callback]) -> bool:
    """Whether anything but ``own`` callbacks has to see each step."""
    whole: Any = trainer
    # a hook is overridden in the class or, as by Lightning's LambdaCallback, in the object
    hooks = [(getattr(each, hook), hook) for each in whole.callbacks if each not in own for hook in PER_STEP_HOOKS]
    return (
        trainer.world_size > 1
        or trainer.precision == "16-mixed"
        or not isinstance(whole.profiler, PassThroughProfiler)
        or any(getattr(method, "__func__", None) is not getattr(Callback, hook) for method, hook in hooks)
    )
