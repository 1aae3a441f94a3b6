"""The command ``forecast``: when runs will grok, or what would have been said of those that have."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jsonargparse import ArgumentParser

from grok_lightning.errors import UserError, show
from grok_lightning.files import refuse_unwritable, write_durably
from grok_lightning.forecast import (
    Forecaster,
    History,
    fit_forecaster,
    histories_of_records,
    read_forecaster,
    shipped_forecaster,
)
from grok_lightning.options.commands import command_parser, parse
from grok_lightning.records.checkpoint import refuse_part_of_run
from grok_lightning.records.record import DIVERGED
from grok_lightning.report.gather import gather

MEMORIZED, LAST = "memorized", "last"
COLUMNS = (
    "run", "memorize_step", "grok_step", "budget", "forecast_at", "forecast_median", "forecast_low", "forecast_high",
    "probability_within_budget", "probability_ever",
)  # fmt: skip


def _parser() -> ArgumentParser:
    parser = command_parser(
        "forecast",
        "Says of each run at which step it will grok: median, interval of 80 %, and the probability that it does so "
        "within its budget. A run that has grokked is forecast from what was known when it memorized, any other from "
        "its last evaluation, unless --at says otherwise.",
        "addition-fractions",
    )
    parser.add_argument(
        "experiments", type=str, nargs="+",
        help="Experiments, EXPERIMENT/RUN, folders, or runs.parquet of reports.",
    )  # fmt: skip
    parser.add_argument(
        "--at", type=str | None,
        help="What is known: up to memorized, last or a step, such as 1000.",
    )  # fmt: skip
    parser.add_argument("--forecaster", type=str | None, help="File that --refit wrote; default: that of this package.")
    parser.add_argument("--refit", type=bool, default=False, help="Fit a forecaster to these runs; needs --output.")
    parser.add_argument("--output", type=str | None, help="CSV file for the table; of --refit, the forecaster's JSON.")
    parser.add_argument("--root", type=str, default=".", help="Folder of lightning_logs.")
    return parser


def forecast_command(arguments: list[str]) -> int:
    """Runs ``forecast``.

    Args:
        arguments: The command line after ``forecast``.

    Returns:
        The exit status, 0.

    Raises:
        UserError: A source, an option or the forecaster's file is wrong, there are too few runs for ``--refit``, or the
            output cannot be written. Nothing has been written then.
    """
    options = parse(_parser(), arguments)
    _check_at(options.at)
    if options.refit and options.output is None:
        raise UserError("--refit needs --output, the file to write, such as --output forecaster.json")
    if options.refit and (options.at is not None or options.forecaster is not None):
        raise UserError("--refit fits a forecaster and forecasts nothing; leave out --at and --forecaster")
    forecaster = read_forecaster(Path(options.forecaster)) if options.forecaster else shipped_forecaster()
    if options.output is not None:
        _refuse_output(Path(options.output))
    gathered = gather(options.experiments, Path(options.root))
    histories = histories_of_records(gathered.runs, gathered.curves)
    if not histories:
        raise UserError(f"{', '.join(options.experiments)}: no run there has evaluations with accuracies")
    for remark in gathered.remarks:
        print(remark)
    if options.refit:
        sources = [Path(source).stem for source in options.experiments]
        fitted = fit_forecaster(histories, {"sources": sources})
        fitted.save(Path(options.output))
        counts = fitted.fitted
        print(
            f"fitted to {counts['runs']:,} runs of {counts['conditions']:,} conditions, of which {counts['grokked']:,} "
            f"grokked\nforecaster: {options.output}"
        )
        return 0
    table = tabulate_forecasts(histories, forecaster, options.at)
    if options.output is not None:
        write_durably(Path(options.output), table.to_csv(index=False).encode())
    print(_format(table))
    return 0


def tabulate_forecasts(histories: Sequence[History], forecaster: Forecaster, at: str | None = None) -> pd.DataFrame:
    """One row per run, columns ``COLUMNS``; null where there is no forecast.

    Args:
        histories: The runs.
        forecaster: Forecasts them.
        at: ``memorized``, ``last`` or a step: forecast from what was known by then. None: ``memorized`` of a run that
            has grokked, ``last`` of any other. There is none from the last evaluation of a run that diverged.
    """
    rows: list[tuple[Any, ...]] = []
    for history in histories:
        step = _step(history, at)
        made = None if step is None else forecaster(history, step)
        reached = history.name, history.memorize_step, history.grok_step, history.budget
        if made is None:
            rows.append((*reached, *[None] * 6))
        else:
            numbers = made.median, *made.interval, made.by(history.budget), made.ever
            rows.append((*reached, made.step, *numbers))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    counts = ["memorize_step", "grok_step", "budget", "forecast_at"]
    return table.astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(COLUMNS[5:], float))


def _step(history: History, at: str | None) -> int | None:
    if at is not None and at not in (MEMORIZED, LAST):
        return int(at)
    if at == MEMORIZED or (at is None and history.grok_step is not None):
        return history.memorize_step
    return None if history.record.get("status") == DIVERGED else history.last


def _check_at(at: str | None) -> None:
    if at is not None and at not in (MEMORIZED, LAST) and not re.fullmatch("[0-9]{1,15}", at):
        raise UserError(f"--at is {show(at)}; expected: {MEMORIZED}, {LAST} or a step, such as 1000")


def _refuse_output(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"--output: {str(path)!r} is a folder; name a file")
    refuse_unwritable("output", path.parent)
    refuse_part_of_run(path)


def _format(table: pd.DataFrame) -> str:
    """The table as aligned text."""
    rows = [["run", "memorized", "grokked", "known until", "forecast", "80 % interval", "within budget"]]
    for row in table.to_dict("records"):
        counts = [_count(row[name]) for name in ("memorize_step", "grok_step", "forecast_at")]
        told = ["-", "-", "-"]
        if not pd.isna(row["forecast_at"]):
            between = f"{_count(row['forecast_low'])} to {_count(row['forecast_high'])}"
            within = f"{row['probability_within_budget']:.0%} by {row['budget']:,}"
            told = [_count(row["forecast_median"]), between, within]
        rows.append([str(row["run"]), *counts, *told])
    name, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, others, strict=True)]
        lines.append("  ".join([first.ljust(name), *cells]))
    return "\n".join([*lines, "forecast and interval: the grok step, if the run groks at all"])


def _count(value: Any) -> str:
    return "-" if pd.isna(value) else f"{float(value):,.0f}"
