"""Which checkpoints a run leaves: ``last``, ``grok`` and chosen steps; and the stop that saves first."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from grok_lightning.callbacks.signals import StopRequested, StopSignals
from grok_lightning.checkpoint import CONFIG_KEY
from grok_lightning.errors import UserError
from grok_lightning.files import sweep

LAST = "last.ckpt"
GROK = "grok.ckpt"


class Checkpoints(Checkpoint):
    """Saves at step boundaries, always after the evaluation of that step.

    Args:
        directory: Where the files go.
        config: The resolved config, kept in every checkpoint.
        every: ``last.ckpt`` is renewed every that many steps (and at the start, at the end and on a stop).
        steps: Steps at which ``step=N.ckpt`` is saved.
        keep: What is left when the run is over: ``last`` (everything), ``grok`` (not last.ckpt) or ``none``; files of
            chosen steps always stay.

    Raises:
        UserError: If a number is out of range.
    """

    def __init__(
        self,
        directory: Path,
        config: dict[str, Any],
        every: int = 1000,
        steps: list[int] | None = None,
        keep: Literal["none", "grok", "last"] = "last",
    ) -> None:
        if every < 1:
            raise UserError(f"checkpoint.every is {every}; it must be at least 1")
        if any(step < 1 for step in steps or ()):
            raise UserError(f"checkpoint.steps is {steps}; each must be at least 1")
        self.directory, self.config = directory, config
        self.every, self.steps, self.keep = every, frozenset(steps or ()), keep
        self.signals = StopSignals()
        self._fresh = True
        self._grokked = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[CONFIG_KEY] = self.config

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._fresh = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            sweep(self.directory)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.install()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.install()  # only now, for Lightning puts its own SIGTERM handler in place after on_fit_start
        if self._fresh:
            self._save(trainer, LAST)

    def mark_grokked(self) -> None:
        """Makes the save at this step's end write ``grok.ckpt`` too."""
        self._grokked = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step != trainer.val_check_batch:  # else the evaluation of this step comes first
            self._at_boundary(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._at_boundary(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, LAST)
        if trainer.is_global_zero:
            removed = {"none": (LAST, GROK), "grok": (LAST,), "last": ()}[self.keep]
            for name in removed:
                (self.directory / name).unlink(missing_ok=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.signals.restore()

    def _at_boundary(self, trainer: Trainer) -> None:
        step = trainer.global_step
        if self._grokked:
            self._grokked = False
            self._save(trainer, GROK)
        if step in self.steps:
            self._save(trainer, f"step={step}.ckpt")
        signum = self._agreed_signal(trainer)
        if signum or step % self.every == 0:
            self._save(trainer, LAST)
        if signum:
            raise StopRequested(signum, step)

    def _agreed_signal(self, trainer: Trainer) -> int:
        if trainer.world_size == 1:
            return self.signals.received
        received = torch.tensor(self.signals.received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(received, reduce_op="max"))

    def _save(self, trainer: Trainer, name: str) -> None:
        trainer.save_checkpoint(self.directory / name)
