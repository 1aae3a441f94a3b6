"""Options that group runs into conditions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from grok_lightning.errors import UserError
from grok_lightning.figures.conditions import shorten_names
from grok_lightning.options.classes import suggestion

PREFIX = "config."
WORDS = ".words."  # columns of an older plan's labels of blocks of options without any run
EXPERIMENT, RUN = "experiment", "run"
SEEDS = ("seed_everything", "data.split_seed")
BLOCKS = ("data", "model.network", "model.optimizer", "model.scheduler")
# options that are no condition of an experiment
OWN = (
    EXPERIMENT, RUN, "overwrite", "ckpt_path", "checkpoint", "evaluation", "trainer", "measures", "model.compile",
    "threads", *SEEDS,
)  # fmt: skip


@dataclass(frozen=True)
class Key:
    """An option, or a block of options, that groups runs into conditions.

    Attributes:
        name: The option, dotted in full.
        columns: Its column, or the columns of a block that vary.
        short: Its shortest ending that no other key of the report has.
    """

    name: str
    columns: tuple[str, ...]
    short: str = ""

    @property
    def is_block(self) -> bool:
        """Whether it is a class with its options."""
        return self.columns not in ((f"{PREFIX}{self.name}",), (self.name,))


def find_key(name: str, runs: pd.DataFrame) -> Key:
    """Finds the option that a key names.

    Args:
        name: In full (``data.train_fraction``), by its end where that is enough (``train_fraction``), a block
            (``model.network``), or ``experiment``.
        runs: Records.

    Raises:
        UserError: No run has the option, or several options end in the name.
    """
    if name == EXPERIMENT:
        return Key(name, (EXPERIMENT,))
    if name == RUN:  # a table of runs has another column of this name
        return Key(f"{PREFIX}{RUN}", (f"{PREFIX}{RUN}",))
    options = _list_options(runs)
    blocks = {".".join(parts[:count]) for parts in (option.split(".") for option in options) for count in
              range(1, len(parts))}  # fmt: skip
    known = list(dict.fromkeys([*options, *sorted(blocks)]))
    found = [name] if name in known else [option for option in known if option.endswith(f".{name}")]
    if len(found) > 1:
        raise UserError(f"--by {name}: several options end so: {', '.join(sorted(found))}; give one in full")
    if not found:
        parts = [part for option in options for part in option.split(".")]
        near = suggestion(name, [*dict.fromkeys([*parts, *options, EXPERIMENT])])
        raise UserError(f"--by {name}: no run has such an option{near}")
    inner = [option for option in options if is_within(option, found) and option not in SEEDS]
    if inner == found or found[0] in SEEDS:
        return Key(found[0], (f"{PREFIX}{found[0]}",))
    columns = [f"{PREFIX}{option}" for option in inner]
    varied = [column for column in columns if _count_distinct(runs, column) > 1]
    return Key(found[0], tuple(varied or columns[:1]))


def find_keys(names: Sequence[str], runs: pd.DataFrame) -> list[Key]:
    """Finds the options that several keys name, each once.

    A block leaves out options that are keys themselves, and one in which a single option varies is that option.

    Raises:
        UserError: As ``find_key``.
    """
    keys = list(dict.fromkeys(find_key(name, runs) for name in names))
    alone = {column for key in keys if not key.is_block for column in key.columns}
    keys = list(dict.fromkeys(_narrow(key, alone, runs) if key.is_block else key for key in keys))
    short = shorten_names([key.name for key in keys])
    return [replace(key, short=short[key.name]) for key in keys]


def _narrow(block: Key, alone: Collection[str], runs: pd.DataFrame) -> Key:
    columns = tuple(column for column in block.columns if column not in alone) or block.columns[:1]
    single = columns[0].removeprefix(PREFIX)
    if len(columns) > 1 or single.endswith(".class_path") or f"{WORDS}{block.name}" in runs:
        return replace(block, columns=columns)
    return Key(single, columns)


def find_varying_keys(runs: pd.DataFrame, varied: Mapping[str, Sequence[str]]) -> list[Key]:
    """Default keys: the options that a sweep varies, else those that differ between runs; never the seeds.

    Several experiments are each searched for keys, and the experiment is a key as well.

    Args:
        runs: The options of all runs, the missing ones included.
        varied: Options that the sweep of each experiment varies, if known.
    """
    own = {name: [option for option in options if option not in SEEDS] for name, options in varied.items()}
    parts = [_find_varying(part, own.get(str(name), [])) for name, part in runs.groupby(EXPERIMENT, sort=False)]
    names = dict.fromkeys(name for names in parts for name in names)
    return find_keys([*([EXPERIMENT] if len(parts) > 1 else []), *names], runs)


def _find_varying(runs: pd.DataFrame, varied: Sequence[str]) -> list[str]:
    """Names of the options, or of the blocks, that vary between the runs of one experiment."""
    options = _list_options(runs)
    keys = [find_key(name, runs) for name in varied if any(is_within(option, [name]) for option in options)]
    names = [key.name for key in keys if any(_count_distinct(runs, column) > 1 for column in key.columns)]
    if varied and (names or len(runs) <= 1):
        return names
    differing = [
        option for option in options if not is_within(option, OWN) and _count_distinct(runs, f"{PREFIX}{option}") > 1
    ]
    blocks = [block for block in BLOCKS if f"{block}.class_path" in differing]
    blocks += [option for option in options if any(each.startswith(f"{option}.") for each in differing)]
    return list(
        dict.fromkeys(next((block for block in blocks if is_within(option, [block])), option) for option in differing)
    )


def _list_options(runs: pd.DataFrame) -> list[str]:
    return [str(column).removeprefix(PREFIX) for column in runs if str(column).startswith(PREFIX)]


def _count_distinct(runs: pd.DataFrame, column: str) -> int:
    return int(countable(runs[column]).nunique(dropna=False))


def is_within(option: str, names: Collection[str]) -> bool:
    """Whether an option is one of those named, or part of one."""
    return any(option == name or option.startswith(f"{name}.") for name in names)


def countable(column: pd.Series) -> pd.Series:
    """A column of hashable values: lists and dictionaries as their ``repr``."""
    if column.dtype != object:
        return column
    return pd.Series([repr(value) if isinstance(value, list | dict) else value for value in column], column.index)
