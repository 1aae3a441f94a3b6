"""Builds some runs of a sweep before any is trained: what they are made of must fit, and how large they are."""

from dataclasses import dataclass
from pathlib import Path

from grok_lightning.errors import UserError
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan import Plan, PlannedRun
from grok_lightning.sweep.stack import Stack, StackFit
from grok_lightning.sweep.stacking import SEED

MOST_TRIALS = 100
NOWHERE = Path("/nonexistent")


@dataclass(frozen=True)
class Size:
    """What a run takes.

    Attributes:
        weights: Numbers in its network.
        batch_rows: Rows that pass through it at once.
        budget: The most steps it may take.
    """

    weights: int
    batch_rows: int
    budget: int

    @property
    def checkpoint_bytes(self) -> int:
        """Of one checkpoint: the weights and two moments in 32 bits, and what stands around them."""
        return 12 * self.weights + 60_000


def trials(plan: Plan, runs: list[PlannedRun]) -> list[PlannedRun]:
    """Runs that between them have every value of every option that varies, seeds aside; at most 100."""
    seeds = [place for place, option in enumerate(plan.grid.options) if option == SEED]
    covered: set[tuple[int, int, str]] = set()
    chosen: list[PlannedRun] = []
    texts: dict[int, str] = {}
    for run in runs:
        pairs = set()
        for place, value in enumerate(run.varied):
            if place not in seeds:
                text = texts.get(id(value)) or texts.setdefault(id(value), repr(value))
                pairs.add((run.block, place, text))
        pairs.add((run.block, -1, ""))
        if not pairs <= covered:
            covered |= pairs
            chosen.append(run)
            if len(chosen) == MOST_TRIALS:
                break
    return chosen


def try_runs(plan: Plan, runs: list[PlannedRun]) -> dict[int, Size]:
    """Builds some of the runs, and writes nothing.

    Args:
        plan: The sweep.
        runs: Those that are to be done.

    Returns:
        The size of the runs of each block, as its first one has it.

    Raises:
        UserError: If one cannot be built; it names the run.
    """
    sizes: dict[int, Size] = {}
    for run in trials(plan, runs):
        places = Places(NOWHERE, plan.name)
        config = plan.config(run, "trial")
        try:
            fit = StackFit(Stack(places, [config], [run.hash], events=False))
        except UserError as error:
            raise UserError(f"{plan.grid.path}: the run with {plan.describe(run)}: {error}") from None
        weights = sum(weight.numel() for weight in fit.model.network.parameters())
        sizes.setdefault(run.block, Size(weights, fit.datamodule.batch_size, int(config["trainer"]["max_steps"])))
    return sizes
