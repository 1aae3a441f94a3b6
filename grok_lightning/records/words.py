"""The words for values of options, made last: everything else compares the values themselves."""

from typing import Any

import numpy as np
import pandas as pd

NONE = "-"


def shown(value: Any, common: tuple[str, ...] = (), exactly: bool = False) -> str:
    """A value in words: numbers as short as they can be told, a class by its bare name and its options.

    Args:
        value: As typed; ``-`` stands for null.
        common: Options of a class to leave out.
        exactly: Whether a number has all its digits.
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | float | np.number) and value == value:
        number = float(value)
        if abs(number) < 1e6 and number == int(number):
            return f"{int(number)}"
        return repr(number if isinstance(value, float) else value) if exactly else f"{number:g}"
    if isinstance(value, dict):
        inner = {key: item for key, item in value.items() if key not in common}
        name = str(inner.pop("class_path", "")).rsplit(".", 1)[-1]
        options = (f"{key}={shown(item, exactly=exactly)}" for key, item in inner.items())
        return " ".join([*([name] if name else []), *options])
    if isinstance(value, list):
        return f"[{', '.join(shown(item, exactly=exactly) for item in value)}]"
    return NONE if value is None or value is pd.NA or value != value else str(value)


def words_of(values: list[Any]) -> dict[str, str]:
    """What each of an option's values is called, by its repr: blocks by what tells them apart.

    Args:
        values: Distinct values.
    """
    blocks = [value for value in values if isinstance(value, dict)]
    keys = [key for key in (blocks[0] if blocks else {}) if key != "class_path"]
    alike = [key for key in keys if all(key in block and block[key] == blocks[0][key] for block in blocks)]
    for common, exactly in ((tuple(alike) if len(blocks) > 1 else (), False), ((), False), ((), True)):
        words = {repr(value): shown(value, common, exactly) or "{}" for value in values}
        if len(set(words.values())) == len(words):
            break
    return words


def value_of(word: str) -> Any:
    """The value that an older sweep's plan holds as text, as Python prints it or as YAML spells it."""
    plain = {"none": None, "null": None, NONE: None, "true": True, "yes": True, "false": False, "no": False}
    if word.lower() in plain:
        return plain[word.lower()]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word
