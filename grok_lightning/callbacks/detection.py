"""Notices when each run of a stack memorizes and groks, and may stop the fit some evaluations later."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.callbacks.checkpoints import GROK, Checkpoints
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.errors import UserError
from grok_lightning.record import METRICS, Row, milestones, read_metrics, standing

SUSTAIN = 3


class GrokDetection(Callback):
    """Keeps every run's evaluations and what they say: memorized, grokked, sustained.

    On resume the evaluations are read back from ``metrics.csv``; those beyond the checkpoint's step are dropped, and
    those that only the end of a smaller budget had called for.

    Args:
        directories: Each run's directory.
        schedule: When evaluations happen.
        checkpoints: Told to save ``grok.ckpt`` when the first run of the stack groks.
        threshold: The accuracy to reach.
        stop_after: The fit ends when every run has stood at the threshold for that many evaluations; 0 for never.

    Attributes:
        rows: The evaluations of each run, oldest first.
        counts: Equations of the train and val splits of each run.

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

    def milestones(self, run: int) -> dict[str, int | None]:
        """The record's five steps of one run."""
        return milestones(self.rows[run], self.counts[run], self.threshold, self.stop_after or SUSTAIN)

    def phase(self, run: int) -> str:
        """memorizing, memorized or grokked."""
        found = self.milestones(run) if self.rows[run] else {}
        if found.get("grok_step") is not None:
            return "grokked"
        return "memorizing" if found.get("memorize_step") is None else "memorized"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        pairs = zip(data.counts("train"), data.counts("val"), strict=True)
        self.counts = [{"train": train, "val": val} for train, val in pairs]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = trainer.global_step
        for run, directory in enumerate(self.directories):
            if step and (directory / METRICS).exists():
                self.rows[run] = [
                    row
                    for row in read_metrics(directory)
                    if row["step"] <= step and self.schedule.is_point(int(row["step"]))
                ]
        grokked = any(self.phase(run) == "grokked" for run in range(len(self.rows)))
        if trainer.is_global_zero and not grokked:
            (self.checkpoints.directory / GROK).unlink(missing_ok=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            return
        evaluation = pl_module.evaluation
        assert isinstance(evaluation, dict)
        before = any(self.phase(run) == "grokked" for run in range(len(self.rows)))
        for run, rows in enumerate(self.rows):
            rows.append({"step": trainer.global_step} | {key: float(value[run]) for key, value in evaluation.items()})
        if not before and any(self.phase(run) == "grokked" for run in range(len(self.rows))):
            self.checkpoints.mark_grokked()
        lasting = [standing(rows, counts, self.threshold) for rows, counts in zip(self.rows, self.counts, strict=True)]
        if self.stop_after and min(lasting) >= self.stop_after:
            trainer.should_stop = True
