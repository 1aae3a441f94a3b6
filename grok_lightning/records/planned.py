"""Which runs a sweep's file asks for, so that a report of a half-finished one can say what is missing."""

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
    """Writes down the runs of an experiment.

    Args:
        directory: The experiment's, ``lightning_logs/<experiment>``.
        hashes: The runs' hashes.
        varied: What the sweep's file varies: options, dotted, or blocks of them.
        options: The options that differ between the runs, dotted, with each run's typed value.
    """
    columns: dict[str, Sequence[Any]] = {HASH: hashes, VARIED: [list(varied)] * len(hashes)}
    columns |= {f"{CONFIG}{option}": list(values) for option, values in options.items()}
    table = pa.table({name: encode(list(values)) for name, values in columns.items()})
    (directory / PLANNED).parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # without leave to write, a report cannot say what is missing
        save(directory / PLANNED, table)


def read_planned(directory: Path) -> pd.DataFrame | None:
    """The runs as written down, a row each.

    Returns:
        ``config_hash``, ``varied`` (in each row the list of what the sweep varies) and the typed values of the options
        that differ, as in records: ``config.data.modulus``. A plan written before values were typed has, besides the
        hash, a column of text for each option that varies, under its bare name. None: there is no plan.
    """
    table = load(directory / PLANNED, first_format=True)
    return None if table is None else pd.DataFrame({name: to_series(table[name]) for name in table.column_names})
