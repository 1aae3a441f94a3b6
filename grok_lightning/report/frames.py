"""Records as the figures take them: one row per run, with its condition."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from grok_lightning.report.gather import Gathered
from grok_lightning.report.keys import EXPERIMENT, PREFIX, Key
from grok_lightning.report.pooling import tasks
from grok_lightning.report.words import label, of_block, ranks, shown, values

EVERYTHING = "all runs"
STEPS = ("memorize_step", "memorize_after", "grok_step", "grok_after", "sustained_grok_step")
ACCURACIES = {"best.val/acc": "best_val_acc", "final.val/acc": "final_val_acc", "final.train/acc": "final_train_acc"}


def frame(gathered: Gathered, keys: Sequence[Key]) -> pd.DataFrame:
    """One row per run.

    Args:
        gathered: The records.
        keys: What parts them into conditions.

    Returns:
        ``run``, ``condition`` (in the order in which they are shown), a column for each key under its name, ``status``,
        ``steps``, ``budget``, ``threshold``, ``memorize_step`` and the other steps (NaN: never), ``best_val_acc``,
        ``final_val_acc``, ``final_train_acc``, ``seed``, ``config_hash``, ``operation`` (its
        title), ``task`` (its identity); and the options themselves.
    """
    runs = gathered.runs
    table = pd.DataFrame({"run": runs["path"], "status": runs["status"]})
    for name in ("steps", "budget", "threshold", *STEPS):
        table[name] = _floats(runs, name)
    for name, short in ACCURACIES.items():
        table[short] = _floats(runs, name)
    table["seed"] = _floats(runs, f"{PREFIX}seed_everything")
    table["config_hash"] = runs["config_hash"]
    table["operation"], table["task"] = tasks(runs)
    columns = {key.name: values(key, runs) for key in keys}
    orders = {name: ranks(column.tolist()) for name, column in columns.items()}
    rows = list(zip(*columns.values(), strict=True)) if keys else [()] * len(runs)
    labels = _labels(keys, set(rows))
    order = sorted(set(rows), key=lambda row: [orders[key.name][value] for key, value in zip(keys, row, strict=True)])
    named = list(dict.fromkeys(labels[row] for row in order))
    table["condition"] = pd.Categorical([labels[row] for row in rows], named, ordered=True)
    for name, column in columns.items():
        table[name] = pd.to_numeric(column) if _is_numeric(column) else column.map(shown)
    options = [column for column in runs if str(column).startswith(PREFIX) and column not in columns]
    return pd.concat([table, runs[options]], axis=1)


def _labels(keys: Sequence[Key], rows: Collection[tuple[Any, ...]]) -> dict[tuple[Any, ...], str]:
    """What conditions are called: numbers short if that tells them apart, else in full."""
    for exactly in (False, True):
        labels = {
            row: ", ".join(label(key, value, exactly) for key, value in zip(keys, row, strict=True)) or EVERYTHING
            for row in rows
        }
        if len(set(labels.values())) == len(labels):
            break
    return labels


def missing_runs(gathered: Gathered, table: pd.DataFrame, keys: Sequence[Key]) -> dict[str, int]:
    """How many runs that a sweep asked for are not there yet, by condition, in the order in which it asked for them.

    A missing run belongs to the condition of runs whose values of the keys are called the same in the sweep's plan.
    """
    planned = gathered.planned
    if not len(planned):
        return {}
    here = dict(zip(table["config_hash"], table.index, strict=True))
    counts: dict[str, int] = {}
    for _, plan in planned.groupby(EXPERIMENT, sort=False):
        columns = plan.dropna(axis=1, how="all")
        known = [here[hashed] for hashed in plan["config_hash"] if hashed in here]
        words = [_words(key, columns, table, known) for key in keys]
        of_words: dict[tuple[Any, ...], str] = {}
        rows = list(zip(*words, strict=True)) if keys else [()] * len(plan)
        for hashed, said in zip(plan["config_hash"], rows, strict=True):
            if hashed in here:
                of_words.setdefault(said, str(table["condition"].iat[here[hashed]]))
        for hashed, said in zip(plan["config_hash"], rows, strict=True):
            told = ", ".join(label(key, word) for key, word in zip(keys, said, strict=True) if word is not None)
            name = of_words.get(said, told or EVERYTHING)
            counts[name] = counts.get(name, 0) + (hashed not in here)
    return counts


def _words(key: Key, plan: pd.DataFrame, table: pd.DataFrame, known: Sequence[int]) -> list[Any]:
    """What a plan calls its runs' values of a key; one that it does not vary is that of its runs that are there."""
    if key.name in plan:  # a sweep's own name for an option is the key's
        said = plan[key.name].astype(object)
        return [of_block(str(word)) for word in said] if key.is_block else said.tolist()
    there = table[key.name].iloc[list(known)].unique()
    return [there[0] if len(there) == 1 else None] * len(plan)


def _floats(runs: pd.DataFrame, name: str) -> pd.Series:
    if name not in runs:
        return pd.Series(float("nan"), index=runs.index)
    return pd.to_numeric(runs[name], errors="coerce").astype(float)


def _is_numeric(column: pd.Series) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in column)
