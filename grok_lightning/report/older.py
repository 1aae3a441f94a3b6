"""Options that records lack because they are older than the option."""

from collections.abc import Hashable, Iterable
from typing import Any

import pandas as pd
import pyarrow as pa

from grok_lightning.records.columns import encode, to_series
from grok_lightning.records.defaults import known_then
from grok_lightning.report.keys import PREFIX

ALWAYS_THERE = "model.optimizer.lr"  # every record has it; a null is a number that JSON does not have


def fill_options(runs: pd.DataFrame, further: Iterable[Hashable] = ()) -> pd.DataFrame:
    """Records with the options that their version did not have as they were then.

    Args:
        runs: Records, numbered from 0. Options of a class are those of a record's own class.
        further: Columns of options that the records may all lack, such as those that a plan varies.
    """
    names = [str(name) for name in dict.fromkeys([*runs, *further]) if str(name).startswith(PREFIX)]
    classes = [name for name in names if name.endswith(".class_path") and name in runs]
    kinds = [tuple(row) for row in runs[classes].to_numpy(dtype=object)] if classes else [()] * len(runs)
    then_of = {kind: known_then(_given(classes, kind)) for kind in kinds}
    filled = dict[str, pd.Series]()
    for name in names:
        option = name.removeprefix(PREFIX)
        if option == ALWAYS_THERE or option.endswith(".class_path"):
            continue
        inner = runs[[column for column in runs if str(column).startswith(f"{name}.")]].notna().any(axis=1)
        then = [None if mapped else then_of[kind].get(option) for kind, mapped in zip(kinds, inner, strict=True)]
        column = _fill(runs.get(name), then)
        if column is not None:
            filled[name] = column
    if not filled:
        return runs
    columns = {str(name): filled.get(str(name), runs[name]) for name in runs}
    return pd.DataFrame(columns | {name: column for name, column in filled.items() if name not in columns})


def _given(columns: list[str], values: tuple[Any, ...]) -> dict[str, str]:
    """The class paths of one record; a null is none."""
    paired = zip(columns, values, strict=True)
    return {column.removeprefix(PREFIX): value for column, value in paired if isinstance(value, str)}


def _fill(column: pd.Series | None, then: list[Any]) -> pd.Series | None:
    """A column with values in place of its nulls; None if that changes nothing."""
    null = [True] * len(then) if column is None else column.isna().tolist()
    if not any(lacks and value is not None for lacks, value in zip(null, then, strict=True)):
        return None
    known = [None] * len(then) if column is None else column.tolist()
    values = [value if lacks else own for own, value, lacks in zip(known, then, null, strict=True)]
    return to_series(pa.chunked_array([encode(values)]))
