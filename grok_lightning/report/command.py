"""The command ``report``: reads records, writes a folder."""

import re
import shlex
from functools import partial
from pathlib import Path

import pandas as pd
from jsonargparse import ArgumentParser

from grok_lightning.errors import UserError
from grok_lightning.files import refuse_unwritable
from grok_lightning.options.commands import command_parser, parsed
from grok_lightning.report.drawings import Drawing
from grok_lightning.report.making import make_report

CAPTIONS = {
    "value_counts": "How often each answer occurs in the table.",
    "answers": "The table: the answer of each pair of operands.",
    "split": "Which pairs train, validate and test.",
    "predictions": "Which pairs the model answers right.",
    "embedding": "The embedding of the elements in its first principal components.",
}


def _parser() -> ArgumentParser:
    parser = command_parser(
        "report",
        "Turns records of runs, finished or not, into a folder of tables and figures: report.md, "
        "report.html, each figure as PNG, SVG and CSV, and runs.parquet, which can be given to report again.",
    )
    parser.add_argument(
        "experiments", type=str, nargs="+",
        help="Experiments below lightning_logs, experiment/run, directories, or a report's runs.parquet.",
    )  # fmt: skip
    parser.add_argument(
        "--by", type=str, nargs="+", help="Options that group runs into conditions; default: what varies."
    )
    parser.add_argument("--out", type=str | None, help="The folder; default: reports/<experiment>.")
    parser.add_argument("--title", type=str | None, help="The heading; default: the experiments' names.")
    parser.add_argument("--root", type=str, default=".", help="Where lightning_logs lies.")
    parser.add_argument(
        "--ckpt_path", type=str | None, help="A run's checkpoint: pictures of its task and its model too."
    )
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
    slug = re.sub(r"[^\w.=+-]+", "-", "+".join(names))[:100].strip("-.") or "runs"
    out = Path(options.out or Path("reports", slug))
    refuse_unwritable("out", out)
    report = make_report(options.experiments, Path(options.root), options.by)
    if options.ckpt_path is not None:
        report.drawings.extend(_pictures(options.ckpt_path))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {str(out)!r} cannot be made ({error.strerror}); name another place") from None
    report.write(out, options.title or ", ".join(names), shlex.join(["grok-lightning", "report", *arguments]))
    print(_said(report.conditions, out))
    return 0


def _pictures(checkpoint: str) -> list[Drawing]:
    """The pictures of a model and its task."""
    from grok_lightning.callbacks.pictures import pictures
    from grok_lightning.experiment import load_run  # Lightning alone takes seconds

    run = load_run(checkpoint)
    found = pictures(run.module, run.data, 0, checkpoint, run.step)
    return [Drawing(name, CAPTIONS[name], partial(found.__getitem__, name)) for name in found]


def _said(conditions: pd.DataFrame, out: Path) -> str:
    runs, grokked = int(conditions["n"].sum()), int(conditions["grok_k"].sum())
    counts = {name: int(conditions[name].sum()) for name in ("unfinished", "missing")}
    rest = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return f"{grokked:,} of {runs:,} runs grokked{f' ({rest})' if rest else ''}\nreport: {out / 'report.html'}"
