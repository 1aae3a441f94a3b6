"""The table of conditions: shares of runs that memorized and grokked, at which steps, and accuracies."""

from collections.abc import Mapping
from itertools import combinations
from math import inf, nan
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grok_lightning.records.record import reaches
from grok_lightning.records.words import list_steps
from grok_lightning.report.unfinished import UNFINISHED
from grok_lightning.statistics import LEAST_RUNS, KaplanMeier, holm, kaplan_meier, log_rank, times, wilson

EVENTS: tuple[Literal["memorize", "grok"], ...] = ("memorize", "grok")
MEASURES = (
    "best_val_acc", "final_val_acc", "final_train_acc", "final_val_loss", "final_train_loss",
    "final_test_acc", "final_test_loss",
)  # fmt: skip
COUNTS = ("diverged", "unfinished", "end_k")
MOST_COMPARED = 6  # conditions that are all compared with each other


def tabulate_conditions(table: pd.DataFrame, missing: Mapping[str, int]) -> pd.DataFrame:
    """One row per condition, with intervals of 95 %.

    Args:
        table: Runs from ``tabulate_runs``.
        missing: Number of missing runs of each condition. One without any run gets a row too, in the plan's order.

    Returns:
        ``condition``, ``n``, ``grok_n``, the runs with rows held out for validation, which alone count in what is said
        of grokking, and for memorizing and grokking: ``<event>_k``, ``<event>_low``, ``<event>_high`` (Wilson),
        ``<event>_median`` (Kaplan-Meier; infinity: not reached) with ``_median_low`` and ``_median_high`` (NaN with
        fewer than 5 runs, whose steps are listed in ``<event>_steps``, censored ones as ``> 20,000``) and
        ``_median_after``, the evaluation before it; ``grok_mean`` restricted to ``budget``, the least of its runs, with
        ``_low`` and ``_high`` (NaN likewise); ``delay``, the ratio of the medians; ``end_k``, the runs whose last
        validation accuracy is at the threshold; ``diverged``, ``unfinished``, ``missing``;
        accuracies and losses: median, least and most over the runs, of test rows only if any run has them;
        ``steps_per_success``, all steps taken over runs that grokked (infinity: none).
    """
    unfinished = (table["status"] == UNFINISHED).to_numpy()
    found = {event: [*_extract_times(table, event), unfinished] for event in EVENTS}
    budgets, groups, validated = table["budget"].to_numpy(float), _group(table), _are_validated(table)
    rows = []
    for name in _insert_missing(list(groups), list(missing)):
        places = groups.get(name, np.empty(0, int))
        held_out = places[validated[places]]
        memorized = [column[places] for column in found["memorize"]]
        grokked = [column[held_out] for column in found["grok"]]
        curve = kaplan_meier(*grokked[:2])
        row = {"condition": name, "n": len(places), "grok_n": len(held_out)}
        row |= _describe_event("memorize", kaplan_meier(*memorized[:2]), *memorized)
        row |= _describe_event("grok", curve, *grokked)
        budget = budgets[places].min() if len(places) else nan
        means = zip(("grok_mean", "grok_mean_low", "grok_mean_high"), curve.restricted_mean(budget), strict=True)
        rows.append(row | {"budget": budget} | dict(means))
    conditions = pd.DataFrame(rows)
    begun = conditions["memorize_median"].where(conditions["memorize_median"].between(0, inf, inclusive="neither"))
    conditions["delay"] = conditions["grok_median"] / begun
    return conditions.join(_aggregate(table, conditions, missing))


def _insert_missing(here: list[str], planned: list[str]) -> list[str]:
    """Conditions in order of display, those without runs after the one that precedes them in the plan."""
    after: dict[str | None, list[str]] = {name: [] for name in (None, *here)}
    last = None
    for name in planned:
        if name in after:
            last = name
        else:
            after[last].append(name)
    return [*after[None], *(name for condition in here for name in (condition, *after[condition]))]


def _extract_times(table: pd.DataFrame, event: Literal["memorize", "grok"]) -> list[NDArray[Any]]:
    found = times(table, event)
    return [found[name].to_numpy() for name in ("step", "observed", "after")]


def _are_validated(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether rows are held out for validation of each run; of a table that does not say, of all."""
    return table["validated"].to_numpy(bool) if "validated" in table else np.ones(len(table), bool)


def _group(table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """The rows of each condition, in the conditions' order."""
    return {str(name): np.asarray(rows) for name, rows in table.groupby("condition", observed=True).indices.items()}


def _describe_event(
    event: str,
    curve: KaplanMeier,
    step: NDArray[Any],
    observed: NDArray[Any],
    after: NDArray[Any],
    unfinished: NDArray[Any],
) -> dict[str, Any]:
    k, n = int(observed.sum()), len(observed)
    before = [after[observed & (step == at) & ~np.isnan(after)] for at in curve.median_steps]
    median_after = sum(found.min() for found in before) / 2 if all(map(len, before)) else nan
    if np.isfinite(median_after):  # of runs with other schedules a later, wider interval may have begun before it
        median_after = min(
            median_after, kaplan_meier(np.where(observed, np.nan_to_num(after).clip(0), step), observed).median
        )
    steps = list_steps(step, observed) if n < LEAST_RUNS else ""
    known = n - int((unfinished & ~observed).sum())  # the others may still have it
    values = (
        k,
        *(wilson(k, known) if known else (nan, nan)),
        curve.median,
        *curve.median_interval,
        median_after,
        steps,
    )
    names = ("k", "low", "high", "median", "median_low", "median_high", "median_after", "steps")
    return {f"{event}_{name}": value for name, value in zip(names, values, strict=True)}


def _aggregate(table: pd.DataFrame, conditions: pd.DataFrame, missing: Mapping[str, int]) -> pd.DataFrame:
    """Counts, accuracies, losses and steps of each condition, with its number of runs that grokked."""
    measures = [name for name in MEASURES if name in table and ("test" not in name or table[name].notna().any())]
    known = table[["steps", *measures]].assign(
        diverged=table["status"] == "diverged",
        unfinished=table["status"] == UNFINISHED,
        end_k=[reaches(acc, None, at) for acc, at in zip(table["final_val_acc"], table["threshold"], strict=True)],
    )
    grouped, names = known.groupby(table["condition"].astype(str), sort=False), conditions["condition"]
    columns = {name: grouped[name].sum().reindex(names, fill_value=0).astype(int) for name in COUNTS}
    for short in measures:
        column = grouped[short]
        columns |= {short: column.median(), f"{short}_least": column.min(), f"{short}_most": column.max()}
    columns["steps"] = grouped["steps"].sum().reindex(names, fill_value=0.0)
    found = pd.DataFrame({name: column.reindex(names).to_numpy() for name, column in columns.items()})
    per_success = (found["steps"] / conditions["grok_k"]).where(conditions["grok_k"] > 0, inf)
    return found.assign(steps_per_success=per_success, missing=[missing.get(name, 0) for name in names])


def compare_conditions(table: pd.DataFrame) -> pd.DataFrame:
    """Log-rank tests of the grok step between conditions: all pairs of up to six, else each against the first.

    Runs without rows held out for validation, which cannot grok, are in none.

    Returns:
        ``first``, ``second``, ``p`` and ``p_holm``, adjusted for their number; NaN where no run of either grokked.
    """
    table = table[_are_validated(table)]
    step, observed, _ = _extract_times(table, "grok")
    groups = [(name, (step[places], observed[places])) for name, places in _group(table).items()]
    alike = len(groups) <= MOST_COMPARED
    pairs = combinations(groups, 2) if alike else ((groups[0], other) for other in groups[1:])
    rows = [{"first": a, "second": b, "p": log_rank(*one, *other)} for (a, one), (b, other) in pairs]
    found = pd.DataFrame(rows, columns=["first", "second", "p"])
    found["p_holm"] = holm(found["p"].tolist())
    return found
