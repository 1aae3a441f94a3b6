"""Training of a stack of runs, which is made smaller when half of its runs are over."""

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from grok_lightning.callbacks.guards import Diverged, StopRequested
from grok_lightning.callbacks.progress import Heartbeat
from grok_lightning.fit import Fit
from grok_lightning.options.classes import Nested
from grok_lightning.options.config import Config, RecordedRun, Records, SavedRun
from grok_lightning.options.merging import plain
from grok_lightning.records.checkpoint import LAST, load, save, slice_runs
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.stacking import merge_configs

STACK_KEY = "stack"  # in a stack's config: the hashes of its runs


@dataclass(frozen=True)
class Stack:
    """Runs that train together.

    Attributes:
        places: Directories of the experiment.
        configs: Resolved configs of the runs.
        hashes: Hashes of the runs.
        events: Whether to write TensorBoard events and a figure of each run.
        close_up: Whether to make the stack smaller when half of its runs are over.
    """

    places: Places
    configs: list[Nested]
    hashes: list[str]
    events: bool = True
    close_up: bool = True

    @property
    def name(self) -> str:
        """Name of its own directory, if it has several runs."""
        return hashlib.sha256(" ".join(self.hashes).encode()).hexdigest()[:16]

    @property
    def directory(self) -> Path:
        """Directory of its checkpoint."""
        if len(self.configs) == 1:
            return self.places.of_run(self.configs[0]["run"])[1]
        return self.places.stacks / self.name

    @property
    def config(self) -> Nested:
        """Config that its checkpoint holds."""
        return merge_configs(self.configs) | ({STACK_KEY: self.hashes} if len(self.configs) > 1 else {})

    def take(self, chosen: list[int]) -> "Stack":
        """Select some of its runs."""
        return replace(self, configs=[self.configs[run] for run in chosen], hashes=[self.hashes[run] for run in chosen])


def fit_of(stack: Stack, tell: Callable[..., None] | None = None) -> Fit:
    """Fit of a stack, which resumes from its checkpoint if it has one.

    Args:
        stack: The runs.
        tell: Called once a second with the progress.
    """
    path = stack.directory / LAST
    single = len(stack.configs) == 1
    options = stack.config
    options.pop(STACK_KEY, None)
    loggers = stack.events and single and options["trainer"]["logger"]
    options["trainer"] = options["trainer"] | {"enable_progress_bar": False, "logger": loggers}
    config = Config("fit", options, stack.places.root, SavedRun.read(path) if path.exists() else None)
    runs = [
        RecordedRun(run, hashed, *stack.places.of_run(run["run"]))
        for run, hashed in zip(stack.configs, stack.hashes, strict=True)
    ]
    whole = None if single else (stack.directory, stack.config)
    records = Records(runs, whole, stack.events, close_up=stack.close_up and not single)
    return Fit(config, records, lambda states: [Heartbeat(states, tell)] if tell is not None else [])


def train(stack: Stack, tell: Callable[..., None] | None = None) -> None:
    """Train a stack until all of its runs are over, from its checkpoint if it has one.

    Args:
        stack: The runs.
        tell: Called once a second with the progress.

    Raises:
        StopRequested: A signal asked to stop; the stack can be resumed, unless it had just ended.
    """
    gone = 0
    everything = len(stack.configs)
    while True:
        if len(stack.configs) > 1:
            stack.places.note_members(stack.name, stack.hashes)
        torch._dynamo.reset()  # the limit of compilations counts those of every stack of a process

        def tell_all(gone: int = gone, **content: Any) -> None:
            if tell is not None:
                tell(**content | {"runs": everything, "over": content["over"] + gone})

        fit = fit_of(stack, tell_all)
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
        left = fit.cli.states.in_training()
        gone += len(stack.configs) - len(left)
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
