"""Builds some runs of a sweep before any is trained: what they are made of must fit, and how large they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

from grok_lightning.errors import UserError
from grok_lightning.module import GrokModule
from grok_lightning.options.classes import Nested, made
from grok_lightning.options.linking import LINKED
from grok_lightning.options.refusals import refuse_optimizer
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
            module, data = _fit(plan, config, run.hash) if whole else _parts(config)
        except UserError as error:
            raise UserError(f"{plan.grid.path}: the run with {plan.describe(run)}: {error}") from None
        weights = sum(weight.numel() for weight in module.network.parameters())
        sizes.setdefault(run.block, Size(weights, data.batch_size, int(config["trainer"]["max_steps"])))
    return sizes


def _fit(plan: Plan, config: Nested, hashed: str) -> tuple[GrokModule, Any]:
    """Everything that a fit builds."""
    fit = StackFit(Stack(Places(NOWHERE, plan.name), [config], [hashed], events=False))
    return fit.model, fit.datamodule


def _parts(config: Nested) -> tuple[GrokModule, Any]:
    """Data, network, filters and optimizer alone: a tenth of the time."""
    options = dict(config["model"])
    data = made(config["data"])(seeds=[config[SEED]])
    parts = {name: made(options.pop(name)) for name in ("network", "optimizer")}
    filters = [made(item)() for item in options.pop("filters")]
    linked = {name: getattr(data, own) for name, own in LINKED.items()}
    module = GrokModule(**linked, **parts, filters=filters, **options)
    refuse_optimizer(module)
    return module, data
