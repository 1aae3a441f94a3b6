"""Reads ``result.json`` files into one table: a row per run, a column per field, nested fields dotted."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from grok_lightning.files import read_bytes
from grok_lightning.records.columns import DECODER, encode, join
from grok_lightning.records.record import RESULT, flatten

# Additional columns: name of the run's directory, time and size of the file, and its fields in order (null is not
# missing). They begin with a dot; a field whose name begins with a dot gets another one.
RUN, MTIME, SIZE, FIELDS = ".run", ".mtime_ns", ".size", ".fields"

ROWS_AT_ONCE = 2048  # a parsed row takes about twenty times the memory of a row in columns

Mark = tuple[int, int]  # modification time (ns) and size (bytes) of a file, which show whether it has changed


def read(prefix: str, marks: Mapping[str, Mark]) -> tuple[pa.Table, list[str]]:
    """Read finished runs.

    Args:
        prefix: Prefix of a run's name in its path.
        marks: Time and size of each run's file before reading, so that later changes are noticed.

    Returns:
        Table of the runs, sorted by name, and the names of runs whose file is incomplete or cannot be read.
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
            continue  # the run was restarted
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
    """Values as ``flatten`` orders them, and a key that is the same for contents with the same fields.

    The runs of a sweep have the same 140 fields: joining their names once, not for each run, halves the reading time.
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
    "".join(names).encode()  # raises for surrogates, which cannot be in a column's name
    if len(names) < count:
        raise ValueError("two fields have the same dotted name")
    return names


def make_table(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Make the table of runs with the same fields; each row has name, time, size and the values of the fields."""
    heads = [RUN, MTIME, SIZE, *map(column_name, names)]
    columns = zip(*rows, strict=True) if rows else [()] * len(heads)
    table = {name: encode(values) for name, values in zip(heads, columns, strict=True)}
    return pa.table(table | {FIELDS: encode([json.dumps(names)] * len(rows))})


def column_name(field: str) -> str:
    """Name of a field's column."""
    return f".{field}" if field.startswith(".") else field
