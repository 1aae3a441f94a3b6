"""Results of finished runs, with an index of each experiment so that only new and changed files are read.

The index ``lightning_logs/<experiment>/.sweep/index.parquet`` is a cache of the table of results, about 160 bytes
per run of 140 fields. It is rebuilt if it is missing, damaged or of another format.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from grok_lightning.errors import UserError, in_one_line
from grok_lightning.reading import parse_json
from grok_lightning.records.after_grok import AFTER, describe_file
from grok_lightning.records.columns import TEXT, column_of, decode, encode, is_encoded, join, to_series
from grok_lightning.records.parquet import load, save
from grok_lightning.records.record import RESULT, flatten, read_result

INDEX = Path(".sweep") / "index.parquet"

# Additional columns: name of the run's directory, time and size of the file, and its fields in order (null is not
# missing). They begin with a dot; a field whose name begins with a dot gets another one.
RUN, MTIME, SIZE, FIELDS = ".run", ".mtime_ns", ".size", ".fields"

RECORDED = ("threshold", "memorize_step", "grok_step")  # every record of a run has them

ROWS_AT_ONCE = 2048  # a parsed row takes about twenty times the memory of a row in columns

Mark = tuple[int, int]  # modification time (ns) and size (bytes) of a file, which show whether it has changed


def refresh(directory: Path, columns: Sequence[str] | None = None, keep: bool = True) -> pd.DataFrame:
    """Read the results of an experiment's finished runs and update its index.

    The index is rewritten only if a run has changed, and not where it cannot be written (permissions, a full disk).

    Args:
        directory: Directory of the experiment, ``lightning_logs/<experiment>``.
        columns: Dotted fields to return; if no run has changed, only these are read. A field that no run has is
            None everywhere. Default: all.
        keep: Whether the index is rewritten.

    Returns:
        Table of these columns and ``run``, the name of the run's directory, by which it is sorted. Types and
        ``attrs["damaged"]`` are those of ``read_records``, the latter with names instead of paths.
    """
    table, damaged = _refresh(directory, _scan(directory)[0], columns, keep)
    return _to_frame(table, "run", columns, damaged)


def read_records(paths: Iterable[str | Path] | str | Path) -> pd.DataFrame:
    """Read the results of finished runs, one row each, sorted by directory.

    Args:
        paths: Run directories, or directories above them (an experiment, the whole ``lightning_logs``). Directories
            whose names begin with a dot are skipped.

    Returns:
        A table whose columns are the fields of ``result.json``, nested ones dotted (``config.data.modulus``,
        ``final.val/acc``), and ``path``, which replaces a field of that name. Unfinished runs are left out, failed ones
        are not.

        A column whose values all have one type is ``int64``, ``float64``, ``bool`` or ``str``. If some are null or
        missing, it is ``Int64``, ``float64``, ``boolean`` or ``str``. Integers among floats are ``float64`` if none
        exceeds 2^53. Other columns (lists, text among numbers, larger integers, only nulls) are ``object`` with None
        for null; equal lists may be the same object. Before pandas 3, text is ``object`` too.

        ``attrs["damaged"]`` lists the run directories left out because their ``result.json`` is incomplete or cannot
        be read; ``attrs["faults"]`` says of each what is wrong.

    Raises:
        UserError: If a path is no directory.

    Example:
        >>> table = read_records("lightning_logs/addition")
        >>> table[["config.seed_everything", "memorize_step", "grok_step"]]  # doctest: +SKIP
    """
    experiments: dict[Path, dict[str, Mark]] = {}
    single: dict[Path, Mark] = {}
    for top in map(Path, [paths] if isinstance(paths, str | Path) else paths):
        if not top.is_dir():
            raise UserError(f"{str(top)!r} is no directory; give a run's, or one above it such as lightning_logs")
        if mark := _mark(str(top)):
            single[top] = mark
        else:
            _walk(top, experiments)
    rest = {str(run): mark for run, mark in single.items() if run.name not in experiments.get(run.parent, ())}
    table, damaged = _read_results("", rest)
    tables = [table]
    for directory, marks in experiments.items():
        prefix = str(directory / "_")[:-1]
        table, names = _refresh(directory, marks)
        runs = encode([f"{prefix}{run}" for run in decode(table[RUN])])
        tables.append(table.set_column(table.column_names.index(RUN), RUN, runs))
        damaged |= {f"{prefix}{name}": reason for name, reason in names.items()}
    return _to_frame(join(tables, RUN), "path", None, damaged)


def _walk(directory: Path, experiments: dict[Path, dict[str, Mark]]) -> None:
    """Add the directories at or below this one that contain finished runs."""
    marks, others = _scan(directory)
    if marks:
        experiments[directory] = marks
    for name in others:
        _walk(directory / name, experiments)


def _scan(directory: Path) -> tuple[dict[str, Mark], list[str]]:
    """Find the finished runs in a directory, and the names of the other directories in it."""
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
        return -1, -1  # it exists; reading it will fail too, and then it counts as damaged
    return found.st_mtime_ns, found.st_size


def _refresh(
    directory: Path, marks: Mapping[str, Mark], columns: Sequence[str] | None = None, keep: bool = True
) -> tuple[pa.Table, dict[str, str]]:
    """Read these runs of an experiment with at least these columns; also returns the damaged runs, with reasons."""
    table = _load(directory, columns)
    if columns is not None and _marks(table) != marks:
        table = _load(directory)
    known = _marks(table)
    fresh, damaged = _read_results(
        f"{directory}/", {run: mark for run, mark in marks.items() if known.get(run) != mark}
    )
    kept = [marks.get(run) == mark for run, mark in known.items()]
    if fresh.num_rows or not all(kept):
        table = join([table.filter(pa.array(kept, pa.bool_())), fresh], RUN)
        with suppress(OSError):  # a full disk or no permission: the index only saves time
            if keep:
                save(directory / INDEX, table)
    return table, damaged


def _marks(table: pa.Table) -> dict[str, Mark]:
    marks = zip(table[MTIME].to_pylist(), table[SIZE].to_pylist(), strict=True)
    return dict(zip(decode(table[RUN]), marks, strict=True))


def _load(directory: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the index with at least these columns; no rows if it is missing or unusable."""
    own = [RUN, MTIME, SIZE]
    later = columns is None or any(field.startswith(f"{AFTER}.") for field in columns)
    wanted = None if columns is None else [*own, *map(_name_column, columns), *([*RECORDED] if later else [])]
    table = load(directory / INDEX, wanted)
    usable = table is not None and {*own} <= {*table.column_names} and is_encoded(table) and _has_fields(table)
    if table is None or not usable or (later and _is_older(table.column_names)):
        return _make_table([], [])
    return table


def _is_older(names: Iterable[str]) -> bool:
    """Whether these are columns or fields of records that were read before there was ``after_grok``."""
    return {*RECORDED} <= {*names} and not any(name.startswith(AFTER) for name in names)


def _complete(directory: str, content: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record, with ``after_grok`` from its evaluations where it was written before there was that."""
    if not _is_older(content):
        return content
    return content | {AFTER: describe_file(directory, flatten(content))}


def _has_fields(table: pa.Table) -> bool:
    """Whether names, times and sizes of runs have their types, and the lists of fields name columns of the table."""
    if len(table) and (table[MTIME].type, table[SIZE].type, table[RUN].type) != (pa.int64(), pa.int64(), TEXT):
        return False
    if table[RUN].null_count or table[MTIME].null_count or table[SIZE].null_count:
        return False
    if FIELDS not in table.column_names:  # only some columns were read
        return True
    try:
        lists = [parse_json(text) for text in table[FIELDS].unique().to_pylist()]
    except (ValueError, TypeError, AttributeError):
        return False
    names = {_name_column(field) for fields in lists for field in fields if isinstance(field, str)}
    whole = all(isinstance(fields, list) and all(isinstance(field, str) for field in fields) for fields in lists)
    return whole and names <= {*table.column_names}


def _to_frame(table: pa.Table, name: str, columns: Iterable[str] | None, damaged: Mapping[str, str]) -> pd.DataFrame:
    if columns is None:
        fields = map(parse_json, table[FIELDS].unique().to_pylist())
        columns = dict.fromkeys(field for some in fields for field in some)
    content = {field: to_series(column_of(table, _name_column(field))) for field in columns}
    frame = pd.DataFrame(content | {name: to_series(table[RUN])})
    frame.attrs["damaged"] = sorted(damaged)
    frame.attrs["faults"] = dict(sorted(damaged.items()))
    return frame


def _read_results(prefix: str, marks: Mapping[str, Mark]) -> tuple[pa.Table, dict[str, str]]:
    """Read finished runs.

    Args:
        prefix: Prefix of a run's name in its path.
        marks: Time and size of each run's file before reading, so that later changes are noticed.

    Returns:
        Table of the runs, sorted by name; and, for runs whose file is incomplete or cannot be read, what is wrong.
    """
    names: dict[tuple[Any, ...], list[str]] = {}
    rows: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    tables, pending = [_make_table([], [])], 0
    damaged: dict[str, str] = {}
    for run, mark in marks.items():
        try:
            content = _complete(f"{prefix}{run}", read_result(f"{prefix}{run}/{RESULT}"))
            values, shape = _collect_leaves(content)
            if shape not in names:
                fields = list(flatten(content))
                "".join(fields).encode()  # raises for surrogates, which cannot be in a column's name
                if len(fields) < len(values):
                    raise ValueError("two fields have the same dotted name")
                names[shape] = fields
        except FileNotFoundError:
            continue  # the run was restarted
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            damaged[run] = in_one_line(str(reason))
            continue
        rows.setdefault(shape, []).append((run, *mark, *values))
        pending += 1
        if pending == ROWS_AT_ONCE:
            tables += [_make_table(names[shape], group) for shape, group in rows.items()]
            rows, pending = {}, 0
    tables += [_make_table(names[shape], group) for shape, group in rows.items()]
    return join(tables, RUN), damaged


def _collect_leaves(content: dict[str, Any]) -> tuple[list[Any], tuple[Any, ...]]:
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


def _make_table(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Make the table of runs with the same fields; each row has name, time, size and the values of the fields."""
    heads = [RUN, MTIME, SIZE, *map(_name_column, names)]
    columns = zip(*rows, strict=True) if rows else [()] * len(heads)
    table = {name: encode(values) for name, values in zip(heads, columns, strict=True)}
    return pa.table(table | {FIELDS: encode([json.dumps(names)] * len(rows))})


def _name_column(field: str) -> str:
    """Name of a field's column."""
    return f".{field}" if field.startswith(".") else field
