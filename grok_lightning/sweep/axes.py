"""Options that vary in a sweep's file: their lists of values, and the combinations that ``exclude`` leaves out."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from grok_lightning.errors import UserError, show
from grok_lightning.options.arguments import option_name
from grok_lightning.options.classes import CLASS_OPTIONS, LISTS, Nested, lookup, suggestion
from grok_lightning.options.merging import normalize
from grok_lightning.options.yamls import nest, undotted
from grok_lightning.records.record import flatten

_RANGE = re.compile(r"([0-9]{1,15})\.\.([0-9]{1,15})")
_RESERVED = {
    "config": "the config is what `base` names",
    "experiment": "the experiment is named after the sweep's file",
    "run": "the sweep names its runs itself",
    "overwrite": "a sweep runs what is missing and replaces nothing",
    "ckpt_path": "the sweep resumes its runs itself; `init_from` starts from the weights of another run",
    "split": "it belongs to predict",
    "output": "it belongs to predict",
    "trust": "it is an option of the command: sweep --trust",
    "threads": "the sweep shares the cores out itself (--workers)",
    "trainer.default_root_dir": "the sweep lays its runs in one place itself",
}
_OF_ALL = {"checkpoint.keep": "it is one for all runs; write it under `set`"}
Index = dict[tuple[str, Any], set[int]]


class Entry(NamedTuple):
    """An option, its values in the short form, and the key of the file that it stands under."""

    place: str
    option: str
    values: Sequence[Any]

    @property
    def depth(self) -> int:
        return self.option.count(".")


Axis = list[Entry]  # options whose values go together: one option of `grid`, or a group of `zip`


def read_axes(content: Nested) -> tuple[list[Axis], list[Axis]]:
    """Read the axes of a file: one for each option of ``grid``, and one for each group of ``zip``.

    Raises:
        UserError: An option has no list of values, or the lists of a group have different lengths.
    """
    single = [[entry] for entry in _read_entries("grid", content["grid"])] if "grid" in content else []
    if "zip" not in content:
        return single, []
    written = content["zip"]
    groups = [
        _read_entries("zip", group) for group in (written if isinstance(written, list) and written else [written])
    ]
    for axis in groups:
        if len({len(entry.values) for entry in axis}) > 1:
            lengths = ", ".join(f"{entry.option} has {len(entry.values)}" for entry in axis)
            raise UserError(f"zip: {lengths} values; values that go together must be equally many")
    return single, groups


def _read_entries(place: str, written: Any) -> list[Entry]:
    if written in (None, {}, []):
        raise UserError(f"{place} is empty; write `OPTION: [VALUE, ...]` under it, or leave it out")
    return [_read_entry(place, option, values) for option, values in iterate_options(place, written)]


def _read_entry(place: str, option: str, written: Any) -> Entry:
    """Read an option and its values, which must be a list or a range."""
    name = f"{place}: {option}"
    if isinstance(written, dict):
        inner = next(iter(written), "OPTION")
        raise UserError(f"{name} is a mapping; write the option in one, `{option}.{inner}: [VALUE, ...]`")
    numbers = _parse_range(written)
    if numbers:
        to_short_form(place, option, numbers[0])
        return Entry(place, option, numbers)
    if isinstance(written, str) and ".." in written:
        raise UserError(f"{name} is {quote(written)}; a range is two integers, the smaller first, as in 0..99")
    if not isinstance(written, list):
        raise UserError(f"{name} is {quote(written)}; a list of values is expected, `[VALUE, ...]`")
    if not written:
        raise UserError(f"{name} is an empty list; at least one value is expected")
    return Entry(place, option, [to_short_form(place, option, value) for value in written])


def iterate_options(place: str, written: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over the options of a mapping: dotted names and values."""
    if not isinstance(written, dict):
        raise UserError(f"{place} is {quote(written)}; a mapping of options is expected")
    for key, value in written.items():
        if not isinstance(key, str):
            raise UserError(f"{place} has {quote(key)} where the name of an option is expected")
        yield option_name(key), value


def _parse_range(written: Any) -> range | None:
    """Parse the range ``FIRST..LAST``, both included; None for anything else."""
    found = _RANGE.fullmatch(written) if isinstance(written, str) else None
    return range(int(found[1]), int(found[2]) + 1) if found else None


def to_short_form(place: str, option: str, value: Any) -> Any:
    """Convert a value to the short form of options.

    Raises:
        UserError: The value names an unknown class, or sets an option that a sweep's file must not set.
    """
    nested = undotted(nest(option, value), f"{place}: {option}")
    refuse_reserved(place, nested)
    nested = normalize(nested)
    optional = option in LISTS or (option in CLASS_OPTIONS and not CLASS_OPTIONS[option].default)  # null is no class
    if value is None and option not in flatten(nested) and not optional:
        raise UserError(f"{place}: {option} is null; a class name or a mapping of options is expected")
    return lookup(nested, option)


def refuse_reserved(place: str, nested: Nested) -> None:
    """Refuse options that a sweep's file must not set.

    Raises:
        UserError: A reserved option is set.
    """
    reserved = _RESERVED | _OF_ALL if place in ("grid", "zip") else _RESERVED
    for leaf in flatten(nested):
        for option, reason in reserved.items():
            if f"{leaf}.".startswith(f"{option}."):
                raise UserError(f"{place} has {leaf}, which it may not: {reason}")


def identify(value: Any) -> tuple[str, Any]:
    """Key that is equal for equivalent values: the text ``1e-3``, as YAML reads it, and the number; not 1 and true."""
    if isinstance(value, dict):
        return "mapping", frozenset((key, identify(inner)) for key, inner in value.items())
    if isinstance(value, list | set):
        return "list", tuple(map(identify, value))
    if isinstance(value, str) and value.isascii():
        for number in (int, float):
            try:
                return identify(number(value))
            except ValueError:
                continue
    if isinstance(value, float) and value.is_integer():
        return "number", int(value)
    kind = type(value).__name__
    return "number" if kind in ("int", "float") else kind, value


def quote(value: Any) -> str:
    """Quote a value in an error message, on one line and shortened."""
    return show(value, 80)


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
                indexes[option] = defaultdict(set)
                for place, own in enumerate(entry.values):
                    indexes[option][identify(own)].add(place)
            places = _match(entry, indexes[option], value)
            matched[number] = matched.get(number, places) & places
        if not matched or not all(matched.values()):
            raise UserError(f"exclude has {quote(mapping)}, which matches no combination")
        kept[np.ix_(*(sorted(matched.get(number, range(counts[number]))) for number in turning))] = False
    return kept.reshape(-1)


def _match(entry: Entry, index: Index, written: Any) -> set[int]:
    """Positions that match a value, a list of values or a range of integers."""
    numbers = _parse_range(written)
    if numbers is not None:
        found = [places for (_, key), places in index.items() if type(key) is int and key in numbers]
        if not found:
            raise _unknown_value(entry, written)
        return set().union(*found)
    values = written if isinstance(written, list) and not _is_value(entry, index, written) else [written]
    matched: set[int] = set()
    for value in values:
        key = identify(to_short_form("exclude", entry.option, value))
        if key not in index:
            raise _unknown_value(entry, value)
        matched |= index[key]
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
