"""Records as the figures take them: one row per run, with its condition."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from grok_lightning.errors import UserError
from grok_lightning.report.gather import Gathered
from grok_lightning.report.keys import NONE, OPERATION, PREFIX, Key, label, ranks, shown, values

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
        ``final_val_acc``, ``final_train_acc``, ``seed``, ``config_hash``, ``operation``; and the options themselves.
    """
    runs = gathered.runs
    table = pd.DataFrame({"run": runs["path"], "status": runs["status"]})
    for name in ("steps", "budget", "threshold", *STEPS):
        table[name] = _floats(runs, name)
    for name, short in ACCURACIES.items():
        table[short] = _floats(runs, name)
    table["seed"] = _floats(runs, f"{PREFIX}seed_everything")
    table["config_hash"] = runs["config_hash"]
    table["operation"] = operations(runs)
    columns = {key.name: values(key, runs) for key in keys}
    orders = {name: ranks(column.tolist()) for name, column in columns.items()}
    rows = list(zip(*columns.values(), strict=True)) if keys else [()] * len(runs)
    labels = {
        row: " ".join(label(key, value) for key, value in zip(keys, row, strict=True)) or EVERYTHING
        for row in set(rows)
    }
    order = sorted(set(rows), key=lambda row: [orders[key.name][value] for key, value in zip(keys, row, strict=True)])
    named = list(dict.fromkeys(labels[row] for row in order))
    table["condition"] = pd.Categorical([labels[row] for row in rows], named, ordered=True)
    for name, column in columns.items():
        table[name] = pd.to_numeric(column) if _is_numeric(column) else column.map(shown)
    options = [column for column in runs if str(column).startswith(PREFIX)]
    return pd.concat([table, runs[options]], axis=1)


def operations(runs: pd.DataFrame) -> pd.Series:
    """What each run's operation is called: its formula and what it is over."""
    parts = {name: runs[f"{PREFIX}{name}"] for name in OPERATION if f"{PREFIX}{name}" in runs}

    def told(place: int) -> str:
        given: dict[str, Any] = {name.rsplit(".", 1)[-1]: column.iat[place] for name, column in parts.items()}
        found = {name: shown(value) for name, value in given.items() if shown(value) != NONE}
        if "strings" in found and "formula" not in found:
            return "text"
        over = f"mod {found['modulus']}" if "modulus" in found else f"permutations of {found.get('degree')}"
        signed = "signed " if "SignedRemainders" in found.get("class_path", "") else ""
        extra = "".join(f", {name} {found[name]}" for name in ("operands", "rows") if name in found)
        return f"{found.get('formula', '?')} {signed}{over}{extra}"

    known: dict[tuple[str, ...], str] = {}
    told_rows = []
    for place, row in enumerate(zip(*(column.map(repr) for column in parts.values()), strict=True)):
        if row not in known:
            known[row] = told(place)
        told_rows.append(known[row])
    return pd.Series(told_rows or [""] * len(runs), index=runs.index, dtype=object)


def refuse_mixed_operations(table: pd.DataFrame) -> None:
    """A curve, median or share over runs of several operations means nothing.

    Raises:
        UserError: Runs of one condition have different operations.
    """
    counts = table.groupby("condition", observed=True)["operation"].nunique()
    for condition in counts.index[counts > 1]:
        mixed = sorted(table["operation"][table["condition"] == condition].unique())
        raise UserError(
            f"--by: the condition {condition!r} mixes {' and '.join(mixed[:3])}; add data.formula (or data) to --by"
        )


def missing_runs(gathered: Gathered, table: pd.DataFrame, keys: Sequence[Key]) -> dict[str, int]:
    """How many runs that a sweep asked for are not there yet, by condition.

    A missing run belongs to the condition of runs whose values of the keys are called the same in the sweep's plan.
    """
    planned = gathered.planned
    if not len(planned):
        return {}
    here = dict(zip(table["config_hash"], table["condition"].astype(str), strict=True))
    # a sweep's own name for an option is the key's
    names = [key.name for key in keys if key.name in planned]
    words = list(zip(*(planned[name].astype(object) for name in names), strict=True)) if names else [()] * len(planned)
    of_words: dict[tuple[str, ...], str] = {}
    for hashed, said in zip(planned["config_hash"], words, strict=True):
        if hashed in here:
            of_words.setdefault(said, here[hashed])
    counts: dict[str, int] = {}
    for hashed, said in zip(planned["config_hash"], words, strict=True):
        if hashed not in here:
            name = of_words.get(said) or " ".join(
                label(key, word) for key, word in zip([k for k in keys if k.name in names], said, strict=True)
            )
            counts[name or EVERYTHING] = counts.get(name or EVERYTHING, 0) + 1
    return counts


def _floats(runs: pd.DataFrame, name: str) -> pd.Series:
    return runs[name].astype(float) if name in runs else pd.Series(float("nan"), index=runs.index)


def _is_numeric(column: pd.Series) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in column)
