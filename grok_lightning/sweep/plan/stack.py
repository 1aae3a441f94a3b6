"""A stack: runs that train together, and their fit."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grok_lightning.callbacks.progress import Heartbeat
from grok_lightning.errors import UserError
from grok_lightning.fit import Fit
from grok_lightning.options.classes import Nested
from grok_lightning.options.config import Config, RecordedRun, Records, SavedRun
from grok_lightning.options.trust import find_names
from grok_lightning.records.checkpoint import LAST
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan.stacking import SEED

STACK_KEY = "stack"  # in a stack's config: the hashes of its runs


@dataclass(frozen=True)
class Stack:
    """Runs that train together, as they are sent to a worker: all fields can be stored as JSON.

    Attributes:
        root: Directory of ``lightning_logs`` and ``checkpoints``.
        experiment: Name of the experiment.
        configs: Resolved configs of the runs.
        hashes: Hashes of the runs.
        retry: Whether to run failed runs again.
        events: Whether to write TensorBoard events and a figure of each run.
        threads: CPU threads; 0: torch's default.
        over: Hashes of the runs that were over when the sweep began.
        graph: Key of the compiled graph, the same for equal graphs; empty without compilation.
        close_up: Whether to make the stack smaller when half of its runs are over.
        trust: Whether any class that a checkpoint of ``init_from`` names is imported.
        sweep: The process that trains the sweep, in the notices of its workers.
    """

    root: str
    experiment: str
    configs: list[Nested]
    hashes: list[str]
    retry: bool = False
    events: bool = True
    threads: int = 1
    over: list[str] = field(default_factory=list)
    graph: str = ""
    close_up: bool = True
    trust: bool = False
    sweep: str = ""

    @property
    def places(self) -> Places:
        """Directories of the experiment."""
        return Places(Path(self.root), self.experiment)

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
        return self.configs[0] if len(self.configs) == 1 else merge_configs(self.configs) | {STACK_KEY: self.hashes}

    def record(self, run: int) -> Path:
        """Directory of the record of one of its runs."""
        return self.places.of_run(self.configs[run]["run"])[0]

    def take(self, chosen: Sequence[int]) -> "Stack":
        """Select some of its runs."""
        return replace(self, configs=[self.configs[run] for run in chosen], hashes=[self.hashes[run] for run in chosen])


def merge_configs(configs: Sequence[Nested]) -> Nested:
    """Merge the configs of runs into that of their stack: an option in which they differ lists the value of each.

    Args:
        configs: Resolved configs of runs that can be stacked.

    Returns:
        Config whose ``seed_everything`` is a list of all seeds if there are several runs; ``run`` is the first's.
    """
    if len(configs) == 1:
        return configs[0]
    merged: Nested = _merge([config | {"run": configs[0]["run"]} for config in configs])
    return merged | {SEED: [config[SEED] for config in configs]}


def _merge(values: list[Any]) -> Any:
    first = values[0]
    if all(value == first for value in values):
        return first
    if all(isinstance(value, dict) for value in values):
        return {key: _merge([value[key] for value in values]) for key in first}
    if all(isinstance(value, list) and len(value) == len(first) for value in values):
        return [_merge(list(items)) for items in zip(*values, strict=True)]
    return values


def build_fit(stack: Stack, tell: Callable[..., None] | None = None, root: Path | None = None) -> Fit:
    """Build the fit of a stack, which resumes from its checkpoint if it has one that fits; else it begins anew.

    Args:
        stack: The runs.
        tell: Called once a second with the progress.
        root: The directory below which ``init_from`` finds runs in their own places; default: the stack's.

    Raises:
        UserError: The options of the runs cannot be built.
    """
    path = stack.directory / LAST
    single = len(stack.configs) == 1
    options = merge_configs(stack.configs)
    logger, callbacks = options["trainer"]["logger"], options["trainer"]["callbacks"]
    # without events still those that were asked for, and those that callbacks may write to
    loggers = single and (stack.events or bool(callbacks) or not isinstance(logger, bool)) and logger
    options = options | {"trainer": options["trainer"] | {"enable_progress_bar": False, "logger": loggers}}
    config = Config("fit", options, root or Path(stack.root), trust=stack.trust)
    runs = [
        RecordedRun(run, hashed, *stack.places.of_run(run["run"]))
        for run, hashed in zip(stack.configs, stack.hashes, strict=True)
    ]
    whole = None if single else (stack.directory, stack.config)
    records = Records(runs, whole, stack.events, close_up=stack.close_up and not single)

    def fit_from(checkpoint: Path | None) -> Fit:
        names = find_names(stack.config)
        saved = None if checkpoint is None else SavedRun.read(checkpoint, Path(stack.root), names, single=False)
        own = replace(config, saved=saved)
        return Fit(own, records, lambda states: [Heartbeat(states, tell)] if tell is not None else [])

    if not path.exists():
        return fit_from(None)
    try:
        return fit_from(path)
    except UserError as error:
        fresh = fit_from(None)  # fails alike where not the checkpoint is at fault
        print(f"{error}; {path.parent} begins anew", file=sys.stderr, flush=True)
        path.unlink()
        return fresh
