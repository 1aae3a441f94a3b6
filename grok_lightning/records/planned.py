"""Which runs a sweep's file asks for, so that a report of a half-finished one can say what is missing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa

from grok_lightning.records.columns import encode, series
from grok_lightning.records.parquet import load, save

PLANNED = Path(".sweep") / "planned.parquet"
HASH = "config_hash"


def save_planned(directory: Path, hashes: Sequence[str], options: Mapping[str, Sequence[str]]) -> None:
    """Writes down the runs of an experiment.

    Args:
        directory: The experiment's, ``lightning_logs/<experiment>``.
        hashes: The runs' hashes.
        options: The options that vary, dotted, with what each run's value is called.
    """
    columns = {HASH: hashes} | {option: list(words) for option, words in options.items()}
    table = pa.table({name: encode(list(values)) for name, values in columns.items()})
    (directory / PLANNED).parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # without leave to write, a report cannot say what is missing
        save(directory / PLANNED, table)


def read_planned(directory: Path) -> pd.DataFrame | None:
    """The runs as written down, a row each: ``config_hash`` and what the values of the varying options are called."""
    table = load(directory / PLANNED)
    return None if table is None else pd.DataFrame({name: series(table[name]) for name in table.column_names})
