"""Runs that a sweep planned, so that a report of an unfinished sweep can list what is missing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from grok_lightning.records.columns import encode, to_series
from grok_lightning.records.parquet import load, save

PLANNED = Path(".sweep") / "planned.parquet"
HASH, VARIED, CONFIG = "config_hash", "varied", "config."


def save_planned(
    directory: Path, hashes: Sequence[str], varied: Sequence[str], options: Mapping[str, Sequence[Any]]
) -> None:
    """Write the planned runs of an experiment.

    Args:
        directory: Directory of the experiment, ``lightning_logs/<experiment>``.
        hashes: Hashes of the runs.
        varied: Dotted options, or blocks of options, that the sweep's file varies.
        options: Dotted options that differ between the runs, with the typed value of each run.
    """
    columns: dict[str, Sequence[Any]] = {HASH: hashes, VARIED: [list(varied)] * len(hashes)}
    columns |= {f"{CONFIG}{option}": list(values) for option, values in options.items()}
    table = pa.table({name: encode(list(values)) for name, values in columns.items()})
    (directory / PLANNED).parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # without the file, a report cannot list what is missing
        save(directory / PLANNED, table)


def read_planned(directory: Path) -> pd.DataFrame | None:
    """Read the planned runs of an experiment, one row per run.

    Returns:
        ``config_hash``, ``varied`` (in each row the list of all options that vary) and the typed values of the options
        that differ, as in records: ``config.data.modulus``. A plan written before values were typed has, besides the
        hash, a column of text for each option that varies, under its bare name. None if there is no readable plan.
    """
    table = load(directory / PLANNED, first_format=True)
    if table is None:
        return None
    try:
        planned = pd.DataFrame({name: to_series(table[name]) for name in table.column_names})
    except (ValueError, pa.ArrowException):  # no JSON, where the type says so
        return None
    named = planned.get(VARIED, pd.Series(dtype=object)).dropna()
    fits = HASH in planned and all(isinstance(hashed, str) for hashed in planned[HASH])
    lists = all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in named)
    return planned if fits and lists else None
