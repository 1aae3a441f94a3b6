"""Ends a fit whose losses have all stopped being finite."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

LOOK_EVERY = 50


class Diverged(Exception):
    """Ends a fit in which every run has diverged.

    Args:
        step: The last step at which a run did.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"diverged: the loss was no longer finite at step {step}")
        self.step = step


class DivergenceGuard(Callback):
    """Looks at the losses' finiteness each step on a CPU; every 50 steps on a GPU, which a look would hold up."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.device.type != "cpu" and trainer.global_step % LOOK_EVERY:
            return
        diverged = pl_module.diverged_at_R
        assert isinstance(diverged, Tensor)
        if bool((diverged >= 0).all()):
            raise Diverged(int(diverged.max()))
