"""The table of conditions: how many memorized and grokked, when, and how well."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import inf, isfinite, nan
from typing import Any

import pandas as pd

from grok_lightning.report.unfinished import UNFINISHED
from grok_lightning.statistics import KaplanMeier, holm, kaplan_meier, log_rank, times, wilson

MOST_PAIRS = 15  # conditions that are all compared with each other: 6


def conditions_table(table: pd.DataFrame, missing: Mapping[str, int]) -> pd.DataFrame:
    """One row per condition, with intervals of 95 %.

    Args:
        table: Runs as ``frame`` gives them.
        missing: Runs not there yet, by condition; such a condition gets a row even if none of its runs is there.

    Returns:
        ``condition``, ``n`` and for memorizing and grokking: ``<event>_k``, ``<event>_low``, ``<event>_high`` (Wilson),
        ``<event>_median`` (Kaplan-Meier; infinity: not reached) with ``_median_low``, ``_median_high`` and
        ``_median_after``, the evaluation before it; ``grok_mean`` restricted to ``budget``, the least of its runs, with
        ``_low`` and ``_high``; ``delay``, the ratio of the medians; ``diverged``, ``unfinished``, ``missing``;
        accuracies: median, least and most over the runs; ``steps_per_success``, all steps taken over runs that grokked
        (infinity: none).
    """
    rows = [_row(str(name), group) for name, group in table.groupby("condition", observed=True)]
    for row in rows:
        row["missing"] = missing.get(row["condition"], 0)
    known = {row["condition"] for row in rows}
    rows += [_row(name, table.iloc[:0]) | {"missing": count} for name, count in missing.items() if name not in known]
    return pd.DataFrame(rows)


def _row(name: str, runs: pd.DataFrame) -> dict[str, Any]:
    n = len(runs)
    row: dict[str, Any] = {"condition": name, "n": n}
    medians = {}
    for event in ("memorize", "grok"):
        found = times(runs, event) if n else pd.DataFrame({"step": [], "observed": [], "after": []})
        k = int(found["observed"].sum())
        low, high = wilson(k, n)
        curve = kaplan_meier(found["step"], found["observed"].astype(bool))
        medians[event] = curve.median
        at_median = found["after"][found["observed"].astype(bool) & (found["step"] == curve.median)]
        row |= {f"{event}_k": k, f"{event}_low": low, f"{event}_high": high, f"{event}_median": curve.median}
        row |= {f"{event}_median_low": curve.median_interval[0], f"{event}_median_high": curve.median_interval[1]}
        row[f"{event}_median_after"] = float(at_median.min()) if len(at_median) else nan
    row |= _mean(curve, runs)
    row["delay"] = medians["grok"] / medians["memorize"] if 0 < medians["memorize"] < inf else nan
    row["diverged"] = int((runs["status"] == "diverged").sum())
    row["unfinished"] = int((runs["status"] == UNFINISHED).sum())
    for short in ("best_val_acc", "final_val_acc", "final_train_acc"):
        column = runs[short]
        row |= {short: column.median(), f"{short}_least": column.min(), f"{short}_most": column.max()}
    row["steps"] = float(runs["steps"].sum())
    row["steps_per_success"] = row["steps"] / row["grok_k"] if row["grok_k"] else inf
    return row


def _mean(curve: KaplanMeier, runs: pd.DataFrame) -> dict[str, float]:
    budget = float(runs["budget"].min()) if len(runs) else nan
    mean, low, high = curve.restricted_mean(budget) if len(runs) else (nan, nan, nan)
    return {"budget": budget, "grok_mean": mean, "grok_mean_low": low, "grok_mean_high": high}


def comparisons(table: pd.DataFrame) -> pd.DataFrame:
    """Log-rank tests of the grok step between conditions: all pairs of up to six, else each against the first.

    Returns:
        ``first``, ``second``, ``p`` and ``p_holm``, adjusted for their number; NaN where nobody of either grokked.
    """
    groups = [(str(name), times(group, "grok")) for name, group in table.groupby("condition", observed=True)]
    pairs: Sequence[tuple[Any, Any]] = list(combinations(groups, 2))
    if len(pairs) > MOST_PAIRS:
        pairs = [(groups[0], other) for other in groups[1:]]
    rows = [
        {"first": a, "second": b, "p": log_rank(x["step"], x["observed"], y["step"], y["observed"])}
        for (a, x), (b, y) in pairs
    ]
    found = pd.DataFrame(rows, columns=["first", "second", "p"])
    found["p_holm"] = holm(found["p"].tolist())
    return found


def step_in_words(median: float, low: float, high: float, after: float) -> str:
    """A median step with its interval, and with the evaluation before it."""
    if not isfinite(median):
        least = f", later than {low:,.0f}" if isfinite(low) else ""
        return f"not reached{least}"
    bound = f"{low:,.0f} to {high:,.0f}" if isfinite(high) else f"from {low:,.0f}" if isfinite(low) else ""
    told = "; ".join(part for part in (bound, f"after {after:,.0f}" if isfinite(after) else "") if part)
    return f"{median:,.0f} ({told})" if told else f"{median:,.0f}"
