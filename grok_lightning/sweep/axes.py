"""Reads the keys of a sweep's YAML file, its options and their lists of values."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from grok_lightning.errors import UserError
from grok_lightning.options.arguments import option_name
from grok_lightning.options.classes import Nested, lookup, suggestion
from grok_lightning.options.merging import normalize
from grok_lightning.options.yamls import nest, read_yaml, undotted
from grok_lightning.records.record import flatten

KEYS = ("base", "set", "grid", "zip", "exclude")
_RANGE = re.compile(r"([0-9]{1,15})\.\.([0-9]{1,15})")
_RESERVED = {
    "config": "the config is what `base` names",
    "experiment": "the experiment is named after the sweep's file",
    "run": "the sweep names its runs itself",
    "overwrite": "a sweep runs what is missing and replaces nothing",
    "ckpt_path": "the sweep resumes its runs itself; `init_from` starts from the weights of another run",
    "split": "it belongs to predict",
    "output": "it belongs to predict",
    "threads": "the sweep shares the cores out itself (--workers)",
    "trainer.default_root_dir": "the sweep lays its runs in one place itself",
}
_OF_ALL = {"checkpoint.keep": "it is one for all runs; write it under `set`"}


class Entry(NamedTuple):
    """An option, its values in the short form, and the key of the file that it stands under."""

    place: str
    option: str
    values: Sequence[Any]

    @property
    def depth(self) -> int:
        return self.option.count(".")


Axis = list[Entry]  # options whose values go together: one option of `grid`, or a group of `zip`


def read(path: Path) -> Nested:
    """Read the file.

    Raises:
        UserError: The file cannot be read, has a key twice or an unknown key.
    """
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise UserError("there is no such file, and no shipped sweep of that name") from None
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise UserError("it is no mapping, such as `grid: {data.train_fraction: [0.3, 0.4]}`")
    for key in content:
        if key not in KEYS:
            raise UserError(f"{quote(key)} is no key of a sweep{suggestion(str(key), KEYS)}")
    return content


def read_constants(content: Nested) -> list[Entry]:
    """Options of ``set``, each with its value."""
    written = {} if content.get("set") is None else content["set"]
    return [
        Entry("set", option, [to_short_form("set", option, value)]) for option, value in iterate_options("set", written)
    ]


def read_grid_axes(content: Nested) -> list[Axis]:
    """Options of ``grid``, one per axis."""
    return [[entry] for entry in _read_entries("grid", content["grid"])] if "grid" in content else []


def read_zip_axes(content: Nested) -> list[Axis]:
    """Groups of ``zip``, one per axis; all lists of a group have the same length."""
    if "zip" not in content:
        return []
    written = content["zip"]
    axes = [_read_entries("zip", group) for group in (written if isinstance(written, list) and written else [written])]
    for axis in axes:
        if len({len(entry.values) for entry in axis}) > 1:
            lengths = ", ".join(f"{entry.option} has {len(entry.values)}" for entry in axis)
            raise UserError(f"zip: {lengths} values; values that go together must be equally many")
    return axes


def _read_entries(place: str, written: Any) -> list[Entry]:
    if written in (None, {}, []):
        raise UserError(f"{place} is empty; write `OPTION: [VALUE, ...]` under it, or leave it out")
    return [_read_entry(place, option, values) for option, values in iterate_options(place, written)]


def iterate_options(place: str, written: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over the options of a mapping: dotted names and values."""
    if not isinstance(written, dict):
        raise UserError(f"{place} is {quote(written)}; a mapping of options is expected")
    for key, value in written.items():
        if not isinstance(key, str):
            raise UserError(f"{place} has {quote(key)} where the name of an option is expected")
        yield option_name(key), value


def parse_range(written: Any) -> range | None:
    """Parse the range ``FIRST..LAST``, both included; None for anything else."""
    found = _RANGE.fullmatch(written) if isinstance(written, str) else None
    return range(int(found[1]), int(found[2]) + 1) if found else None


def _read_entry(place: str, option: str, written: Any) -> Entry:
    """Read an option and its values, which must be a list or a range."""
    name = f"{place}: {option}"
    if isinstance(written, dict):
        inner = next(iter(written), "OPTION")
        raise UserError(f"{name} is a mapping; write the option in one, `{option}.{inner}: [VALUE, ...]`")
    values: Sequence[Any] | None = parse_range(written)
    if values is not None and values:
        to_short_form(place, option, values[0])
        return Entry(place, option, values)
    if isinstance(written, str) and ".." in written:
        raise UserError(f"{name} is {written!r}; a range is two integers from 0 on, the smaller first, as in 0..99")
    if not isinstance(written, list):
        raise UserError(f"{name} is {quote(written)}; a list of values is expected, `[VALUE, ...]`")
    if not written:
        raise UserError(f"{name} is an empty list; at least one value is expected")
    return Entry(place, option, [to_short_form(place, option, value) for value in written])


def to_short_form(place: str, option: str, value: Any) -> Any:
    """Convert a value to the short form of options.

    Raises:
        UserError: The value names an unknown class, or sets an option that a sweep's file must not set.
    """
    nested = undotted(nest(option, value), f"{place}: {option}")
    refuse_reserved(place, nested)
    nested = normalize(nested)
    if value is None and option not in flatten(nested):
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
    if isinstance(value, str):
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
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."
