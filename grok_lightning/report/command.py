"""The command ``report``: reads records, writes a folder."""

import shlex
from pathlib import Path

import pandas as pd
from jsonargparse import ArgumentParser

from grok_lightning.commands import parsed
from grok_lightning.errors import UserError
from grok_lightning.refusals import refuse_unwritable
from grok_lightning.report.making import make_report


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="grok-lightning report",
        exit_on_error=False,
        description="Turns records of runs, finished or not, into a folder of tables and figures: report.md, "
        "report.html, each figure as PNG, SVG and CSV, and runs.parquet, which can be given to report again.",
    )
    parser.add_argument(
        "experiments", type=str, nargs="+",
        help="Experiments below lightning_logs, experiment/run, directories, or a report's runs.parquet.",
    )  # fmt: skip
    parser.add_argument(
        "--by", type=str, nargs="+", help="Options that part runs into conditions; default: what varies."
    )
    parser.add_argument("--out", type=str | None, help="The folder; default: reports/<experiment>.")
    parser.add_argument("--title", type=str | None, help="The heading; default: the experiments' names.")
    parser.add_argument("--root", type=str, default=".", help="Where lightning_logs lies.")
    return parser


def report_command(arguments: list[str]) -> int:
    """Runs ``report``.

    Args:
        arguments: What follows ``report`` on the command line.

    Returns:
        The exit status, 0.

    Raises:
        UserError: If what was asked for does not exist or makes no sense; nothing has been written then.
    """
    options = parsed(_parser(), arguments, "report")
    names = [Path(source).stem if source.endswith(".parquet") else source.strip("/") for source in options.experiments]
    out = Path(options.out or Path("reports") / "+".join(name.replace("/", "-") for name in names)[:100])
    if out.exists() and not out.is_dir():
        raise UserError(f"--out is {str(out)!r}, which is a file; name a folder")
    refuse_unwritable("out", out)
    report = make_report(options.experiments, Path(options.root), options.by)
    report.write(out, options.title or ", ".join(names), shlex.join(["grok-lightning", "report", *arguments]))
    print(_said(report.conditions, out))
    return 0


def _said(conditions: pd.DataFrame, out: Path) -> str:
    runs, grokked = int(conditions["n"].sum()), int(conditions["grok_k"].sum())
    counts = {name: int(conditions[name].sum()) for name in ("unfinished", "missing")}
    rest = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return f"{grokked:,} of {runs:,} runs grokked{f' ({rest})' if rest else ''}\nreport: {out / 'report.html'}"
