"""Options that group runs into conditions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from grok_lightning.errors import UserError
from grok_lightning.figures.conditions import shortest
from grok_lightning.options.classes import suggestion

PREFIX = "config."
EXPERIMENT, RUN = "experiment", "run"
SEEDS = ("seed_everything", "data.split_seed")
BLOCKS = ("data", "model.network", "model.optimizer")
# options that are no condition of an experiment
OWN = (
    EXPERIMENT,
    RUN,
    "overwrite",
    "ckpt_path",
    "checkpoint",
    "evaluation",
    "trainer",
    "measures",
    "model.compile",
    "threads",
    *SEEDS,
)


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
    options = [str(column).removeprefix(PREFIX) for column in runs if str(column).startswith(PREFIX)]
    if name in options:
        return Key(name, (f"{PREFIX}{name}",))
    if any(option.startswith(f"{name}.") for option in options):
        return _find_block(name, runs, options)
    endings = [option for option in options if option.endswith(f".{name}")]
    blocks = {option[: option.rindex(f".{name}.")] + f".{name}" for option in options if f".{name}." in option}
    if len(endings) + len(blocks) > 1:
        raise UserError(
            f"--by {name}: several options end so: {', '.join(sorted([*endings, *blocks]))}; give one in full"
        )
    if endings:
        return Key(endings[0], (f"{PREFIX}{endings[0]}",))
    if blocks:
        return _find_block(blocks.pop(), runs, options)
    parts = [part for option in options for part in option.split(".")]  # endings and blocks are named so
    raise UserError(
        f"--by {name}: no run has such an option{suggestion(name, [*dict.fromkeys([*parts, *options, EXPERIMENT])])}"
    )


def find_keys(names: Sequence[str], runs: pd.DataFrame) -> list[Key]:
    """Finds the options that several keys name, each once; a block leaves out options that are keys themselves.

    Raises:
        UserError: As ``find_key``.
    """
    keys = list(dict.fromkeys(find_key(name, runs) for name in names))
    alone = {column for key in keys if not key.is_block for column in key.columns}
    short = shortest([key.name for key in keys])
    return [
        replace(key, short=short[key.name], columns=_without(key.columns, alone) if key.is_block else key.columns)
        for key in keys
    ]


def _without(columns: Sequence[str], alone: Collection[str]) -> tuple[str, ...]:
    return tuple(column for column in columns if column not in alone) or tuple(columns[:1])


def varying_keys(runs: pd.DataFrame, varied: Mapping[str, Sequence[str]]) -> list[Key]:
    """Default keys: the options that a sweep varies, else those that differ between runs; never the seeds.

    Several experiments are each searched for keys, and the experiment is a key as well.

    Args:
        runs: The options of all runs, the missing ones included.
        varied: Options that the sweep of each experiment varies, if known.
    """
    own = {name: [option for option in options if option not in SEEDS] for name, options in varied.items()}
    parts = [_find_varying(part, own.get(str(name), [])) for name, part in runs.groupby(EXPERIMENT, sort=False)]
    names = dict.fromkeys(key.name for keys in parts for key in keys)
    return find_keys([*([EXPERIMENT] if len(parts) > 1 else []), *names], runs)


def _find_varying(runs: pd.DataFrame, varied: Sequence[str]) -> list[Key]:
    keys = [key for name in varied if (key := _try_find(name, runs)) and _count_distinct(runs, key) > 1]
    if varied and (keys or len(runs) <= 1):
        return keys
    options = [str(column).removeprefix(PREFIX) for column in runs if str(column).startswith(PREFIX)]
    differing = [
        option
        for option in options
        if not is_within(option, OWN) and _count_distinct(runs, Key(option, (PREFIX + option,))) > 1
    ]
    names = []
    for option in differing:
        block = next(
            (block for block in BLOCKS if option.startswith(f"{block}.") and f"{block}.class_path" in differing), option
        )
        names += [] if block in names else [block]
    return [find_key(name, runs) for name in names]


def _try_find(name: str, runs: pd.DataFrame) -> Key | None:
    try:
        return find_key(name, runs)
    except UserError:
        return None


def _find_block(name: str, runs: pd.DataFrame, options: Sequence[str]) -> Key:
    inner = [option for option in options if option.startswith(f"{name}.") and option not in SEEDS]
    columns = [f"{PREFIX}{option}" for option in inner]
    varied = [column for column in columns if _count_distinct(runs, Key(column, (column,))) > 1]
    return Key(name, tuple(varied or columns[:1]))


def _count_distinct(runs: pd.DataFrame, key: Key) -> int:
    return max((countable(runs[column]).nunique(dropna=False) for column in key.columns), default=0)


def is_within(option: str, names: Collection[str]) -> bool:
    """Whether an option is one of those named, or part of one."""
    return any(option == name or option.startswith(f"{name}.") for name in names)


def countable(column: pd.Series) -> pd.Series:
    """A column of hashable values: lists and dictionaries as their ``repr``."""
    if column.dtype != object:
        return column
    return pd.Series([repr(value) if isinstance(value, list | dict) else value for value in column], column.index)
