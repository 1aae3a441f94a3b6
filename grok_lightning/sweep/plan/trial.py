"""Builds some runs of a sweep before training: their options must be compatible, and their sizes are needed."""

from math import gcd

from grok_lightning.build import build
from grok_lightning.errors import UserError
from grok_lightning.options.refusals import refuse_optimizer
from grok_lightning.sweep.plan.runs import Plan, PlannedRun
from grok_lightning.sweep.plan.sizes import Size
from grok_lightning.sweep.plan.stack import Stack, fit_of
from grok_lightning.sweep.plan.stacking import SEED

MOST_TRIALS = 100
NOWHERE = "/nonexistent"


def choose_trials(plan: Plan, runs: list[PlannedRun]) -> list[PlannedRun]:
    """Choose runs that cover every value of every option that varies, except seeds; at most 100."""
    seeds = [place for place, option in enumerate(plan.grid.options) if option == SEED]
    covered: set[tuple[int, int, int]] = set()
    chosen: list[PlannedRun] = []
    stride = max(1, round(0.618 * len(runs)))  # large, so that few runs cover all values
    while gcd(stride, len(runs)) > 1:
        stride += 1
    for place in range(len(runs)):
        run = runs[place * stride % len(runs)]
        varied = {number: id(value) for number, value in enumerate(run.varied) if number not in seeds}
        values = {(run.block, -1, 0), *((run.block, number, value) for number, value in varied.items())}
        if not values <= covered:
            covered |= values
            chosen.append(run)
            if len(chosen) == MOST_TRIALS:
                break
    return chosen


def try_runs(plan: Plan, runs: list[PlannedRun]) -> dict[int, Size]:
    """Build some of the runs, without writing anything.

    Args:
        plan: Plan of the sweep.
        runs: Unfinished runs.

    Returns:
        Size of the first run of each block.

    Raises:
        UserError: A run cannot be built; the message names it.
    """
    sizes: dict[int, Size] = {}
    outside = [option for option in plan.leaves if not option.startswith(("data.", "model.")) and option != SEED]
    for run in choose_trials(plan, runs):
        config = plan.config(run, "trial")
        try:
            if outside or run.block not in sizes:
                fit = fit_of(Stack(NOWHERE, plan.name, [config], [run.hash], events=False))
                module, data = fit.cli.model, fit.cli.datamodule
            else:  # a third of the time
                module, data = build(config)
                refuse_optimizer(module)
        except UserError as error:
            raise UserError(f"{plan.grid.path}: the run with {plan.describe(run.varied)}: {error}") from None
        weights = sum(weight.numel() for weight in module.network.parameters())
        sizes.setdefault(run.block, Size(weights, data.batch_size, int(config["trainer"]["max_steps"])))
    return sizes
