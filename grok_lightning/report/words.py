"""Values of keys in records, and their words in labels of conditions."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from grok_lightning.records.words import NONE, format_option
from grok_lightning.report.keys import EXPERIMENT, PREFIX, WORDS, Key, countable

# options with a list of classes, and what an empty one is called; their words need no name before them
LISTS = {"filters": "no filter", "constraints": "no constraint", "interventions": "no intervention"}


def read_values(key: Key, runs: pd.DataFrame) -> pd.Series:
    """Each run's value of a key: typed, or in words for lists and blocks."""
    if not key.is_block:
        column = runs[key.columns[0]]
        same = _find_constants(column)
        # a list, for of integers and None, map would make floats and NaN, which is equal to nothing
        values = [normalize(key.name, _drop_constants(value, same)) for value in column]
        return pd.Series(values, runs.index, dtype=object)
    return pd.Series(_describe_blocks(key, runs), index=runs.index, dtype=object)


def _find_constants(column: pd.Series) -> set[tuple[str, str]]:
    """Options of the classes in a column of lists that have one value wherever the class occurs."""
    seen: dict[tuple[str, str], set[str]] = {}
    for value in column:
        for item in value if isinstance(value, list) else ():
            if isinstance(item, dict) and "class_path" in item:
                for option in item:
                    seen.setdefault((str(item["class_path"]), option), set()).add(repr(item[option]))
    return {place for place, found in seen.items() if len(found) == 1 and place[1] != "class_path"}


def _drop_constants(value: Any, same: Collection[tuple[str, str]]) -> Any:
    if not isinstance(value, list):
        return value
    return [
        {option: of for option, of in item.items() if (item.get("class_path"), option) not in same}
        if isinstance(item, dict)
        else item
        for item in value
    ]


def label_condition(keys: Sequence[Key], values: Sequence[Any], exactly: bool = False) -> str:
    """A condition's name from its values: ``GrokfastEMA, lr=0.001``. An empty list is told where nothing else is.

    Args:
        keys: Options.
        values: The value of each.
        exactly: Whether to show all digits of numbers.
    """
    words = [label_value(key, value, exactly) for key, value in zip(keys, values, strict=True)]
    told = [word for key, word in zip(keys, words, strict=True) if not (_is_list(key) and word in LISTS.values())]
    return ", ".join(told or words)


def _is_list(key: Key) -> bool:
    return key.name.rpartition(".")[2] in LISTS


def label_value(key: Key, value: Any, exactly: bool = False) -> str:
    """A value as a part of a condition's name."""
    if key.is_block or key.name == EXPERIMENT or (key.short == "formula" and isinstance(value, str)) or _is_list(key):
        return str(value)
    return f"{key.short}={format_option(value, exactly=exactly)}"


def rank_values(values: Sequence[Any]) -> dict[Any, tuple[int, float, int]]:
    """A sorting key for each distinct value: numbers by size, the others after them as they come."""
    distinct = list(dict.fromkeys(values))
    return {
        value: (0, float(value), 0) if isinstance(value, int | float | np.number) else (1, 0.0, place)
        for place, value in enumerate(distinct)
    }


def _describe_blocks(key: Key, runs: pd.DataFrame) -> list[str]:
    """Words for blocks: the class, and the options that vary within it, where they differ."""
    class_column = f"{PREFIX}{key.name}.class_path"
    classes = runs[class_column].astype(object) if class_column in runs else pd.Series("", index=runs.index)
    counted = {column: countable(runs[column]) for column in key.columns if column != class_column}
    columns = {
        name: [column for column in counted if counted[column][classes == name].nunique(dropna=False) > 1]
        for name in classes.unique()
    }
    words: list[str] = []
    planned = runs[f"{WORDS}{key.name}"] if f"{WORDS}{key.name}" in runs else pd.Series(None, runs.index, dtype=object)
    several = class_column in key.columns
    same = {column: _find_constants(runs[column]) for column in key.columns}
    for place, name in zip(runs.index, classes, strict=True):
        if isinstance(planned[place], str):
            words.append(planned[place])
            continue
        parts = [strip_path(name)] if several else []
        for column in columns[name]:
            value = normalize(column, _drop_constants(runs.at[place, column], same[column]))
            if value is not None:
                short = column.rsplit(".", 1)[-1]
                parts.append(str(value) if short == "formula" else f"{short}={format_option(value)}")
        words.append(" ".join(parts) or strip_path(name))
    return words


def strip_path(path: Any) -> str:
    """A class's bare name, without the suffix of data modules."""
    return str(path).rsplit(".", 1)[-1].removesuffix("DataModule")


def normalize(option: str, value: Any) -> Any:
    """A value that can be compared: lists and blocks in words, an empty list of filters as ``no filter``."""
    none = LISTS.get(option.rpartition(".")[2])
    if none and (isinstance(value, list) or format_option(value) == NONE):
        return " + ".join(map(format_option, value if isinstance(value, list) else [])) or none
    if isinstance(value, list | dict):
        return format_option(value)
    return None if format_option(value) == NONE else value
