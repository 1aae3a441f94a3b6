"""The results of all runs of an experiment as one table, kept in one file that can always be made anew.

``lightning_logs/<experiment>/.sweep/index.parquet`` has a row per finished run and a column per field of
``result.json``, nested ones dotted. Fields that are of one type in all runs, or null, are native columns; others (lists,
several types, integers of more than 64 bits, text that is no Unicode) are JSON, and their type, binary, says so. The
index's own columns begin with a dot; a field that does gets another one.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from grok_lightning.files import TEMPORARY, write_durably
from grok_lightning.record import RESULT, flatten

INDEX = Path(".sweep") / "index.parquet"
FORMAT = {b"grok_lightning.index": b"1"}

# The run's directory, time and size of the file as it was read, and the fields that it had, in order: what is null is there.
RUN, MTIME, SIZE, FIELDS = ".run", ".mtime_ns", ".size", ".fields"

TEXT, JSON = (pa.dictionary(pa.int32(), kind) for kind in (pa.string(), pa.binary()))
NATIVE = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: TEXT}
NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
ROWS_AT_ONCE = 2048  # a parsed row takes some twenty times the memory of its place in columns

Mark = tuple[int, int]  # time and size of a file, which tell whether it has changed

_DECODER = json.JSONDecoder(parse_constant={"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}.get)


def refresh(directory: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The results of an experiment's finished runs; reads what is new or changed and brings the index up to date.

    The index is rewritten only if something has changed, and not where it cannot be (no leave to write, a full disk).

    Args:
        directory: The experiment's, ``lightning_logs/<experiment>``.
        columns: The fields to return, dotted; if no run has changed, only they are read. One that no run has is all
            None. Default: all.

    Returns:
        A table of these columns and ``run``, the name of the run's directory, by which it is sorted. Types and
        ``attrs["damaged"]`` are as ``read_records`` tells, the latter by name.
    """
    table, damaged = _refreshed(directory, _scan(directory)[0], columns)
    return _frame(table, "run", columns, damaged)


def read_records(paths: Iterable[str | Path] | str | Path) -> pd.DataFrame:
    """The results of finished runs, one row each, sorted by directory.

    Args:
        paths: Run directories, or directories above them (an experiment, the whole ``lightning_logs``). Directories
            that begin with a dot are passed over.

    Returns:
        A table whose columns are the fields of ``result.json``, nested ones dotted (``config.data.modulus``,
        ``final.val/acc``), and ``path``. Unfinished runs are not in it, failed ones are.

        A column in which all runs hold one type is ``int64``, ``float64``, ``bool`` or ``str``. If some have null, or
        no such field, they read NaN, and it is ``Int64``, ``float64``, ``boolean`` or ``str``. Integers beside other
        numbers are ``float64`` if none exceeds 2^53. All else (lists, text beside numbers, huge integers, nothing but
        nulls) is ``object`` with None for null, and equal lists may be one and the same.

        ``attrs["damaged"]`` lists the run directories left out because their ``result.json`` is not whole or cannot
        be read.

    Example:
        >>> table = read_records("lightning_logs/addition")
        >>> table[["config.seed_everything", "memorize_step", "grok_step"]]  # doctest: +SKIP
    """
    experiments: dict[Path, dict[str, Mark]] = {}
    single: dict[Path, Mark] = {}
    for top in map(Path, [paths] if isinstance(paths, str | Path) else paths):
        if mark := _mark(str(top)):
            single[top] = mark
        else:
            _walk(top, experiments)
    rest = {str(run): mark for run, mark in single.items() if run.name not in experiments.get(run.parent, ())}
    table, damaged = _read("", rest)
    tables = [table]
    for directory, marks in experiments.items():
        table, names = _refreshed(directory, marks)
        runs = _encode([str(directory / run) for run in _values(table[RUN])])
        tables.append(table.set_column(table.column_names.index(RUN), RUN, runs))
        damaged += [str(directory / name) for name in names]
    return _frame(_joined(tables), "path", None, damaged)


def _walk(directory: Path, experiments: dict[Path, dict[str, Mark]]) -> None:
    """Adds the directories at or below this one that have finished runs in them."""
    marks, others = _scan(directory)
    if marks:
        experiments[directory] = marks
    for name in others:
        _walk(directory / name, experiments)


def _scan(directory: Path) -> tuple[dict[str, Mark], list[str]]:
    """The finished runs in a directory, and the names of the other directories in it."""
    marks, others = {}, []
    try:
        entries = os.scandir(directory)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}, []
    with entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if mark := _mark(entry.path):
                marks[entry.name] = mark
            elif entry.is_dir(follow_symlinks=False):
                others.append(entry.name)
    return marks, others


def _mark(run: str) -> Mark | None:
    try:
        found = os.stat(f"{run}/{RESULT}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return -1, -1  # something is there; reading it will fail as well, and be told
    return found.st_mtime_ns, found.st_size


def _refreshed(
    directory: Path, marks: Mapping[str, Mark], columns: Sequence[str] | None = None
) -> tuple[pa.Table, list[str]]:
    """The table of these runs of an experiment, with these columns at least, and the names of damaged runs."""
    table = _load(directory, columns)
    if columns is not None and _marks(table) != marks:
        table = _load(directory)
    known = _marks(table)
    fresh, damaged = _read(f"{directory}/", {run: mark for run, mark in marks.items() if known.get(run) != mark})
    kept = [marks.get(run) == mark for run, mark in known.items()]
    if fresh.num_rows or not all(kept):
        table = _joined([table.filter(pa.array(kept, pa.bool_())), fresh])
        _save(directory, table)
    return table, damaged


def _marks(table: pa.Table) -> dict[str, Mark]:
    marks = zip(table[MTIME].to_pylist(), table[SIZE].to_pylist(), strict=True)
    return dict(zip(_values(table[RUN]), marks, strict=True))


def _load(directory: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The index with these columns at least; no rows if it is missing, damaged or of another format."""
    names = None if columns is None else [RUN, MTIME, SIZE, *map(_stored, columns)]
    try:
        with pq.ParquetFile(directory / INDEX, page_checksum_verification=True) as file:
            if FORMAT.items() <= (file.metadata.metadata or {}).items():
                return file.read(names, use_threads=False)
    except (OSError, pa.ArrowException, ValueError):
        pass
    return _table([], [])


def _save(directory: Path, table: pa.Table) -> None:
    content = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(FORMAT), content, write_statistics=False, write_page_checksum=True)
    try:
        write_durably(directory / INDEX, content.getvalue())
        for leftover in (directory / INDEX).parent.glob(f"{TEMPORARY}*-{INDEX.name}"):
            leftover.unlink(missing_ok=True)  # a killed process's; a living one goes on without
    except OSError:
        pass  # the index only saves time


def _read(prefix: str, marks: Mapping[str, Mark]) -> tuple[pa.Table, list[str]]:
    """The table of these runs from their own files, and the names of damaged ones."""
    names: dict[tuple[Any, ...], list[str]] = {}
    rows: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    tables, damaged, pending = [], [], 0
    for run, mark in marks.items():
        try:
            content = _content(f"{prefix}{run}/{RESULT}")
            values, shape = _leaves(content)
            if shape not in names:
                names[shape] = _names(content, len(values))
        except FileNotFoundError:
            continue  # the run has begun anew
        except (OSError, ValueError, RecursionError):
            damaged.append(run)
            continue
        rows.setdefault(shape, []).append((run, *mark, *values))
        pending += 1
        if pending == ROWS_AT_ONCE:
            tables += [_table(names[shape], group) for shape, group in rows.items()]
            rows, pending = {}, 0
    tables += [_table(names[shape], group) for shape, group in rows.items()]
    return _joined(tables or [_table([], [])]), damaged


def _content(path: str) -> dict[str, Any]:
    with open(path, "rb", buffering=0) as file:
        content = _DECODER.decode(file.read().decode())
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no fields")
    return content


def _leaves(content: dict[str, Any]) -> tuple[list[Any], tuple[Any, ...]]:
    """The values of ``flatten``, and a key that is the same for contents with the same fields.

    Runs of a sweep have the same 130 fields: to put their names together for each takes three times as long.
    """
    values: list[Any] = []
    shape: list[tuple[Any, ...]] = []

    def walk(nested: dict[str, Any]) -> None:
        shape.append((len(values), *nested))
        if dict not in map(type, nested.values()):
            values.extend(nested.values())
            return
        for value in nested.values():
            if type(value) is dict and value:
                walk(value)
            else:
                values.append(value)

    walk(content)
    return values, tuple(shape)


def _names(content: dict[str, Any], count: int) -> list[str]:
    names = list(flatten(content))
    "".join(names).encode()  # half a surrogate pair is in no name of a column
    if len(names) < count:
        raise ValueError("two fields have the same dotted name")
    return names


def _table(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * (3 + len(names))
    table = {
        name: _encode(values) for name, values in zip([RUN, MTIME, SIZE, *map(_stored, names)], columns, strict=True)
    }
    return pa.table(table | {FIELDS: _encode([json.dumps(names)] * len(rows))})


def _stored(field: str) -> str:
    return f".{field}" if field.startswith(".") else field


def _encode(values: Sequence[Any]) -> pa.Array:
    """A column of the index."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values))
    if len(kinds) == 1 and (kind := NATIVE.get(*kinds)):
        try:
            return _coded(pa.array(values, kind))
        except (OverflowError, UnicodeEncodeError):
            pass
    keys = list(map(repr, values))  # unlike the values, they can be hashed and tell 1, 1.0 and True apart
    texts = {key: json.dumps(value).encode() for key, value in dict(zip(keys, values, strict=True)).items()}
    texts["None"] = None
    return _coded(pa.array(list(map(texts.__getitem__, keys)), JSON.value_type))


def _coded(array: pa.Array) -> pa.Array:
    return array.dictionary_encode() if array.type in (TEXT.value_type, JSON.value_type) else array


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """What a column was made of; equal lists become one."""
    values = column.to_pylist()
    if column.type not in (JSON, JSON.value_type):
        return values
    decoded = {text: None if text is None else _DECODER.decode(text.decode()) for text in set(values)}
    return list(map(decoded.__getitem__, values))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """All rows of some tables, sorted by directory."""
    tables = [table for table in tables if len(table)] or tables[:1]
    joined = tables[0]
    if len(tables) > 1:
        names = dict.fromkeys(name for table in tables for name in table.column_names)
        joined = pa.table({name: _column([_get(table, name) for table in tables]) for name in names})
    parts = [run.split(os.sep) for run in _values(joined[RUN])]
    order = sorted(range(len(parts)), key=parts.__getitem__)
    return joined if order == list(range(len(parts))) else joined.take(pa.array(order, pa.int64()))


def _get(table: pa.Table, name: str) -> pa.ChunkedArray:
    return table[name] if name in table.column_names else pa.chunked_array([pa.nulls(len(table))])


def _column(parts: Sequence[pa.ChunkedArray]) -> pa.Array:
    """The parts of a column one after another: JSON if they differ in type."""
    kinds = {part.type for part in parts if part.null_count < len(part)}
    if len(kinds) > 1:
        return _encode([value for part in parts for value in _values(part)])
    kind = kinds.pop() if kinds else pa.null()
    chunks = [chunk for part in parts for chunk in (part.chunks if part.type == kind else [pa.nulls(len(part), kind)])]
    column = pa.chunked_array(chunks, kind).combine_chunks()
    if kind not in (TEXT, JSON):
        return column
    used = column.indices.dictionary_encode()  # texts of rows that have gone would stay for ever
    return pa.DictionaryArray.from_arrays(used.indices, column.dictionary.take(used.dictionary))


def _frame(table: pa.Table, name: str, columns: Iterable[str] | None, damaged: Sequence[str]) -> pd.DataFrame:
    if columns is None:
        fields = map(json.loads, table[FIELDS].unique().to_pylist())
        columns = dict.fromkeys(field for some in fields for field in some)
    series = {field: _series(_get(table, _stored(field))) for field in columns}
    frame = pd.DataFrame(series | {name: _series(table[RUN])})
    frame.attrs["damaged"] = sorted(damaged)
    return frame


def _series(column: pa.ChunkedArray) -> pd.Series:
    """A column as ``read_records`` tells."""
    if column.null_count == len(column):
        return pd.Series([None] * len(column), dtype=object)
    array = column.combine_chunks()
    if array.type == JSON:
        values = _values(array.dictionary)
        distinct = _encode(_as_floats(values))
        if distinct.type == JSON:
            places = array.indices.fill_null(len(values)).to_numpy()
            return pd.Series(pd.Series([*values, None], dtype=object).to_numpy()[places])
        array = distinct.take(array.indices)
    if array.null_count and array.type in NULLABLE:
        return pd.Series(NULLABLE[array.type].__from_arrow__(array))
    return (array.cast(pa.large_string()) if array.type == TEXT else array).to_pandas()


def _as_floats(values: list[Any]) -> list[Any]:
    """Integers among numbers as floats, if all can be; anything else as it is."""
    can = all(type(value) is float or (type(value) is int and abs(value) <= 2**53) for value in values)
    return list(map(float, values)) if can and {float} < set(map(type, values)) else values
