"""Reads a sweep's YAML file: fixed options, options that vary, and all combinations of their values."""

import copy
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, compress, product
from math import prod
from pathlib import Path
from typing import Any

from grok_lightning.errors import UserError
from grok_lightning.options.aliases import Names, naming
from grok_lightning.options.arguments import assign, read_config
from grok_lightning.options.classes import TRAINER_LISTS, Nested, lookup, suggestion
from grok_lightning.options.merging import merge
from grok_lightning.options.shipped import find_config, find_sweep
from grok_lightning.options.yamls import nest
from grok_lightning.reading import Malformed, read_yaml
from grok_lightning.records.record import flatten
from grok_lightning.records.runs import check_name
from grok_lightning.sweep.axes import (
    Axis,
    Entry,
    find_kept,
    identify,
    iterate_options,
    quote,
    read_axes,
    refuse_reserved,
    to_short_form,
)
from grok_lightning.sweep.names import find_names, rename_options

KEYS = ("base", "set", "grid", "zip", "exclude")
MOST = 10_000_000
_OF_A_RUN = ("experiment", "run", "threads", "trainer.default_root_dir")  # what a run's own config.yaml says of itself


@dataclass(frozen=True)
class Grid:
    """Parameter grid of a sweep, before names and types of options are checked.

    Attributes:
        name: Stem of the file, which names the experiment.
        path: File.
        base: Fit config that all options override; None without one.
        fixed: Options that all runs share, in the short form: ``base`` without the names of its own run, overridden
            by ``set``.
        options: Dotted options that vary: those of ``grid``, then those of ``zip``, as in the file.
        points: The combinations, each with one value for each of ``options``, in the short form. The last option of
            ``grid`` varies fastest, the first group of ``zip`` slowest; a value added to the end of a list leaves the
            points that were there in their order.
        typed: What was written for each option that was written in short or by another word.
    """

    name: str
    path: Path
    base: Path | None
    fixed: Nested
    options: list[str]
    points: list[tuple[Any, ...]]
    typed: dict[str, str] = field(default_factory=dict)


def read_grid(path: str | Path) -> Grid:
    """Read a sweep's file.

    Args:
        path: YAML file with ``grid`` or ``zip`` or both, and optionally ``base``, ``set`` and ``exclude``; or the name
            of a shipped sweep.

    Raises:
        UserError: The file cannot be read, contradicts itself, or has no combination or too many.
    """
    try:
        return _build_grid(find_sweep(str(path)))
    except UserError as error:
        raise UserError(f"sweep {str(path)!r}: {error}") from None


def build_options(grid: Grid, point: Sequence[Any]) -> Nested:
    """Build the options of one run, as a fit config would give them.

    Args:
        grid: Parameter grid.
        point: One of its points.

    Returns:
        New nested options in the short form: ``fixed`` overridden by the point's values, a block before the options
        below it.
    """
    nested = copy.deepcopy(grid.fixed)
    for option, value in sorted(zip(grid.options, point, strict=True), key=lambda pair: pair[0].count(".")):
        _apply(nested, option, value)
    return nested


def _apply(nested: Nested, option: str, value: Any) -> None:
    if isinstance(value, dict):
        merge(nested, nest(option, value))
    else:
        assign(nested, option, copy.deepcopy(value))


def _build_grid(path: Path) -> Grid:
    content = _read_content(path)
    try:
        name = check_name("experiment", path.stem)
    except UserError as error:
        raise UserError(str(error).replace("--experiment", "its stem, the experiment's name,", 1)) from None
    _, fixed = _read_base(content.get("base"), path.parent)
    names = find_names(content, fixed)
    base, fixed = _read_base(content.get("base"), path.parent, names)
    content = rename_options(content, fixed, names)
    with naming(names.typed):
        return _combine(name, path, base, fixed, content, names.typed)


def _combine(name: str, path: Path, base: Path | None, fixed: Nested, content: Nested, typed: dict[str, str]) -> Grid:
    single, groups = read_axes(content)
    axes = [*single, *groups]
    if not axes:
        raise UserError("it has neither grid nor zip; write what varies, `grid: {OPTION: [VALUE, ...]}`")
    count = prod(len(axis[0].values) for axis in axes)
    if count > MOST:
        raise UserError(f"it has {count:,} combinations; at most {MOST:,} are accepted")
    _refuse_repeated_values(axes)
    constants = {} if content.get("set") is None else content["set"]
    shared = [Entry("set", key, [to_short_form("set", key, value)]) for key, value in iterate_options("set", constants)]
    in_order = [*sorted(shared, key=lambda entry: entry.depth),
                *sorted(chain.from_iterable(axes), key=lambda entry: entry.depth)]  # fmt: skip
    for entry in in_order[: len(shared)]:
        _apply(fixed, entry.option, entry.values[0])
    _refuse_replaced_options(fixed, in_order)
    # groups vary slowest and come last in a point
    combined = product(*(list(zip(*(entry.values for entry in axis), strict=True)) for axis in [*groups, *single]))
    points = [
        tuple(chain.from_iterable(rows[len(groups) :] + rows[: len(groups)]))
        for rows in compress(combined, find_kept(content.get("exclude"), [*groups, *single]).tolist())
    ]
    if not points:
        raise UserError(f"exclude leaves none of the {count:,} combinations")
    grid = Grid(name, path, base, fixed, [entry.option for axis in axes for entry in axis], points, typed)
    build_options(grid, points[0])  # raises if it contradicts the base
    return grid


def _read_content(path: Path) -> Nested:
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise UserError("there is no such file, and no shipped sweep of that name") from None
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror}") from None
    except Malformed as error:
        raise UserError(error.reason) from None
    if not isinstance(content, dict):
        raise UserError("it is no mapping, such as `grid: {data.train_fraction: [0.3, 0.4]}`")
    for key in content:
        if key not in KEYS:
            raise UserError(f"{quote(key)} is no key of a sweep{suggestion(str(key), KEYS)}")
    return content


def _read_base(written: Any, folder: Path, names: Names | None = None) -> tuple[Path | None, Nested]:
    """Path and options of the base: a file here, else one beside the sweep's file, else a shipped config."""
    if written is None:
        return None, {}
    if not isinstance(written, str):
        raise UserError(f"base is {quote(written)}; the path of a fit config or the name of a shipped one is expected")
    beside = folder / written
    try:
        is_beside = not os.path.isfile(written) and os.path.isfile(beside)
        path = beside if is_beside else find_config(written)
        options = read_config(path, names or Names())
    except UserError as error:
        text = str(error)
        raise UserError(
            text.replace("--config", "base", 1) if text.startswith("--config") else f"base {written!r}: {text}"
        ) from None
    if "base" in options or "grid" in options or "zip" in options:
        raise UserError(f"base {written!r} is a sweep file; a fit config is expected, by its path or name")
    for option in _OF_A_RUN:
        parent, _, last = option.rpartition(".")
        place = lookup(options, parent) if parent else options
        if isinstance(place, dict):
            place.pop(last, None)  # null too
            if parent and not place:
                del options[parent]
    refuse_reserved(f"base {written!r}", options)
    return path, options


def _refuse_repeated_values(axes: Iterable[Axis]) -> None:
    for axis in axes:
        if any(isinstance(entry.values, range) for entry in axis):
            continue
        seen: dict[Any, Any] = {}
        for row in zip(*(entry.values for entry in axis), strict=True):
            first = seen.setdefault(identify(list(row)), row)
            if first is not row:
                names = " and ".join(entry.option for entry in axis)
                both = " and ".join(quote(found[0] if len(axis) == 1 else found) for found in (first, row))
                raise UserError(f"{axis[0].place}: {names} has the same value twice, {both}; leave one out")


def _refuse_replaced_options(fixed: Nested, entries: Sequence[Entry]) -> None:
    """Refuse an option that another one would override silently, such as ``lr`` when a class is set after it.

    Args:
        fixed: Options that both override.
        entries: Options in the order in which they are applied.
    """
    for first, second in combinations(entries, 2):
        if first.option == second.option:
            same = first.place == second.place
            where = f"twice in {first.place}" if same else f"in {first.place} and in {second.place}"
            raise UserError(f"{first.option} is given {where}; give it once")
        if not f"{first.option}.".startswith(f"{second.option}.") and not second.option.startswith(f"{first.option}."):
            continue
        for value, later in product(first.values, second.values):
            nested = copy.deepcopy(fixed)
            _apply(nested, first.option, value)
            _apply(nested, second.option, later)
            for leaf, old in flatten(nest(first.option, value)).items():
                new = lookup(nested, leaf)
                if second.option.startswith(tuple(f"{option}." for option in TRAINER_LISTS)) and isinstance(new, list):
                    continue  # an option of the last class that is listed
                if isinstance(new, dict) and isinstance(old, str):
                    new = new.get("class_path")
                if old != {} and identify(new) != identify(old):
                    mend = "give it once"
                    if leaf.startswith(f"{second.option}."):
                        mend = f"write it into that value, or `{leaf}: [{quote(old)}]` under grid"
                    raise UserError(
                        f"{first.place} has {leaf} {quote(old)}, which {second.option} {quote(later)} of "
                        f"{second.place} would replace; {mend}"
                    )
