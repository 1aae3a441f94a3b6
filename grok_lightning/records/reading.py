"""The runs' own ``result.json`` as one table: a row per run, a column per field, nested ones dotted."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from grok_lightning.files import read_bytes
from grok_lightning.records.columns import DECODER, encode, join
from grok_lightning.records.record import RESULT, flatten

# Columns of the table's own: the run's directory, time and size of the file as it was read, and which fields were in
# it, in order, for null is not missing. They begin with a dot; a field that does gets another one.
RUN, MTIME, SIZE, FIELDS = ".run", ".mtime_ns", ".size", ".fields"

ROWS_AT_ONCE = 2048  # a parsed row takes some twenty times the memory of its place in columns

Mark = tuple[int, int]  # time and size of a file, which tell whether it has changed


def read(prefix: str, marks: Mapping[str, Mark]) -> tuple[pa.Table, list[str]]:
    """Reads finished runs.

    Args:
        prefix: What stands before a run's name in its path.
        marks: Time and size of each run's file as they were before reading: a later change is then noticed.

    Returns:
        Their table, sorted by name, and the names of those whose file is not whole or cannot be read.
    """
    names: dict[tuple[Any, ...], list[str]] = {}
    rows: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    tables, damaged, pending = [make_table([], [])], [], 0
    for run, mark in marks.items():
        try:
            content = _read_content(f"{prefix}{run}/{RESULT}")
            values, shape = _leaves(content)
            if shape not in names:
                names[shape] = _find_names(content, len(values))
        except FileNotFoundError:
            continue  # the run has begun anew
        except (OSError, ValueError, RecursionError):
            damaged.append(run)
            continue
        rows.setdefault(shape, []).append((run, *mark, *values))
        pending += 1
        if pending == ROWS_AT_ONCE:
            tables += [make_table(names[shape], group) for shape, group in rows.items()]
            rows, pending = {}, 0
    tables += [make_table(names[shape], group) for shape, group in rows.items()]
    return join(tables, RUN), damaged


def _read_content(path: str) -> dict[str, Any]:
    content = DECODER.decode(read_bytes(path).decode())
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no fields")
    return content


def _leaves(content: dict[str, Any]) -> tuple[list[Any], tuple[Any, ...]]:
    """The values that ``flatten`` finds, and a key that is the same for contents with the same fields.

    The runs of a sweep have the same 140 fields: putting their names together once, not for each run, halves the time
    of reading.
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


def _find_names(content: dict[str, Any], count: int) -> list[str]:
    names = list(flatten(content))
    "".join(names).encode()  # half of a surrogate pair is in no column's name
    if len(names) < count:
        raise ValueError("two fields have the same dotted name")
    return names


def make_table(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """The table of runs that have the same fields; each row is name, time, size and the fields' values."""
    heads = [RUN, MTIME, SIZE, *map(column_name, names)]
    columns = zip(*rows, strict=True) if rows else [()] * len(heads)
    table = {name: encode(values) for name, values in zip(heads, columns, strict=True)}
    return pa.table(table | {FIELDS: encode([json.dumps(names)] * len(rows))})


def column_name(field: str) -> str:
    """What a field's column is called."""
    return f".{field}" if field.startswith(".") else field
