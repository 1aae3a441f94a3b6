"""A verification as sweeps: to 99 %, and on from there. A sweep that is killed goes on; one that is done is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from grok_lightning.files import write_durably
from grok_lightning.options.classes import Nested, lookup
from grok_lightning.records.record import RESULT, Row, read_metrics, read_result
from grok_lightning.speedrun.rules import NEEDED, THRESHOLD
from grok_lightning.sweep.command import sweep_command
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan.pending import find_standing
from grok_lightning.sweep.plan.runs import Plan, read_plan

EVALUATIONS = 100  # of the steps afterwards


@dataclass(frozen=True)
class Attempt:
    """A run that is asked for.

    Attributes:
        task: Number of its task.
        data: Options of its data.
        seed: Its seed.
        max_steps: Its budget.
    """

    task: int
    data: Nested
    seed: int
    max_steps: int


@dataclass(frozen=True)
class Outcome:
    """A run that is over.

    Attributes:
        result: The fields of its ``result.json``.
        rows: Its evaluations, oldest first.
    """

    result: Nested
    rows: list[Row]


@dataclass(frozen=True)
class Sweep:
    """Runs of an entry, all with the same schedule of evaluations.

    Attributes:
        name: Name of the experiment.
        base: The entry's file.
        attempts: The runs.
        every: Steps between evaluations.
        stop_after: Evaluations at the threshold after which a run is over; 0: it takes its whole budget.
        precision: The entry's precision.
    """

    name: str
    base: Path
    attempts: Sequence[Attempt]
    every: int
    stop_after: int
    precision: str

    @property
    def content(self) -> Nested:
        """Content of its file."""
        schedule: Nested = {"per_decade": 0, "every": self.every, "stop_after": self.stop_after,
                            "stop_at_grok_times": 0, "forecast": False}  # fmt: skip
        fixed = {f"evaluation.{name}": value for name, value in (schedule | {"threshold": THRESHOLD}).items()}
        fixed |= {"trainer.precision": self.precision, "checkpoint.keep": "none"}
        together = {
            "data": [dict(attempt.data) for attempt in self.attempts],
            "seed_everything": [attempt.seed for attempt in self.attempts],
            "trainer.max_steps": [attempt.max_steps for attempt in self.attempts],
        }
        return {"base": str(self.base.resolve()), "set": fixed, "zip": together}

    def plan(self, root: Path) -> Plan:
        """All its runs, typed; nothing is written.

        Raises:
            UserError: An option does not exist or has a wrong type.
        """
        with TemporaryDirectory() as scratch:
            return read_plan(self._write(Path(scratch)), root)

    def run(self, root: Path, options: Sequence[str]) -> int:
        """Train what is missing.

        Args:
            root: Directory of ``lightning_logs`` and ``checkpoints``.
            options: Further options of the command ``sweep``.

        Returns:
            The exit status of ``sweep``; 1 where another process still has some of the runs.
        """
        path = self._write(Places(root, self.name).own)
        status = sweep_command([str(path), "--root", str(root), "--events", "off", "--retry_failed", *options])
        plan = self.plan(root)
        found = find_standing(plan)
        return status or int(not all(found.is_over(run) for run in plan.runs))

    def read(self, root: Path) -> list[Outcome]:
        """The outcome of each run, in the order of the attempts; all must be over."""
        plan = self.plan(root)
        names = find_standing(plan).names
        directories = [plan.places.of_run(names[run.hash])[0] for run in plan.runs]
        return [Outcome(read_result(path / RESULT), read_metrics(path)) for path in directories]

    def _write(self, folder: Path) -> Path:
        path = folder / f"{self.name}.yaml"
        write_durably(path, yaml.safe_dump(self.content, sort_keys=False).encode())
        return path


def to_threshold(name: str, base: Path, options: Nested, attempts: Sequence[Attempt]) -> Sweep:
    """The runs up to 99 %, evaluated at every step."""
    return Sweep(name, base, attempts, 1, NEEDED, str(lookup(options, "trainer.precision")))


def afterwards(first: Sweep, outcomes: Sequence[Outcome], after: int) -> Sweep | None:
    """The runs that reached 99 %, again and on.

    They take the same steps: by the rules nothing in training depends on evaluations.

    Args:
        first: The runs up to 99 %.
        outcomes: Theirs.
        after: Steps that each takes at least from there on. Of a task all take equally many, so that they can be
            stacked.

    Returns:
        None if no run reached 99 %.
    """
    steps: dict[int, int] = {}
    reached = [
        (attempt, int(outcome.result["grok_step"]))
        for attempt, outcome in zip(first.attempts, outcomes, strict=True)
        if outcome.result["grok_step"] is not None
    ]
    for attempt, step in reached:
        steps[attempt.task] = max(steps.get(attempt.task, 0), step + after)
    again = [Attempt(attempt.task, attempt.data, attempt.seed, steps[attempt.task]) for attempt, _ in reached]
    every = max(1, after // EVALUATIONS)
    return Sweep(f"{first.name}-after", first.base, again, every, 0, first.precision) if again else None
