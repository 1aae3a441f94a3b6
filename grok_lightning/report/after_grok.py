"""What became of the runs of each condition after they had memorized and grokked, as a table."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd

from grok_lightning.figures.style import format_count
from grok_lightning.records.after_grok import WATCHED
from grok_lightning.records.columns import add_columns
from grok_lightning.records.words import format_step

VERDICTS = ("sustained", "stable", "collapsed")
NUMBERS = ("watched", "dips", "below", "lowest_val_acc")
COLUMNS = ("watched", *VERDICTS, "lost_step", "dips", "below", "lowest_val_acc", "collapse_step")
READING = """\
- After the grok: *sustained*, the next five evaluations are at the threshold; *stable*, no later one is below 95 %, or
  the threshold where that is lower; *collapsed*, training accuracy falls below 90 %, or likewise, after memorizing. A
  *dip* is a number of consecutive evaluations below the threshold. k/n counts the runs of which it is known: that
  accuracy was lost is known when it is seen, that it held after five further evaluations. *Watched to* is the last
  evaluated step over the grok step."""


def tabulate_after_grok(table: pd.DataFrame, conditions: pd.DataFrame) -> pd.DataFrame:
    """Columns on what became of runs, to stand beside those of ``tabulate_conditions``.

    Args:
        table: Runs from ``tabulate_runs``.
        conditions: The table of conditions.

    Returns:
        A row for each condition: ``sustained_k``, ``stable_k``, ``collapsed_k`` of ``sustained_n``, ``stable_n``,
        ``collapsed_n`` runs of which it is known; ``stable_short``, the stable ones watched to less than 10 times
        their grok step; medians, least and most (``_least``, ``_most``) of ``watched``, ``dips``, ``below`` and
        ``lowest_val_acc``, over runs that have them.
    """
    short = table["stable"].eq(1) & table["watched"].lt(WATCHED)
    grouped = add_columns(table[[*VERDICTS, *NUMBERS]], stable_short=short).groupby(
        table["condition"].astype(str), sort=False
    )
    found: dict[str, pd.Series] = {}
    for name in VERDICTS:
        found |= {f"{name}_k": grouped[name].sum(), f"{name}_n": grouped[name].count()}
    found["stable_short"] = grouped["stable_short"].sum()
    counts = {name: column.reindex(conditions["condition"], fill_value=0).astype(int) for name, column in found.items()}
    numbers = {
        f"{name}{end}": how.reindex(conditions["condition"])
        for name in NUMBERS
        for end, how in (("", grouped[name].median()), ("_least", grouped[name].min()), ("_most", grouped[name].max()))
    }
    columns = {name: column.to_numpy() for name, column in (counts | numbers).items()}
    return pd.DataFrame(columns, index=conditions.index)


def has_after_grok(conditions: pd.DataFrame) -> bool:
    """Whether any run was evaluated after it grokked, or is known to have collapsed."""
    return bool(conditions["dips"].notna().any() or conditions["collapsed_k"].any())


def after_grok_table(conditions: pd.DataFrame) -> pd.DataFrame:
    """The columns of ``tabulate_after_grok`` in words."""
    return pd.DataFrame([_describe(row) for row in conditions.to_dict("records")])


def _describe(row: Mapping[Hashable, Any]) -> dict[str, str]:
    grokked = row["grok_k"]
    cells = {"condition": row["condition"], "grokked": f"{grokked}/{row['grok_n']}" if row["grok_n"] else "-"}
    cells["watched to"] = _format_range(row, "watched", "{:.1f}x".format)
    for name in ("sustained", "stable"):
        cells[name] = _format_verdict(row, name, grokked)
    cells["collapsed"] = _format_verdict(row, "collapsed", row["memorize_k"])
    cells |= {"dips": _format_range(row, "dips"), "evaluations below": _format_range(row, "below")}
    lowest = row["lowest_val_acc_least"]
    cells["lowest accuracy"] = "-" if pd.isna(lowest) else f"{100 * min(lowest, 0.9999 if lowest < 1 else 1):.2f} %"
    return cells


def _format_verdict(row: Mapping[Hashable, Any], name: str, of: int) -> str:
    """``3/4, 1 not known``."""
    known = row[f"{name}_n"]
    if not of:
        return "-"
    counted = [f"{row[f'{name}_k']}/{known}"] if known else []
    unknown = [f"{of - known} not known"] if of > known else []
    return ", ".join(counted + unknown)


def _format_range(row: Mapping[Hashable, Any], name: str, form: Callable[[float], str] = format_step) -> str:
    """The median, with the least and the most where they differ."""
    if pd.isna(row[name]):
        return "-"
    middle, least, most = (form(row[f"{name}{end}"]) for end in ("", "_least", "_most"))
    return middle if least == most else f"{middle} ({least} to {most})"


def describe_short(conditions: pd.DataFrame) -> str:
    """A sentence on runs that are stable as far as they were watched; empty if all were watched for long."""
    short, stable = int(conditions["stable_short"].sum()), int(conditions["stable_k"].sum())
    if not short:
        return ""
    which = "The" if short == stable else f"{short:,} of the"
    were = "was" if short == 1 else "were"
    long = f"watched to less than {WATCHED} times the grok step, and may fall later"
    return f"{which} {format_count(stable, 'stable run')} {were} {long}."
