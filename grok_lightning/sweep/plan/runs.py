"""Runs of a sweep's file: typed options, a hash of them, and which runs can be stacked."""

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from grok_lightning.errors import UserError, show
from grok_lightning.hardware.products import FULL
from grok_lightning.options.aliases import naming
from grok_lightning.options.choices import PRECISION, Precision
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    LIST_OPTIONS,
    NETWORK,
    Nested,
    class_hints,
    is_module,
    lookup,
    put,
)
from grok_lightning.options.parsing import resolve_fit
from grok_lightning.records.record import NOT_RESULTS, counted_options, flatten, hash_of
from grok_lightning.records.runs import SEPARATOR
from grok_lightning.records.words import words_of
from grok_lightning.sweep.file import Grid, build_options, read_grid
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan.modules import find_module_obstacle
from grok_lightning.sweep.plan.precision import decide_precision
from grok_lightning.sweep.plan.stacking import DECIDING, SEED, find_per_run_options, shape_key, value_key

SLUG = 68  # letters of it, so that the whole name, even done again, has at most 100
MAX_STEPS = "trainer.max_steps"


@dataclass
class Block:
    """What runs with the same structural options (classes, whole blocks) share.

    Attributes:
        resolved: Resolved config of its first run.
        leaves: Options that vary one by one.
        shape: Key of what must agree within a stack, without ``leaves``.
        counted: Options that count in the hash, without ``leaves``.
        defaults: Defaults of ``leaves``.
        free: Options in which runs of a stack may differ.
        obstacle: Why its runs are trained one by one, if that is because of their network.
        typed: Typed values, by option and repr of the given value.
    """

    resolved: Nested
    leaves: list[str]
    shape: str
    counted: dict[str, Any]
    defaults: dict[str, Any]
    free: set[str]
    obstacle: str | None = None
    typed: dict[tuple[str, str], Any] = field(default_factory=dict)

    def type_value(self, option: str, value: Any, resolve: Callable[[], tuple[Nested, Nested]]) -> Any:
        """Convert a value of one of ``leaves`` to its type; ``resolve`` parses all options of its run."""
        key = (option, repr(value))
        if key not in self.typed:
            hint = _find_hint(self.resolved, option)
            kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
            if type(value) in kinds and type(value) in (int, float, str, bool):
                self.typed[key] = value
            elif type(value) is int and float in kinds:
                self.typed[key] = float(value)
            else:  # only a parser can tell
                self.typed[key] = lookup(resolve()[0], option)
        return self.typed[key]

    def hash(self, values: Sequence[Any]) -> str:
        """Hash of a run with these values of ``leaves``."""
        own = dict(zip(self.leaves, values, strict=True))
        return hash_of(self.counted | counted_options(own, self.defaults, NOT_RESULTS))

    def hash_in(self, precision: str, values: Sequence[Any]) -> str:
        """Hash of a run like that of ``hash``, but with another ``trainer.precision``."""
        own = dict(zip(self.leaves, values, strict=True))
        counted = self.counted | counted_options(own, self.defaults, NOT_RESULTS)
        counted.pop(PRECISION, None)
        return hash_of(counted if precision == FULL else counted | {PRECISION: precision})

    def stack_key(self, values: Sequence[Any]) -> tuple[str, str]:
        """Key that is the same for all runs that can be stacked with one with these values of ``leaves``."""
        pairs = zip(self.leaves, values, strict=True)
        return self.shape, repr([value_key(option, value) if option in self.free else value for option, value in pairs])


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
        places: Directories of the experiment.
        precision: Precision chosen for ``auto``; None if the file sets the precision of every run.
    """

    grid: Grid
    runs: list[PlannedRun]
    leaves: list[str]
    blocks: list[Block]
    words: list[dict[str, str]]
    places: Places
    precision: Precision | None = None

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.grid.name

    @property
    def obstacles(self) -> list[str]:
        """Why runs are trained one by one whatever the size of stacks, a line for each network of which that is so."""
        found = {
            f"{block.resolved['model']['network']['class_path'].rsplit('.', 1)[-1]} is trained in stacks of one: "
            f"{block.obstacle}"
            for block in self.blocks
            if block.obstacle is not None
        }
        return sorted(found)

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
        """Name of a run without a directory: its varied options and its hash, joined by ``SEPARATOR``."""
        options = ["seed" if option == SEED else option.rsplit(".", 1)[-1] for option in self.grid.options]
        words = [f"{option}={word}" for option, word in zip(options, self.label(run.varied), strict=True)]
        words = [re.sub(r" (?=\w+=)", "_", word.replace("[]", "none")).replace(" ", "") for word in words]
        words = [re.sub(r"[^A-Za-z0-9.=+-]+", "_", word).strip("_") for word in words]
        return SEPARATOR.join([SEPARATOR.join(words)[:SLUG].rstrip("_"), run.hash])

    def label(self, point: Sequence[Any]) -> list[str]:
        """Labels of a point's values."""
        return [words[repr(value)] for words, value in zip(self.words, point, strict=True)]

    def describe(self, point: Sequence[Any]) -> str:
        """Describe a point by its options and values."""
        pairs = zip(self.grid.options, self.label(point), strict=True)
        return ", ".join(f"{option} {word}" for option, word in pairs)


def read_plan(path: str | Path, root: Path | None = None, max_steps: int | None = None) -> Plan:
    """Read a sweep's file and validate every option of every run.

    Args:
        path: File, or the name of a shipped sweep.
        root: Directory of ``lightning_logs`` and ``checkpoints``; default: the current directory. It may hold the
            precision that the sweep began with.
        max_steps: Steps of each run; default: as the file says.

    Raises:
        UserError: The file cannot be read, an option does not exist or has a wrong type in a run, or two combinations
            are the same run; nothing is built or written.
    """
    grid = read_grid(path)
    if max_steps is not None:
        put(grid.fixed, MAX_STEPS, max_steps)
        _refuse_varied_steps(grid, max_steps)
    structural = [_is_structural(grid, place, option) for place, option in enumerate(grid.options)]
    if _has_modules(grid):  # whether its runs can be stacked may depend on any of its options
        of_network = [option.startswith(f"{NETWORK}.") for option in grid.options]
        structural = [own or other for own, other in zip(structural, of_network, strict=True)]
    one_by_one = [not is_structural for is_structural in structural]
    leaves = list(compress(grid.options, one_by_one))
    words = [
        words_of(list({id(value): value for value in column}.values())) for column in zip(*grid.points, strict=True)
    ]
    places = Places(root or Path(), grid.name)
    plan = Plan(grid, [], leaves, [], words, places, decide_precision(grid, places))
    blocks: dict[str, int] = {}
    shapes: dict[Any, int] = {}
    seen: dict[str, PlannedRun] = {}
    for point in grid.points:
        resolve = partial(_resolve, grid, point, FULL if plan.precision is None else plan.precision.name)
        key = repr(list(compress(point, structural)))
        try:
            if key not in blocks:
                plan.blocks.append(_build_block(*resolve(), leaves))
                blocks[key] = len(plan.blocks) - 1
            block = plan.blocks[blocks[key]]
            given = zip(leaves, compress(point, one_by_one), strict=True)
            values = tuple(block.type_value(option, value, resolve) for option, value in given)
            shape = shapes.setdefault(block.stack_key(values), len(shapes))
        except UserError as error:
            with naming(grid.typed):
                raise UserError(f"{grid.path}: the run with {plan.describe(point)}: {error}") from None
        run = PlannedRun(block.hash(values), tuple(point), values, blocks[key], shape)
        if run.hash in seen:
            both = f"{plan.describe(point)} is the same run as {plan.describe(seen[run.hash].varied)}"
            raise UserError(f"{grid.path}: {both}; leave one of the two out")
        seen[run.hash] = run
        plan.runs.append(run)
    return plan


def _refuse_varied_steps(grid: Grid, max_steps: int) -> None:
    """Refuse a number of steps that an option of the file, or a block of options, would replace."""
    for place, option in enumerate(grid.options):
        if f"{MAX_STEPS}.".startswith(f"{option}."):
            points = {repr(point[place]): point for point in grid.points}.values()
            if option == MAX_STEPS or any(lookup(build_options(grid, each), MAX_STEPS) != max_steps for each in points):
                where = "" if option == MAX_STEPS else f" within {option}"
                raise UserError(
                    f"--max_steps {max_steps}: {grid.path} varies {MAX_STEPS}{where}, whose values are in the file"
                )


def _is_structural(grid: Grid, place: int, option: str) -> bool:
    """Whether an option decides which other options exist or may differ in a stack, or is not a single value."""
    if option in DECIDING or option.startswith(tuple(f"{name}." for name in LIST_OPTIONS)):
        return True
    if any(f"{name}.".startswith(f"{option}.") for name in (*CLASS_OPTIONS, *LIST_OPTIONS)):
        return True
    return any(isinstance(point[place], dict | list) for point in grid.points)


def _has_modules(grid: Grid) -> bool:
    """Whether a run's network is an ordinary module."""
    class_option = f"{NETWORK}.class_path."
    chosen = [place for place, option in enumerate(grid.options) if class_option.startswith(f"{option}.")]
    points = {repr([point[place] for place in chosen]): point for point in grid.points}.values()
    return any(is_module(lookup(build_options(grid, point), NETWORK) or {}) for point in points)


def _build_block(resolved: Nested, defaults: Nested, leaves: list[str]) -> Block:
    counted = counted_options(resolved, defaults, NOT_RESULTS)
    kept = {option: value for option, value in counted.items() if option not in leaves}
    own = {option: value for option, value in flatten(defaults).items() if option in leaves}
    return Block(
        resolved,
        leaves,
        shape_key(resolved, leaves),
        kept,
        own,
        find_per_run_options(resolved),
        find_module_obstacle(resolved),
    )


def _resolve(grid: Grid, point: Sequence[Any], precision: str) -> tuple[Nested, Nested]:
    """Resolved config of the run of a point, and the defaults of its options."""
    resolved, defaults = resolve_fit(build_options(grid, point), precision)
    for option, name in (("devices", "device"), ("num_nodes", "node")):
        if resolved["trainer"][option] not in (1, "1"):
            raise UserError(
                f"--trainer.{option} is {show(resolved['trainer'][option])}; the runs of a sweep train on 1 {name} "
                "each, several runs at a time (--workers)"
            )
    return resolved, defaults


def _find_hint(resolved: Nested, option: str) -> Any:
    """Type of an option of a class, if it is known without a parser."""
    if option == SEED:
        return int
    for owner in CLASS_OPTIONS:
        if option.startswith(f"{owner}.") and lookup(resolved, owner):
            return class_hints(owner, lookup(resolved, owner)["class_path"]).get(option.removeprefix(f"{owner}."))
    return None
