"""From a sweep's file to its runs: typed, named by a hash of their options, and grouped into stacks."""

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
from grok_lightning.options.classes import CLASS_OPTIONS, LIST_OPTIONS, Nested, class_hints, lookup, place_of
from grok_lightning.options.parsing import resolve_fit
from grok_lightning.records.record import NOT_RESULTS, counted_options, flatten, hash_of
from grok_lightning.records.words import words_of
from grok_lightning.sweep.grid import Grid, given, read_grid
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.precision import sweep_precision
from grok_lightning.sweep.stacking import DECIDING, SEED, kind, per_run_options, shape

SLUG = 70


@dataclass
class Block:
    """What the runs of one choice of structural options (classes, whole blocks) share.

    Attributes:
        resolved: The resolved config of its first run.
        shape: What must agree within a stack, options that vary one by one left out.
        counted: The options that count in the hash, those that vary one by one left out.
        counting: Those of them that would count.
        defaults: The defaults of the others.
        free: The options in which runs of a stack may differ.
        typed: Values as typed, by option and the repr of what was given.
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
        hash: Of its options that change results.
        varied: Its values of the options that vary, as given.
        leaves: Its typed values of the options that vary one by one.
        block: What it shares with others.
        shape: The same for all runs that can be stacked.
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
        grid: The file.
        runs: Its runs, in the file's order.
        leaves: The options that vary one by one.
        blocks: What runs share.
        words: What the values of each option that varies are called, by their repr.
        precision: What ``auto`` came to; None where the file says the precision of every run.
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
        """The resolved config of a run that is called ``name``."""
        config = copy.deepcopy(self.blocks[run.block].resolved)
        for option, value in zip(self.leaves, run.leaves, strict=True):
            place, last = place_of(config, option)
            place[last] = copy.deepcopy(value)
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
        """What a run is called that has no directory yet: what is varied, and its hash."""
        options = ["seed" if option == SEED else option.rsplit(".", 1)[-1] for option in self.grid.options]
        slug = "+".join(f"{option}={word}" for option, word in zip(options, self.said(run.varied), strict=True))
        slug = re.sub(r"[^A-Za-z0-9._=+-]+", "_", slug.replace(" ", ""))[:SLUG].rstrip("+")
        return f"{slug}-{run.hash}"

    def describe(self, run: PlannedRun) -> str:
        """A run in words: the options that vary."""
        return self.told(run.varied)

    def said(self, point: Sequence[Any]) -> list[str]:
        """A point's values in words."""
        return [words[repr(value)] for words, value in zip(self.words, point, strict=True)]

    def told(self, point: Sequence[Any]) -> str:
        """A point in words: options and values."""
        pairs = zip(self.grid.options, self.said(point), strict=True)
        return ", ".join(f"{option} {word}" for option, word in pairs)


def read_plan(path: str | Path, root: Path | None = None) -> Plan:
    """Reads a sweep's file and types every option of every run.

    Args:
        path: The file, or the name of a shipped one.
        root: Where the experiment's directories lie, for the precision that it began with; None: it has not begun.

    Raises:
        UserError: If the file cannot be read, an option does not exist or has the wrong type in some run, or two
            combinations are the same run; nothing is built or written.
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
                plan.blocks.append(_block(name, grid, point, leaves))
                blocks[key] = len(plan.blocks) - 1
            block = plan.blocks[blocks[key]]
            values = tuple(_typed(name, grid, block, point, place) for place in places)
            together = [
                kind(option, value) if option in block.free else value
                for option, value in zip(leaves, values, strict=True)
            ]
        except UserError as error:
            raise UserError(f"{grid.path}: the run with {plan.told(point)}: {error}") from None
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
    """Whether an option decides which others there are, or which may differ in a stack; or is no single value."""
    if option in (*CLASS_OPTIONS, *LIST_OPTIONS, *DECIDING) or any(
        name.startswith(f"{option}.") for name in CLASS_OPTIONS
    ):
        return True
    if any(option.startswith(f"{name}.") for name in LIST_OPTIONS):
        return True
    return any(isinstance(point[place], dict | list) for point in grid.points)


def _block(precision: str, grid: Grid, point: Sequence[Any], leaves: list[str]) -> Block:
    resolved, defaults = _resolve(precision, grid, point)
    counted = counted_options(resolved, defaults, NOT_RESULTS)
    base = flatten(defaults)
    counting = counted_options(dict.fromkeys(leaves, _UNCLEAR), {}, NOT_RESULTS).keys()
    kept = {option: value for option, value in counted.items() if option not in leaves}
    return Block(resolved, shape(resolved, leaves), kept, set(counting), base, per_run_options(resolved))


def _resolve(precision: str, grid: Grid, point: Sequence[Any]) -> tuple[Nested, Nested]:
    resolved, defaults = resolve_fit(given(grid, point), precision)
    for option, name in (("devices", "device"), ("num_nodes", "node")):
        if resolved["trainer"][option] not in (1, "1"):
            raise UserError(
                f"--trainer.{option} is {resolved['trainer'][option]!r}; the runs of a sweep train on 1 {name} each, "
                "several runs at a time (--workers)"
            )
    return resolved, defaults


def _typed(precision: str, grid: Grid, block: Block, point: Sequence[Any], place: int) -> Any:
    """The value of an option that varies one by one, as it is typed in the runs of a block."""
    option, value = grid.options[place], point[place]
    key = (option, repr(value))
    if key not in block.typed:
        typed = _as_hinted(_hint(block.resolved, option), value)
        block.typed[key] = lookup(_resolve(precision, grid, point)[0], option) if typed is _UNCLEAR else typed
    return block.typed[key]


_UNCLEAR = object()


def _hint(resolved: Nested, option: str) -> Any:
    """The type of an option of a class, so far as it can be had without a parser."""
    if option == SEED:
        return int
    for owner in CLASS_OPTIONS:
        if option.startswith(f"{owner}."):
            return class_hints(owner, lookup(resolved, owner)["class_path"]).get(option.removeprefix(f"{owner}."))
    return None


def _as_hinted(hint: Any, value: Any) -> Any:
    """A value of plainly the right type; ``_UNCLEAR`` for all others, which a parser has to judge."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if type(value) in kinds and type(value) in (int, float, str, bool):
        return value
    return float(value) if type(value) is int and float in kinds else _UNCLEAR
