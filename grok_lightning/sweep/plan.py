"""Runs of a sweep's file: typed options, a hash of them, and which runs can be stacked."""

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from grok_lightning.errors import UserError
from grok_lightning.hardware.products import FULL
from grok_lightning.options.choices import Precision
from grok_lightning.options.classes import CLASS_OPTIONS, LIST_OPTIONS, Nested, class_hints, lookup, put
from grok_lightning.options.parsing import resolve_fit
from grok_lightning.records.record import NOT_RESULTS, counted_options, flatten, hash_of
from grok_lightning.records.words import words_of
from grok_lightning.sweep.grid import Grid, build_options, read_grid
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.precision import sweep_precision
from grok_lightning.sweep.stacking import DECIDING, SEED, per_run_options, shape_key, value_key

SLUG = 70


@dataclass
class Block:
    """What runs with the same structural options (classes, whole blocks) share.

    Attributes:
        resolved: Resolved config of its first run.
        shape: Key of what must agree within a stack, without the options that vary one by one.
        counted: Options that count in the hash, without those that vary one by one.
        counting: Options that vary one by one and count in the hash.
        defaults: Defaults of all options.
        free: Options in which runs of a stack may differ.
        typed: Typed values, by option and repr of the given value.
    """

    resolved: Nested
    shape: str
    counted: dict[str, Any]
    counting: set[str]
    defaults: dict[str, Any]
    free: set[str]
    typed: dict[tuple[str, str], Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
        hash: Hash of the options that change results.
        varied: Values of the options that vary, as given.
        leaves: Typed values of the options that vary one by one.
        block: Index of its block.
        shape: Number that is the same for all runs that can be stacked.
    """

    hash: str
    varied: tuple[Any, ...]
    leaves: tuple[Any, ...]
    block: int
    shape: int


@dataclass(frozen=True)
class Plan:
    """All runs of a sweep.

    Attributes:
        grid: Content of the file.
        runs: Runs, in the order of the file.
        leaves: Options that vary one by one.
        blocks: Blocks of runs with the same structural options.
        words: For each option that varies, labels of its values by their repr.
        precision: Precision chosen for ``auto``; None if the file sets the precision of every run.
    """

    grid: Grid
    runs: list[PlannedRun]
    leaves: list[str]
    blocks: list[Block]
    words: list[dict[str, str]]
    precision: Precision | None = None

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.grid.name

    def config(self, run: PlannedRun, name: str) -> Nested:
        """Resolved config of a run, which is named ``name``."""
        config = copy.deepcopy(self.blocks[run.block].resolved)
        for option, value in zip(self.leaves, run.leaves, strict=True):
            put(config, option, copy.deepcopy(value))
        return config | {"experiment": self.name, "run": name}

    def typed_options(self) -> dict[str, list[Any]]:
        """The options that differ between the runs, dotted, with each run's typed value."""
        flat = [flatten(block.resolved) for block in self.blocks]
        columns: dict[str, list[Any]] = {}
        for option in dict.fromkeys(name for block in flat for name in block):
            if option in self.leaves:
                place = self.leaves.index(option)
                columns[option] = [run.leaves[place] for run in self.runs]
            elif len({repr(block.get(option)) for block in flat}) > 1:
                columns[option] = [flat[run.block].get(option) for run in self.runs]
        return columns

    def fresh_name(self, run: PlannedRun) -> str:
        """Name of a run without a directory: its varied options and its hash."""
        options = ["seed" if option == SEED else option.rsplit(".", 1)[-1] for option in self.grid.options]
        slug = "+".join(f"{option}={word}" for option, word in zip(options, self.label(run.varied), strict=True))
        slug = re.sub(r"[^A-Za-z0-9._=+-]+", "_", slug.replace(" ", ""))[:SLUG].rstrip("+")
        return f"{slug}-{run.hash}"

    def describe(self, run: PlannedRun) -> str:
        """Describe a run by the options that vary."""
        return self.describe_point(run.varied)

    def label(self, point: Sequence[Any]) -> list[str]:
        """Labels of a point's values."""
        return [words[repr(value)] for words, value in zip(self.words, point, strict=True)]

    def describe_point(self, point: Sequence[Any]) -> str:
        """Describe a point by its options and values."""
        pairs = zip(self.grid.options, self.label(point), strict=True)
        return ", ".join(f"{option} {word}" for option, word in pairs)


def read_plan(path: str | Path, root: Path | None = None) -> Plan:
    """Read a sweep's file and validate every option of every run.

    Args:
        path: File, or the name of a shipped sweep.
        root: Directory of ``lightning_logs``, for the precision that the sweep began with; None: it has not begun.

    Raises:
        UserError: The file cannot be read, an option does not exist or has a wrong type in a run, or two combinations
            are the same run; nothing is built or written.
    """
    grid = read_grid(path)
    structural = [place for place, option in enumerate(grid.options) if _is_structural(grid, place, option)]
    leaves = [option for place, option in enumerate(grid.options) if place not in structural]
    places = [place for place in range(len(grid.options)) if place not in structural]
    precision = sweep_precision(grid, None if root is None else Places(root, grid.name))
    name = FULL if precision is None else precision.name
    words = [words_of(_distinct(column)) for column in zip(*grid.points, strict=True)]
    plan = Plan(grid, [], leaves, [], words, precision)
    blocks: dict[str, int] = {}
    shapes: dict[Any, int] = {}
    seen: dict[str, PlannedRun] = {}
    for point in grid.points:
        key = repr([point[place] for place in structural])
        try:
            if key not in blocks:
                plan.blocks.append(_build_block(name, grid, point, leaves))
                blocks[key] = len(plan.blocks) - 1
            block = plan.blocks[blocks[key]]
            values = tuple(_type_value(name, grid, block, point, place) for place in places)
            together = [
                value_key(option, value) if option in block.free else value
                for option, value in zip(leaves, values, strict=True)
            ]
        except UserError as error:
            raise UserError(f"{grid.path}: the run with {plan.describe_point(point)}: {error}") from None
        counted = block.counted | {
            option: value
            for option, value in zip(leaves, values, strict=True)
            if option in block.counting and not (option in block.defaults and block.defaults[option] == value)
        }
        group = shapes.setdefault((block.shape, repr(together)), len(shapes))
        run = PlannedRun(hash_of(counted), tuple(point), values, blocks[key], group)
        if run.hash in seen:
            raise UserError(
                f"{grid.path}: {plan.describe(run)} is the same run as {plan.describe(seen[run.hash])}; "
                "leave one of the two out"
            )
        seen[run.hash] = run
        plan.runs.append(run)
    return plan


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({id(value): value for value in values}.values())


def _is_structural(grid: Grid, place: int, option: str) -> bool:
    """Whether an option decides which other options exist or may differ in a stack, or is not a single value."""
    if option in (*CLASS_OPTIONS, *LIST_OPTIONS, *DECIDING) or any(
        name.startswith(f"{option}.") for name in CLASS_OPTIONS
    ):
        return True
    if any(option.startswith(f"{name}.") for name in LIST_OPTIONS):
        return True
    return any(isinstance(point[place], dict | list) for point in grid.points)


def _build_block(precision: str, grid: Grid, point: Sequence[Any], leaves: list[str]) -> Block:
    resolved, defaults = _resolve(precision, grid, point)
    counted = counted_options(resolved, defaults, NOT_RESULTS)
    base = flatten(defaults)
    counting = counted_options(dict.fromkeys(leaves, _UNCLEAR), {}, NOT_RESULTS).keys()
    kept = {option: value for option, value in counted.items() if option not in leaves}
    return Block(resolved, shape_key(resolved, leaves), kept, set(counting), base, per_run_options(resolved))


def _resolve(precision: str, grid: Grid, point: Sequence[Any]) -> tuple[Nested, Nested]:
    resolved, defaults = resolve_fit(build_options(grid, point), precision)
    for option, name in (("devices", "device"), ("num_nodes", "node")):
        if resolved["trainer"][option] not in (1, "1"):
            raise UserError(
                f"--trainer.{option} is {resolved['trainer'][option]!r}; the runs of a sweep train on 1 {name} each, "
                "several runs at a time (--workers)"
            )
    return resolved, defaults


def _type_value(precision: str, grid: Grid, block: Block, point: Sequence[Any], place: int) -> Any:
    """Typed value of an option that varies one by one, in the runs of a block."""
    option, value = grid.options[place], point[place]
    key = (option, repr(value))
    if key not in block.typed:
        typed = _convert(_find_hint(block.resolved, option), value)
        block.typed[key] = lookup(_resolve(precision, grid, point)[0], option) if typed is _UNCLEAR else typed
    return block.typed[key]


_UNCLEAR = object()


def _find_hint(resolved: Nested, option: str) -> Any:
    """Type of an option of a class, if it is known without a parser."""
    if option == SEED:
        return int
    for owner in CLASS_OPTIONS:
        if option.startswith(f"{owner}."):
            return class_hints(owner, lookup(resolved, owner)["class_path"]).get(option.removeprefix(f"{owner}."))
    return None


def _convert(hint: Any, value: Any) -> Any:
    """Convert a value that clearly has the right type; ``_UNCLEAR`` for others, which need a parser."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if type(value) in kinds and type(value) in (int, float, str, bool):
        return value
    return float(value) if type(value) is int and float in kinds else _UNCLEAR
