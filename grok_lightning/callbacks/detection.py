"""Notices when each run of a stack memorizes and groks, and which runs are still in training."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.callbacks.attached import datamodule
from grok_lightning.callbacks.checkpoints import Checkpoints
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.errors import UserError
from grok_lightning.records.checkpoint import GROK
from grok_lightning.records.record import METRICS, Row, milestones, reaches, read_metrics, standing

SUSTAIN = 3


class GrokDetection(Callback):
    """Keeps every run's evaluations and what they say: memorized, grokked, sustained, over.

    On resume the evaluations are read back from ``metrics.csv``; those beyond the checkpoint's step are dropped, and
    those that only the end of a smaller budget had called for.

    Args:
        directories: Each run's directory.
        schedule: When evaluations happen.
        checkpoints: Told to save a run's ``grok.ckpt`` when it groks.
        threshold: Accuracy that counts as memorized or grokked.
        stop_after: Stop after N evaluations at it; 0 for never. The run is over when its last N evaluations are at the
            threshold.

    Attributes:
        rows: The evaluations of each run, oldest first, up to its end.
        counts: Equations of the train and val splits of each run.
        over: Whether each run is over; its evaluations are no longer noted then.
        standing: How many of each run's newest evaluations are at the threshold.

    Raises:
        UserError: If a number is out of range.
    """

    def __init__(
        self,
        directories: list[Path],
        schedule: EvaluationSchedule,
        checkpoints: Checkpoints,
        threshold: float = 0.99,
        stop_after: int = 0,
    ) -> None:
        if not 0 < threshold <= 1:
            raise UserError(f"evaluation.threshold is {threshold}; it must lie above 0 and be at most 1")
        if stop_after < 0:
            raise UserError(f"evaluation.stop_after is {stop_after}; it must be at least 0")
        self.directories, self.schedule, self.checkpoints = directories, schedule, checkpoints
        self.threshold, self.stop_after = threshold, stop_after
        self.rows: list[list[Row]] = [[] for _ in directories]
        self.counts: list[dict[str, int]] = []
        self.over = [False] * len(directories)
        self.standing = [0] * len(directories)
        self._memorized = [False] * len(directories)
        self._grokked = [False] * len(directories)

    def in_training(self) -> list[int]:
        """The runs that are not over."""
        return [run for run, over in enumerate(self.over) if not over]

    def is_done(self, run: int) -> bool:
        """Whether a run has stood at the threshold for as many evaluations as were asked for."""
        return 0 < self.stop_after <= self.standing[run]

    def milestones(self, run: int) -> dict[str, int | None]:
        """The record's five steps of one run."""
        return milestones(self.rows[run], self.counts[run], self.threshold, self.stop_after or SUSTAIN)

    def phase(self, run: int) -> str:
        """memorizing, memorized or grokked."""
        return "grokked" if self._grokked[run] else "memorized" if self._memorized[run] else "memorizing"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data = datamodule(trainer)
        pairs = zip(data.counts("train"), data.counts("val"), strict=True)
        self.counts = [{"train": train, "val": val} for train, val in pairs]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = trainer.global_step
        for run, directory in enumerate(self.directories):
            if step and (directory / METRICS).exists():
                self.rows[run] = [
                    row
                    for row in read_metrics(directory)
                    if row["step"] <= step
                    and (self.schedule.is_point(int(row["step"])) or row["step"] == trainer.max_steps)
                ]
            found = self.milestones(run)
            self._memorized[run] = found["memorize_step"] is not None
            self._grokked[run] = found["grok_step"] is not None
            self.standing[run] = standing(self.rows[run], self.counts[run], self.threshold)
            # in a stack that goes on it had left before the checkpoint was saved: later evaluations are not its own
            self.over[run] = len(self.rows) > 1 and (self.is_done(run) or self._had_diverged(trainer, pl_module, run))
            if trainer.is_global_zero and not self._grokked[run]:
                (self.checkpoints.directories[run] / GROK).unlink(missing_ok=True)

    def _had_diverged(self, trainer: Trainer, pl_module: LightningModule, run: int) -> bool:
        """Whether an evaluation up to the checkpoint left a run out, because its loss was no longer finite."""
        last = int(self.rows[run][-1]["step"]) if self.rows[run] else 0
        missed = min(self.schedule.next_point(last), trainer.max_steps) <= trainer.global_step
        return missed and int(pl_module.diverged_at_R[run]) >= 0  # type: ignore[index]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            return
        evaluation, diverged_R = pl_module.evaluation, pl_module.diverged_at_R
        assert isinstance(evaluation, dict)
        values = {key: value.tolist() for key, value in evaluation.items()}
        diverged = diverged_R.tolist()  # type: ignore[operator]
        for run in self.in_training():
            if diverged[run] < 0:
                self._note(run, {"step": trainer.global_step} | {key: value[run] for key, value in values.items()})

    def _note(self, run: int, row: Row) -> None:
        self.rows[run].append(row)
        counts = self.counts[run]
        self._memorized[run] |= reaches(row["train/acc"], counts["train"], self.threshold)
        if not reaches(row["val/acc"], counts["val"], self.threshold):
            self.standing[run] = 0
            return
        self.standing[run] += 1
        if not self._grokked[run]:
            self._grokked[run] = True
            self.checkpoints.mark_grokked(run)
