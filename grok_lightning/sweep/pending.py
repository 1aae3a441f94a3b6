"""What of a sweep is still to be done, as stacks in the order they are handed out."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from grok_lightning.records.checkpoint import LAST
from grok_lightning.records.record import FAILED
from grok_lightning.records.results import refresh
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan import Plan, PlannedRun
from grok_lightning.sweep.sizes import Choice
from grok_lightning.sweep.stacking import graph, has_transformer
from grok_lightning.sweep.worker import Job


@dataclass(frozen=True)
class PendingStack:
    """Runs that will train together.

    Attributes:
        runs: The runs.
        begun: Whether a checkpoint of theirs is there.
    """

    runs: list[PlannedRun]
    begun: bool = False


@dataclass
class Standing:
    """Where a sweep stands.

    Attributes:
        status: The status of each planned run that is over, by hash.
        names: What runs that have a directory are called, by hash.
        rows: The results of all runs of the experiment, one row each.
        taken: Directories of runs that a ``fit`` has gone on with: they are other runs now.
    """

    status: dict[str, str]
    names: dict[str, str]
    rows: Any = field(repr=False, default=None)
    taken: set[str] = field(default_factory=set)

    def is_over(self, run: PlannedRun, retry_failed: bool = False) -> bool:
        """Whether nothing is left to do for a run."""
        status = self.status.get(run.hash)
        return status is not None and not (retry_failed and status == FAILED)

    def name(self, plan: Plan, run: PlannedRun) -> str:
        """What a run is called, or will be."""
        name = self.names.get(run.hash) or plan.fresh_name(run)
        while name in self.taken:
            name = f"{name[:-17]}+again{name[-17:]}"
        return name


COLUMNS = ("status", "config_hash", "memorize_step", "grok_step", "steps", "budget", "seconds", "stack")


def standing(plan: Plan, places: Places, known: pd.DataFrame | None = None) -> Standing:
    """Looks up which runs are over, in the experiment's own files.

    Args:
        plan: The sweep's.
        places: The experiment's directories.
        known: Results of runs done elsewhere, with the ``COLUMNS``; those of the plan that are not here count as over.
    """
    found = _own(plan, places)
    if known is None:
        return found
    planned = {run.hash for run in plan.runs} - found.status.keys()
    of_plan = known[known["config_hash"].isin(planned)].drop_duplicates("config_hash")
    if len(of_plan):
        found.status |= dict(zip(of_plan["config_hash"], of_plan["status"], strict=True))
        rows = of_plan[list(COLUMNS)].astype(object)
        found.rows = rows if found.rows is None else pd.concat([found.rows.astype(object), rows], ignore_index=True)
    return found


def _own(plan: Plan, places: Places) -> Standing:
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
    """What is still to be done: stacks that were interrupted first, then runs of their own, then the rest by shape.

    Args:
        plan: All runs.
        places: The experiment's directories.
        found: Which are over.
        stack_size: At most that many runs a stack.
        shard: (i, n) for the i-th of n parts, from 1.
        retry_failed: Whether runs that failed are to be done again.
    """
    mine = _shard(plan.runs, *shard)
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
    return stacks + [PendingStack(runs) for runs in _in_stacks(missing.values(), stack_size)]


def _has_checkpoint(places: Places, found: Standing, run: PlannedRun) -> bool:
    name = found.names.get(run.hash)
    return name is not None and (places.of_run(name)[1] / LAST).exists()


def _shard(runs: list[PlannedRun], number: int, of: int) -> list[PlannedRun]:
    """The runs of one of several parts: dealt out one by one, shape after shape.

    A pure function of the file: machines with more memory, whose stacks are larger, have the same parts.
    """
    return sorted(runs, key=lambda run: run.shape)[number - 1 :: of]


def _in_stacks(runs: Iterable[PlannedRun], stack_size: int) -> list[list[PlannedRun]]:
    groups: dict[int, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(run.shape, []).append(run)
    return [
        group[start : start + stack_size] for group in groups.values() for start in range(0, len(group), stack_size)
    ]


def job(plan: Plan, places: Places, found: Standing, stack: PendingStack, choice: Choice) -> Job:
    """A stack as a worker takes it.

    Args:
        plan: The sweep.
        places: The experiment's directories.
        found: What its runs are called, so far as they have a name.
        stack: The stack.
        choice: How it is run.
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
    compiled = graph(configs[0], len(configs)) if configs[0]["model"]["compile"] else ""
    return Job(
        root, places.experiment, configs, hashes, choice.retry_failed, choice.events, choice.threads, over, compiled
    )
