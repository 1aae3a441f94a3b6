"""All that a report is made from: the runs of experiments, single runs and archives, each counted once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from grok_lightning.errors import UserError
from grok_lightning.index import read_records
from grok_lightning.index.archive import read_archive
from grok_lightning.index.planned import read_planned
from grok_lightning.record import METRICS, RESULT, SCHEMA
from grok_lightning.report.curves import read_curves
from grok_lightning.report.unfinished import UNFINISHED, unfinished_record, unfinished_runs

FAILED = "failed"
SOURCE = ".source"


@dataclass
class Gathered:
    """What was found.

    Attributes:
        runs: Records, one row per run: the fields of ``read_records``, and ``experiment``. Failed ones are not in it.
        curves: Their evaluations: ``run`` (its ``path``), ``step`` and metrics.
        planned: What sweeps asked for: ``config_hash`` and the options that vary in words; empty if nobody knows.
        failed: How many runs failed.
        remarks: What a reader must know about them, a sentence each.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    planned: pd.DataFrame
    failed: int = 0
    remarks: list[str] = field(default_factory=list)


def gather(sources: Sequence[str], root: Path) -> Gathered:
    """Finds and reads runs.

    Args:
        sources: Names of experiments or ``experiment/run`` below ``lightning_logs``, directories, or archives
            (``runs.parquet``).
        root: Where ``lightning_logs`` lies.

    Raises:
        UserError: One of them does not exist or has no runs, or records are of several or later schema versions.
    """
    tables, curves, planned, remarks = [], [], [], []
    for source in sources:
        if source.endswith(".parquet"):
            if not Path(source).is_file():
                raise UserError(f"{source}: there is no such file")
            runs, curve = read_archive(Path(source))
        else:
            directory = _directory(source, root)
            runs, curve, damaged = _read(directory)
            remarks += [f"The record of {name} is damaged; it was left out." for name in damaged]
            if (plan := read_planned(directory)) is not None:
                planned.append(plan)
            if not len(runs):
                raise UserError(f"{source}: no runs with a record are below {str(directory)!r}")
        tables.append(runs.assign(**{SOURCE: len(tables)}))
        curves.append(curve)
    runs = pd.concat([table.dropna(axis=1, how="all") for table in tables], ignore_index=True)
    _refuse_mixed(runs)
    failed = runs["status"] == FAILED
    runs, twice = _once(runs[~failed].reset_index(drop=True))
    if twice:
        remarks.append(f"{twice:,} runs were given more than once, or have the options of another: counted once.")
    if failed.any():
        remarks.append(f"{int(failed.sum()):,} runs failed with an error; they are in no figure.")
    runs["experiment"] = [Path(path).parent.name for path in runs["path"]]
    taken = runs.pop(SOURCE)  # of a run that is in two sources, the curves of the one that counts
    parts = [curve[curve["run"].isin(set(runs["path"][taken == place]))] for place, curve in enumerate(curves)]
    whole = pd.concat(parts, ignore_index=True)
    plans = pd.concat(planned, ignore_index=True).drop_duplicates("config_hash") if planned else pd.DataFrame()
    return Gathered(runs, whole, plans, int(failed.sum()), remarks)


def _directory(source: str, root: Path) -> Path:
    logs = root / "lightning_logs"
    for place in (logs / source, Path(source)):
        if place.is_dir():
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
    open_ones = [] if (directory / RESULT).exists() else unfinished_runs(directory)
    curves = read_curves([*runs["path"].tolist(), *open_ones])
    if open_ones:
        groups = dict(tuple(curves[curves["run"].isin(set(open_ones))].groupby("run", sort=False)))
        found = [unfinished_record(name, groups.get(name, curves.iloc[:0])) for name in open_ones]
        rows = [row for row in found if row is not None]
        if rows:
            parts = [part.dropna(axis=1, how="all") for part in (runs, pd.DataFrame(rows)) if len(part)]
            runs = pd.concat(parts, ignore_index=True)
    for name in damaged:
        if (Path(name) / METRICS).exists():
            curves = curves[curves["run"] != name]
    return runs, curves, damaged


def _refuse_mixed(runs: pd.DataFrame) -> None:
    """Records say which form they have; those written before they did have the first."""
    if "schema" not in runs:
        return
    found = sorted({int(version) for version in runs["schema"].astype(float).fillna(1)})
    if found != [SCHEMA]:
        which = runs["path"][runs["schema"].astype(float).fillna(1) != SCHEMA].iloc[0]
        raise UserError(
            f"records of schema version {', '.join(map(str, found))} together, this program reads {SCHEMA}; "
            f"give the others apart, to the grok_lightning that wrote them (one is {which})"
        )


def _once(runs: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Each run once: the same options give the same run. One that is over goes before one that is not."""
    rank = (runs["status"] == UNFINISHED).to_numpy()
    order = runs.iloc[rank.argsort(kind="stable")]
    same = order["config_hash"].notna() & order.duplicated("config_hash")
    same |= order.duplicated("path")
    kept = runs.loc[sorted(order.index[~same])].reset_index(drop=True)
    return kept, int(same.sum())
