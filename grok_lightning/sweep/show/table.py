"""Table of a sweep's results, one line per combination with seeds pooled; and the output of ``sweep status``."""

from collections import Counter
from math import inf

import pandas as pd

from grok_lightning.records.notices import read_notices
from grok_lightning.records.record import RESULT
from grok_lightning.sweep.plan.pending import Standing
from grok_lightning.sweep.plan.runs import Plan, PlannedRun
from grok_lightning.sweep.plan.stacking import SEED

SEEDS = (SEED, "data.split_seed")
MOST_LINES = 60


def format_status(plan: Plan, found: Standing) -> str:
    """Format the progress of a sweep: counts of runs, a line for each worker, and the table of results."""
    counts = Counter(found.status.get(run.hash, "not done") for run in plan.runs)
    lines = [f"{plan.name}: {len(plan.runs):,} runs, " + ", ".join(f"{n:,} {state}" for state, n in counts.items())]
    notices = read_notices(plan.places.notices).values()
    if notices:
        running = sum(notice["runs"] - notice["over"] for notice in notices)
        lines.append(f"{len(notices)} workers are training {running:,} runs")
        lines += [
            f"  {n['name']}: step {n['step']:,} of {n['budget']:,}{', compiling' * n.get('compiling', False)}"
            for n in notices
        ]
    return "\n".join([*lines, *format_damaged(plan, found), format_table(plan, found)])


def format_damaged(plan: Plan, found: Standing) -> list[str]:
    """Lines on records that cannot be used: the file, and what is wrong with it."""
    return [
        f"{plan.places.of_run(name)[0] / RESULT} is damaged ({fault}); the run counts as not done"
        for name, fault in list(found.damaged.items())[:MOST_LINES]
    ]


def format_table(plan: Plan, found: Standing) -> str:
    """Format the combinations of a sweep, with the number of runs that grokked and their median steps.

    Steps are medians over all runs of a combination that are neither failed nor missing; a run that had not grokked
    when its budget was spent, or diverged, counts as later than all others, so a median may be "not reached".
    """
    pooled = [place for place, option in enumerate(plan.grid.options) if option not in SEEDS]
    groups: dict[str, list[PlannedRun]] = {}
    for run in plan.runs:
        groups.setdefault(repr([run.varied[place] for place in pooled]), []).append(run)
    columns = (found.rows[name] for name in ("config_hash", "memorize_step", "grok_step"))
    steps = {
        hashed: [inf if pd.isna(step) else float(step) for step in both] for hashed, *both in zip(*columns, strict=True)
    }
    rows = []
    for runs in groups.values():
        words = plan.label(runs[0].varied)
        rows.append([words[place] for place in pooled] + _summarize(runs, found, steps))
    heads = [plan.grid.options[place].rsplit(".", 1)[-1] for place in pooled]
    heads += ["runs", "grokked", "memorized at", "grokked at", "diverged", "failed", "missing"]
    shown = [place for place in range(len(heads)) if place < len(heads) - 3 or any(row[place] != "0" for row in rows)]
    lines = [[line[place] for place in shown] for line in (heads, *rows[:MOST_LINES])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        cells[: len(pooled)] = [line[place].ljust(widths[place]) for place in range(len(pooled))]
        text.append("  ".join(cells).rstrip())
    if len(rows) > MOST_LINES:
        text.append(f"... and {len(rows) - MOST_LINES:,} more combinations")
    return "\n".join(text)


def _summarize(runs: list[PlannedRun], found: Standing, steps: dict[str, list[float]]) -> list[str]:
    """Counts and median steps of the runs of a combination."""
    status = [found.status.get(run.hash) for run in runs]
    valid = [run.hash for run, state in zip(runs, status, strict=True) if state not in (None, "failed")]
    memorized, grokked = ([steps[hashed][which] for hashed in valid] for which in (0, 1))
    share = f"{sum(step < inf for step in grokked)} of {len(valid)}"
    counts = [str(status.count(name)) for name in ("diverged", "failed", None)]
    return [str(len(runs)), share, _format_median(memorized), _format_median(grokked), *counts]


def _format_median(steps: list[float]) -> str:
    """The median, of an even number the earlier of the two in the middle, as in reports (Kaplan-Meier)."""
    if not steps:
        return "-"
    middle = sorted(steps)[(len(steps) - 1) // 2]
    return "not reached" if middle == inf else f"{middle:,.0f}"
