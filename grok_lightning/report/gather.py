"""Collects the runs of experiments, directories and archives for a report, each run once."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grok_lightning.errors import UserError
from grok_lightning.figures.style import format_count
from grok_lightning.records.after_grok import complete
from grok_lightning.records.archive import read_archive_and_plan
from grok_lightning.records.columns import add_columns
from grok_lightning.records.curves import read_curves
from grok_lightning.records.form import drop_rows, find_faults
from grok_lightning.records.planned import HASH, read_planned
from grok_lightning.records.record import FAILED, RESULT, SCHEMA
from grok_lightning.records.results import read_records
from grok_lightning.report.keys import EXPERIMENT, PREFIX
from grok_lightning.report.missing import missing_rows, varied_options
from grok_lightning.report.older import fill_options
from grok_lightning.report.unfinished import UNFINISHED, unfinished_record, unfinished_runs

NEEDED = ("status", HASH, "steps", "budget", "memorize_step", "grok_step", "seconds", "stack")  # of every archive
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


class Source(NamedTuple):
    """What one source of a report holds: records, evaluations, planned runs, and remarks for the reader."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    planned: pd.DataFrame
    remarks: list[str]


def gather(sources: Sequence[str], root: Path) -> Gathered:
    """Finds and reads runs.

    Args:
        sources: Names of experiments or ``experiment/run`` below ``lightning_logs``, directories, or archives
            (``runs.parquet``).
        root: Where ``lightning_logs`` lies.

    Raises:
        UserError: One of them does not exist or has no runs, or records are of several or later schema versions.
    """
    found = [_read_source(source, root) for source in sources]
    remarks = [remark for source in found for remark in source.remarks]
    filled = [source for source in found if len(source.runs)]
    if not filled:
        raise UserError(remarks[-1].removesuffix("."))
    runs = _concatenate([add_columns(source.runs, **{SOURCE: place}) for place, source in enumerate(filled)])
    _refuse_other_schema(runs)
    failed = runs["status"] == FAILED
    if failed.all():
        raise UserError(
            f"{', '.join(sources)}: {format_count(len(runs), 'run')}, and none without an error; see result.json"
        )
    plans = _merge_plans([source.planned for source in found])
    runs = fill_options(runs, plans)
    if len(plans):
        hashes_of_failed = set(runs[HASH][failed]) - set(runs[HASH][~failed])
        plans = plans[~plans[HASH].isin(hashes_of_failed)].reset_index(drop=True)
    runs, twice = _drop_duplicates(runs[~failed].reset_index(drop=True))
    if twice:
        remarks.append(
            f"Duplicates, counted once: {format_count(twice, 'run')} (given twice, or with the same options)."
        )
    if failed.any():
        remarks.append(f"Failed with an error, and in no table or figure: {format_count(int(failed.sum()), 'run')}.")
    runs = runs.iloc[plan_order(runs[HASH], plans)].reset_index(drop=True)
    alike = runs["path"].duplicated(keep=False)
    told = runs[HASH].astype(object).where(runs[HASH].notna(), [f"source {place + 1}" for place in runs[SOURCE]])
    names = runs["path"].where(~alike, runs["path"] + " (" + told.astype(str) + ")")
    curves = _select_curves(runs, names, [source.curves for source in filled])
    experiments = [os.path.basename(os.path.dirname(os.path.abspath(path))) for path in runs["path"]]
    named = pd.DataFrame({"path": names, EXPERIMENT: experiments})
    runs = pd.concat([runs.drop(columns=["path", SOURCE]), named], axis=1)
    return Gathered(runs, curves, plans, missing_rows(runs, plans), int(failed.sum()), remarks)


def _read_source(source: str, root: Path) -> Source:
    if source.endswith(".parquet"):
        if not os.path.isfile(source):
            raise UserError(f"{source}: there is no such file")
        runs, curves, planned = read_archive_and_plan(Path(source))
        if not len(runs):
            raise UserError(f"{source}: it holds no runs")
        usable = planned is not None and {HASH, EXPERIMENT} <= set(planned)
        runs, remarks = _leave_out_damaged(runs)
        if not len(runs):
            raise UserError(f"{source}: {remarks[0]}")
        plan = planned if planned is not None and usable else pd.DataFrame()
        return Source(complete(runs, curves), curves, plan, remarks)
    directory = _find_directory(source, root)
    runs, curves, remarks = _read_directory(directory)
    if not len(runs):  # a sweep without records yet, beside others
        remarks.append(f"{source}: no runs with a record are below {str(directory)!r}.")
    planned = read_planned(directory)
    if planned is None or HASH not in planned:
        return Source(runs, curves, pd.DataFrame(), remarks)
    return Source(runs, curves, planned.assign(experiment=directory.resolve().name), remarks)


def _concatenate(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenates tables, with all their columns and those that every report needs."""
    parts = [table.dropna(axis=1, how="all") for table in tables]  # a column of nulls would decide the type
    names = dict.fromkeys([*(name for table in tables for name in table), *NEEDED])
    return pd.concat(parts, ignore_index=True).reindex(columns=list(names))


def _merge_plans(planned: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Plans of all sources, each run once."""
    parts = [plan for plan in planned if len(plan)]
    return pd.concat(parts, ignore_index=True).drop_duplicates(HASH) if parts else pd.DataFrame()


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


def _read_directory(directory: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Records, curves and remarks of the runs in a directory, unfinished runs included."""
    runs = read_records(directory)
    unread = [f"{path} ({fault})" for path, fault in runs.attrs["faults"].items()]
    runs, remarks = _leave_out_damaged(runs, unread)
    unfinished = [] if (directory / RESULT).exists() else unfinished_runs(directory)
    curves = read_curves([*runs["path"].tolist(), *unfinished])
    if len(runs):
        without = runs["path"][(runs["status"] != FAILED) & ~runs["path"].isin(curves["run"])].tolist()
        remarks += _list_runs(
            "In tables but not in figures of curves, because metrics.csv is damaged or missing", without
        )
    if unfinished:
        groups = dict(tuple(curves[curves["run"].isin(set(unfinished))].groupby("run", sort=False)))
        records = {name: unfinished_record(name, groups.get(name, curves.iloc[:0])) for name in unfinished}
        rows = [row for row in records.values() if row is not None]
        without = [name for name, row in records.items() if row is None]
        remarks += _list_runs("Left out because there is no whole config or no evaluation yet", without)
        if rows:
            runs = _concatenate([part for part in (runs, pd.DataFrame(rows)) if len(part)])
    return runs, curves, remarks


def _list_runs(reason: str, names: Sequence[str]) -> list[str]:
    """A remark on runs, with the names of the first."""
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return [f"{reason}: {', '.join(names[:MOST_NAMED])}{more}."] if names else []


def _leave_out_damaged(runs: pd.DataFrame, unread: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """Records of the right form, and a remark on the others, which names them and what is wrong."""
    faults = find_faults(runs) if len(runs) else {}
    damaged = [*unread, *(f"{runs['path'].iloc[row]} ({fault})" for row, fault in faults.items())]
    return drop_rows(runs, faults), _list_runs("Left out because the record is damaged", damaged)


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
            f"report the others, such as {runs['path'][others.index[0]]}, with the grok_lightning that wrote them"
        )


def _drop_duplicates(runs: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Drops runs with the same hash, keeping finished ones; returns the rest and the number dropped.

    A run without a hash, an unfinished fit, is that of a hash if all their options agree, its name among them. Others
    are the same if their path and their options are: archives of different runs may have the same short path.
    """
    named = zip(runs[HASH], runs["path"], strict=True)
    names = [os.path.realpath(path) if pd.isna(hashed) else hashed for hashed, path in named]
    options = runs[[name for name in runs if str(name).startswith(PREFIX)]].astype(object)
    unnamed = runs[HASH].isna().to_numpy()
    if unnamed.any():
        told = [str(row.dropna().to_dict()) for _, row in options.iterrows()]
        hashed = {told[place]: names[place] for place in np.flatnonzero(~unnamed)}
        for place in np.flatnonzero(unnamed):
            names[place] = hashed.get(told[place], f"{names[place]} {told[place]}")
    same = pd.Series(names)
    rank = (runs["status"] == UNFINISHED).to_numpy()
    twice = same.iloc[rank.argsort(kind="stable")].duplicated().sort_index()
    return runs[~twice].reset_index(drop=True), int(twice.sum())


def _select_curves(runs: pd.DataFrame, names: pd.Series, curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Evaluations of runs, each from the source of its record, under unique names."""
    parts = []
    for place, curve in enumerate(curves):
        mine = (runs[SOURCE] == place).to_numpy()
        name_of = names[mine].set_axis(runs["path"][mine])
        part = curve[curve["run"].isin(name_of.index)]
        parts.append(part.assign(run=part["run"].map(name_of)))
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(**{name: float("nan") for name in CURVES if name not in whole})
