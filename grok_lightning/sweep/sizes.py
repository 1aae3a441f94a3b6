"""How a sweep is run where its user does not say: processes, stacks, checkpoints, compilation."""

import os
from dataclasses import dataclass
from typing import Any

import torch

from grok_lightning.hardware.cores import cores
from grok_lightning.options.choices import AUTO, COMPILE, choose_compile
from grok_lightning.options.classes import lookup
from grok_lightning.sweep.plan import Plan
from grok_lightning.sweep.stacking import graph, has_transformer
from grok_lightning.sweep.trial import Size

LARGEST_STACK = 256
MOST_CHECKPOINTS = 20 * 2**30
MOST_EVENTS = 1000
PROCESS_BYTES = 700 * 2**20
STATE_BYTES = 20  # a weight, its gradient, two moments and a copy in half precision
ROW_BYTES = 150_000  # activations of a row of four tokens at width 128 and two layers, on a GPU


@dataclass(frozen=True)
class Choice:
    """How a sweep is run.

    Attributes:
        workers: Processes.
        threads: CPU threads of each; 0 for torch's own choice.
        stack_size: Most runs trained as one model.
        keep: What is left of a run's checkpoints; None for what its config says.
        events: Whether runs get TensorBoard events and a figure.
        compile: Whether transformers are compiled although no file says so: where it pays, see ``choose_compile``.
        retry_failed: Whether failed runs are done again.
        size: Of its largest runs.
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
        """Memory of a process."""
        return PROCESS_BYTES + STATE_BYTES * self.size.weights * self.stack_size


def _most_threads() -> int:
    """How many threads a process may have: what OMP_NUM_THREADS says, so that one can leave cores to others."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else cores()


def choose(plan: Plan, missing: int, sizes: dict[int, Size], options: Any) -> Choice:
    """What the user asked for, and sensible values for the rest.

    On a CPU, a process for each core, one thread each, and stacks of one: two single-thread processes do more than one
    stack of two on two threads. Fewer processes than cores share these out as threads, as far as OMP_NUM_THREADS lets
    them. On a GPU, a process for each, and stacks as large as memory allows. Checkpoints stay
    as the config says unless those of all runs would take more than 20 GiB. Events and figures for up to 1,000 runs.

    Args:
        plan: The sweep.
        missing: How many of its runs are to be done.
        sizes: Of its blocks.
        options: Those of the command.
    """
    size = max(sizes.values(), key=lambda own: own.weights)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    stack_size, workers = options.stack_size, options.workers
    if stack_size is None:
        stack_size = _fitting_stack(size) if gpus else 1
    if workers is None:
        workers = gpus or cores()
    keep = options.keep
    if keep is None and 2 * size.checkpoint_bytes * len(plan.runs) > MOST_CHECKPOINTS:
        keep = "none"
    events = len(plan.runs) <= MOST_EVENTS if options.events is None else options.events == "on"
    stacks = max(1, -(-missing // stack_size))
    workers = min(workers, stacks)
    threads = 0 if gpus else max(1, min(cores() // workers, _most_threads())) if options.workers else 1
    compiled = _compiled(plan, sizes, -(-stacks // workers))
    return Choice(workers, threads, stack_size, keep, events, compiled, options.retry_failed, size)


def _fitting_stack(size: Size) -> int:
    free, _ = torch.cuda.mem_get_info()
    each = STATE_BYTES * size.weights + ROW_BYTES * size.batch_rows
    return max(1, min(LARGEST_STACK, int(0.6 * free) // each))


def _compiled(plan: Plan, sizes: dict[int, Size], fits: int) -> bool:
    """Whether compiling pays for the largest transformers, where nobody decided.

    Args:
        plan: The sweep.
        sizes: Of its blocks.
        fits: How many stacks a worker trains one after the other.
    """
    said = lookup(plan.grid.fixed, COMPILE)
    if said not in (None, AUTO) or COMPILE in plan.grid.options:
        return False
    configs = {block: plan.blocks[block].resolved for block in sizes if has_transformer(plan.blocks[block].resolved)}
    if not configs:
        return False
    largest = max(configs, key=lambda block: sizes[block].weights)
    graphs = len({graph(config, 1) for config in configs.values()})
    return choose_compile(configs[largest], sizes[largest].budget, -(-fits // graphs))
