"""Archives: records and curves of many runs in one Parquet file."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from grok_lightning.errors import UserError, show
from grok_lightning.files import write_durably
from grok_lightning.reading import Malformed, parse_json, read_bytes
from grok_lightning.records.columns import JSON, NATIVE, TEXT, encode, to_series
from grok_lightning.records.planned import HASH

PLAN = b"grok_lightning.planned"
MARK, VERSION = b"grok_lightning.runs", 1
CURVE = "curve."
KINDS = (TEXT, TEXT.value_type, JSON, *NATIVE.values())  # of columns of records
MOST_BYTES, MOST_UNPACKED = 2**31, 2**28  # of an archive, and unpacked beside a multiple of that
MOST_VALUES, VALUES_PER_BYTE = 10_000_000, 1000


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
        table = _read_table(path)
        planned = _read_plan((table.schema.metadata or {}).get(PLAN))
        names = [name for name in table.column_names if name.startswith(CURVE)]
        runs = pd.DataFrame({name: to_series(table[name]) for name in table.column_names if name not in names})
    except (OSError, pa.ArrowException, ValueError) as error:
        if isinstance(error, UserError) and not isinstance(error, Malformed):
            raise
        reason = getattr(error, "reason", None) or str(error).partition("\n")[0]
        raise UserError(f"{path}: no whole Parquet file ({reason}); give a runs.parquet that a report wrote") from None
    if runs["path"].duplicated().any():
        raise UserError(f"{path}: two runs have the same path; give a runs.parquet that a report wrote")
    parts = {name: table[name].combine_chunks() for name in names}
    curves: dict[str, object] = {"run": np.empty(0, object)}
    if parts:
        lengths = parts[f"{CURVE}step"].value_lengths().to_numpy()
        curves["run"] = np.repeat(runs["path"].to_numpy(object), lengths)
    for name, column in parts.items():
        curves[name.removeprefix(CURVE)] = column.flatten().to_numpy(zero_copy_only=False)
    return runs, pd.DataFrame(curves), planned


def _read_table(path: Path) -> pa.Table:
    """The table of an archive, its form checked.

    Raises:
        OSError, pa.ArrowException, ValueError: The file cannot be read, or is no whole Parquet file.
        UserError: It is another Parquet file.
    """
    content = pa.BufferReader(read_bytes(path, MOST_BYTES))
    with pq.ParquetFile(content) as file:
        version = (file.metadata.metadata or {}).get(MARK)
        if version is None:
            raise UserError(f"{path}: not the runs.parquet of a report")
        if version != str(VERSION).encode():
            raise UserError(
                f"{path}: schema version {version.decode(errors='replace')[:20]} of runs.parquet, this program reads "
                f"{VERSION}; use the version of grok_lightning that wrote it"
            )
        fault = _find_fault(file.schema_arrow) or _find_excess(file.metadata, content.size())
        if fault:
            raise UserError(f"{path}: {fault}; give a runs.parquet that a report wrote")
        table = file.read()
    table.validate(full=True)
    lists = [table[name].combine_chunks() for name in table.column_names if name.startswith(CURVE)]
    same = all(column.value_lengths().equals(lists[0].value_lengths()) for column in lists)
    if table["path"].null_count or not same or any(column.null_count for column in lists):
        raise UserError(f"{path}: runs have no path, or curves of different lengths; give one that a report wrote")
    return table


def _find_fault(schema: pa.Schema) -> str | None:
    """What is wrong with the columns of an archive."""
    names = schema.names
    curves = [name for name in names if name.startswith(CURVE)]
    needed = ["path", *([f"{CURVE}step"] if curves else [])]
    missing = [name for name in needed if name not in names]
    if missing or len(set(names)) < len(names):
        return f"it lacks columns ({', '.join(missing)})" if missing else "two of its columns have the same name"
    for name, kind in zip(names, schema.types, strict=True):
        if name in curves:
            inner = kind.value_type if pa.types.is_list(kind) else None
            fits = inner is not None and (pa.types.is_int64(inner) if name == f"{CURVE}step" else _is_float(inner))
        elif name == "path":
            fits = kind in (TEXT, TEXT.value_type)
        else:
            fits = kind in (*KINDS, pa.null())
        if not fits:
            return f"its column {show(name)} has the type {show(str(kind))}"
    return None


def _is_float(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_null(kind)


def _find_excess(metadata: pq.FileMetaData, size: int) -> str | None:
    """What says that a small file would fill the memory: no archive comes near these ratios."""
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    values = sum(group.column(place).num_values for group in groups for place in range(group.num_columns))
    whole = sum(group.total_byte_size for group in groups)
    if values > MOST_VALUES + VALUES_PER_BYTE * size or whole > MOST_UNPACKED + VALUES_PER_BYTE * size:
        return f"it has {values:,} values in {size:,} bytes, more than an archive has"
    return None


def _read_plan(content: bytes | None) -> pd.DataFrame | None:
    """The planned runs in an archive's metadata.

    Raises:
        Malformed: They are no columns of equal lengths.
    """
    if content is None:
        return None
    columns = parse_json(content)
    values = columns.values() if isinstance(columns, dict) else [None]
    if not all(isinstance(column, list) for column in values) or len(set(map(len, values))) > 1:
        raise Malformed("its planned runs are no table")
    hashes = columns.get(HASH, [])
    if not all(isinstance(hashed, str) for hashed in hashes):
        raise Malformed("its planned runs have no hashes")
    return pd.DataFrame(columns, dtype=object)


def _to_column(values: pd.Series) -> pa.Array:
    if values.dtype == object:
        return encode([None if value is None or value is pd.NA or value != value else value for value in values])
    array = pa.Array.from_pandas(values)
    return array.cast(pa.string()).dictionary_encode() if pa.types.is_large_string(array.type) else array
