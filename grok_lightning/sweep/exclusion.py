"""Combinations that a sweep leaves out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from grok_lightning.errors import UserError
from grok_lightning.options.classes import suggestion
from grok_lightning.sweep.entries import Axis, Entry, integers, named, same, short, shown

Index = dict[tuple[str, Any], set[int]]


def kept(written: Any, axes: Sequence[Axis]) -> np.ndarray:
    """Reads ``exclude``.

    Args:
        written: A list of mappings from options to a value, a list of values or a range; None for nothing.
        axes: What varies.

    Returns:
        Whether each combination is kept, one bool for each in the order of ``itertools.product``.

    Raises:
        UserError: If an option does not vary, a value is none of its values, or a mapping matches nothing.
    """
    if written is not None and not isinstance(written, list):
        raise UserError(f"exclude is {shown(written)}; a list of mappings is expected, `- {{OPTION: VALUE, ...}}`")
    counts = [len(axis[0].values) for axis in axes]
    turning = [number for number, count in enumerate(counts) if count > 1]  # numpy takes 64 dimensions
    kept = np.ones([counts[number] for number in turning], dtype=bool)
    axis_of = {entry.option: (number, entry) for number, axis in enumerate(axes) for entry in axis}
    indexes: dict[str, Index] = {}
    for mapping in written or []:
        matched: dict[int, set[int]] = {}
        for option, value in named("exclude", mapping):
            if option not in axis_of:
                raise UserError(f"exclude has {option}, which does not vary{suggestion(option, axis_of)}")
            number, entry = axis_of[option]
            if option not in indexes:
                indexes[option] = _index(entry)
            places = _matched(entry, indexes[option], value)
            matched[number] = matched.get(number, places) & places
        if not matched or not all(matched.values()):
            raise UserError(f"exclude has {shown(mapping)}, which matches no combination")
        kept[np.ix_(*(sorted(matched.get(number, range(counts[number]))) for number in turning))] = False
    return kept.reshape(-1)


def _index(entry: Entry) -> Index:
    """The places of each value of an option."""
    index: Index = {}
    for place, value in enumerate(entry.values):
        index.setdefault(same(value), set()).add(place)
    return index


def _matched(entry: Entry, index: Index, written: Any) -> set[int]:
    """The places of a value, of a list of values or of a range of integers."""
    numbers = integers(written)
    if numbers is not None:
        found = [
            places
            for (kind, key), places in index.items()
            if kind == "number" and isinstance(key, int) and key in numbers
        ]
        if not found:
            raise _no_value(entry, written)
        return set().union(*found)
    values = written if isinstance(written, list) and not _is_value(entry, index, written) else [written]
    matched: set[int] = set()
    for value in values:
        places = index.get(same(short("exclude", entry.option, value)))
        if places is None:
            raise _no_value(entry, value)
        matched |= places
    return matched


def _is_value(entry: Entry, index: Index, written: list[Any]) -> bool:
    """Whether a list is itself a value, as of ``betas`` or ``model.filters``, and no list of values."""
    try:
        return same(short("exclude", entry.option, written)) in index
    except UserError:
        return False


def _no_value(entry: Entry, value: Any) -> UserError:
    several = ", ".join(map(shown, entry.values[:6])) + (", ..." if len(entry.values) > 6 else "")
    return UserError(f"exclude has {entry.option} {shown(value)}, which is none of its values: {several}")
