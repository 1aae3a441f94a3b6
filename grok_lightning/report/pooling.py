"""Which runs may be pooled in one condition: those of one task and one threshold; other differences are reported."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from grok_lightning.errors import UserError, show
from grok_lightning.figures.style import format_count
from grok_lightning.records.record import CALLBACKS, NOT_RESULTS, counted_callbacks
from grok_lightning.records.tasks import is_shipped, task_options, task_title
from grok_lightning.records.words import NONE, format_option
from grok_lightning.report.keys import EXPERIMENT, PREFIX, SEEDS, Key, countable, is_within

DATA = f"{PREFIX}data."
THRESHOLD = "evaluation.threshold"
UNRELATED = (*NOT_RESULTS, EXPERIMENT, "ckpt_path", *SEEDS)  # to results
MOST_VALUES, MOST_OPTIONS = 6, 12  # that are named


def identify_tasks(runs: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The task of each run.

    Args:
        runs: Records.

    Returns:
        Its title (``x + y mod 97``), and its identity: equal for two runs if and only if they have the same task.
    """
    options = {str(name).removeprefix(DATA): runs[name].tolist() for name in runs if str(name).startswith(DATA)}
    recorded = [runs[name].tolist() if name in runs else [None] * len(runs) for name in ("algebra", "algebra_identity")]
    known: dict[str, tuple[dict[str, Any], str]] = {}
    found: list[tuple[dict[str, Any], str]] = []
    for row in zip(*options.values(), strict=True) if options else [()] * len(runs):
        key = repr(row)
        if key not in known:
            data = {
                name: _to_integer(value)
                for name, value in zip(options, row, strict=True)
                if format_option(value) != NONE
            }
            known[key] = data, repr(task_options(data))
        found.append(known[key])
    titles, identities = [], []
    # records older than the identity have that of the others with the same options
    algebras = {task: own for (_, task), own in zip(found, recorded[1], strict=True) if isinstance(own, str)}
    for (data, task), title, own in zip(found, *recorded, strict=True):
        titles.append(task_title(data, title if isinstance(title, str) else None))
        algebra = own if isinstance(own, str) else algebras.get(task, "")
        identities.append(task if is_shipped(data) else f"{task} {algebra}")
    return pd.Series(titles, runs.index, dtype=object), pd.Series(identities, runs.index, dtype=object)


def _to_integer(value: Any) -> Any:
    """A number as an integer if it is one: a column with nulls in it has made floats of them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def refuse_pooled(table: pd.DataFrame) -> None:
    """Refuses conditions whose runs have no common task or threshold: their medians and shares would mean nothing.

    Args:
        table: Runs from ``tabulate_runs``.

    Raises:
        UserError: A condition has runs of several tasks, or of several thresholds.
    """
    for condition, group in table.groupby("condition", observed=True):
        if group["task"].nunique() > 1:
            options = _differing_options(group)
            differing = " and ".join(f"{name} {_join_values(values)}" for name, values in options.items())
            titles = ", ".join(group["operation"].unique()[:3])
            name = next(iter(options)) if len(options) == 1 else "data"
            raise UserError(
                f"--by: the condition {show(str(condition))} pools runs of {differing or 'different algebras'} "
                f"({titles}); add {name} to --by, or report them separately"
            )
        if group["threshold"].nunique() > 1:
            values = _join_values(sorted(group["threshold"].unique()))
            raise UserError(
                f"--by: the condition {show(str(condition))} pools runs of {THRESHOLD} {values}; "
                f"add {THRESHOLD} to --by, or report them separately"
            )


def _differing_options(group: pd.DataFrame) -> dict[str, list[Any]]:
    """Options of the task that differ between runs, with their values."""
    data = group.filter(like=DATA)
    rows = [
        task_options(
            {str(name).removeprefix(DATA): value for name, value in row.items() if format_option(value) != NONE}
        )
        for row in data[~data.astype(str).duplicated()].to_dict("records")
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: list({repr(row.get(name)): row.get(name) for row in rows}.values()) for name in names}
    return {f"data.{name}": found for name, found in values.items() if len(found) > 1}


def _join_values(values: Sequence[Any]) -> str:
    words = [format_option(value) for value in values]
    more = f", ... ({len(words):,} values)" if len(words) > MOST_VALUES else ""
    return ", ".join(words[:MOST_VALUES]) + more if more or len(words) > 2 else " and ".join(words)


def describe_pooled(table: pd.DataFrame, records: pd.DataFrame, keys: Sequence[Key]) -> list[str]:
    """Remarks on options, other than seeds, that differ between the runs of one condition.

    Args:
        table: Runs from ``tabulate_runs``.
        records: Their records, in the same order.
        keys: The options that group them into conditions.
    """
    taken = {column for key in keys for column in key.columns}
    found: dict[str, str] = {}
    for column in map(str, records):
        option = column.removeprefix(PREFIX)
        in_block = is_within(option, [key.name for key in keys if key.is_block])
        if not column.startswith(PREFIX) or column in taken or in_block or is_within(option, UNRELATED):
            continue
        content = records[column].map(counted_callbacks) if option == CALLBACKS else records[column]
        values = countable(content)
        if values.nunique(dropna=False) < 2:
            continue
        mixed = values.groupby(table["condition"], observed=True).nunique(dropna=False) > 1
        if not mixed.any():
            continue
        inside = table["condition"].isin(mixed.index[mixed]).to_numpy()
        counts = content[inside].map(format_option).value_counts(sort=False)
        some = [f"{word}: {format_count(count, 'run')}" for word, count in counts.items()]
        more = f", {format_count(len(some) - MOST_VALUES, 'more value')}" if len(some) > MOST_VALUES else ""
        found[option] = f"{option} ({', '.join(some[:MOST_VALUES])}{more})"
    if not found:
        return []
    rest = list(found)[MOST_OPTIONS:]
    more = f"; {', '.join(rest)}" if rest else ""
    return [
        f"Runs of one condition differ in: {'; '.join(list(found.values())[:MOST_OPTIONS])}{more}. "
        "Options added to --by are not pooled."
    ]
