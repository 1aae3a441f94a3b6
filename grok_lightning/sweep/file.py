"""Parameter grid of a sweep's YAML file: fixed options, options that vary, and all combinations of their values."""

import copy
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, compress, product
from math import prod
from pathlib import Path
from typing import Any

from grok_lightning.errors import UserError
from grok_lightning.options.arguments import assign, read_config
from grok_lightning.options.classes import Nested, lookup
from grok_lightning.options.merging import merge
from grok_lightning.options.shipped import find_config, find_sweep
from grok_lightning.options.yamls import nest
from grok_lightning.records.record import flatten
from grok_lightning.records.runs import check_name
from grok_lightning.sweep.axes import (
    Axis,
    Entry,
    identify,
    quote,
    read,
    read_constants,
    read_grid_axes,
    read_zip_axes,
    refuse_reserved,
)
from grok_lightning.sweep.exclusion import find_kept

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
    """

    name: str
    path: Path
    base: Path | None
    fixed: Nested
    options: list[str]
    points: list[tuple[Any, ...]]


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
    content = read(path)
    try:
        name = check_name("experiment", path.stem)
    except UserError as error:
        raise UserError(str(error).replace("--experiment", "its stem, the experiment's name,", 1)) from None
    base, fixed = _read_base(content.get("base"), path.parent)
    single, grouped = read_grid_axes(content), read_zip_axes(content)
    axes = [*single, *grouped]
    if not axes:
        raise UserError("it has neither grid nor zip; write what varies, `grid: {OPTION: [VALUE, ...]}`")
    count = prod(len(axis[0].values) for axis in axes)
    if count > MOST:
        raise UserError(f"it has {count:,} combinations; at most {MOST:,} are accepted")
    _refuse_repeated_values(axes)
    shared = sorted(read_constants(content), key=lambda entry: entry.depth)
    varying = sorted(chain.from_iterable(axes), key=lambda entry: entry.depth)
    _refuse_repeated_options([*shared, *varying])
    for entry in shared:
        _apply(fixed, entry.option, entry.values[0])
    _refuse_replaced_options(fixed, [*shared, *varying])
    points = _combine(single, grouped, content.get("exclude"))
    if not points:
        raise UserError(f"exclude leaves none of the {count:,} combinations")
    grid = Grid(name, path, base, fixed, [entry.option for axis in axes for entry in axis], points)
    build_options(grid, points[0])  # raises if it contradicts the base
    return grid


def _read_base(written: Any, folder: Path) -> tuple[Path | None, Nested]:
    """Path and options of the base: a file here, else one beside the sweep's file, else a shipped config."""
    if written is None:
        return None, {}
    if not isinstance(written, str):
        raise UserError(f"base is {quote(written)}; the path of a fit config or the name of a shipped one is expected")
    beside = folder / written
    try:
        is_beside = not os.path.isfile(written) and os.path.isfile(beside)
        path = beside if is_beside else find_config(written)
        options = read_config(path)
    except UserError as error:
        text = str(error)
        raise UserError(
            text.replace("--config", "base", 1) if text.startswith("--config") else f"base {written!r}: {text}"
        ) from None
    for option in _OF_A_RUN:
        parent, _, last = option.rpartition(".")
        place = lookup(options, parent) if parent else options
        if isinstance(place, dict):
            place.pop(last, None)  # null too
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


def _refuse_repeated_options(entries: Iterable[Entry]) -> None:
    places: dict[str, str] = {}
    for entry in entries:
        if entry.option in places:
            first = places[entry.option]
            where = f"twice in {first}" if first == entry.place else f"in {first} and in {entry.place}"
            raise UserError(f"{entry.option} is given {where}; give it once")
        places[entry.option] = entry.place


def _refuse_replaced_options(fixed: Nested, entries: Sequence[Entry]) -> None:
    """Refuse an option that another one would override silently, such as ``lr`` when a class is set after it.

    Args:
        fixed: Options that both override.
        entries: Options in the order in which they are applied.
    """
    for first, second in combinations(entries, 2):
        if not f"{first.option}.".startswith(f"{second.option}.") and not second.option.startswith(f"{first.option}."):
            continue
        for value, later in product(first.values, second.values):
            nested = copy.deepcopy(fixed)
            _apply(nested, first.option, value)
            _apply(nested, second.option, later)
            for leaf, old in flatten(nest(first.option, value)).items():
                new = lookup(nested, leaf)
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


def _combine(single: Sequence[Axis], grouped: Sequence[Axis], exclude: Any) -> list[tuple[Any, ...]]:
    """Combinations that are not excluded; groups vary slowest and come last."""
    axes, groups = [*grouped, *single], len(grouped)
    combined = product(*(list(zip(*(entry.values for entry in axis), strict=True)) for axis in axes))
    chosen = compress(combined, find_kept(exclude, axes).tolist())
    return [tuple(chain.from_iterable(rows[groups:] + rows[:groups])) for rows in chosen]
