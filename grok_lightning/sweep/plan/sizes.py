"""Sizes of a sweep's runs, from runs that are built for trial, and the default settings that follow from them."""

import os
import re
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, reduce
from itertools import chain
from math import gcd, log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from grok_lightning.build import build
from grok_lightning.callbacks.checkpoints import count_points, describe_trajectory
from grok_lightning.errors import UserError
from grok_lightning.hardware.process import cores
from grok_lightning.options.choices import AUTO, COMPILE, choose_compile
from grok_lightning.options.classes import listed, lookup
from grok_lightning.options.probe import refuse_network
from grok_lightning.options.refusals import refuse_optimizer
from grok_lightning.sweep.plan.runs import MAX_STEPS, Plan, PlannedRun
from grok_lightning.sweep.plan.stack import Stack, build_fit
from grok_lightning.sweep.plan.stacking import SEED, graph_key, has_transformer

MOST_TRIALS = 100
SIZING = ("model.network.", "data.")
NOWHERE = "/nonexistent"
LARGEST_STACK = 256
MOST_CHECKPOINTS = 20 * 2**30
MOST_EVENTS = 1000
PROCESS_BYTES = 700 * 2**20
STATE_BYTES = 20  # a weight, its gradient, two moments and a copy in half precision
ROW_BYTES = 150_000  # activations of a row of four tokens at width 128 and two layers, on a GPU


@dataclass(frozen=True)
class Size:
    """Size of a run.

    Attributes:
        weights: Number of weights of its network.
        batch_rows: Rows per batch.
        budget: Largest number of steps.
    """

    weights: int
    batch_rows: int
    budget: int

    def join(self, other: "Size") -> "Size":
        """The larger one of each number of two sizes."""
        return Size(
            max(self.weights, other.weights),
            max(self.batch_rows, other.batch_rows),
            max(self.budget, other.budget),
        )

    @property
    def checkpoint_bytes(self) -> int:
        """Estimated bytes of a checkpoint: weights and two moments in 32 bits, and the rest."""
        return 12 * self.weights + 60_000

    @property
    def weights_bytes(self) -> int:
        """Estimated bytes of a checkpoint of weights alone."""
        return 4 * self.weights + 15_000


@dataclass(frozen=True)
class Choice:
    """Settings of a sweep.

    Attributes:
        workers: Number of processes.
        threads: CPU threads of each; 0: torch's default.
        stack_size: Largest number of runs trained as one model.
        keep: Checkpoints that are kept of a run; None: as its config says.
        events: Whether to write TensorBoard events and a figure of each run.
        compile: Whether to compile transformers where the file does not decide, see ``choose_compile``.
        retry_failed: Whether to run failed runs again.
        size: Size of its largest runs: the largest of each number.
    """

    workers: int
    threads: int
    stack_size: int
    keep: str | None
    events: bool
    compile: bool
    retry_failed: bool
    size: Size

    @property
    def worker_bytes(self) -> int:
        """Estimated memory of a process, in bytes."""
        return PROCESS_BYTES + STATE_BYTES * self.size.weights * self.stack_size


def _choose_trials(plan: Plan, runs: list[PlannedRun]) -> list[PlannedRun]:
    """Choose runs that cover every value of every option that varies, except seeds; at most 100.

    The largest runs come first, as many as half of those.
    """
    seeds = [place for place, option in enumerate(plan.grid.options) if option == SEED]
    covered: set[tuple[int, int, int]] = set()
    chosen: list[PlannedRun] = []
    stride = max(1, round(0.618 * len(runs)))  # large, so that few runs cover all values
    while gcd(stride, len(runs)) > 1:
        stride += 1
    scattered = (runs[place * stride % len(runs)] for place in range(len(runs)))
    for run in chain(_find_largest(plan, runs)[: MOST_TRIALS // 2], scattered):
        varied = {number: id(value) for number, value in enumerate(run.varied) if number not in seeds}
        values = {(run.block, -1, 0), *((run.block, number, value) for number, value in varied.items())}
        if not values <= covered:
            covered |= values
            chosen.append(run)
            if len(chosen) == MOST_TRIALS:
                break
    return chosen


def _find_largest(plan: Plan, runs: list[PlannedRun]) -> list[PlannedRun]:
    """The run of each block with the largest numbers in the options of its network and data.

    Where other values of these options vary too, such as words, one run for each combination of them.
    """
    places = [place for place, option in enumerate(plan.leaves) if option.startswith(SIZING) and "seed" not in option]
    largest: dict[tuple[int, str], tuple[float, PlannedRun]] = {}
    for run in runs if places else ():
        values = tuple(run.leaves[place] for place in places)
        numbers = [value for value in values if type(value) in (int, float) and value > 0]
        key = (run.block, repr([value for value in values if type(value) not in (int, float)]))
        size = sum(map(log, numbers))
        if key not in largest or size > largest[key][0]:
            largest[key] = (size, run)
    return [run for _, run in largest.values()]


def try_runs(plan: Plan, runs: list[PlannedRun], trust: bool = False) -> dict[int, Size]:
    """Build some of the runs, without writing anything.

    Args:
        plan: Plan of the sweep.
        runs: Unfinished runs.
        trust: Whether any class that a checkpoint of ``init_from`` names is imported.

    Returns:
        Size of the largest runs of each block.

    Raises:
        UserError: A run cannot be built; the message names it.
    """
    with ExitStack() as scratch:
        return _try_runs(plan, runs, trust, scratch)


def _try_runs(plan: Plan, runs: list[PlannedRun], trust: bool, scratch: ExitStack) -> dict[int, Size]:
    sizes: dict[int, Size] = {}
    budgets: dict[int, int] = {}
    for run in runs:
        budgets[run.block] = max(budgets.get(run.block, 0), find_budget(plan, run))
    outside = [option for option in plan.leaves if not option.startswith(("data.", "model.")) and option != SEED]
    for run in _choose_trials(plan, runs):
        config = plan.config(run, "trial")
        for item in listed(config, "trainer.logger"):
            # of MLflow, which makes its store at once
            if "tracking_uri" in item and str(item["tracking_uri"] or "file:").startswith(("file:", "sqlite:")):
                item["tracking_uri"] = Path(scratch.enter_context(TemporaryDirectory())).as_uri()
        try:
            if outside or run.block not in sizes:
                trial = Stack(NOWHERE, plan.name, [config], [run.hash], events=False, trust=trust)
                fit = build_fit(trial, root=plan.places.root)
                module, data = fit.cli.model, fit.cli.datamodule
            else:  # a third of the time
                module, data = build(config)
                refuse_network(module, data)
                refuse_optimizer(module, int(config["trainer"]["max_steps"]))
        except UserError as error:
            raise UserError(f"{plan.grid.path}: the run with {plan.describe(run.varied)}: {error}") from None
        weights = sum(weight.numel() for weight in module.network.parameters())
        size = Size(weights, data.batch_size, budgets[run.block])
        sizes[run.block] = size.join(sizes.get(run.block, size))
    return sizes


def choose(plan: Plan, missing: int, sizes: dict[int, Size], options: Any) -> Choice:
    """Choose the settings that the user did not give.

    On a CPU, a process for each core, one thread each, and stacks of one: two single-thread processes do more than one
    stack of two on two threads. Fewer processes than cores share these out as threads, as far as OMP_NUM_THREADS lets
    them. On a GPU, a process for each, and stacks as large as memory allows. Checkpoints stay as the config says unless
    those of all runs would take more than 20 GiB. Events and figures for up to 1,000 runs.

    Args:
        plan: Plan of the sweep.
        missing: Number of its unfinished runs.
        sizes: Sizes of the runs of each block.
        options: Options of the command.
    """
    size = reduce(Size.join, sizes.values())
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    stack_size = options.stack_size
    if stack_size is None:
        stack_size = 1
        if gpus:
            each = STATE_BYTES * size.weights + ROW_BYTES * size.batch_rows
            stack_size = max(1, min(LARGEST_STACK, int(0.6 * torch.cuda.mem_get_info()[0]) // each))
    keep = options.keep
    if keep is None and 2 * size.checkpoint_bytes * len(plan.runs) > MOST_CHECKPOINTS:
        keep = "none"
    events = len(plan.runs) <= MOST_EVENTS if options.events is None else options.events == "on"
    stacks = max(1, -(-missing // stack_size))
    workers, threads = share_cores(stacks, options.workers)
    compiled = _choose_compile(plan, sizes, -(-stacks // workers))
    return Choice(workers, threads, stack_size, keep, events, compiled, options.retry_failed, size)


def share_cores(stacks: int, wanted: int | None) -> tuple[int, int]:
    """Number of processes that train some stacks, and CPU threads of each, as ``choose`` describes.

    Args:
        stacks: Number of stacks, of all sweeps that are trained together.
        wanted: Number of processes that the user gave.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    workers = min(wanted or gpus or cores(), max(1, stacks))
    if gpus:
        return workers, 0
    if not wanted:
        return workers, 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    limit = int(given) if re.fullmatch(r"[0-9]{1,6}", given) else 0
    return workers, max(1, min(cores() // workers, limit or cores()))


def describe_trajectories(plan: Plan, runs: list[PlannedRun], sizes: dict[int, Size]) -> str | None:
    """How many checkpoints of single steps the runs of a sweep will save, and how large; None if they save none.

    Raises:
        UserError: If there is not that much room.
    """
    count = size = 0
    asked: set[str] = set()
    largest = reduce(Size.join, sizes.values())
    count_once = cache(count_points)
    for run in runs:
        own = sizes.get(run.block, largest)
        interval, per_decade = (_find_option(plan, run, f"checkpoint.{name}") for name in ("interval", "per_decade"))
        points = count_once(interval, per_decade, None, find_budget(plan, run))
        asked |= {"interval"} if interval else {"per_decade"} if per_decade else set()
        count, size = count + points, size + points * own.weights_bytes
    if not count:
        return None
    try:
        return describe_trajectory(min(asked), count, size, plan.places.root)
    except UserError as error:
        raise UserError(f"{plan.grid.path}: {error}") from None


def find_budget(plan: Plan, run: PlannedRun) -> int:
    """Largest number of steps of a run."""
    return int(_find_option(plan, run, MAX_STEPS))


def _find_option(plan: Plan, run: PlannedRun, option: str) -> Any:
    """The value of an option in a run."""
    if option in plan.leaves:
        return run.leaves[plan.leaves.index(option)]
    return lookup(plan.blocks[run.block].resolved, option)


def _choose_compile(plan: Plan, sizes: dict[int, Size], fits: int) -> bool:
    """Whether compiling the largest transformers saves time, where the file does not decide.

    Args:
        plan: Plan of the sweep.
        sizes: Sizes of the runs of each block.
        fits: Number of stacks that a worker trains one after another.
    """
    said = lookup(plan.grid.fixed, COMPILE)
    if said not in (None, AUTO) or COMPILE in plan.grid.options:
        return False
    configs = {block: plan.blocks[block].resolved for block in sizes if has_transformer(plan.blocks[block].resolved)}
    if not configs:
        return False
    largest = max(configs, key=lambda block: sizes[block].weights)
    graphs = len({graph_key(config, 1) for config in configs.values()})
    return choose_compile(configs[largest], sizes[largest].budget, -(-fits // graphs))
