"""The text of a report: Markdown with tables, figures and notes on how to read them."""

import re
from collections.abc import Hashable, Mapping, Sequence
from math import isfinite, isnan
from typing import Any
from urllib.parse import quote, unquote

import pandas as pd

from grok_lightning.report.conditions import MOST_COMPARED, step_in_words

AT_THE_END = "at threshold at the end"
MOST_ROWS = 100
MOST_WORDS = 12

READING = """\
- *memorized*, *grokked*: the number of runs, with the 95 % Wilson interval of the share. A run has memorized (grokked)
  at the first evaluation at which its training (validation) accuracy reaches the threshold. The column *at threshold at
  the end* appears where it differs from *grokked*: runs whose last validation accuracy is at the threshold.
- Median steps are Kaplan-Meier estimates. A run that spent its budget without grokking, or diverged, is censored at the
  budget; an unfinished run at its last evaluation. In brackets: the 95 % interval (Brookmeyer and Crowley, log-log);
  "from" means that the runs are too few to bound the median from above; "after" names the last evaluation below the
  threshold, because accuracy is known at evaluations only.
- Restricted mean: the mean grok step, with runs that have not grokked counted at the budget. Delay: the ratio of the
  two medians. Steps per success: the steps of all runs divided by the number of runs that grokked."""


def written(
    title: str,
    command: str,
    runs: pd.DataFrame,
    conditions: pd.DataFrame,
    comparisons: pd.DataFrame,
    remarks: Sequence[str],
    pictures: Mapping[str, str],
) -> str:
    """The Markdown of a report.

    Args:
        title: Its heading.
        command: The command that makes it.
        runs: Runs from ``frame``.
        conditions: From ``conditions_table``.
        comparisons: From ``comparisons``.
        remarks: Remarks for the reader.
        pictures: Captions of its figures by the stems of their files, in order.
    """
    parts = [f"# {plain(title)}", f"    {' '.join(command.splitlines())}", _summarize(runs, conditions)]
    if remarks:
        parts.append("\n".join(f"- {plain(remark)}" for remark in remarks))
    parts += [
        "## Steps to memorize and to grok",
        _format_table(_steps_table(conditions)),
        "## Accuracy",
        _format_table(_accuracy_table(conditions)),
    ]
    if len(comparisons):
        here = conditions["condition"][conditions["n"] > 0].tolist()
        first = plain(str(here[0]))
        pairs = (
            "every pair of conditions" if len(here) <= MOST_COMPARED else f"each condition against the first ({first})"
        )
        rest = len(conditions) - len(here)
        without = f"; the {rest:,} without runs are in no test" if rest else ""
        parts += [
            "## Log-rank tests",
            f"{len(comparisons):,} tests of the grok step: {pairs}{without}. P-values are adjusted for the number of "
            "tests (Holm). With few runs a test detects large differences only: 3 runs against 3 cannot give a p below "
            "0.02.",
            _format_table(_format_tests(comparisons)),
        ]
    parts.append("## Figures")
    for stem, words in pictures.items():
        caption, name = plain(words), quote(stem)
        parts.append(f"![{caption}]({name}.png)\n\n*{caption}* [SVG]({name}.svg), [data]({name}.csv)")
    parts += [
        "## How to read this",
        READING,
        "Every run with its options and curves: `runs.parquet`; the tables: `conditions.csv`, `comparisons.csv`.",
    ]
    return "\n\n".join(parts) + "\n"


def figure_files(text: str) -> set[str]:
    """The files of a report's figures: those it links to in its own folder as PNG, SVG and CSV."""
    linked = {name for name in map(unquote, re.findall(r"\]\(([^()/]+)\)", text)) if "/" not in name}
    stems = {name.removesuffix(".svg") for name in linked}
    kinds = (".png", ".svg", ".csv")
    return {stem + kind for stem in stems for kind in kinds if all(stem + each in linked for each in kinds)}


def brief(conditions: pd.DataFrame, runs: pd.DataFrame) -> str:
    """The conditions as one Markdown table with its main columns, and a line with budget and steps.

    Args:
        conditions: From ``conditions_table``.
        runs: Runs from ``frame``.
    """
    when = _steps_table(conditions)
    left = ["condition", "n", "memorized", "memorize step, median", "grokked", "grok step, median"]
    kept = [*left, *(name for name in (AT_THE_END, "diverged", "unfinished", "missing") if name in when)]
    accuracy = [
        f"{_format_accuracy(row['best_val_acc'])}" if row["n"] else "-" for row in conditions.to_dict("records")
    ]
    budgets = sorted(conditions["budget"].dropna().unique())
    budget = " or ".join(f"{steps:,.0f}" for steps in budgets)
    spent = f"Budget {budget} steps; {runs['steps'].sum():,.0f} steps taken."
    return f"{_format_table(when[kept].assign(**{'best validation accuracy, median': accuracy}))}\n\n{spent}"


def _summarize(runs: pd.DataFrame, conditions: pd.DataFrame) -> str:
    total, grokked = len(runs), int(conditions["grok_k"].sum())
    missing, unfinished, diverged = (int(conditions[name].sum()) for name in ("missing", "unfinished", "diverged"))
    operations = runs["operation"].unique()
    shown = ", ".join(map(plain, operations[:MOST_WORDS])) + (", ..." if len(operations) > MOST_WORDS else "")
    words = f"{total:,} runs of {shown} in {len(conditions):,} conditions; {grokked:,} grokked"
    if unfinished or missing:
        asked = total + missing
        words += f". **Not complete**: of {asked:,} runs {missing:,} are missing and {unfinished:,} are unfinished"
    return f"{words}{f'; {diverged:,} diverged' if diverged else ''}."


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
        cells[f"restricted mean{f' to {budgets[0]:,.0f}' if len(budgets) == 1 else ''}"] = _format_mean(
            row, len(budgets) == 1
        )
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
    rows = []
    for row in conditions.to_dict("records"):
        cells = {"condition": row["condition"], "n": f"{row['n']}"}
        for short, name in names.items():
            least, middle, most = row[f"{short}_least"], row[short], row[f"{short}_most"]
            cells[f"{name}: median (least to most)"] = (
                "-"
                if isnan(middle)
                else f"{_format_accuracy(middle)} ({_format_accuracy(least)} to {_format_accuracy(most)})"
            )
        rows.append(cells)
    return pd.DataFrame(rows)


def _format_mean(row: Mapping[Hashable, Any], one_budget: bool) -> str:
    if isnan(row["grok_mean"]):
        return "-"
    interval = f" ({row['grok_mean_low']:,.0f} to {row['grok_mean_high']:,.0f})" if row["n"] > 1 else ""
    until = "" if one_budget else f" to {row['budget']:,.0f}"
    return f"{row['grok_mean']:,.0f}{interval}{until}"


def _format_tests(comparisons: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {
            "first": row["first"],
            "second": row["second"],
            "p": _format_p(row["p"]),
            "p, adjusted": _format_p(row["p_holm"]),
        }
        for row in comparisons.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _format_p(value: float) -> str:
    return "no run grokked" if isnan(value) else "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _format_accuracy(share: float) -> str:
    """An accuracy that never rounds up to 100 %."""
    return "100 %" if share >= 1 else f"{min(100 * share, 99.99):.2f} %"


def _format_table(table: pd.DataFrame) -> str:
    if not len(table):
        return "none"
    names = [str(name) for name in table.columns]
    rows = [[_cell(value) for value in row] for row in table.head(MOST_ROWS).itertuples(index=False)]
    lines = [names, ["---" if place == 0 else "---:" for place in range(len(names))], *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        text
        if len(table) <= MOST_ROWS
        else f"{text}\n\n... and {len(table) - MOST_ROWS:,} more rows, see the CSV files"
    )


def _cell(value: object) -> str:
    return plain(str(value))


def plain(text: str) -> str:
    """Text that Markdown shows as it is, also in a table."""
    escaped = re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")
