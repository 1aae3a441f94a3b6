"""The command ``report``: reads records, writes a folder."""

import re
import shlex
from functools import partial
from pathlib import Path

import pandas as pd
from jsonargparse import ArgumentParser

from grok_lightning.errors import UserError
from grok_lightning.files import refuse_unwritable
from grok_lightning.options.commands import TRUST, command_parser, parse
from grok_lightning.report.drawings import Drawing
from grok_lightning.report.making import make_report

CAPTIONS = {
    "value_counts": "Number of equations with each answer.",
    "answers": "Answer of each pair of operands.",
    "split": "Split of each pair of operands.",
    "predictions": "Pairs that the model answers correctly.",
    "embedding": "First principal components of the token embeddings.",
}


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
    parser.add_argument("--ckpt_path", type=str | None, help="Checkpoint of a run; adds figures of its task and model.")
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
    report = make_report(options.experiments, Path(options.root), options.by)
    if options.ckpt_path is not None:
        report.drawings.extend(_draw_checkpoint(options.ckpt_path, Path(options.root), options.trust))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {str(out)!r} cannot be made ({error.strerror}); name another place") from None
    report.write(out, options.title or ", ".join(names), shlex.join(["grok-lightning", "report", *arguments]))
    print(_summarize(report.conditions, out))
    return 0


def _draw_checkpoint(checkpoint: str, root: Path, trust: bool) -> list[Drawing]:
    """Figures of a model and its task."""
    from grok_lightning.callbacks.pictures import pictures
    from grok_lightning.run import load_run  # Lightning alone takes seconds

    run = load_run(checkpoint, trust, root=root)
    found = pictures(run.module, run.data, 0, checkpoint, run.step)
    return [Drawing(name, CAPTIONS[name], partial(found.__getitem__, name)) for name in found]


def _summarize(conditions: pd.DataFrame, out: Path) -> str:
    runs, grokked = int(conditions["n"].sum()), int(conditions["grok_k"].sum())
    counts = {name: int(conditions[name].sum()) for name in ("unfinished", "missing")}
    rest = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return f"{grokked:,} of {runs:,} runs grokked{f' ({rest})' if rest else ''}\nreport: {out / 'report.html'}"
