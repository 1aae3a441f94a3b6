"""State of each run of a stack: its evaluations, what they reached, and how it ended."""

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer

from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.errors import UserError
from grok_lightning.module import GrokModule
from grok_lightning.records.after_grok import after_grok, tabulate
from grok_lightning.records.checkpoint import pack_evaluations
from grok_lightning.records.record import DIVERGED, METRICS, STOPPED, Row, milestones, reaches, read_metrics, standing
from grok_lightning.training.interventions import MOMENTS

SUSTAIN = 3


@dataclass(frozen=True)
class Ending:
    """End of a run.

    Attributes:
        status: finished (its budget is spent), stopped or diverged.
        step: Its last step; of a run that diverged, the step at which its loss stopped being finite.
        left: The step of its stack at which it left; later ones save nothing of it.
        tested: Loss and accuracy on its test rows, with the weights of that step; empty where there are none.
    """

    status: str
    step: int
    left: int
    tested: Row = field(default_factory=dict)


class RunStates:
    """States of the runs of a stack. ``GrokDetection`` and ``Lifecycle`` change them; everything else only reads.

    Args:
        directories: Each run's directory.
        counts: Number of rows of the train and val splits of each run.
        threshold: Accuracy that counts as memorized or grokked.
        stop_after: Stop after N evaluations at it; 0 for never. The run is over when its last N evaluations are at the
            threshold.
        validated: Whether each run's validation rows are held out (default); one without can memorize, but not grok.
        stop_at_grok_times: Stop at N times the grok step; 0 for never. At the first evaluation from there on; then
            ``stop_after`` ends no run. The budget remains the most.
        forecast: Record a forecast at each evaluation. ``forecast/grok_step`` is its median,
            ``forecast/grok_step_low`` and ``_high`` are the ends of its interval of 80 %.

    Attributes:
        rows: The evaluations of each run, oldest first, up to its end.
        standing: How many of each run's newest evaluations are at the threshold.
        endings: How each run ended; None while it is in training.

    Raises:
        UserError: If the threshold is not above 0 and at most 1, ``stop_after`` is negative, or
            ``stop_at_grok_times`` is neither 0 nor above 1.
    """

    def __init__(
        self,
        directories: list[Path],
        counts: list[dict[str, int]],
        threshold: float = 0.99,
        stop_after: int = 0,
        validated: list[bool] | None = None,
        forecast: bool = False,
        stop_at_grok_times: float = 0,
    ) -> None:
        if not 0 < threshold <= 1:
            raise UserError(f"evaluation.threshold is {threshold}; it must lie above 0 and be at most 1")
        if stop_after < 0:
            raise UserError(f"evaluation.stop_after is {stop_after}; it must be at least 0")
        if stop_at_grok_times != 0 and not 1 < stop_at_grok_times < inf:
            expected = "it must be 0, for never, or a number above 1"
            raise UserError(f"evaluation.stop_at_grok_times is {stop_at_grok_times}; {expected}")
        self.directories, self.counts, self.stop_at_grok_times = directories, counts, stop_at_grok_times
        self.threshold, self.stop_after, self.forecast = threshold, stop_after, forecast
        self.validated = [True] * len(directories) if validated is None else validated
        self.rows: list[list[Row]] = [[] for _ in directories]
        self.standing = [0] * len(directories)
        self.endings: list[Ending | None] = [None] * len(directories)
        self._memorized = [False] * len(directories)
        self._grokked_at: list[int | None] = [None] * len(directories)
        self._packed: list[dict[str, Any] | None] = [None] * len(directories)

    def __len__(self) -> int:
        return len(self.directories)

    def in_training(self) -> list[int]:
        """The runs that have not ended."""
        return [run for run, ending in enumerate(self.endings) if ending is None]

    def is_done(self, run: int) -> bool:
        """Whether a run has stood at the threshold, or was watched after it, for as long as it is asked to."""
        if self.stop_at_grok_times:
            grokked = self._grokked_at[run]
            return grokked is not None and self.rows[run][-1]["step"] >= self.stop_at_grok_times * max(grokked, 1)
        return 0 < self.stop_after <= self.standing[run]

    def may_stop_early(self) -> bool:
        """Whether runs may be over before their budget is spent."""
        return self.stop_after > 0 or self.stop_at_grok_times > 0

    def after_grok(self, run: int, diverged_at: int | None = None) -> dict[str, Any]:
        """What became of a run after it had memorized and grokked, as its record says it."""
        rows, counts = tabulate(self.rows[run]), self.counts[run]
        val = rows["val/acc"] if self.validated[run] else None
        return after_grok(rows["step"], rows["train/acc"], val, counts, self.threshold, diverged_at)

    def has_grokked(self, run: int) -> bool:
        """Whether an evaluation of a run reached the threshold on the validation split, whichever rows are in it."""
        return self._grokked_at[run] is not None

    def reached(self, run: int) -> list[str]:
        """What a run has reached: memorized, grokked."""
        there = (self._memorized[run], self.has_grokked(run) and self.validated[run])
        return [name for name, found in zip(MOMENTS, there, strict=True) if found]

    def milestones(self, run: int) -> dict[str, int | None]:
        """The record's five steps of one run."""
        sustain = self.stop_after or SUSTAIN
        return milestones(self.rows[run], self.counts[run], self.threshold, sustain, self.validated[run])

    def phase(self, run: int) -> str:
        """memorizing, memorized or grokked."""
        if self.has_grokked(run) and self.validated[run]:
            return "grokked"
        return "memorized" if self._memorized[run] else "memorizing"

    def pack(self, run: int) -> dict[str, Any]:
        """A run's evaluations as its checkpoint holds them (``pack_evaluations``)."""
        packed = self._packed[run] = pack_evaluations(self.rows[run], self._packed[run])
        return packed

    def restore(self, run: int, rows: list[Row] | None) -> None:
        """Replaces a run's evaluations and derives its state from them; None leaves the evaluations as they are."""
        if rows is not None:
            self.rows[run], self._packed[run] = rows, None
        found = milestones(self.rows[run], self.counts[run], self.threshold, SUSTAIN)
        self._memorized[run] = found["memorize_step"] is not None
        self._grokked_at[run] = found["grok_step"]
        self.standing[run] = standing(self.rows[run], self.counts[run], self.threshold)
        self.endings[run] = None

    def add(self, run: int, row: Row) -> bool:
        """Adds a run's newest evaluation.

        Returns:
            Whether it is the first at the threshold on the validation split.
        """
        self.rows[run].append(row)
        counts = self.counts[run]
        self._memorized[run] |= reaches(row["train/acc"], counts["train"], self.threshold)
        if not reaches(row["val/acc"], counts["val"], self.threshold):
            self.standing[run] = 0
            return False
        self.standing[run] += 1
        first = not self.has_grokked(run)
        if first:
            self._grokked_at[run] = int(row["step"])
        return first

    def end(self, run: int, ending: Ending) -> None:
        """Ends a run."""
        self.endings[run] = ending


class GrokDetection:
    """Updates the states of a stack's runs from its evaluations.

    Args:
        states: The states.
        schedule: The evaluation schedule.
        saved: The evaluations of each run that the checkpoint holds from which the fit resumes; None if it holds none.
    """

    def __init__(self, states: RunStates, schedule: EvaluationSchedule, saved: list[list[Row]] | None = None) -> None:
        self.states, self.schedule, self.saved = states, schedule, saved

    def restore(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores the states at the start of a fit.

        On resume the evaluations are those of the checkpoint; those of an earlier version's are read from
        ``metrics.csv``. Those beyond the checkpoint's step are dropped, and those that only the end of a smaller budget
        had called for.
        """
        states, step, diverged = self.states, trainer.global_step, diverged_at(pl_module)
        for run, directory in enumerate(states.directories):
            rows = None
            if step and self.saved is not None:
                rows = self.saved[run]
            elif step and (directory / METRICS).exists():
                rows = read_metrics(directory)
            kept = rows and [row for row in rows if self._is_kept(int(row["step"]), trainer)]
            states.restore(run, kept)
            # a run of a stack that had left before the checkpoint was saved: later evaluations are not its own
            last = int(states.rows[run][-1]["step"]) if states.rows[run] else 0
            missed = min(self.schedule.next_point(last), trainer.max_steps) <= step  # as its loss was not finite
            if len(states) > 1 and states.is_done(run):
                states.end(run, Ending(STOPPED, last, last))
            elif len(states) > 1 and missed and diverged[run] >= 0:
                states.end(run, Ending(DIVERGED, diverged[run], last))

    def note(self, trainer: Trainer, pl_module: LightningModule) -> list[int]:
        """Adds the newest evaluation of every run in training whose loss is finite.

        Returns:
            The runs that have grokked with it.
        """
        evaluation = cast(GrokModule, pl_module).evaluation
        values = {key: value.tolist() for key, value in evaluation.items()}
        diverged = diverged_at(pl_module)
        grokked = []
        for run in self.states.in_training():
            if diverged[run] < 0:
                row = {"step": trainer.global_step} | {key: value[run] for key, value in values.items()}
                if self.states.add(run, row):
                    grokked.append(run)
        return grokked

    def _is_kept(self, step: int, trainer: Trainer) -> bool:
        return step <= trainer.global_step and (self.schedule.is_point(step) or step == trainer.max_steps)


def diverged_at(pl_module: LightningModule) -> list[int]:
    """The step at which each run's loss stopped being finite; -1 while it is finite."""
    found: list[int] = cast(GrokModule, pl_module).diverged_at_R.tolist()
    return found
