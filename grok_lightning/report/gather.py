"""Collects the runs of experiments, directories and archives for a report, each run once."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grok_lightning.errors import UserError
from grok_lightning.records.archive import read_archive, read_plan
from grok_lightning.records.planned import HASH, read_planned
from grok_lightning.records.record import FAILED, RESULT, SCHEMA
from grok_lightning.records.results import read_records
from grok_lightning.report.curves import read_curves
from grok_lightning.report.keys import EXPERIMENT, PREFIX
from grok_lightning.report.missing import missing_rows, varied_options
from grok_lightning.report.unfinished import UNFINISHED, unfinished_record, unfinished_runs

NEEDED = ("status", HASH, "steps", "budget", "memorize_step", "grok_step", "seconds", "stack")  # of every archive
NUMBERS, EVENTS = ("steps", "budget", "threshold"), ("memorize_step", "grok_step")
CURVES = ("train/acc", "val/acc", "train/loss", "val/loss")  # of every run, as far as figures need to know
MOST_NAMED = 5
SOURCE = ".source"


@dataclass
class Gathered:
    """Records, curves and plans of a report.

    Attributes:
        runs: Records, one row per run: the fields of ``read_records``, and ``experiment``. Failed runs are left out.
        curves: Their evaluations: ``run`` (its ``path``), ``step`` and metrics.
        planned: Planned runs of sweeps, from ``read_planned``, and ``experiment``; empty without a plan.
        missing: Planned runs that are not among ``runs``, from ``missing_rows``.
        failed: Number of failed runs.
        remarks: Remarks for the reader, a sentence each.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    planned: pd.DataFrame
    missing: pd.DataFrame
    failed: int = 0
    remarks: list[str] = field(default_factory=list)

    def varied(self) -> dict[str, list[str]]:
        """Options that the sweep of each experiment varies, if known."""
        groups = self.planned.groupby(EXPERIMENT, sort=False) if len(self.planned) else ()
        here = set(self.runs[HASH])
        return {str(name): varied_options(plan) for name, plan in groups if plan[HASH].isin(here).any()}

    def options(self) -> pd.DataFrame:
        """``config_hash``, ``experiment`` and ``config.`` columns of all runs, then of the missing ones."""
        own = [HASH, EXPERIMENT, *(name for name in self.runs if str(name).startswith(PREFIX))]
        names = list(dict.fromkeys([*own, *self.missing]))
        parts = [part.reindex(columns=names).astype(object) for part in (self.runs, self.missing)]
        both = pd.concat(parts, ignore_index=True) if len(self.missing) else parts[0]
        return both.where(both.notna(), None)


def gather(sources: Sequence[str], root: Path) -> Gathered:
    """Finds and reads runs.

    Args:
        sources: Names of experiments or ``experiment/run`` below ``lightning_logs``, directories, or archives
            (``runs.parquet``).
        root: Where ``lightning_logs`` lies.

    Raises:
        UserError: One of them does not exist or has no runs, or records are of several or later schema versions.
    """
    tables, curves, planned, remarks, empty = [], [], [], [], []
    for source in sources:
        if source.endswith(".parquet"):
            if not os.path.isfile(source):
                raise UserError(f"{source}: there is no such file")
            runs, curve = read_archive(Path(source))
            if not len(runs):
                raise UserError(f"{source}: it holds no runs")
            if (plan := read_plan(Path(source))) is not None and {HASH, EXPERIMENT} <= set(plan):
                planned.append(plan)
        else:
            directory = _find_directory(source, root)
            runs, curve, more = _read(directory)
            remarks += more
            if (plan := read_planned(directory)) is not None and HASH in plan:
                planned.append(plan.assign(experiment=directory.resolve().name))
            if not len(runs):  # a sweep without records yet, beside others
                empty.append(f"{source}: no runs with a record are below {str(directory)!r}")
                continue
        tables.append(runs)
        curves.append(curve)
    if not tables:
        raise UserError(empty[0])
    remarks += [f"{message}." for message in empty]
    runs = _concatenate(
        [pd.concat([table, pd.Series(place, table.index, name=SOURCE)], axis=1) for place, table in enumerate(tables)]
    )
    _refuse_other_schema(runs)
    failed = runs["status"] == FAILED
    if failed.all():
        raise UserError(f"{', '.join(sources)}: all {len(runs):,} runs failed with an error; see their result.json")
    hashes_of_failed = set(runs[HASH][failed]) - set(runs[HASH][~failed])
    runs, twice = _drop_duplicates(runs[~failed].reset_index(drop=True))
    if twice:
        remarks.append(f"{twice:,} runs were given more than once, or have the options of another: counted once.")
    if failed.any():
        remarks.append(f"{int(failed.sum()):,} runs failed with an error; they are in no figure.")
    plans = _merge_plans(planned).drop_duplicates(HASH) if planned else pd.DataFrame()
    runs = runs.iloc[plan_order(runs[HASH], plans)].reset_index(drop=True)
    names = _name_runs(runs)
    whole = _select_curves(runs, names, curves)
    experiments = [os.path.basename(os.path.dirname(os.path.abspath(path))) for path in runs["path"]]
    named = pd.DataFrame({"path": names, EXPERIMENT: experiments})
    runs = pd.concat([runs.drop(columns=["path", SOURCE]), named], axis=1)
    if len(plans):
        plans = plans[~plans[HASH].isin(hashes_of_failed)].reset_index(drop=True)
    return Gathered(runs, whole, plans, missing_rows(runs, plans), int(failed.sum()), remarks)


def _concatenate(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenates tables, with all their columns and those that every report needs."""
    parts = [table.dropna(axis=1, how="all") for table in tables]  # a column of nulls would decide the type
    names = dict.fromkeys([*(name for table in tables for name in table), *NEEDED])
    return pd.concat(parts, ignore_index=True).reindex(columns=list(names))


def _merge_plans(planned: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Plans of all experiments, each from the first source that has one."""
    parts, known = [], set[str]()
    for plan in planned:
        parts.append(plan[~plan[EXPERIMENT].isin(known)])
        known |= set(plan[EXPERIMENT])
    return pd.concat(parts, ignore_index=True)


def plan_order(hashes: pd.Series, plans: pd.DataFrame) -> NDArray[np.intp]:
    """Places of runs, by their hashes, in the order of the sweeps' plans; unplanned runs last."""
    if not len(plans):
        return np.arange(len(hashes))
    place = hashes.map(pd.Series(range(len(plans)), plans[HASH]))
    return place.astype(float).fillna(len(plans)).to_numpy().argsort(kind="stable")


def _find_directory(source: str, root: Path) -> Path:
    logs = root / "lightning_logs"
    for place in (logs / source, Path(source)):
        if os.path.isdir(place):  # of a name that is too long, Path.is_dir raises
            return place
    known = sorted(entry.name for entry in logs.iterdir() if entry.is_dir()) if logs.is_dir() else []
    near = get_close_matches(source, known, 1, 0.5)
    if near:
        hint = f"; did you mean {near[0]}?"
    else:
        hint = f"; there are {', '.join(known)}" if known and len(known) <= 40 else ""
    raise UserError(f"there is no experiment {source!r} in {str(logs)!r}, nor a directory of that name{hint}")


def _read(directory: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    runs = read_records(directory)
    damaged = list(runs.attrs["damaged"])
    if len(runs):
        whole = _is_whole(runs)
        damaged += runs["path"][~whole].tolist()
        runs = runs[whole].reset_index(drop=True)
    message = "The record of {} is damaged; it was left out."
    remarks = _format_remarks(message, "records are damaged; they were left out", damaged)
    open_ones = [] if (directory / RESULT).exists() else unfinished_runs(directory)
    curves = read_curves([*runs["path"].tolist(), *open_ones])
    if len(runs):
        known = set(curves["run"].unique())
        without = [path for path in runs["path"][runs["status"] != FAILED] if path not in known]
        message = "The curve of {} is damaged or missing; its record counts, its curve is in no figure."
        remarks += _format_remarks(
            message, "curves are damaged or missing; their records count, they are in no figure", without
        )
    if open_ones:
        groups = dict(tuple(curves[curves["run"].isin(set(open_ones))].groupby("run", sort=False)))
        found = {name: unfinished_record(name, groups.get(name, curves.iloc[:0])) for name in open_ones}
        rows = [row for row in found.values() if row is not None]
        without = [name for name in open_ones if found[name] is None]
        message = "The run {} has no whole config or no evaluation yet; it was left out."
        remarks += _format_remarks(
            message, "runs have no whole config or no evaluation yet; they were left out", without
        )
        if rows:
            runs = _concatenate([part for part in (runs, pd.DataFrame(rows)) if len(part)])
    return runs, curves, remarks


def _format_remarks(one: str, many: str, names: Sequence[str]) -> list[str]:
    if len(names) <= MOST_NAMED:
        return [one.format(name) for name in names]
    return [f"{len(names):,} {many}, {names[0]} among them."]


def _is_whole(runs: pd.DataFrame) -> pd.Series:
    """Which records have a status, steps and a budget; failed runs need the status only."""
    fields = runs.reindex(columns=["status", *NUMBERS, *EVENTS])
    numbers = fields[[*NUMBERS, *EVENTS]].apply(pd.to_numeric, errors="coerce").astype(float)
    known = np.isfinite(numbers[list(NUMBERS)]).all(axis=1) & ~((numbers < 0) | np.isinf(numbers)).any(axis=1)
    return fields["status"].notna() & (known | (fields["status"] == FAILED))


def _refuse_other_schema(runs: pd.DataFrame) -> None:
    """Refuses records of another schema version; records without a version have the first."""
    if "schema" not in runs:
        return
    versions = runs["schema"].astype(object).where(runs["schema"].notna(), 1)
    others = versions[versions != SCHEMA]
    if len(others):
        found = " and ".join(dict.fromkeys(f"{version:g}" if isinstance(version, float) else str(version)
                                           for version in sorted(set(versions), key=str)))  # fmt: skip
        raise UserError(
            f"records of schema version {found}, this program reads {SCHEMA}; "
            f"give the others apart, to the grok_lightning that wrote them (one is {runs['path'][others.index[0]]})"
        )


def _drop_duplicates(runs: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Drops runs with the same hash, keeping finished ones; returns the rest and the number dropped."""
    named = zip(runs[HASH], runs["path"], strict=True)
    same = pd.Series([os.path.realpath(path) if pd.isna(hashed) else hashed for hashed, path in named])
    rank = (runs["status"] == UNFINISHED).to_numpy()
    twice = same.iloc[rank.argsort(kind="stable")].duplicated().sort_index()
    return runs[~twice].reset_index(drop=True), int(twice.sum())


def _name_runs(runs: pd.DataFrame) -> list[str]:
    """Unique names of runs: their paths, with the hash where two runs have the same path."""
    alike = runs["path"].duplicated(keep=False)
    return [
        f"{path} ({hashed})" if is_alike else path
        for path, hashed, is_alike in zip(runs["path"], runs[HASH], alike, strict=True)
    ]


def _select_curves(runs: pd.DataFrame, names: Sequence[str], curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Evaluations of runs, each from the source of its record, under unique names."""
    parts = []
    for place, curve in enumerate(curves):
        mine = (runs[SOURCE] == place).to_numpy()
        name_of = pd.Series(names)[mine].set_axis(runs["path"][mine])
        part = curve[curve["run"].isin(name_of.index)]
        parts.append(part.assign(run=part["run"].map(name_of)))
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(**{name: float("nan") for name in CURVES if name not in whole})
