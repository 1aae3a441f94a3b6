"""Unfinished runs of a sweep, as stacks in the order in which they are handed out."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from grok_lightning.records.checkpoint import LAST
from grok_lightning.records.record import FAILED
from grok_lightning.records.results import refresh
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan.runs import Plan, PlannedRun
from grok_lightning.sweep.plan.sizes import Choice
from grok_lightning.sweep.plan.stacking import graph_key, has_transformer
from grok_lightning.sweep.run.worker import Job


@dataclass(frozen=True)
class PendingStack:
    """Runs that will train together.

    Attributes:
        runs: The runs.
        begun: Whether they have a checkpoint.
    """

    runs: list[PlannedRun]
    begun: bool = False


@dataclass
class Standing:
    """Progress of a sweep.

    Attributes:
        status: Status of each planned run that is over, by hash.
        names: Names of runs that have a directory, by hash.
        rows: Results of the planned runs that are over, one row each.
        taken: Directories of runs that a ``fit`` has resumed with other options: they are other runs now.
    """

    status: dict[str, str]
    names: dict[str, str]
    rows: Any = field(repr=False, default=None)
    taken: set[str] = field(default_factory=set)

    def is_over(self, run: PlannedRun, retry_failed: bool = False) -> bool:
        """Whether a run needs no more training."""
        status = self.status.get(run.hash)
        return status is not None and not (retry_failed and status == FAILED)

    def name(self, plan: Plan, run: PlannedRun) -> str:
        """Name of a run, or the name that it will have."""
        name = self.names.get(run.hash) or plan.fresh_name(run)
        while name in self.taken:
            name = f"{name[:-17]}+again{name[-17:]}"
        return name


COLUMNS = ("status", "config_hash", "memorize_step", "grok_step", "steps", "budget", "seconds", "stack")


def find_standing(plan: Plan, places: Places, known: pd.DataFrame | None = None) -> Standing:
    """Find which runs are over, from the files of the experiment.

    Args:
        plan: Plan of the sweep.
        places: Directories of the experiment.
        known: Results of runs trained elsewhere, with the ``COLUMNS``; planned runs among them count as over.
    """
    found = _find_own(plan, places)
    if known is None:
        return found
    planned = {run.hash for run in plan.runs} - found.status.keys()
    of_plan = known[known["config_hash"].isin(planned)].drop_duplicates("config_hash")
    if len(of_plan):
        found.status |= dict(zip(of_plan["config_hash"], of_plan["status"], strict=True))
        rows = of_plan[list(COLUMNS)].astype(object)
        found.rows = rows if found.rows is None else pd.concat([found.rows.astype(object), rows], ignore_index=True)
    return found


def _find_own(plan: Plan, places: Places) -> Standing:
    rows = refresh(places.logs, COLUMNS) if places.logs.is_dir() else None
    if rows is None or not len(rows):
        return Standing({}, places.existing(), None)
    taken = set(rows["run"][(rows["run"].str[-17:-16] == "-") & (rows["run"].str[-16:] != rows["config_hash"])])
    names = places.existing(taken)
    planned = {run.hash for run in plan.runs}
    of_plan = rows[rows["config_hash"].isin(planned)].drop_duplicates("config_hash")
    hashes = of_plan["config_hash"].tolist()
    names |= dict(zip(hashes, of_plan["run"].tolist(), strict=True))
    return Standing(dict(zip(hashes, of_plan["status"].tolist(), strict=True)), names, of_plan, taken)


def pending_stacks(
    plan: Plan,
    places: Places,
    found: Standing,
    stack_size: int,
    shard: tuple[int, int] = (1, 1),
    retry_failed: bool = False,
) -> list[PendingStack]:
    """Unfinished runs as stacks: interrupted stacks first, then interrupted single runs, then the rest by shape.

    Args:
        plan: Plan of the sweep.
        places: Directories of the experiment.
        found: Progress of the sweep.
        stack_size: Largest number of runs per stack.
        shard: (i, n): only the i-th of n parts, counted from 1.
        retry_failed: Whether to run failed runs again.
    """
    mine = _take_shard(plan.runs, *shard)
    missing = {run.hash: run for run in mine if not found.is_over(run, retry_failed)}
    of_hash = {run.hash: run for run in plan.runs}
    stacks = []
    for hashes in sorted(places.members().values(), key=len):
        if any(hashed in missing for hashed in hashes) and all(hashed in of_hash for hashed in hashes):
            stacks.append(PendingStack([of_hash[hashed] for hashed in hashes], begun=True))
            for hashed in hashes:
                missing.pop(hashed, None)
    begun = [run for run in missing.values() if _has_checkpoint(places, found, run)]
    stacks += [PendingStack([missing.pop(run.hash)], begun=True) for run in begun]
    return stacks + [PendingStack(runs) for runs in _split_into_stacks(missing.values(), stack_size)]


def _has_checkpoint(places: Places, found: Standing, run: PlannedRun) -> bool:
    name = found.names.get(run.hash)
    return name is not None and (places.of_run(name)[1] / LAST).exists()


def _take_shard(runs: list[PlannedRun], number: int, of: int) -> list[PlannedRun]:
    """Runs of one of several parts, dealt out one by one after sorting by shape.

    The parts depend on the file only: machines with more memory, and larger stacks, get the same parts.
    """
    return sorted(runs, key=lambda run: run.shape)[number - 1 :: of]


def _split_into_stacks(runs: Iterable[PlannedRun], stack_size: int) -> list[list[PlannedRun]]:
    groups: dict[int, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(run.shape, []).append(run)
    return [
        group[start : start + stack_size] for group in groups.values() for start in range(0, len(group), stack_size)
    ]


def make_job(plan: Plan, places: Places, found: Standing, stack: PendingStack, choice: Choice) -> Job:
    """Make the job of a stack.

    Args:
        plan: Plan of the sweep.
        places: Directories of the experiment.
        found: Progress of the sweep, with the names of its runs.
        stack: The stack.
        choice: Settings of the sweep.
    """
    configs = []
    for run in stack.runs:
        config = plan.config(run, found.name(plan, run))
        if choice.keep is not None:
            config["checkpoint"]["keep"] = choice.keep
        config["model"]["compile"] |= choice.compile and has_transformer(config)
        configs.append(config)
    hashes = [run.hash for run in stack.runs]
    root = str(places.root)
    over = [run.hash for run in stack.runs if found.is_over(run, choice.retry_failed)]
    compiled = graph_key(configs[0], len(configs)) if configs[0]["model"]["compile"] else ""
    return Job(
        root, places.experiment, configs, hashes, choice.retry_failed, choice.events, choice.threads, over, compiled
    )
