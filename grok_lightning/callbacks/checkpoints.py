"""Checkpoints of a run: ``last``, ``grok`` and chosen steps; and stops on signals, after saving."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from grok_lightning.callbacks.guards import StopRequested, StopSignals
from grok_lightning.callbacks.states import RunStates
from grok_lightning.errors import UserError
from grok_lightning.files import sweep
from grok_lightning.records.checkpoint import CONFIG_KEY, GROK, LAST, ROWS_KEY


class Checkpoints(Checkpoint):
    """Saves at step boundaries, always after the evaluation of that step.

    A stack is resumed from one ``last.ckpt`` of its own; its runs' checkpoints are slices that a single run can resume.

    Args:
        states: The states of the runs.
        directories: Each run's directory of checkpoints.
        configs: The resolved config of each run, kept in its checkpoints.
        stack: Directory and config of the ``last.ckpt`` of a stack of several runs; None for one run.
        every: Save last.ckpt every N steps. Also at the start, at the end and on a stop.
        steps: Also save step=N.ckpt at these steps.
        keep: Checkpoints left at the end. ``last`` for all, ``grok`` for all but last.ckpt, or ``none``; files of
            chosen steps always stay.

    Raises:
        UserError: If a number is out of range.
    """

    def __init__(
        self,
        states: RunStates,
        directories: list[Path],
        configs: list[dict[str, Any]],
        stack: tuple[Path, dict[str, Any]] | None = None,
        every: int = 1000,
        steps: list[int] | None = None,
        keep: Literal["none", "grok", "last"] = "last",
    ) -> None:
        if every < 1:
            raise UserError(f"checkpoint.every is {every}; it must be at least 1")
        if any(step < 1 for step in steps or ()):
            raise UserError(f"checkpoint.steps is {steps}; each must be at least 1")
        self.states, self.directories, self.configs = states, directories, configs
        self.directory, self.config = stack or (directories[0], configs[0])
        self.every, self.steps, self.keep = every, frozenset(steps or ()), keep
        self.signals = StopSignals()
        self._grokked: list[int] = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[CONFIG_KEY] = self.config
        rows = getattr(getattr(trainer, "datamodule", None), "fingerprints", None)
        if rows is not None:
            checkpoint[ROWS_KEY] = list(rows)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            for directory in {self.directory, *self.directories}:
                sweep(directory)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.install()  # again: Lightning puts its own SIGTERM handler in place after on_fit_start

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.install()  # also where there is no evaluation at the start
        if trainer.global_step == 0:  # else it resumes from a checkpoint
            self.save_stack(trainer)

    def mark_grokked(self, run: int) -> None:
        """Has the next save write a run's ``grok.ckpt`` too."""
        self._grokked.append(run)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step != trainer.val_check_batch:  # else the evaluation of this step comes first
            self._save_at_boundary(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save_at_boundary(trainer)

    def next_boundary(self, step: int) -> int:
        """The first step after a given one at which a checkpoint is due by the options."""
        following = [chosen for chosen in self.steps if chosen > step]
        return min([(step // self.every + 1) * self.every, *following])

    def forget_groks(self, trainer: Trainer) -> None:
        """Removes the ``grok.ckpt`` of runs that have not grokked at the step a fit starts from."""
        if trainer.is_global_zero:
            for run, directory in enumerate(self.directories):
                if not self.states.has_grokked(run):
                    (directory / GROK).unlink(missing_ok=True)

    def save_last(self, trainer: Trainer, run: int) -> None:
        """Saves ``last.ckpt`` of a run that is over, unless it would not be kept."""
        if run in self._grokked:
            self._save_grokked(trainer)
        if self.keep == "last" or len(self.directories) == 1:
            self._save_run(trainer, run, LAST)

    def tidy(self, run: int) -> None:
        """Removes the checkpoints that ``keep`` excludes, of a run that is over."""
        for name in {"none": (LAST, GROK), "grok": (LAST,), "last": ()}[self.keep]:
            (self.directories[run] / name).unlink(missing_ok=True)

    def save_stack(self, trainer: Trainer) -> None:
        """Saves the ``last.ckpt`` that the fit resumes from."""
        trainer.save_checkpoint(self.directory / LAST)

    def _save_at_boundary(self, trainer: Trainer) -> None:
        step = trainer.global_step
        self._save_grokked(trainer)
        if step in self.steps:
            for run in range(len(self.directories)):
                ending = self.states.endings[run]
                if ending is None or ending.left >= step:
                    self._save_run(trainer, run, f"step={step}.ckpt")
        signum = self._agree_on_signal(trainer)
        if signum or step % self.every == 0:
            self.save_stack(trainer)
        if signum:
            raise StopRequested(signum, step)

    def _save_grokked(self, trainer: Trainer) -> None:
        for run in self._grokked:
            if len(self.directories) == 1 or self.keep != "none":
                self._save_run(trainer, run, GROK)
        self._grokked = []

    def _agree_on_signal(self, trainer: Trainer) -> int:
        if trainer.world_size == 1:
            return self.signals.received
        received = torch.tensor(self.signals.received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(received, reduce_op="max"))

    def _save_run(self, trainer: Trainer, run: int, name: str) -> None:
        runs = len(self.directories)
        part = None if runs == 1 else {"chosen": [run], "runs": runs, "config": self.configs[run]}
        trainer.save_checkpoint(self.directories[run] / name, storage_options=part)
