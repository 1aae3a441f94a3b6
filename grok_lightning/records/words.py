"""Labels of option values, for display only: everything else compares the values."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

NONE = "-"


def format_option(value: Any, common: tuple[str, ...] = (), exactly: bool = False) -> str:
    """Label of a value: numbers in short form, a class by its name and options, ``-`` for null.

    Args:
        value: Typed value.
        common: Options of a class to leave out.
        exactly: Whether to show all digits of numbers.
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | float | np.number) and value == value:
        number = float(value)
        if abs(number) < 1e6 and number == int(number):
            return f"{int(number)}"
        whole = number == value and abs(number) < 2**53 and number == int(number)
        short = f"{number:g}"
        if whole and float(short) != number:  # a count or a seed, of which no digit is to be lost
            return f"{int(number)}"
        return repr(number if isinstance(value, float) else value) if exactly else short
    if isinstance(value, dict):
        inner = {key: item for key, item in value.items() if key not in common}
        name = str(inner.pop("class_path", "")).rsplit(".", 1)[-1]
        options = (f"{key}={format_option(item, exactly=exactly)}" for key, item in inner.items())
        return " ".join([*([name] if name else []), *options])
    if isinstance(value, list):
        return f"[{', '.join(format_option(item, exactly=exactly) for item in value)}]"
    return NONE if value is None or value is pd.NA or value != value else str(value)


def words_of(values: list[Any]) -> dict[str, str]:
    """Labels of an option's values, by their repr; blocks are labeled by the options in which they differ.

    Args:
        values: Distinct values.
    """
    blocks = [value for value in values if isinstance(value, dict)]
    keys = [key for key in (blocks[0] if blocks else {}) if key != "class_path"]
    alike = [key for key in keys if all(key in block and block[key] == blocks[0][key] for block in blocks)]
    for common, exactly in ((tuple(alike) if len(blocks) > 1 else (), False), ((), False), ((), True)):
        words = {repr(value): format_option(value, common, exactly) or "{}" for value in values}
        if len(set(words.values())) == len(words):
            break
    return words


def format_percent(accuracy: float) -> str:
    """An accuracy in percent, rounded down: 100.0% is all."""
    return f"{math.floor(1000 * accuracy + 1e-9) / 10:.1f}%" if math.isfinite(accuracy) else NONE


def format_step(step: float) -> str:
    """A step, or the middle of two: ``1,400``, ``218.5``."""
    return f"{step:,.{0 if float(step).is_integer() else 1}f}"


def list_steps(steps: Iterable[float], observed: Iterable[bool]) -> str:
    """Steps of an event by size: ``4,600; > 20,000``, the latter of a run that was watched so long without it."""
    found = sorted((step, not seen) for step, seen in zip(steps, observed, strict=True))
    return "; ".join(f"{'> ' * censored}{format_step(step)}" for step, censored in found)


def describe_median(
    median: float, low: float = math.nan, high: float = math.nan, after: float = math.nan, steps: str = ""
) -> str:
    """A median step in words: ``7,150 (after 7,050): 4,600; 9,700``, ``7,150 (4,600 to 9,700)``, ``not reached``.

    Args:
        median: The median; infinity if it was not reached.
        low: Lower end of its interval; not finite without one.
        high: Upper end; infinity if there is none.
        after: The last evaluation before the median; NaN if it is not known.
        steps: The steps from ``list_steps``, where there are too few runs for an interval. They follow the median
            unless all are equal.
    """
    lowest, highest = (format_step(end) if math.isfinite(end) else "" for end in (low, high))
    bound = f"{lowest} to {highest}" if highest else f"from {lowest}" * bool(lowest)
    if math.isfinite(median):
        details = "; ".join(part for part in (bound, f"after {format_step(after)}" * math.isfinite(after)) if part)
        words = f"{format_step(median)} ({details})" if details else format_step(median)
    else:
        words = "not reached" + f", later than {lowest}" * bool(lowest)
    return f"{words}: {steps}" if len(set(steps.split("; "))) > 1 else words


def format_ends(final: Mapping[str, float], validated: bool = True) -> str:
    """Accuracies and losses of a run: ``train 100.0% (loss 0.0012), val 99.3% (loss 0.034)``, and test if known.

    Args:
        final: Its last evaluation, ``train/acc`` and so on.
        validated: Whether its validation rows are held out; else they are left out.
    """
    splits = [split for split in ("train", "val", "test") if f"{split}/acc" in final and (validated or split != "val")]
    return ", ".join(
        f"{split} {format_percent(final[f'{split}/acc'])} (loss {final[f'{split}/loss']:.3g})" for split in splits
    )


def parse_option(word: str) -> Any:
    """Parse a value that an older sweep's plan holds as text, in the spelling of Python or YAML."""
    plain = {"none": None, "null": None, NONE: None, "true": True, "yes": True, "false": False, "no": False}
    if word.lower() in plain:
        return plain[word.lower()]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word
