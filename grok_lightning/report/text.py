"""The text of a report: Markdown with tables, figures and notes on how to read them."""

import re
from collections.abc import Hashable, Mapping, Sequence
from math import isfinite, isnan
from typing import Any
from urllib.parse import quote, unquote

import pandas as pd

from grok_lightning.figures.style import format_count
from grok_lightning.report.conditions import MOST_COMPARED, step_in_words

AT_THE_END = "at threshold at the end"
MOST_ROWS = 100
MOST_WORDS = 12

READING = """\
- *memorized*, *grokked*: the number of runs, with the 95 % Wilson interval of the share. A run has memorized (grokked)
  at the first evaluation at which its training (validation) accuracy reaches the threshold. *At threshold at the end*
  counts the runs whose last validation accuracy is at the threshold; the column appears where it differs from
  *grokked*.
- Median steps are Kaplan-Meier estimates. A run that spent its budget without grokking is censored at the budget, and
  so is a run that diverged; an unfinished run is censored at its last evaluation. In parentheses: the 95 % interval
  (Brookmeyer and Crowley, log-log), where "from" marks an interval without an upper end, for lack of runs; "after"
  names the last evaluation below the threshold: the true step lies between the two.
- Restricted mean: the mean grok step, where runs that have not grokked count with the budget. Delay: the ratio of the
  two medians. Steps per success: the steps of all runs divided by the number of runs that grokked."""


def compose_markdown(
    title: str,
    command: str,
    runs: pd.DataFrame,
    conditions: pd.DataFrame,
    comparisons: pd.DataFrame,
    remarks: Sequence[str],
    pictures: Mapping[str, str],
) -> str:
    """Composes the Markdown of a report.

    Args:
        title: Its heading.
        command: The command that makes it.
        runs: Runs from ``tabulate_runs``.
        conditions: From ``tabulate_conditions``.
        comparisons: From ``compare_conditions``.
        remarks: Remarks for the reader.
        pictures: Captions of its figures by the stems of their files, in order.
    """
    parts = [f"# {escape_markdown(title)}", f"    {' '.join(command.splitlines())}", _summarize(runs, conditions)]
    if remarks:
        parts.append("\n".join(f"- {escape_markdown(remark)}" for remark in remarks))
    parts += ["## Steps to memorize and to grok", _format_table(_steps_table(conditions))]
    parts += ["## Accuracy", _format_table(_accuracy_table(conditions))]
    if len(comparisons):
        parts += ["## Log-rank tests", _describe_tests(conditions, len(comparisons))]
        parts.append(_format_table(_tests_table(comparisons)))
    parts.append("## Figures")
    for stem, words in pictures.items():
        caption, name = escape_markdown(words), quote(stem)
        parts.append(f"![{caption}]({name}.png)\n\n*{caption}* [SVG]({name}.svg), [data]({name}.csv)")
    files = "All runs with their options and curves: `runs.parquet`; the tables: `conditions.csv`, `comparisons.csv`."
    return "\n\n".join([*parts, "## How to read this", READING, files]) + "\n"


def _summarize(runs: pd.DataFrame, conditions: pd.DataFrame) -> str:
    counts = {name: int(conditions[name].sum()) for name in ("grok_k", "missing", "unfinished", "diverged")}
    operations = runs["operation"].unique()
    shown = ", ".join(map(escape_markdown, operations[:MOST_WORDS])) + (", ..." if len(operations) > MOST_WORDS else "")
    found = f"{format_count(len(runs), 'run')} of {shown} in {format_count(len(conditions), 'condition')}: "
    found += f"{counts['grok_k']:,} grokked" + (f", {counts['diverged']:,} diverged" if counts["diverged"] else "")
    planned = format_count(len(runs) + counts["missing"], "planned run")
    missing = [f"{counts['missing']:,} of {planned} missing"] if counts["missing"] else []
    unfinished = [f"{format_count(counts['unfinished'], 'run')} unfinished"] if counts["unfinished"] else []
    incomplete = ", ".join(missing + unfinished)
    return f"{found}.{f' **Incomplete**: {incomplete}.' if incomplete else ''}"


def _describe_tests(conditions: pd.DataFrame, tests: int) -> str:
    tested = conditions["condition"][conditions["n"] > 0].tolist()
    pairs = "every pair of conditions"
    if len(tested) > MOST_COMPARED:
        pairs = f"each condition against the first ({escape_markdown(str(tested[0]))})"
    rest = len(conditions) - len(tested)
    without = f" Conditions without runs are not tested: {rest:,}." if rest else ""
    return (
        f"{format_count(tests, 'test')} of the grok step: {pairs}.{without} P-values are adjusted for the number of "
        "tests (Holm). With few runs, a test detects large differences only: 3 runs against 3 cannot give a p below "
        "0.02."
    )


def find_figures(text: str) -> set[str]:
    """Finds the files of a report's figures: those it links to in its own folder as PNG, SVG and CSV."""
    linked = {name for name in map(unquote, re.findall(r"\]\(([^()/]+)\)", text)) if "/" not in name}
    stems = {name.removesuffix(".svg") for name in linked}
    kinds = (".png", ".svg", ".csv")
    return {stem + kind for stem in stems for kind in kinds if all(stem + each in linked for each in kinds)}


def format_brief(conditions: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Formats the conditions as one Markdown table with the main columns, and a line with budget and steps.

    Args:
        conditions: From ``tabulate_conditions``.
        runs: Runs from ``tabulate_runs``.
    """
    when = _steps_table(conditions)
    left = ["condition", "n", "memorized", "memorize step, median", "grokked", "grok step, median"]
    kept = [*left, *(name for name in (AT_THE_END, "diverged", "unfinished", "missing") if name in when)]
    known = conditions["n"] > 0
    accuracy = conditions["best_val_acc"].map(_format_accuracy).where(known, "-").tolist()
    budgets = sorted(conditions["budget"].dropna().unique())
    budget = " or ".join(f"{steps:,.0f}" for steps in budgets)
    spent = f"Budget {budget} steps; {runs['steps'].sum():,.0f} steps taken."
    return f"{_format_table(when[kept].assign(**{'best validation accuracy, median': accuracy}))}\n\n{spent}"


def _steps_table(conditions: pd.DataFrame) -> pd.DataFrame:
    rows = []
    budgets = conditions["budget"].dropna().unique()
    some_left = (conditions["end_k"] != conditions["grok_k"]).any()
    counts = [name for name in ("diverged", "unfinished", "missing") if conditions[name].any()]
    for row in conditions.to_dict("records"):
        cells = {"condition": row["condition"], "n": f"{row['n']}"}
        for event, word in (("memorize", "memorized"), ("grok", "grokked")):
            low, high = (100 * row[f"{event}_{end}"] for end in ("low", "high"))
            cells[word] = f"{row[f'{event}_k']}/{row['n']} ({low:.0f} to {high:.0f} %)" if row["n"] else "-"
            numbers = (row[f"{event}_median{end}"] for end in ("", "_low", "_high", "_after"))
            cells[f"{event} step, median"] = step_in_words(*numbers) if row["n"] else "-"
        if some_left:
            cells[AT_THE_END] = f"{row['end_k']}/{row['n']}" if row["n"] else "-"
        to_budget = f" to {budgets[0]:,.0f}" if len(budgets) == 1 else ""
        cells[f"restricted mean{to_budget}"] = _format_mean(row, len(budgets) == 1)
        cells["delay"] = f"{row['delay']:.1f}x" if isfinite(row["delay"]) else "-"
        none = f"none in {row['steps']:,.0f}" if row["n"] else "-"
        cells["steps per success"] = f"{row['steps_per_success']:,.0f}" if row["grok_k"] else none
        cells |= {name: f"{row[name]}" for name in counts}
        rows.append(cells)
    return pd.DataFrame(rows)


def _accuracy_table(conditions: pd.DataFrame) -> pd.DataFrame:
    names = {
        "best_val_acc": "best validation accuracy",
        "final_val_acc": "final validation accuracy",
        "final_train_acc": "final training accuracy",
    }
    table = conditions[["condition", "n"]].astype(str)
    for short, name in names.items():
        least, middle, most = (conditions[f"{short}{end}"].map(_format_accuracy) for end in ("_least", "", "_most"))
        cells = middle + " (" + least + " to " + most + ")"
        table[f"{name}: median (least to most)"] = cells.where(conditions[short].notna(), "-")
    return table


def _format_mean(row: Mapping[Hashable, Any], one_budget: bool) -> str:
    if isnan(row["grok_mean"]):
        return "-"
    interval = f" ({row['grok_mean_low']:,.0f} to {row['grok_mean_high']:,.0f})" if row["n"] > 1 else ""
    until = "" if one_budget else f" to {row['budget']:,.0f}"
    return f"{row['grok_mean']:,.0f}{interval}{until}"


def _tests_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    adjusted = {"p": comparisons["p"].map(_format_p), "p, adjusted": comparisons["p_holm"].map(_format_p)}
    return comparisons[["first", "second"]].assign(**adjusted)


def _format_p(value: float) -> str:
    return "no run grokked" if isnan(value) else "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _format_accuracy(share: float) -> str:
    """An accuracy that never rounds up to 100 %."""
    return "100 %" if share >= 1 else f"{min(100 * share, 99.99):.2f} %"


def _format_table(table: pd.DataFrame) -> str:
    if not len(table):
        return "none"
    rows = [[escape_markdown(str(cell)) for cell in row] for row in table.head(MOST_ROWS).itertuples(index=False)]
    lines = [list(map(str, table.columns)), ["---", *["---:"] * (len(table.columns) - 1)], *rows]
    more = f"\n\n... and {len(table) - MOST_ROWS:,} more rows, see the CSV files" if len(table) > MOST_ROWS else ""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + more


def escape_markdown(text: str) -> str:
    """Escapes text so that Markdown shows it as it is, also in a table."""
    escaped = re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")
