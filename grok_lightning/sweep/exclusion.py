"""Combinations that a sweep excludes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from grok_lightning.errors import UserError
from grok_lightning.options.classes import suggestion
from grok_lightning.sweep.axes import Axis, Entry, identify, iterate_options, parse_range, quote, to_short_form

Index = dict[tuple[str, Any], set[int]]


def find_kept(written: Any, axes: Sequence[Axis]) -> np.ndarray:
    """Apply ``exclude``.

    Args:
        written: List of mappings from options to a value, a list of values or a range; None: nothing is excluded.
        axes: Options that vary.

    Returns:
        Whether each combination is kept: a bool for each, in the order of ``itertools.product``.

    Raises:
        UserError: An option does not vary, a value is not among its values, or a mapping matches no combination.
    """
    if written is not None and not isinstance(written, list):
        raise UserError(f"exclude is {quote(written)}; a list of mappings is expected, `- {{OPTION: VALUE, ...}}`")
    counts = [len(axis[0].values) for axis in axes]
    turning = [number for number, count in enumerate(counts) if count > 1]  # numpy takes 64 dimensions
    kept = np.ones([counts[number] for number in turning], dtype=bool)
    axis_of = {entry.option: (number, entry) for number, axis in enumerate(axes) for entry in axis}
    indexes: dict[str, Index] = {}
    for mapping in written or []:
        matched: dict[int, set[int]] = {}
        for option, value in iterate_options("exclude", mapping):
            if option not in axis_of:
                raise UserError(f"exclude has {option}, which does not vary{suggestion(option, axis_of)}")
            number, entry = axis_of[option]
            if option not in indexes:
                indexes[option] = _index_values(entry)
            places = _match(entry, indexes[option], value)
            matched[number] = matched.get(number, places) & places
        if not matched or not all(matched.values()):
            raise UserError(f"exclude has {quote(mapping)}, which matches no combination")
        kept[np.ix_(*(sorted(matched.get(number, range(counts[number]))) for number in turning))] = False
    return kept.reshape(-1)


def _index_values(entry: Entry) -> Index:
    """Positions of each value of an option."""
    index: Index = {}
    for place, value in enumerate(entry.values):
        index.setdefault(identify(value), set()).add(place)
    return index


def _match(entry: Entry, index: Index, written: Any) -> set[int]:
    """Positions that match a value, a list of values or a range of integers."""
    numbers = parse_range(written)
    if numbers is not None:
        found = [
            places
            for (kind, key), places in index.items()
            if kind == "number" and isinstance(key, int) and key in numbers
        ]
        if not found:
            raise _unknown_value(entry, written)
        return set().union(*found)
    values = written if isinstance(written, list) and not _is_value(entry, index, written) else [written]
    matched: set[int] = set()
    for value in values:
        places = index.get(identify(to_short_form("exclude", entry.option, value)))
        if places is None:
            raise _unknown_value(entry, value)
        matched |= places
    return matched


def _is_value(entry: Entry, index: Index, written: list[Any]) -> bool:
    """Whether a list is itself a value, such as one of ``betas``, and not a list of values."""
    try:
        return identify(to_short_form("exclude", entry.option, written)) in index
    except UserError:
        return False


def _unknown_value(entry: Entry, value: Any) -> UserError:
    several = ", ".join(map(quote, entry.values[:6])) + (", ..." if len(entry.values) > 6 else "")
    return UserError(f"exclude has {entry.option} {quote(value)}, which is none of its values: {several}")
