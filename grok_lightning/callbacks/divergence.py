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
    """Looks whether losses are finite after each call on a CPU; on a GPU, which a look would hold up, every 50 steps.

    And at every evaluation, for the last update of a run shows in no training loss.
    """

    def __init__(self) -> None:
        self._looked = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._looked = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.device.type == "cpu" or trainer.global_step - self._looked >= LOOK_EVERY:
            self._looked = trainer.global_step
            self._look(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._look(pl_module)

    def _look(self, pl_module: LightningModule) -> None:
        diverged = pl_module.diverged_at_R
        assert isinstance(diverged, Tensor)
        if bool((diverged >= 0).all()):
            raise Diverged(int(diverged.max()))
