"""The text of a report: Markdown with tables, figures and notes on how to read them."""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from math import isfinite, isnan
from typing import Any
from urllib.parse import quote, unquote

import pandas as pd

from grok_lightning.figures.style import format_count
from grok_lightning.records.words import describe_median
from grok_lightning.report.after_grok import READING as READING_AFTER
from grok_lightning.report.after_grok import after_grok_table, describe_short, has_after_grok
from grok_lightning.report.conditions import EVENTS, MOST_COMPARED
from grok_lightning.report.frames import SPLITS

AT_THE_END = "at threshold at the end"
COUNTED = {"memorize": "n", "grok": "grok_n"}  # the runs that an event may come in
MOST_ROWS = 100
UNFOLDED = 24  # rows of the table of runs
MOST_WORDS = 12
WORDS = {"train": "training", "val": "validation", "test": "test"}

READING = """\
- *memorized*, *grokked*: the number of runs, with the 95 % Wilson interval of the share where there are several; it is
  of the runs whose outcome is known, without unfinished ones that may still get there. A run
  has memorized (grokked) at the first evaluation at which its training (validation) accuracy reaches the threshold. *At
  threshold at the end* counts the runs whose last validation accuracy is at the threshold; the column appears where it
  differs from *grokked*.
- Accuracies and losses of conditions are medians over their runs, with the least and the most where they differ. *Best*
  is the best evaluation of a run, *final* its last. Test rows are evaluated once, after training, and choose nothing.
- Median steps are Kaplan-Meier estimates. A run that spent its budget without grokking is censored at the budget, and
  so is a run that diverged; an unfinished run is censored at its last evaluation. Where exactly half of the runs are
  left between two steps, the median is the middle of the two, as in R. In parentheses: the 95 % interval (Brookmeyer
  and Crowley, log-log), where "from" marks an interval without an upper end, for lack of runs; "after" names the last
  evaluation below the threshold: the true step lies between the two. Fewer than five runs have no interval, for it
  would cover less than 95 %: their steps follow the median unless all are equal, "> 20,000" for a run that was censored
  at that step.
- Restricted mean: the mean grok step, where runs that have not grokked count with the budget; from five runs on with
  its 95 % interval (Student). Delay: the ratio of the two medians. Steps per success: the steps of all runs divided by
  the number of runs that grokked."""


def compose_markdown(
    title: str,
    command: str,
    setup: Sequence[tuple[str, str]],
    runs: pd.DataFrame,
    results: pd.DataFrame,
    conditions: pd.DataFrame,
    comparisons: pd.DataFrame,
    remarks: Sequence[str],
    pictures: Mapping[str, str],
    left_out: Sequence[str] = (),
    planned: int = 0,
) -> str:
    """Composes the Markdown of a report.

    Args:
        title: Its heading.
        command: The command that makes it.
        setup: From ``describe_setup``.
        runs: Runs from ``tabulate_runs``.
        results: From ``tabulate_results``.
        conditions: From ``tabulate_conditions``.
        comparisons: From ``compare_conditions``.
        remarks: Remarks for the reader.
        pictures: Captions of its figures by the stems of their files, in order.
        left_out: Why figures are left out, a sentence each.
        planned: The number of planned runs.
    """
    validated = bool(runs["validated"].any())
    parts = [
        f"# {escape_markdown(title)}",
        f"    {' '.join(command.splitlines())}",
        _summarize(runs, conditions, planned),
    ]
    if remarks:
        parts.append(_format_list(remarks))
    parts += ["## Setup", "\n".join(f"- **{part}**: {escape_markdown(words)}" for part, words in setup)]
    parts.append("## Steps to memorize and to grok" if validated else "## Steps to memorize")
    parts.append(_format_table(_steps_table(conditions, validated)))
    parts += ["## Accuracy and loss", _format_table(_measures_table(conditions, validated))]
    after = has_after_grok(conditions)
    if after:
        parts += ["## After the grok", format_after_grok(conditions)]
    parts += ["## Runs", _format_runs(results, validated)]
    if len(comparisons) and validated:
        parts += ["## Log-rank tests", _describe_tests(conditions, int(comparisons["p"].notna().sum()))]
        parts.append(_format_table(_tests_table(comparisons)))
    parts.append("## Figures")
    if left_out:
        parts.append(_format_list(left_out))
    for stem, words in pictures.items():
        caption, name = escape_markdown(words), quote(stem)
        parts.append(f"![{caption}]({name}.png)\n\n*{caption}* [SVG]({name}.svg), [data]({name}.csv)")
    reading = f"{READING}\n{READING_AFTER}" if after else READING
    files = "All runs with their options and curves: `runs.parquet`; the tables: `runs.csv`, `conditions.csv`, "
    files += "`comparisons.csv`."
    return "\n\n".join([*parts, "## How to read this", reading, files]) + "\n"


def _format_list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences)


def _summarize(runs: pd.DataFrame, conditions: pd.DataFrame, planned: int) -> str:
    counts = {name: int(conditions[name].sum()) for name in ("grok_k", "missing", "unfinished", "diverged")}
    operations = runs["operation"].unique()
    shown = ", ".join(map(escape_markdown, operations[:MOST_WORDS])) + (", ..." if len(operations) > MOST_WORDS else "")
    validated = runs["validated"].any()
    reached = f"{counts['grok_k']:,} grokked" if validated else f"{conditions['memorize_k'].sum():,} memorized"
    found = f"{format_count(len(runs), 'run')} of {shown} in {format_count(len(conditions), 'condition')}: {reached}"
    found += f", {counts['diverged']:,} diverged" if counts["diverged"] else ""
    measures = ("final_train_acc", "final_val_acc") if validated else ("final_train_acc", "final_train_loss")
    ends = [f"{_name_measure(name)} {_format_ends(name, runs[name].dropna())}" for name in measures]
    reached = f" {', '.join(ends).capitalize()}." if runs[list(measures)].notna().any().all() else ""
    of = format_count(planned, "planned run")
    missing = [f"{counts['missing']:,} of {of} missing"] if counts["missing"] else []
    unfinished = [f"{format_count(counts['unfinished'], 'run')} unfinished"] if counts["unfinished"] else []
    incomplete = ", ".join(missing + unfinished)
    return f"{found}.{f' **Incomplete**: {incomplete}.' if incomplete else ''}{reached}"


def _describe_tests(conditions: pd.DataFrame, tests: int) -> str:
    tested = conditions["condition"][conditions["grok_n"] > 0].tolist()
    pairs = "every pair of conditions"
    if len(tested) > MOST_COMPARED:
        pairs = f"each condition against the first ({escape_markdown(str(tested[0]))})"
    rest = len(conditions) - len(tested)
    lacking = "without runs"
    if (conditions["n"] > 0).sum() > len(tested):
        lacking += " or without rows held out for validation"
    without = f" Conditions {lacking} are not tested: {rest:,}." if rest else ""
    which = f"{format_count(tests, 'test')} of the grok step{', for no run grokked' * (not tests)}.{without}"
    if tests > 1:
        adjusted = "P-values are adjusted for the number of tests (Holm)."
        which = f"{format_count(tests, 'test')} of the grok step: {pairs}.{without} {adjusted}"
    return f"{which} With few runs, a test detects large differences only: 3 runs against 3 cannot give a p below 0.02."


def find_figures(text: str) -> set[str]:
    """Finds the files of a report's figures: those it links to in its own folder as PNG, SVG and CSV."""
    linked = {name for name in map(unquote, re.findall(r"\]\(([^()/]+)\)", text)) if "/" not in name}
    stems = {name.removesuffix(".svg") for name in linked}
    kinds = (".png", ".svg", ".csv")
    return {stem + kind for stem in stems for kind in kinds if all(stem + each in linked for each in kinds)}


def format_brief(conditions: pd.DataFrame, runs: pd.DataFrame, setup: Sequence[tuple[str, str]]) -> str:
    """Formats the conditions as one Markdown table with the main columns, and a line with seeds, budget and machine.

    Args:
        conditions: From ``tabulate_conditions``.
        runs: Runs from ``tabulate_runs``.
        setup: From ``describe_setup``.
    """
    validated = bool(runs["validated"].any())
    when = _steps_table(conditions, validated)
    median = ", median" * bool((conditions["n"] > 1).any())
    left = ["condition", "n", "memorized", f"memorize step{median}", "grokked", f"grok step{median}"]
    left += [AT_THE_END, "diverged", "unfinished", "missing"]
    kept = [name for name in left if name in when]
    known = conditions["n"] > 0
    measures = ["best_val_acc"] if validated else ["final_train_acc", "final_train_loss"]
    ends = {
        f"{_name_measure(name)}{median}": conditions[name].map(_pick_form(name)).where(known, "-").tolist()
        for name in measures
    }
    budgets = sorted(conditions["budget"].dropna().unique())
    budget = " or ".join(f"{steps:,.0f}" for steps in budgets)
    shared = dict(setup)
    seeds = [f"{name} {shared[name]}" for name in ("Seed", "Seeds") if name in shared]
    spent = f"budget {budget} steps, {runs['steps'].sum():,.0f} taken"
    told = "; ".join([*seeds, spent, *(shared[name] for name in ("Precision", "Machine") if name in shared)])
    return f"{_format_table(when[kept].assign(**ends))}\n\n{escape_markdown(told[0].upper() + told[1:])}."


def format_after_grok(conditions: pd.DataFrame) -> str:
    """Formats what became of the runs of each condition as a Markdown table, and says which were watched for too short.

    Args:
        conditions: From ``tabulate_conditions``, with the columns of ``tabulate_after_grok``.
    """
    parts = [_format_table(after_grok_table(conditions)), describe_short(conditions)]
    return "\n\n".join(filter(None, parts))


def _steps_table(conditions: pd.DataFrame, validated: bool) -> pd.DataFrame:
    """Shares and steps of each condition; without those of grokking where no rows are held out for validation."""
    rows = []
    budgets = conditions["budget"].dropna().unique()
    some_left = validated and (conditions["end_k"] != conditions["grok_k"]).any()
    counts = [name for name in ("diverged", "unfinished", "missing") if conditions[name].any()]
    several = bool((conditions["n"] > 1).any())
    for row in conditions.to_dict("records"):
        cells = {"condition": row["condition"], "n": f"{row['n']}"}
        for event, word in zip(EVENTS[: 1 + validated], ("memorized", "grokked"), strict=False):
            cells[word] = _format_share(row, event)
            median, low, high, after, steps = (
                row[f"{event}_{name}"] for name in ("median", "median_low", "median_high", "median_after", "steps")
            )
            words = describe_median(median, low, high, after, steps) if row[COUNTED[event]] else "-"
            cells[f"{event} step{', median' * several}"] = words
        if some_left:
            cells[AT_THE_END] = f"{row['end_k']}/{row['grok_n']}" if row["grok_n"] else "-"
        if validated and several:
            to_budget = f" to {budgets[0]:,.0f}" if len(budgets) == 1 else ""
            cells[f"restricted mean{to_budget}"] = _format_mean(row, len(budgets) == 1)
        if validated:
            cells["delay"] = f"{row['delay']:.1f}x" if isfinite(row["delay"]) else "-"
            none = f"none in {row['steps']:,.0f}" if row["grok_n"] else "-"
            cells["steps per success"] = f"{row['steps_per_success']:,.0f}" if row["grok_k"] else none
        cells |= {name: f"{row[name]}" for name in counts}
        rows.append(cells)
    return pd.DataFrame(rows)


def _format_share(row: Mapping[Hashable, Any], event: str) -> str:
    """``2/3 (21 to 94 %)``; no interval for one run."""
    low, high = (100 * row[f"{event}_{end}"] for end in ("low", "high"))
    n = row[COUNTED[event]]
    interval = f" ({low:.0f} to {high:.0f} %)" if n > 1 and isfinite(low) else ""
    return f"{row[f'{event}_k']}/{n}{interval}" if n else "-"


def _measures_table(conditions: pd.DataFrame, validated: bool) -> pd.DataFrame:
    """Median accuracies and losses of each condition, with least and most where they differ."""
    table = conditions[["condition", "n"]].astype(str)
    for short in _list_measures(conditions, validated):
        form = _pick_form(short)
        least, middle, most = (conditions[f"{short}{end}"].map(form) for end in ("_least", "", "_most"))
        ranges = " (" + least + " to " + most + ")"
        cells = middle + ranges.where(least != most, "")
        table[_name_measure(short)] = cells.where(conditions[short].notna(), "-")
    return table


def _list_measures(table: pd.DataFrame, validated: bool) -> list[str]:
    """Columns of accuracies and losses, those of validation only if rows are held out for it."""
    ends = [f"final_{split}_{measure}" for measure in ("acc", "loss") for split in SPLITS]
    return [name for name in ("best_val_acc", *ends) if name in table and (validated or "_val_" not in name)]


def _name_measure(short: str) -> str:
    """``final training accuracy`` for ``final_train_acc``."""
    when, split, measure = short.split("_")
    return f"{when} {WORDS[split]} {'loss' if measure == 'loss' else 'accuracy'}"


def _format_ends(short: str, values: pd.Series) -> str:
    form = _pick_form(short)
    least, most = form(values.min()), form(values.max())
    return least if least == most else f"{least} to {most}"


def _format_runs(results: pd.DataFrame, validated: bool) -> str:
    """A row for each run, folded where there are many."""
    names = [name for name in _list_measures(results, validated) if not name.startswith("best")]
    count, several = len(results), results["condition"].nunique() > 1
    varying = [
        name for name in (f"{split}_rows" for split in SPLITS) if name in results and results[name].nunique() > 1
    ]
    results = results.head(MOST_ROWS)
    table = results[["condition", "seed"] if several else ["seed"]].astype(object)
    for rows in varying:
        table[f"{WORDS[rows.removesuffix('_rows')]} rows"] = results[rows].map(_format_integer)
    for name in names:
        table[_name_measure(name).removeprefix("final ")] = results[name].map(_pick_form(name))
    for event in EVENTS[: 1 + validated]:
        table[f"{event} step"] = results[f"{event}_step"].map(_format_integer)
    table["seed"] = table["seed"].map(lambda seed: "-" if pd.isna(seed) else str(int(seed)))
    table = table.assign(steps=results["steps"].map(_format_integer), status=results["status"], run=results["run"])
    if count <= UNFOLDED:
        return _format_table(table)
    which = f"The {count:,} runs" if count <= MOST_ROWS else f"The first {MOST_ROWS} of {count:,} runs"
    return f'<details markdown="1">\n<summary>{which}</summary>\n\n{_format_table(table, count)}\n\n</details>'


def _format_integer(value: Any) -> str:
    return "-" if pd.isna(value) else f"{value:,.0f}"


def _format_mean(row: Mapping[Hashable, Any], one_budget: bool) -> str:
    if isnan(row["grok_mean"]):
        return "-"
    low, high = row["grok_mean_low"], row["grok_mean_high"]
    interval = f" ({low:,.0f} to {high:,.0f})" if isfinite(low) else ""
    until = "" if one_budget else f" within {row['budget']:,.0f}"
    return f"{row['grok_mean']:,.0f}{interval}{until}"


def _tests_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    adjusted = {"p": comparisons["p"].map(_format_p), "p, adjusted": comparisons["p_holm"].map(_format_p)}
    return comparisons[["first", "second"]].assign(**adjusted)


def _format_p(value: float) -> str:
    return "no run grokked" if isnan(value) else "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _format_accuracy(share: float) -> str:
    """An accuracy that never rounds up to 100 %."""
    if isnan(share):
        return "-"
    return "100 %" if share >= 1 else "0 %" if share <= 0 else f"{min(100 * share, 99.99):.2f} %"


def _pick_form(short: str) -> Callable[[float], str]:
    """How the values of a measure are written."""
    return _format_loss if short.endswith("loss") else _format_accuracy


def _format_loss(loss: float) -> str:
    return "-" if isnan(loss) else f"{loss:.3g}"


def _format_table(table: pd.DataFrame, count: int | None = None) -> str:
    """A table of Markdown, the first 100 rows of it; ``count``: the number of rows if the others are cut already."""
    if not len(table):
        return "none"
    rows = [[escape_markdown(str(cell)) for cell in row] for row in table.head(MOST_ROWS).itertuples(index=False)]
    lines = [list(map(str, table.columns)), ["---", *["---:"] * (len(table.columns) - 1)], *rows]
    rest = (count or len(table)) - MOST_ROWS
    more = f"\n\n... and {format_count(rest, 'more row')}, see the CSV files" if rest > 0 else ""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + more


def escape_markdown(text: str) -> str:
    """Escapes text so that Markdown shows it as it is, also in a table."""
    escaped = re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")
