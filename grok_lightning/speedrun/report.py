"""What a verification found, as text and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from grok_lightning.records.record import DIVERGED
from grok_lightning.records.words import format_percent
from grok_lightning.speedrun.cost import Cost
from grok_lightning.speedrun.rules import STABLE
from grok_lightning.speedrun.sweeps import Outcome
from grok_lightning.statistics import kaplan_meier


@dataclass(frozen=True)
class Later:
    """What became of a run that had reached 99 %.

    Attributes:
        accuracy: Validation accuracy at its last evaluation.
        lowest: The lowest at the evaluations afterwards.
        stable: Whether it was watched for as many steps as asked for, or more, and fell below 95 % at none of its
            evaluations.
    """

    accuracy: float
    lowest: float
    stable: bool


@dataclass(frozen=True)
class TaskReport:
    """A task's runs.

    Attributes:
        title: The task.
        cost: Of a step.
        budget: The most steps a run could take.
        steps: Of each run to 99 %; None: not within the budget.
        seconds: Of each run to the end of it, evaluations included.
        device: What it was trained on.
        later: Of each run that reached 99 %; None if that was not asked for.
    """

    title: str
    cost: Cost
    budget: int
    steps: list[int | None]
    seconds: list[float]
    device: str
    later: list[Later] | None

    @property
    def median(self) -> float | None:
        """Median step to 99 %, by Kaplan and Meier; None if no more than half of the runs reached it."""
        if 2 * sum(step is not None for step in self.steps) <= len(self.steps):
            return None
        steps = [self.budget if step is None else step for step in self.steps]
        return kaplan_meier(steps, [step is not None for step in self.steps]).median

    @property
    def is_stable(self) -> bool:
        """Whether all runs reached 99 % and stayed stable."""
        return self.later is not None and len(self.later) == len(self.steps) and all(run.stable for run in self.later)

    def describe(self) -> dict[str, Any]:
        """Its numbers, for JSON."""
        found = asdict(self)
        return found | {"median": self.median, "flops": self._flops, "stable": self.is_stable if self.later else None}

    def format(self, after: int) -> str:
        """A heading and three lines."""
        cost, seconds = self.cost, median(self.seconds)
        steps = " ".join(f">{self.budget:,}" if step is None else f"{step:,}" for step in self.steps)
        middle = "half or more did not reach it" if self.median is None else f"median {self.median:g}"
        flops = "" if self._flops is None else f", {self._flops:.3g} in all"
        lines = [
            self.title,
            f"  steps  {middle}: {steps}",
            f"  cost   {seconds:.1f} s, {cost.flops:.3g} FLOPs a step{flops}; "
            f"{cost.rows:,} of {cost.training_rows:,} rows a step, {cost.parameters:,} parameters",
        ]
        if self.later:
            accuracy, stable = median(run.accuracy for run in self.later), sum(run.stable for run in self.later)
            lines.append(
                f"  later  after {after:,} more steps {format_percent(accuracy)} (median), "
                f"lowest {format_percent(min(run.lowest for run in self.later))}; "
                f"stable: {stable} of {len(self.steps)}"
            )
        return "\n".join(lines)

    @property
    def _flops(self) -> float | None:
        return None if self.median is None else self.cost.flops * self.median


def report_task(
    title: str, cost: Cost, budget: int, outcomes: Sequence[Outcome], again: Sequence[Outcome] | None, after: int = 0
) -> TaskReport:
    """Sum up the runs of a task.

    Args:
        title: The task.
        cost: Of a step.
        budget: The most steps a run could take.
        outcomes: The runs up to 99 %.
        again: Those that reached it, and went on; None if that was not asked for.
        after: Steps that each of them was to go on.
    """
    results = [outcome.result for outcome in outcomes]
    steps = [result["grok_step"] for result in results]
    seconds = [float(result["seconds"]) for result in results]
    later = None
    if again is not None:
        reached = [step for step in steps if step is not None]
        later = [_look_later(run, step, after) for run, step in zip(again, reached, strict=True)]
    return TaskReport(title, cost, budget, steps, seconds, str(results[0]["device"]), later)


def _look_later(outcome: Outcome, grok_step: int, after: int) -> Later:
    rows = [row for row in outcome.rows if row["step"] >= grok_step]
    accuracies = [row["val/acc"] for row in rows] or [0.0]
    watched = bool(rows) and rows[-1]["step"] >= grok_step + after and outcome.result["status"] != DIVERGED
    return Later(accuracies[-1], min(accuracies), watched and min(accuracies) >= STABLE)
