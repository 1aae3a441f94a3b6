"""Table of runs for figures: one row per run, with its keys and its condition."""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import pandas as pd

from grok_lightning.records.after_grok import AFTER
from grok_lightning.records.planned import HASH
from grok_lightning.records.words import format_option
from grok_lightning.report.after_grok import COLUMNS as AFTER_COLUMNS
from grok_lightning.report.gather import Gathered, plan_order
from grok_lightning.report.keys import PREFIX, Key
from grok_lightning.report.pooling import identify_tasks
from grok_lightning.report.words import label_condition, rank_values, read_values

EVERYTHING = "all runs"
STEPS = ("memorize_step", "memorize_after", "grok_step", "grok_after", "sustained_grok_step")
SPLITS = ("train", "val", "test")
VALUES = {"best.val/acc": "best_val_acc"} | {
    f"final.{split}/{measure}": f"final_{split}_{measure}" for measure in ("acc", "loss") for split in SPLITS
}
ROWS = {f"counts.{split}": f"{split}_rows" for split in SPLITS}
TEXT = "text"  # title of the task of memorizing strings


def tabulate_runs(gathered: Gathered, keys: Sequence[Key]) -> tuple[pd.DataFrame, dict[str, int]]:
    """One row per run, and the number of missing runs of each condition.

    Args:
        gathered: The records.
        keys: The options that group them into conditions.

    Returns:
        A column for each key under its name, ``condition`` (categories in order of display), ``run``, ``status``,
        ``steps``, ``budget``, ``threshold``, ``memorize_step`` and the other steps (NaN: never, or no row is
        held out for validation), ``best_val_acc``, ``final_train_acc``, ``final_train_loss`` and those of validation
        and test (NaN: unknown, or no row is held out), ``train_rows``,
        ``val_rows`` and ``test_rows`` (NaN: unknown), what became of them after the grok (``sustained``, ``stable`` and
        ``collapsed`` are 1, 0 or NaN: not known; ``watched``, ``lost_step``, ``dips``, ``below``, ``lowest_val_acc``,
        ``collapse_step``), ``seed``, ``config_hash``, ``operation`` (its title), ``task``
        (its identity), ``validated`` (whether rows are held out for validation), and the options. Then the number of
        missing planned runs of every condition, in the same order.
    """
    runs, options = gathered.runs, gathered.options()
    table = pd.DataFrame({"run": runs["path"], "status": runs["status"]})
    for name in ("steps", "budget", "threshold", *STEPS):
        table[name] = _to_floats(runs, name)
    for name, short in (VALUES | ROWS).items():
        table[short] = _to_floats(runs, name)
    for name in AFTER_COLUMNS:
        table[name] = _to_floats(runs, f"{AFTER}.{name.removesuffix('_val_acc')}")
    table["seed"] = _to_floats(runs, f"{PREFIX}seed_everything")
    table["config_hash"] = runs["config_hash"]
    table["operation"], table["task"] = identify_tasks(runs)
    held_out = _to_floats(runs, f"{PREFIX}data.val_fraction").notna()
    table["validated"] = (held_out | (table["operation"] != TEXT)) & (table["val_rows"] != 0)
    of_validation = [name for name in AFTER_COLUMNS if not name.startswith("collapse")]
    of_validation += [*(name for name in STEPS if "grok" in name), "best_val_acc", "final_val_acc", "final_val_loss"]
    table[of_validation] = table[of_validation].where(table["validated"])
    columns = {key.name: read_values(key, options) for key in keys}
    rows = list(zip(*columns.values(), strict=True)) if keys else [()] * len(options)
    labels, exactly = _label_conditions(keys, set(rows))
    by_plan = plan_order(options[HASH], gathered.planned)
    orders = {name: rank_values(column.iloc[by_plan].tolist()) for name, column in columns.items()}
    order = sorted(set(rows), key=lambda row: [orders[key.name][value] for key, value in zip(keys, row, strict=True)])
    missing = dict.fromkeys((labels[row] for row in order), 0)
    for row in rows[len(runs) :]:
        missing[labels[row]] += 1
    here = {labels[row] for row in rows[: len(runs)]}
    named = [name for name in missing if name in here]
    conditions = pd.Categorical([labels[row] for row in rows[: len(runs)]], named, ordered=True)
    typed = {name: _type(column.iloc[: len(runs)], exactly) for name, column in columns.items()}
    keyed = pd.DataFrame(typed | {"condition": conditions}, runs.index)
    others = [column for column in runs if str(column).startswith(PREFIX) and column not in columns]
    return pd.concat([keyed, table, runs[others]], axis=1), missing


def _label_conditions(
    keys: Sequence[Key], rows: Collection[tuple[Any, ...]]
) -> tuple[dict[tuple[Any, ...], str], bool]:
    """Labels of conditions, and whether their numbers have all digits: only where six would not tell them apart."""
    for exactly in (False, True):
        labels = {row: label_condition(keys, row, exactly) or EVERYTHING for row in rows}
        if len(set(labels.values())) == len(labels):
            break
    return labels, exactly


def _to_floats(runs: pd.DataFrame, name: str) -> pd.Series:
    if name not in runs:
        return pd.Series(float("nan"), index=runs.index)
    return pd.to_numeric(runs[name], errors="coerce").astype(float)


def _type(column: pd.Series, exactly: bool) -> pd.Series:
    """A key's values as numbers if they all are, else in words."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in column):
        return pd.to_numeric(column)
    return column.map(partial(format_option, exactly=exactly))
