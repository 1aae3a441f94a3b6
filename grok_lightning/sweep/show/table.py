"""Table of a sweep's results, one line per combination with seeds pooled; and the output of ``sweep status``."""

from collections import Counter
from math import isnan, nan
from statistics import median
from typing import Literal

import pandas as pd

from grok_lightning.records.after_grok import AFTER
from grok_lightning.records.after_grok import STABLE as STABLE_SHARE
from grok_lightning.records.notices import read_notices
from grok_lightning.records.record import RESULT
from grok_lightning.records.tasks import is_memorized_text
from grok_lightning.records.words import NONE, describe_median, format_percent, list_steps
from grok_lightning.statistics import LEAST_RUNS, kaplan_meier, times
from grok_lightning.sweep.plan.pending import ENDS, Standing
from grok_lightning.sweep.plan.runs import Plan, PlannedRun
from grok_lightning.sweep.plan.stacking import SEED

SEEDS = (SEED, "data.split_seed")
SPLITS = ("train", "val", "test")
EVENTS: tuple[Literal["memorize", "grok"], ...] = ("memorize", "grok")
STEPS = tuple(f"{event}_step" for event in EVENTS)
STABLE = f"{AFTER}.stable"
NUMBERS = (*STEPS, "steps", "budget", "counts.val", STABLE, *(f"final.{name}" for name in ENDS))
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

    Steps are Kaplan-Meier medians over all runs of a combination that are neither failed nor missing, as in reports: a
    run that had not grokked is censored, so a median may be "not reached". Of two to four runs the steps follow.
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
    level = min([STABLE_SHARE, *(float(block.resolved["evaluation"]["threshold"]) for block in plan.blocks)])
    heads += ["runs", *HEADS, f"below {100 * level:g}% later", *(f"{split} acc (loss)" for split in SPLITS)]
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
    numbers = table.apply(pd.to_numeric, errors="coerce").astype(float)
    known = numbers.assign(status=found.rows["status"].to_numpy() if len(numbers) else "")
    for event in EVENTS:
        at = times(known.assign(**{f"{event}_after": nan}), event)
        steps = (
            at["step"].fillna(numbers[["steps", "budget"]].max().max()).fillna(0.0)
        )  # older records lack the last step
        numbers = numbers.assign(**{f"{event}_at": steps, f"{event}_seen": at["observed"].astype(float)})
    results: dict[str, dict[str, float]] = numbers.to_dict("index")
    for run in plan.runs:  # of earlier versions, which did not record what is held out
        unknown = run.hash in results and isnan(results[run.hash]["counts.val"])
        if unknown and is_memorized_text(plan.blocks[run.block].resolved["data"]):
            results[run.hash] |= {"counts.val": 0.0, "grok_step": nan, STABLE: nan}
    return results


def _summarize(runs: list[PlannedRun], found: Standing, rows: dict[str, dict[str, float]]) -> list[str]:
    """Counts, median steps, and median accuracies and losses of the runs of a combination."""
    status = [found.status.get(run.hash) for run in runs]
    valid = [rows[run.hash] for run, state in zip(runs, status, strict=True) if state not in (None, "failed")]
    counts = {name: f"{sum(not isnan(row[name]) for row in valid)} of {len(valid)}" for name in STEPS}
    steps = {event: _format_median(valid, event) for event in EVENTS}
    if any(row["counts.val"] == 0 for row in valid):  # nothing is held out, and learning it is memorizing it
        cells = [counts["memorize_step"], NONE, steps["memorize"], NONE]
    else:
        cells = [NONE, counts["grok_step"], *steps.values()]
    cells += [str(sum(row[STABLE] == 0 for row in valid))]
    cells += [NONE if split == "val" and cells[1] == NONE else _format_end(valid, split) for split in SPLITS]
    return [str(len(runs)), *cells, *(str(status.count(name)) for name in ("diverged", "failed", None))]


def _format_end(rows: list[dict[str, float]], split: str) -> str:
    """Median accuracy and loss at the last evaluation."""
    accuracies, losses = (
        [row[name] for row in rows if not isnan(row[name])] for name in (f"final.{split}/acc", f"final.{split}/loss")
    )
    if not accuracies:
        return NONE
    loss = f"{median(losses):.3g}" if losses else NONE
    return f"{format_percent(median(accuracies))} ({loss})"


def _format_median(rows: list[dict[str, float]], event: str) -> str:
    """The median step of an event as in reports, with the steps of two to four runs."""
    if not rows:
        return NONE
    steps, seen = [row[f"{event}_at"] for row in rows], [bool(row[f"{event}_seen"]) for row in rows]
    listed = list_steps(steps, seen) if len(rows) < LEAST_RUNS else ""
    return describe_median(kaplan_meier(steps, seen).median, steps=listed)
