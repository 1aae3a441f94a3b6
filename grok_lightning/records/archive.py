"""Archives: records and curves of many runs in one Parquet file."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from grok_lightning.errors import UserError
from grok_lightning.files import write_durably
from grok_lightning.reading import parse_json
from grok_lightning.records.columns import encode, to_series

PLAN = b"grok_lightning.planned"
MARK, VERSION = b"grok_lightning.runs", 1
CURVE = "curve."


def write_archive(path: Path, runs: pd.DataFrame, curves: pd.DataFrame, planned: pd.DataFrame | None = None) -> None:
    """Write records and curves, one row per run.

    Args:
        path: File. Fields of ``result.json`` are columns of their own, nested ones dotted; each metric of the
            curves is a column of lists, such as ``curve.step`` and ``curve.val/acc``, in single precision.
        runs: Records as ``read_records`` returns them; ``path`` identifies a run.
        curves: Columns ``run`` (that path), ``step`` and metrics.
        planned: Runs that sweeps planned, columns of text; stored in the file's metadata.
    """
    columns = {str(name): _to_column(runs[name]) for name in runs}
    places = pd.Series(np.arange(len(runs)), index=runs["path"])
    rows = places.reindex(curves["run"]).to_numpy().astype(int)
    order = np.argsort(rows, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(runs)))]).astype(np.int32)
    for name in curves.columns[1:]:
        values = curves[name].to_numpy()[order]
        flat = pa.array(values, pa.int64()) if name == "step" else pa.array(values.astype(np.float32))
        columns[f"{CURVE}{name}"] = pa.ListArray.from_arrays(pa.array(offsets), flat)
    metadata = {MARK: str(VERSION).encode()}
    if planned is not None and len(planned):
        columns_of = planned.astype(object).where(planned.notna(), None).to_dict("list")
        metadata[PLAN] = json.dumps({str(name): values for name, values in columns_of.items()}).encode()
    table = pa.table(columns).replace_schema_metadata(metadata)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=9, write_statistics=False)
    write_durably(path, buffer.getvalue())


def read_archive(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read records and curves, as given to ``write_archive``, with metrics in single precision.

    Raises:
        UserError: As ``read_archive_and_plan``.
    """
    return read_archive_and_plan(path)[:2]


def read_archive_and_plan(path: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None]:
    """Read records, curves and the planned runs of sweeps; None for the latter if the archive has no plan.

    Raises:
        UserError: The file is missing, damaged, not an archive, or was written by a later version.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: no whole Parquet file ({reason}); give a runs.parquet that a report wrote") from None
    metadata = table.schema.metadata or {}
    version = metadata.get(MARK)
    if version is None:
        raise UserError(f"{path}: not the runs.parquet of a report")
    if version != str(VERSION).encode():
        raise UserError(
            f"{path}: schema version {version.decode()} of runs.parquet, this program reads {VERSION}; "
            "use the version of grok_lightning that wrote it"
        )
    names = [name for name in table.column_names if name.startswith(CURVE)]
    if "path" not in table.column_names or (names and f"{CURVE}step" not in names):
        raise UserError(f"{path}: runs.parquet lacks columns; give one that a report wrote")
    runs = pd.DataFrame({name: to_series(table[name]) for name in table.column_names if name not in names})
    parts = {name: table[name].combine_chunks() for name in names}
    curves: dict[str, object] = {"run": np.empty(0, object)}
    if parts:
        lengths = np.diff(parts[f"{CURVE}step"].offsets.to_numpy())
        curves["run"] = np.repeat(runs["path"].to_numpy(object), lengths)
    for name, column in parts.items():
        curves[name.removeprefix(CURVE)] = column.flatten().to_numpy(zero_copy_only=False)
    planned = pd.DataFrame(parse_json(metadata[PLAN]), dtype=object) if PLAN in metadata else None
    return runs, pd.DataFrame(curves), planned


def _to_column(values: pd.Series) -> pa.Array:
    if values.dtype == object:
        return encode([None if value is None or value is pd.NA or value != value else value for value in values])
    array = pa.Array.from_pandas(values)
    return array.cast(pa.string()).dictionary_encode() if pa.types.is_large_string(array.type) else array
