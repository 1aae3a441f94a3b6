"""The command ``report``: reads records, writes a folder."""

import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
from jsonargparse import ArgumentParser

from grok_lightning.errors import UserError
from grok_lightning.figures.style import format_count
from grok_lightning.files import refuse_unwritable
from grok_lightning.options.commands import TRUST, command_parser, parse
from grok_lightning.records.record import METRICS
from grok_lightning.report.making import Report, make_report
from grok_lightning.report.pictures import draw_checkpoint, draw_run


def _parser() -> ArgumentParser:
    parser = command_parser(
        "report",
        "Writes tables and figures of runs, finished or not, into a folder: report.md, "
        "report.html, each figure as PNG, SVG and CSV, and runs.parquet, which report also reads.",
        "addition-fractions --by data.train_fraction",
    )
    parser.add_argument(
        "experiments", type=str, nargs="+",
        help="Experiments, EXPERIMENT/RUN, folders, or runs.parquet of reports.",
    )  # fmt: skip
    parser.add_argument("--by", type=str, nargs="+", help="Options that define conditions; default: those that vary.")
    parser.add_argument("--out", type=str | None, help="Folder to write; default: reports/<experiment>.")
    parser.add_argument("--title", type=str | None, help="Title of the report; default: the experiments' names.")
    parser.add_argument("--root", type=str, default=".", help="Folder of lightning_logs.")
    parser.add_argument(
        "--ckpt_path", type=str | None,
        help="Checkpoint of a run; adds figures of its task and model. Default: that of a single run.",
    )  # fmt: skip
    parser.add_argument("--trust", type=bool, default=False, help=TRUST)
    return parser


def report_command(arguments: list[str]) -> int:
    """Runs ``report``.

    Args:
        arguments: The command line after ``report``.

    Returns:
        The exit status, 0.

    Raises:
        UserError: A source or an option does not exist, a condition would pool several tasks or thresholds, or the
            folder cannot be written. Nothing has been written then.
    """
    options = parse(_parser(), arguments)
    names = [Path(source).stem if source.endswith(".parquet") else source.strip("/") for source in options.experiments]
    slug = re.sub(r"[^\w.=+-]+", "-", "+".join(names))[:100].strip("-.") or "runs"
    out = Path(options.out or Path("reports", slug))
    refuse_unwritable("out", out)
    if (out / METRICS).exists():
        raise UserError(f"--out is {str(out)!r}, which is the record of a run; name another folder")
    by = None if options.by is None else [name for given in options.by for name in given.split(",") if name]
    report = make_report(options.experiments, Path(options.root), by)
    if options.ckpt_path is not None:
        report.drawings.extend(draw_checkpoint(options.ckpt_path, Path(options.root), options.trust))
    elif len(report.runs) == 1:
        found, remarks = draw_run(_read_first(report.gathered.runs), Path(options.root), options.trust)
        report.drawings.extend(found)
        report.remarks.extend(remarks)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {str(out)!r} cannot be made ({error.strerror}); name another place") from None
    report.write(out, options.title or ", ".join(names), shlex.join(["grok-lightning", "report", *arguments]))
    print(_summarize(report, out))
    return 0


def _read_first(runs: pd.DataFrame) -> dict[str, Any]:
    """The fields of the first run."""
    return {str(name): value for name, value in runs.astype(object).iloc[0].items()}


def _summarize(report: Report, out: Path) -> str:
    conditions, (event, word) = report.conditions, ("grok", "grokked")
    if not report.runs["validated"].any():
        event, word = "memorize", "memorized"
    runs, reached = int(conditions["n"].sum()), int(conditions[f"{event}_k"].sum())
    counts = {name: int(conditions[name].sum()) for name in ("unfinished", "missing")}
    rest = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    found = f"{reached:,} of {format_count(runs, 'run')} {word}{f' ({rest})' if rest else ''}"
    return f"{found}\nreport: {out / 'report.html'}"
