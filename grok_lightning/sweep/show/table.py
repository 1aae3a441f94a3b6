"""Table of a sweep's results, one line per combination with seeds pooled; and the output of ``sweep status``."""

from collections import Counter
from math import inf, isnan, nan

import pandas as pd

from grok_lightning.records.after_grok import AFTER
from grok_lightning.records.after_grok import STABLE as STABLE_SHARE
from grok_lightning.records.notices import read_notices
from grok_lightning.records.record import RESULT
from grok_lightning.records.tasks import is_memorized_text
from grok_lightning.records.words import NONE, format_percent
from grok_lightning.sweep.plan.pending import ENDS, Standing
from grok_lightning.sweep.plan.runs import Plan, PlannedRun
from grok_lightning.sweep.plan.stacking import SEED

SEEDS = (SEED, "data.split_seed")
SPLITS = ("train", "val", "test")
STEPS = ("memorize_step", "grok_step")
STABLE = f"{AFTER}.stable"
NUMBERS = (*STEPS, "counts.val", STABLE, *(f"final.{name}" for name in ENDS))
HEADS = ("memorized", "grokked", "memorized at", "grokked at")
EMPTY = (NONE, "0")  # in all rows: the column is left out
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
    results = _read_results(plan, found)
    rows = []
    for runs in groups.values():
        words = plan.label(runs[0].varied)
        rows.append([words[place] for place in pooled] + _summarize(runs, found, results))
    heads = [plan.grid.options[place].rsplit(".", 1)[-1] for place in pooled]
    heads += ["runs", *HEADS, f"below {STABLE_SHARE:.0%} later", *(f"{split} acc (loss)" for split in SPLITS)]
    heads += ["diverged", "failed", "missing"]
    always = len(pooled) + 1
    shown = [place for place in range(len(heads)) if place < always or any(row[place] not in EMPTY for row in rows)]
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


def _read_results(plan: Plan, found: Standing) -> dict[str, dict[str, float]]:
    """Numbers of the runs that are over, by hash; NaN where a record has none."""
    table = found.rows.reindex(columns=["config_hash", *NUMBERS]).set_index("config_hash")
    results = table.apply(pd.to_numeric, errors="coerce").astype(float).to_dict("index")
    for run in plan.runs:  # of earlier versions, which did not record what is held out
        unknown = run.hash in results and isnan(results[run.hash]["counts.val"])
        if unknown and is_memorized_text(plan.blocks[run.block].resolved["data"]):
            results[run.hash] |= {"counts.val": 0.0, "grok_step": nan, STABLE: nan}
    return results


def _summarize(runs: list[PlannedRun], found: Standing, rows: dict[str, dict[str, float]]) -> list[str]:
    """Counts, median steps, and median accuracies and losses of the runs of a combination."""
    status = [found.status.get(run.hash) for run in runs]
    valid = [rows[run.hash] for run, state in zip(runs, status, strict=True) if state not in (None, "failed")]
    reached = {name: [row[name] for row in valid if not isnan(row[name])] for name in STEPS}
    steps = {name: found + [inf] * (len(valid) - len(found)) for name, found in reached.items()}
    counts = {name: f"{len(found)} of {len(valid)}" for name, found in reached.items()}
    if any(row["counts.val"] == 0 for row in valid):  # nothing is held out, and learning it is memorizing it
        cells = [counts["memorize_step"], NONE, _format_median(steps["memorize_step"]), NONE]
    else:
        cells = [NONE, counts["grok_step"], *map(_format_median, steps.values())]
    cells += [str(sum(row[STABLE] == 0 for row in valid))]
    cells += [NONE if split == "val" and cells[1] == NONE else _format_end(valid, split) for split in SPLITS]
    return [str(len(runs)), *cells, *(str(status.count(name)) for name in ("diverged", "failed", None))]


def _format_end(rows: list[dict[str, float]], split: str) -> str:
    """Median accuracy and loss at the last evaluation."""
    accuracies, losses = (
        sorted(row[name] for row in rows if not isnan(row[name]))
        for name in (f"final.{split}/acc", f"final.{split}/loss")
    )
    if not accuracies:
        return NONE
    loss = f"{losses[(len(losses) - 1) // 2]:.3g}" if losses else NONE
    return f"{format_percent(accuracies[(len(accuracies) - 1) // 2])} ({loss})"


def _format_median(steps: list[float]) -> str:
    """The median, of an even number the earlier of the two in the middle, as in reports (Kaplan-Meier)."""
    if not steps:
        return NONE
    middle = sorted(steps)[(len(steps) - 1) // 2]
    return "not reached" if middle == inf else f"{middle:,.0f}"
