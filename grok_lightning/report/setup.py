"""The setup of a report's runs: the options that they share, and those that vary."""

import re
from collections.abc import Sequence
from functools import partial

import pandas as pd

from grok_lightning.figures.conditions import shorten_names
from grok_lightning.figures.style import format_count, format_range
from grok_lightning.records.words import NONE, format_option
from grok_lightning.report.frames import ROWS, SPLITS
from grok_lightning.report.keys import EXPERIMENT, PREFIX, RUN, SEEDS, is_within
from grok_lightning.report.pooling import NOT_RESULTS
from grok_lightning.report.words import normalize, strip_path

MOST = 12  # values that are named
CLASS = ".class_path"
# parts of a setup by the options that belong to them, of which the first that fits counts
PARTS = {
    "Model": ("model.network",),
    "Optimizer": ("model.optimizer",),
    "Filters": ("model.filters",),
    "Constraints": ("model.constraints",),
    "Batch": ("data.batch_size",),
    "Training": ("model",),
    "Data": ("data",),
    "Precision": ("trainer.precision",),
    "Budget": ("trainer.max_steps", "trainer.max_time", "evaluation"),
    "Weights from": ("init_from", "init_parts"),
}
TRAINER = ("trainer.accumulate_grad_batches", "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm")
TRIVIAL = {"trainer.accumulate_grad_batches": "1"}
FORMULA = "data.formula"  # part of the task's title
LEFT_OUT = (*NOT_RESULTS, EXPERIMENT, RUN, "ckpt_path")


def describe_setup(runs: pd.DataFrame, records: pd.DataFrame) -> list[tuple[str, str]]:
    """What all runs share, and what varies between them.

    Args:
        runs: Runs from ``tabulate_runs``.
        records: Their records, in the same order.

    Returns:
        Names of parts of the setup and their descriptions: task, rows of the splits if known, model, optimizer,
        filters, batch size, other options of training and of the data, precision, budget, seeds, machine, and the
        options that vary, with their values.
    """
    found = [("Task", _list_some(list(runs["operation"].unique())))]
    rows = describe_rows(runs)
    if rows:
        found.append(("Rows", rows))
    options = _read_options(records)
    varied = {name: column for name, column in options.items() if column.nunique(dropna=False) > 1}
    shared: dict[str, list[str]] = {}
    for name, column in options.items():
        part = _find_part(name)
        named = name.endswith(CLASS) or name == FORMULA
        if part and name not in varied and column.iloc[0] != TRIVIAL.get(name, NONE) and not named:
            shared.setdefault(part, []).append(_describe_option(name, column.iloc[0]))
    for part, names in PARTS.items():
        block = options.get(f"{names[0]}{CLASS}")
        words = [*([_list_some(list(block.unique()))] if block is not None else []), *shared.get(part, [])]
        if words:
            found.append((part, ", ".join(words)))
    seeds = [str(int(seed)) for seed in sorted(runs["seed"].dropna().unique())]
    if seeds:
        found.append((f"Seed{'s' * (len(seeds) > 1)}", _list_some(seeds)))
    if "device" in records and records["device"].notna().any():
        found.append(("Machine", "; ".join(map(_name_machine, records["device"].dropna().unique()))))
    return [*found, *(("Varied", words) for words in [_describe_varied(varied)] if words)]


def _name_machine(device: str) -> str:
    """The device of a record; those of before CPUs were named say ``x86_64 cpu, 1 threads``."""
    return re.sub(
        r"^(\S+) cpu, (\d+) threads$", lambda old: f"{old[1]} CPU, {format_count(int(old[2]), 'thread')}", device
    )


def describe_rows(runs: pd.DataFrame) -> str:
    """The number of rows in each split, ``4,656 training, 4,656 validation``; ranges where runs differ."""
    words = dict(zip(SPLITS, ("training", "validation", "test"), strict=True))
    known = {words[split]: runs[ROWS[f"counts.{split}"]].dropna() for split in SPLITS}
    return ", ".join(f"{format_range(column)} {word}" for word, column in known.items() if len(column))


def _read_options(records: pd.DataFrame) -> dict[str, pd.Series]:
    """The options of the runs in words, without those that cannot change a result and those of single runs."""
    names = [str(column).removeprefix(PREFIX) for column in records if str(column).startswith(PREFIX)]
    found = {}
    for name in names:
        if is_within(name, LEFT_OUT) or name in SEEDS or not (_find_part(name) or name in TRAINER):
            continue
        column = records[f"{PREFIX}{name}"]
        read = strip_path if name.endswith(CLASS) else partial(normalize, name)
        values = dict(zip(map(repr, column), column, strict=True))
        words = {key: format_option(read(value)) for key, value in values.items()}
        found[name] = pd.Series([words[key] for key in map(repr, column)])
    return found


def _find_part(name: str) -> str | None:
    if name in TRAINER:
        return "Training"
    return next((part for part, owners in PARTS.items() if is_within(name, owners)), None)


def _describe_option(name: str, word: str) -> str:
    """An option in a part of the setup; without its name where the part is called like it."""
    return word if (name,) in PARTS.values() else f"{name.rpartition('.')[2]}={word}"


def _describe_varied(varied: dict[str, pd.Series]) -> str:
    """The options that vary with their values; options of a class that other runs do not have are its own."""
    known = {name: [word for word in pd.unique(column) if word != NONE] for name, column in varied.items()}
    classes = [name.removesuffix(CLASS) for name in varied if name.endswith(CLASS)]
    names = [name for name in varied if len(known[name]) > 1 or (known[name] and not is_within(name, classes))]
    short = shorten_names([name.removesuffix(CLASS) for name in names])
    parts = []
    for name in names:
        some_without = len(known[name]) < varied[name].nunique() and not is_within(name, classes)
        words = [*_sort_numbers(known[name]), *([NONE] if some_without else [])]
        parts.append(f"{short[name.removesuffix(CLASS)]}: {_list_some(words)}")
    return "; ".join(parts)


def _sort_numbers(words: list[str]) -> list[str]:
    """Words in the order of their numbers; as they are if not all are numbers."""
    try:
        return sorted(words, key=float)
    except ValueError:
        return words


def _list_some(words: Sequence[str]) -> str:
    """Values of an option; of many the first, and their number."""
    if len(words) <= MOST:
        return ", ".join(words)
    return f"{', '.join(words[:MOST])}, ... ({format_count(len(words), 'value')})"
