"""Builds some runs of a sweep before any is trained: what they are made of must fit, and how large they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path

from grok_lightning.build import build
from grok_lightning.errors import UserError
from grok_lightning.options.refusals import refuse_optimizer
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan import Plan, PlannedRun
from grok_lightning.sweep.stack import Stack, fit_of
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
    for run in _scattered(runs):
        values = {(run.block, -1, "")}
        for place, value in enumerate(run.varied):
            if place not in seeds:
                text = texts.get(id(value)) or texts.setdefault(id(value), repr(value))
                values.add((run.block, place, text))
        if not values <= covered:
            covered |= values
            chosen.append(run)
            if len(chosen) == MOST_TRIALS:
                break
    return chosen


def _scattered(runs: list[PlannedRun]) -> Iterator[PlannedRun]:
    """All runs; far ones follow each other, so that few of them have all values between them."""
    stride = max(1, round(0.618 * len(runs)))
    while gcd(stride, len(runs)) > 1:
        stride += 1
    return (runs[place * stride % len(runs)] for place in range(len(runs)))


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
    outside = [option for option in plan.leaves if not option.startswith(("data.", "model.")) and option != SEED]
    for run in trials(plan, runs):
        config = plan.config(run, "trial")
        try:
            whole = bool(outside) or run.block not in sizes
            if whole:
                fit = fit_of(Stack(Places(NOWHERE, plan.name), [config], [run.hash], events=False))
                module, data = fit.cli.model, fit.cli.datamodule
            else:  # a third of the time
                module, data = build(config)
                refuse_optimizer(module)
        except UserError as error:
            raise UserError(f"{plan.grid.path}: the run with {plan.describe(run)}: {error}") from None
        weights = sum(weight.numel() for weight in module.network.parameters())
        sizes.setdefault(run.block, Size(weights, data.batch_size, int(config["trainer"]["max_steps"])))
    return sizes
