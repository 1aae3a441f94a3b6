"""Table of a sweep's results: one line per combination, seeds pooled."""

from math import inf
from typing import Any

import pandas as pd

from grok_lightning.sweep.plan.pending import Standing
from grok_lightning.sweep.plan.runs import Plan, PlannedRun
from grok_lightning.sweep.plan.stacking import SEED

SEEDS = (SEED, "data.split_seed")
MOST_LINES = 60


def format_table(plan: Plan, found: Standing) -> str:
    """Format the combinations of a sweep, with the number of runs that grokked and their median steps.

    Steps are medians over all runs of a combination that are neither failed nor missing; a run that had not grokked
    when its budget was spent, or diverged, counts as later than all others, so a median may be "not reached".
    """
    options = [option for option in plan.grid.options if option not in SEEDS]
    groups: dict[str, list[PlannedRun]] = {}
    for run in plan.runs:
        groups.setdefault(repr(_values_of(plan, run, options)), []).append(run)
    results = _steps_by_hash(found)
    rows = [_format_row(plan, found, results, runs, options) for runs in groups.values()]
    heads = [*(option.rsplit(".", 1)[-1] for option in options), "runs", "grokked", "memorized at", "grokked at"]
    for name, column in (("diverged", -3), ("failed", -2), ("missing", -1)):
        if any(row[column] != "0" for row in rows):
            heads.append(name)
    widths_of = [
        len(options) + 4 + place for place, name in enumerate(("diverged", "failed", "missing")) if name in heads
    ]
    kept = [*range(len(options) + 4), *widths_of]
    lines = [heads, *([row[place] for place in kept] for row in rows[:MOST_LINES])]
    widths = [max(len(line[place]) for line in lines) for place in range(len(heads))]
    text = [_align(line, widths, len(options)) for line in lines]
    if len(rows) > MOST_LINES:
        text.append(f"... and {len(rows) - MOST_LINES:,} more combinations")
    return "\n".join(text)


def _values_of(plan: Plan, run: PlannedRun, options: list[str]) -> list[Any]:
    return [value for option, value in zip(plan.grid.options, run.varied, strict=True) if option in options]


def _steps_by_hash(found: Standing) -> dict[str, tuple[Any, Any]]:
    if found.rows is None:
        return {}
    columns = (found.rows[name].tolist() for name in ("config_hash", "memorize_step", "grok_step"))
    return {hashed: (memorized, grokked) for hashed, memorized, grokked in zip(*columns, strict=True)}


def _format_row(
    plan: Plan, found: Standing, results: dict[str, tuple[Any, Any]], runs: list[PlannedRun], options: list[str]
) -> list[str]:
    status = [found.status.get(run.hash) for run in runs]
    valid = [results[run.hash] for run, state in zip(runs, status, strict=True) if state not in (None, "failed")]
    memorized, grokked = ([_step(pair[which]) for pair in valid] for which in (0, 1))
    share = f"{sum(step < inf for step in grokked)} of {len(valid)}"
    words = zip(plan.grid.options, plan.label(runs[0].varied), strict=True)
    values = [word for option, word in words if option in options]
    counts = [str(status.count(name)) for name in ("diverged", "failed", None)]
    return [*values, str(len(runs)), share, _format_median(memorized), _format_median(grokked), *counts]


def _step(value: Any) -> float:
    return inf if pd.isna(value) else float(value)


def _format_median(steps: list[float]) -> str:
    """The median, of an even number the earlier of the two in the middle, as in reports (Kaplan-Meier)."""
    if not steps:
        return "-"
    middle = sorted(steps)[(len(steps) - 1) // 2]
    return "not reached" if middle == inf else f"{middle:,.0f}"


def _align(line: list[str], widths: list[int], left: int) -> str:
    cells = [
        cell.ljust(width) if place < left else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
