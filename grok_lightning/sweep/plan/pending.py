"""Unfinished runs of a sweep, as stacks in the order in which they are handed out."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from grok_lightning.errors import UserError, show
from grok_lightning.hardware.products import FULL, HALF
from grok_lightning.options.choices import PRECISION
from grok_lightning.options.classes import Nested
from grok_lightning.records.checkpoint import CONFIG_KEY, LAST, load
from grok_lightning.records.defaults import known_then
from grok_lightning.records.form import drop_rows, find_faults
from grok_lightning.records.notices import name_process
from grok_lightning.records.record import FAILED, NOT_RESULTS, counted_options, flatten
from grok_lightning.records.results import refresh
from grok_lightning.records.runs import SEPARATOR, hash_of_name
from grok_lightning.sweep.plan.runs import Plan, PlannedRun
from grok_lightning.sweep.plan.sizes import Choice
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.plan.stacking import graph_key, has_transformer

ENDS = tuple(f"{split}/{measure}" for split in ("train", "val", "test") for measure in ("acc", "loss"))
COLUMNS = (
    *("status", "config_hash", "memorize_step", "grok_step", "steps", "budget", "seconds", "stack", "counts.val"),
    *(f"final.{name}" for name in ENDS),
    "after_grok.stable",
)


PRECISIONS = (FULL, HALF)  # that auto chooses from


@dataclass(frozen=True)
class Standing:
    """Progress of a sweep.

    Attributes:
        status: Status of each planned run that is over, by hash.
        names: Names of runs that have a directory, by hash.
        rows: Results of the planned runs that are over, one row each, with the ``COLUMNS``.
        taken: Directories of runs that a ``fit`` has resumed with other options, whether or not they are over: they are
            other runs now.
        damaged: What is wrong with the records that cannot be used, by directory; their runs count as missing.
    """

    status: dict[str, str]
    names: dict[str, str]
    rows: pd.DataFrame = field(repr=False, default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
    taken: set[str] = field(default_factory=set)
    damaged: dict[str, str] = field(default_factory=dict)

    def is_over(self, run: PlannedRun, retry_failed: bool = False) -> bool:
        """Whether a run needs no more training."""
        status = self.status.get(run.hash)
        return status is not None and not (retry_failed and status == FAILED)

    def name(self, plan: Plan, run: PlannedRun) -> str:
        """Name of a run, or the name that it will have."""
        name = self.names.get(run.hash) or plan.fresh_name(run)
        while name in self.taken:
            name = SEPARATOR.join([name[: -len(run.hash)].rstrip("-_"), "again", run.hash])
        return name


def find_standing(plan: Plan, known: pd.DataFrame | None = None) -> Standing:
    """Find which runs are over, from the files of the experiment.

    Args:
        plan: Plan of the sweep.
        known: Results of runs trained elsewhere, with the ``COLUMNS``; planned runs among them count as over.
    """
    own = refresh(plan.places.logs, COLUMNS) if plan.places.logs.is_dir() else None
    damaged: dict[str, str] = {}
    if own is not None:
        faults = find_faults(own, ())
        damaged = own.attrs["faults"] | {str(own["run"].iloc[row]): fault for row, fault in faults.items()}
        own = drop_rows(own, faults) if len(own) > len(faults) else None
    planned = {run.hash: run for run in plan.runs}
    taken: set[str] = set()
    names: dict[str, str] = {}
    if own is not None:
        own = own.sort_values("status", key=lambda status: status == FAILED, kind="stable")  # these count last
        hashes = own["run"].map(hash_of_name)
        taken = set(own["run"][hashes.notna() & (hashes != own["config_hash"])])
        of_plan = own[own["config_hash"].isin(planned)].drop_duplicates("config_hash")
        names = dict(zip(of_plan["config_hash"], of_plan["run"], strict=True))
    ended = set() if own is None else set(own["run"])
    for name, hashed in plan.places.list_runs():
        last = plan.places.of_run(name)[1] / LAST
        is_open = hashed in planned and hashed not in names and name not in ended
        if hashed is not None and is_open and last.exists() and _is_resumed(last, plan.config(planned[hashed], name)):
            taken.add(name)
    names = plan.places.find_runs(taken) | names
    tables = [table[list(COLUMNS)].astype(object) for table in (own, known) if table is not None]
    if not tables:
        return Standing({}, names, taken=taken, damaged=damaged)
    rows = pd.concat(tables, ignore_index=True)
    rows = rows.sort_values("status", key=lambda status: status == FAILED, kind="stable")
    rows = rows[rows["config_hash"].isin(planned)].drop_duplicates("config_hash")
    return Standing(dict(zip(rows["config_hash"], rows["status"], strict=True)), names, rows, taken, damaged)


def describe_known(plan: Plan, known: pd.DataFrame) -> str:
    """How many planned runs are among those trained elsewhere, and how many are but for their precision, in a line."""
    hashes = set(known["config_hash"])
    rest = [run for run in plan.runs if run.hash not in hashes]
    line = f"{plan.name}: --known has {len(plan.runs) - len(rest):,} of {len(plan.runs):,} planned runs"
    for precision in PRECISIONS:
        count = sum(plan.blocks[run.block].hash_in(precision, run.leaves) in hashes for run in rest)
        if count:
            line += f"; {count:,} more only with {PRECISION} {precision}: write that into the file to count them"
    return line


def _is_resumed(path: Path, config: Nested) -> bool:
    """Whether a checkpoint is of another run than the one with this config; not if it cannot be read."""
    try:
        return find_other_option(path, config) is not None
    except UserError:
        return False


def find_other_option(path: Path, config: Nested) -> str | None:
    """Describe an option in which the run of a checkpoint differs from a config; None if there is none.

    Raises:
        UserError: The checkpoint cannot be read.
    """
    if not path.exists():
        return None
    saved = load(path)[CONFIG_KEY]
    recorded, own = (counted_options(each, {}, NOT_RESULTS) for each in (saved, config))
    found = counted_options(known_then(flatten(saved)), {}, NOT_RESULTS)
    other = next((option for option in {**recorded, **own} if found.get(option) != own.get(option)), None)
    return other and f"{path} was trained with {other} {show(found.get(other))}, not {show(own.get(other))}"


@dataclass(frozen=True)
class PendingStack:
    """Runs that will train together.

    Attributes:
        runs: The runs.
        begun: Whether they have a checkpoint.
    """

    runs: list[PlannedRun]
    begun: bool = False


def find_pending(
    plan: Plan, found: Standing, stack_size: int, shard: tuple[int, int] = (1, 1), retry_failed: bool = False
) -> list[PendingStack]:
    """Unfinished runs as stacks: interrupted stacks first, then interrupted single runs, then the rest by shape.

    Args:
        plan: Plan of the sweep.
        found: Progress of the sweep.
        stack_size: Largest number of runs per stack.
        shard: (i, n): only the i-th of n parts, counted from 1. The parts depend on the file only: runs are dealt out
            one by one after sorting by shape, so machines with more memory, and larger stacks, get the same parts.
        retry_failed: Whether to run failed runs again.
    """
    number, of = shard
    mine = sorted(plan.runs, key=lambda run: run.shape)[number - 1 :: of]
    missing = {run.hash: run for run in mine if not found.is_over(run, retry_failed)}
    of_hash = {run.hash: run for run in plan.runs}
    stacks = []
    for hashes in sorted(plan.places.read_members().values(), key=len):
        if any(hashed in missing for hashed in hashes) and all(hashed in of_hash for hashed in hashes):
            stacks.append(PendingStack([of_hash[hashed] for hashed in hashes], begun=True))
            for hashed in hashes:
                missing.pop(hashed, None)
    named = [run for run in missing.values() if run.hash in found.names]
    begun = [run for run in named if (plan.places.of_run(found.names[run.hash])[1] / LAST).exists()]
    stacks += [PendingStack([missing.pop(run.hash)], begun=True) for run in begun]
    return stacks + _split_into_stacks(missing.values(), stack_size)


def _split_into_stacks(runs: Iterable[PlannedRun], stack_size: int) -> list[PendingStack]:
    groups: dict[int, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(run.shape, []).append(run)
    return [
        PendingStack(group[start : start + stack_size])
        for group in groups.values()
        for start in range(0, len(group), stack_size)
    ]


@dataclass(frozen=True)
class Schedule:
    """What a sweep has to train.

    Attributes:
        plan: Plan of the sweep.
        found: Its progress.
        choice: Its settings.
        stacks: Its unfinished runs.
        trust: Whether any class that a checkpoint of ``init_from`` names is imported.
        trajectory: Number and size of the checkpoints of single steps, in words; None if there are none.
    """

    plan: Plan
    found: Standing
    choice: Choice
    stacks: list[PendingStack]
    trust: bool = False
    trajectory: str | None = None

    @property
    def missing(self) -> int:
        """Number of runs to train."""
        runs = [run for stack in self.stacks for run in stack.runs]
        return sum(not self.found.is_over(run, self.choice.retry_failed) for run in runs)

    def make(self, pending: PendingStack) -> Stack:
        """Make a stack as it is sent to a worker."""
        choice, configs = self.choice, []
        for run in pending.runs:
            config = self.plan.config(run, self.found.name(self.plan, run))
            if choice.keep is not None:
                config["checkpoint"]["keep"] = choice.keep
            config["model"]["compile"] |= choice.compile and has_transformer(config)
            configs.append(config)
        return Stack(
            str(self.plan.places.root),
            self.plan.name,
            configs,
            hashes=[run.hash for run in pending.runs],
            retry=choice.retry_failed,
            events=choice.events,
            threads=choice.threads,
            over=[run.hash for run in pending.runs if self.found.is_over(run, choice.retry_failed)],
            graph=graph_key(configs[0], len(configs)) if configs[0]["model"]["compile"] else "",
            trust=self.trust,
            sweep=name_process(),
        )
