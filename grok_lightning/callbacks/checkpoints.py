"""Checkpoints of a run: ``last``, ``grok`` and chosen steps; and stops on signals, after saving."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from grok_lightning.callbacks.guards import StopRequested, StopSignals
from grok_lightning.callbacks.schedule import next_point
from grok_lightning.callbacks.states import RunStates
from grok_lightning.errors import UserError
from grok_lightning.files import find_free_bytes, show_bytes, sweep
from grok_lightning.records.checkpoint import CONFIG_KEY, GROK, LAST, ROWS_KEY, slice_runs, to_bytes
from grok_lightning.records.runs import drop_later_steps, trajectory_name


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
        interval: Save weights every N steps; 0 for never. From step 0 on, as step=0000100.ckpt, which can be evaluated
            but not resumed.
        per_decade: Save weights at N steps per decade; 0 for none. Evenly spaced in the logarithm, as
            evaluation.per_decade; likewise.
        keep: Checkpoints left at the end. ``last`` for all, ``grok`` for all but last.ckpt, or ``none``; files of
            single steps always stay.

    Attributes:
        weights: The module's state dict as the newest checkpoint has it: averages, where a callback averages.

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
        interval: int = 0,
        per_decade: int = 0,
        keep: Literal["none", "grok", "last"] = "last",
    ) -> None:
        if every < 1:
            raise UserError(f"checkpoint.every is {every}; it must be at least 1")
        if any(step < 1 for step in steps or ()):
            raise UserError(f"checkpoint.steps is {steps}; each must be at least 1")
        for name, value in (("interval", interval), ("per_decade", per_decade)):
            if value < 0:
                raise UserError(f"checkpoint.{name} is {value}; it must be at least 0")
        self.interval, self.per_decade = interval, per_decade
        self.states, self.directories, self.configs = states, directories, configs
        self.directory, self.config = stack or (directories[0], configs[0])
        self.every, self.steps, self.keep = every, frozenset(steps or ()), keep
        self.signals = StopSignals()
        self._grokked: list[int] = []
        self.weights: dict[str, Tensor] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[CONFIG_KEY] = self.config
        self.weights = checkpoint.get("state_dict")  # the other callbacks have replaced by now what they replace
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
        for directory in self.directories if trainer.is_global_zero else ():
            drop_later_steps(directory, trainer.global_step)
        if trainer.global_step == 0:  # else it resumes from a checkpoint
            self._save_step(trainer)
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
        return int(min((step // self.every + 1) * self.every, self.next_point(step), *following))

    def next_point(self, step: int) -> float:
        """The first step after a given one at which the weights are saved; infinity if there is none."""
        return next_point(step, self.interval, self.per_decade)

    def describe_trajectory(self, weights: dict[str, Tensor], step: int | None, last: int) -> str | None:
        """How many checkpoints of single steps there will be, and how large; None if the options ask for none.

        Args:
            weights: State dict of the stack, in the precision in which it is trained.
            step: The step from which training goes on; None for a fresh start.
            last: The budget.

        Raises:
            UserError: If there is not that much room on the disk.
        """
        count = count_points(self.interval, self.per_decade, step, last) * len(self.directories)
        if not count:
            return None
        part = slice_runs({"state_dict": weights}, [0], len(self.directories), self.configs[0])
        option = "interval" if self.interval else "per_decade"
        return describe_trajectory(option, count, count * len(to_bytes(part)), self.directories[0])

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
        self._save_step(trainer)
        signum = self._agree_on_signal(trainer)
        if signum or step % self.every == 0:
            self.save_stack(trainer)
        if signum:
            raise StopRequested(signum, step)

    def _save_step(self, trainer: Trainer) -> None:
        """Saves the checkpoints of a step that was chosen, or the weights at a point of the trajectory."""
        step = trainer.global_step
        chosen = step in self.steps
        if not chosen and self.next_point(step - 1) != step:
            return
        for run in range(len(self.directories)):
            ending = self.states.endings[run]
            if ending is None or ending.left >= step:
                self._save_run(trainer, run, f"step={step}.ckpt" if chosen else trajectory_name(step), light=not chosen)

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

    def _save_run(self, trainer: Trainer, run: int, name: str, light: bool = False) -> None:
        runs = len(self.directories)
        part: dict[str, Any] = {"light": True} if light else {}
        if runs > 1:
            part |= {"chosen": [run], "runs": runs, "config": self.configs[run]}
        trainer.save_checkpoint(self.directories[run] / name, storage_options=part or None)


def count_points(interval: int, per_decade: int, step: int | None, last: int) -> int:
    """Number of steps whose weights are saved, after ``step`` (None: from step 0 on) and up to ``last``."""
    first = 0 if step is None else step + 1
    points = set(range(-(-first // interval) * interval, last + 1, interval)) if interval else set()
    point = next_point(first - 1, 0, per_decade)
    while point <= last:
        points.add(int(point))
        point = next_point(int(point), 0, per_decade)
    return len(points)


def describe_trajectory(option: str, count: int, size: int, directory: Path) -> str:
    """Number and size of the checkpoints of single steps in one line.

    Args:
        option: The option of ``Checkpoints`` that asks for them.
        count: Their number, at most.
        size: Bytes of all of them.
        directory: Where they are written.

    Raises:
        UserError: If there is not that much room.
    """
    several = f"{count:,} checkpoint{'s' * (count > 1)} of {show_bytes(size / count)}"
    line = f"checkpoint.{option}: at most {several}, {show_bytes(size)}"
    free = find_free_bytes(directory)
    if size > free:
        raise UserError(f"--{line}, but only {show_bytes(free)} are free at {str(directory)!r}; save less often")
    return line
