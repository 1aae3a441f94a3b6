"""Training of a stack of runs, which is made smaller when half of its runs are over."""

import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from grok_lightning.callbacks.guards import Diverged, StopRequested
from grok_lightning.options.merging import plain
from grok_lightning.records.checkpoint import LAST, load, save, slice_runs
from grok_lightning.sweep.plan.stack import Stack, build_fit


def train(stack: Stack, tell: Callable[..., None] | None = None) -> None:
    """Train a stack until all of its runs are over, from its checkpoint if it has one.

    Args:
        stack: The runs.
        tell: Called once a second with the progress.

    Raises:
        StopRequested: A signal asked to stop; the stack can be resumed, unless it had just ended.
    """
    gone: Counter[str] = Counter()
    began = None
    everything = len(stack.configs)
    while True:
        if len(stack.configs) > 1:
            stack.places.note_members(stack.name, stack.hashes)
        torch._dynamo.reset()  # the limit of compilations counts those of every stack of a process

        def tell_all(**content: Any) -> None:
            nonlocal began
            began = content["began"] if began is None else began  # of the first of several stacks
            if tell is not None:
                counts = {name: content[name] + gone[name] for name in ("over", "grokked", "memorized")}
                tell(**content | counts | {"runs": everything, "began": began})

        fit = build_fit(stack, tell_all)
        with suppress(Diverged):  # which is recorded
            fit.run()
        lifecycle = fit.cli.lifecycle
        is_over = not lifecycle.closing_up
        if is_over and len(stack.configs) > 1:
            shutil.rmtree(stack.directory, ignore_errors=True)
        late = lifecycle.checkpoints.signals.received  # after the last step, where training does not check for signals
        if late:
            raise StopRequested(late, fit.cli.trainer.global_step)
        if is_over:
            return
        states = fit.cli.states
        left = states.in_training()
        over = [run for run in range(len(states)) if run not in left]
        gone.update(over=len(over))
        gone.update(states.phase(run) for run in over)
        stack = close_up(stack, left)


def close_up(stack: Stack, left: list[int], keep: bool = False) -> Stack:
    """Cut a stack's checkpoint down to some of its runs.

    Args:
        stack: The stack.
        left: Indices of the runs to keep.
        keep: Whether to keep the whole checkpoint too.

    Returns:
        The smaller stack.
    """
    smaller = stack.take(left)
    whole = load(stack.directory / LAST)
    if len(left) > 1:
        smaller.places.note_members(smaller.name, smaller.hashes)
    save(slice_runs(whole, left, len(stack.configs), plain(smaller.config)), smaller.directory / LAST)
    if not keep:
        shutil.rmtree(stack.directory)
    return smaller
