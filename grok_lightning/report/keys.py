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
# what a run's config says that is no condition of an experiment
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
    """One key.

    Attributes:
        name: The option, dotted in full.
        columns: The columns it stands for: one, or those of a whole block that vary.
        short: Its shortest name that no other key of the report ends in.
    """

    name: str
    columns: tuple[str, ...]
    short: str = ""

    @property
    def is_block(self) -> bool:
        """Whether it stands for a class and its options."""
        return self.columns not in ((f"{PREFIX}{self.name}",), (self.name,))


def find_key(name: str, runs: pd.DataFrame) -> Key:
    """Finds the option that a key names.

    Args:
        name: In full (``data.train_fraction``), by its end where that is enough (``train_fraction``), a block
            (``model.network``), or ``experiment``.
        runs: Records.

    Raises:
        UserError: No run has it, or several options end so.
    """
    if name == EXPERIMENT:
        return Key(name, (EXPERIMENT,))
    if name == RUN:  # a table of runs has another column of this name
        return Key(f"{PREFIX}{RUN}", (f"{PREFIX}{RUN}",))
    options = [str(column).removeprefix(PREFIX) for column in runs if str(column).startswith(PREFIX)]
    if name in options:
        return Key(name, (f"{PREFIX}{name}",))
    if any(option.startswith(f"{name}.") for option in options):
        return _block(name, runs, options)
    endings = [option for option in options if option.endswith(f".{name}")]
    blocks = {option[: option.rindex(f".{name}.")] + f".{name}" for option in options if f".{name}." in option}
    if len(endings) + len(blocks) > 1:
        raise UserError(
            f"--by {name}: several options end so: {', '.join(sorted([*endings, *blocks]))}; give one in full"
        )
    if endings:
        return Key(endings[0], (f"{PREFIX}{endings[0]}",))
    if blocks:
        return _block(blocks.pop(), runs, options)
    parts = [part for option in options for part in option.split(".")]  # endings and blocks are named so
    raise UserError(
        f"--by {name}: no run has such an option{suggestion(name, [*dict.fromkeys([*parts, *options, EXPERIMENT])])}"
    )


def find_keys(names: Sequence[str], runs: pd.DataFrame) -> list[Key]:
    """The options that several keys name, each once: what is a key of its own is no part of a block beside it.

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
    """The keys when none are given: what a sweep varies, else what differs between the runs; never the seeds.

    Of several experiments each has its own keys, and the experiment is one more.

    Args:
        runs: The options of all runs, the missing ones included.
        varied: What the sweep of each experiment varies, if it is known.
    """
    own = {name: [option for option in options if option not in SEEDS] for name, options in varied.items()}
    parts = [_varying(part, own.get(str(name), [])) for name, part in runs.groupby(EXPERIMENT, sort=False)]
    names = dict.fromkeys(key.name for keys in parts for key in keys)
    return find_keys([*([EXPERIMENT] if len(parts) > 1 else []), *names], runs)


def _varying(runs: pd.DataFrame, varied: Sequence[str]) -> list[Key]:
    keys = [key for name in varied if (key := _quietly(name, runs)) and _distinct(runs, key) > 1]
    if varied and (keys or len(runs) <= 1):
        return keys
    options = [str(column).removeprefix(PREFIX) for column in runs if str(column).startswith(PREFIX)]
    differing = [
        option for option in options if not _is_own(option) and _distinct(runs, Key(option, (PREFIX + option,))) > 1
    ]
    names = []
    for option in differing:
        block = next(
            (block for block in BLOCKS if option.startswith(f"{block}.") and f"{block}.class_path" in differing), option
        )
        names += [] if block in names else [block]
    return [find_key(name, runs) for name in names]


def _quietly(name: str, runs: pd.DataFrame) -> Key | None:
    try:
        return find_key(name, runs)
    except UserError:
        return None


def _block(name: str, runs: pd.DataFrame, options: Sequence[str]) -> Key:
    inner = [option for option in options if option.startswith(f"{name}.") and option not in SEEDS]
    columns = [f"{PREFIX}{option}" for option in inner]
    varied = [column for column in columns if _distinct(runs, Key(column, (column,))) > 1]
    return Key(name, tuple(varied or columns[:1]))


def _distinct(runs: pd.DataFrame, key: Key) -> int:
    return max((countable(runs[column]).nunique(dropna=False) for column in key.columns), default=0)


def _is_own(option: str) -> bool:
    return any(option == name or option.startswith(f"{name}.") for name in OWN)


def countable(column: pd.Series) -> pd.Series:
    """Values that can be counted: lists cannot."""
    if column.dtype != object:
        return column
    return pd.Series([repr(value) if isinstance(value, list | dict) else value for value in column], column.index)
