"""Options that records lack because they are older than the option."""

from collections.abc import Hashable, Iterable
from typing import Any

import pandas as pd
import pyarrow as pa

from grok_lightning.records.columns import encode, to_series
from grok_lightning.records.defaults import frozen_table
from grok_lightning.report.keys import PREFIX

ALWAYS_THERE = "model.optimizer.lr"  # every record has it; a null is a number that JSON does not have


def fill_options(runs: pd.DataFrame, further: Iterable[Hashable] = ()) -> pd.DataFrame:
    """Records with the options that their version did not have as they were then.

    Args:
        runs: Records, numbered from 0. Options of a class are those of a record's own class.
        further: Columns of options that the records may all lack, such as those that a plan varies.
    """
    table, filled = frozen_table(), dict[str, pd.Series]()
    names = [str(name) for name in dict.fromkeys([*runs, *further]) if str(name).startswith(PREFIX)]
    owners = {
        owner: runs[f"{PREFIX}{owner}.class_path"].tolist()
        for owner in table["classes"]
        if f"{PREFIX}{owner}.class_path" in runs
    }
    for name in names:
        option = name.removeprefix(PREFIX)
        owner, _, last = option.rpartition(".")
        if option == ALWAYS_THERE:
            continue
        if option in table["options"]:
            then = [table["options"][option]] * len(runs)
        elif owner in owners:
            classes = table["classes"][owner]
            then = [classes.get(each, {}).get(last) if isinstance(each, str) else None for each in owners[owner]]
        else:
            continue
        column = _fill(runs.get(name), then)
        if column is not None:
            filled[name] = column
    if not filled:
        return runs
    columns = {str(name): filled.get(str(name), runs[name]) for name in runs}
    return pd.DataFrame(columns | {name: column for name, column in filled.items() if name not in columns})


def _fill(column: pd.Series | None, then: list[Any]) -> pd.Series | None:
    """A column with values in place of its nulls; None if that changes nothing."""
    null = [True] * len(then) if column is None else column.isna().tolist()
    if not any(lacks and value is not None for lacks, value in zip(null, then, strict=True)):
        return None
    known = [None] * len(then) if column is None else column.tolist()
    values = [value if lacks else own for own, value, lacks in zip(known, then, null, strict=True)]
    return to_series(pa.chunked_array([encode(values)]))
