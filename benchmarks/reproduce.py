"""Runs what is missing of the published experiments and renews docs/science/reproductions: ``make reproduce``.

The sweeps are run cheapest first; whatever stops it, the next call goes on. Records in
docs/science/reproductions/*.parquet count as done; ``--fresh`` does without them.
``--no-runs`` renews tables and figures from the records there are.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from grok_lightning.errors import UserError
from grok_lightning.report.making import Report, make_report
from grok_lightning.report.text import format_after_grok, format_brief

HOME = Path(__file__).parents[1]
DOCUMENT = HOME / "docs" / "science" / "reproductions.md"
RECORDS = HOME / "docs" / "science" / "reproductions"


class Experiment(NamedTuple):
    """A sweep of configs/sweeps, the keys of its table and the figures that are shown."""

    sweep: str
    by: tuple[str, ...]
    figures: tuple[str, ...] = ()
    tested: bool = False  # whether the last checkpoints are evaluated on their test rows
    watched: bool = False  # whether there is a table of what came after the grok
    summed: bool = False  # whether it has no table of its own: benchmarks/compare.py sums up all of these


NOT_RUN = "*Not run yet.*"
TUNING = tuple(f"compare-{name}" for name in ("muon", "adamw", "clip", "clip-lion", "orthogonal", "l2", "egalitarian"))
AFTER = ("model.optimizer", "model.filters", "model.interventions")
COMPARED = ("optimizer", "filters", "loss", "constraints")
EXPERIMENTS = (
    Experiment("sanity-strings", ("mask_first_n",)),
    Experiment("report-tasks-ours", ("data.formula", "modulus", "layers"), tested=True),
    Experiment("dropout", ("dropout",), ("steps-by-dropout",)),
    Experiment("half-table", ("train_fraction",)),
    Experiment("k-ary-sums", ("data.formula", "modulus"), ("median-curves",)),
    Experiment("followup-leakage", ("data.commutative_fraction",), ("median-curves",)),
    Experiment("division-fractions", ("train_fraction",), ("median-curves", "steps-by-train_fraction")),
    Experiment("addition-fractions", ("train_fraction",), ("median-curves", "steps-by-train_fraction")),
    Experiment("equal-models", ("model.network",), ("median-curves", "ablation")),
    Experiment("report-batch-size", ("initialization", "batch_size"), ("median-curves", "survival")),
    Experiment("report-batch-size-long", ("seed_everything",), ("curves",)),
    Experiment("report-batch-size-scaled", ("optimizer.lr", "optimizer.weight_decay")),
    Experiment("operations", ("data",), ("ablation",)),
    Experiment("operation-fractions", ("data.formula", "train_fraction"), ("accuracy-by-train_fraction",)),
    Experiment("learning-rate-decay", ("optimizer.lr", "optimizer.weight_decay"), ("phase",)),
    Experiment("decay-clock", ("optimizer.lr", "optimizer.weight_decay"), ("median-curves",)),
    Experiment("delay-law", ("model.interventions",), ("curves",)),
    Experiment("clip-to-grok", ("data", "model.optimizer")),
    Experiment("clip-to-grok-adamw", ("data", "model.optimizer")),
    Experiment("grokfast", ("model.filters",)),
    Experiment("after-grok", AFTER, ("after-grok",), watched=True),
    Experiment("after-grok-decay", ("optimizer.weight_decay",), watched=True),
    Experiment("after-grok-falling", ("model.optimizer",), watched=True),
    Experiment("after-grok-speedrun", ("model.scheduler", "model.interventions"), watched=True),
    Experiment("precision", ("data", "trainer.precision")),
    *(Experiment(name, ("data",), summed=True) for name in TUNING),
    Experiment("compare-tuned", ("data", *COMPARED), summed=True),
    Experiment("optimizer-fractions", ("model.optimizer", "train_fraction"), ("accuracy-by-train_fraction", "phase")),
    Experiment("progress-measures", ()),
    Experiment("progress-precision", ("trainer.precision", "loss_precision"), ("curves",)),
    Experiment("report-tasks", ("data.formula", "modulus", "layers"), tested=True),
    Experiment("division-decay", ("optimizer.weight_decay",), ("median-curves",)),
    Experiment("division-without-decay", (), ("curves",)),
    Experiment("hard-operation", ()),
    Experiment("blog-losses", ("loss_on",)),
    Experiment("blog-functions-ours", ("data.formula",), ("median-curves",)),
    Experiment("blog-finetune", ("init_from",), ("median-curves",)),
    Experiment("blog-functions", ("data.formula",), ("curves",)),
    Experiment("blog-dropout", ("dropout_on",), ("curves",)),
    Experiment("unfinished-fractions", ("train_fraction",), ("median-curves", "steps-by-train_fraction")),
    Experiment("unfinished-third", ("train_fraction",), ("curves",)),
)


def main() -> int:
    """Runs and renews; the status of the last sweep that did not end well, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="do runs again whose records are committed")
    parser.add_argument("--no-runs", action="store_true", help="renew tables and figures only")
    parser.add_argument("--only", nargs="+", choices=[each.sweep for each in EXPERIMENTS], metavar="SWEEP")
    options = parser.parse_args()
    for each in EXPERIMENTS:
        if options.only and each.sweep not in options.only:
            continue
        if not options.no_runs and (status := run(each, options.fresh)):
            return status
        renew(each)
    return 0


def run(experiment: Experiment, fresh: bool) -> int:
    """Runs what is missing of one sweep."""
    kept = RECORDS / f"{experiment.sweep}.parquet"
    known = ["--known", str(kept)] if kept.exists() and not fresh else []
    command = [sys.executable, "-m", "grok_lightning", "sweep", experiment.sweep, "--events", "off", *known]
    print(f"=== {experiment.sweep}", flush=True)
    return subprocess.run(command, cwd=HOME).returncode


def renew(experiment: Experiment) -> None:
    """Writes the report of one sweep from its directories and the committed records, and takes over what is shown."""
    kept = RECORDS / f"{experiment.sweep}.parquet"
    logs = HOME / "lightning_logs" / experiment.sweep
    begun = any(logs.glob("*/metrics.csv"))
    sources = [*([str(logs)] if begun else []), *([str(kept)] if kept.exists() else [])]
    if not sources and experiment.summed:
        return
    if not sources:
        others = {"test": experiment.tested, "after": experiment.watched}
        for name in (experiment.sweep, *(f"{experiment.sweep}: {kind}" for kind, asked in others.items() if asked)):
            write_table(name, NOT_RUN)
        return
    out = HOME / "reports" / experiment.sweep
    try:
        report = make_report(sources, HOME, experiment.by)
    except UserError as error:
        print(f"{experiment.sweep}: {error}", file=sys.stderr)
        return
    if experiment.summed:  # many runs, of which accuracies and losses are kept
        curves = report.gathered.curves
        for column in [column for column in curves if str(column).startswith("norm/")]:
            del curves[column]
    report.write(
        out, experiment.sweep, f"grok-lightning report {experiment.sweep} --by {' '.join(experiment.by)}".strip()
    )
    RECORDS.mkdir(exist_ok=True)
    shutil.copy(out / "runs.parquet", kept)
    for name in experiment.figures:
        if (out / f"{name}.png").exists():
            shutil.copy(out / f"{name}.png", RECORDS / f"{experiment.sweep}-{name}.png")
    if experiment.summed:
        return
    write_table(experiment.sweep, format_brief(report.conditions, report.runs, report.setup))
    if experiment.watched:
        write_table(f"{experiment.sweep}: after", format_after_grok(report.conditions))
    if experiment.tested:
        write_table(f"{experiment.sweep}: test", tested(experiment, report))


def tested(experiment: Experiment, report: Report) -> str:
    """Accuracy on the test rows at the end of each run, seeds side by side; kept as CSV beside the records."""
    path = RECORDS / f"{experiment.sweep}-test.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["config_hash", "right", "rows"])
    runs = report.gathered.runs
    missing = runs[~runs["config_hash"].isin(table["config_hash"]) & runs["status"].isin(["finished", "stopped"])]
    rows = []
    for name, hashed in zip(missing["path"], missing["config_hash"], strict=True):
        checkpoint = HOME / "checkpoints" / experiment.sweep / Path(name).name / "last.ckpt"
        if checkpoint.exists():
            rows.append({"config_hash": hashed} | on_test_rows(checkpoint))
    if rows:
        table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
        table.to_csv(path, index=False)
    found = report.runs.merge(table, on="config_hash")
    lines = ["| condition | test accuracy at the end, % (seeds in order) |", "| --- | --- |"]
    for condition, group in found.groupby("condition", observed=True):
        shares = (100 * group.sort_values("seed")["right"] / group.sort_values("seed")["rows"]).map("{:.2f}".format)
        lines.append(f"| {condition} | {' '.join(shares)} |")
    return "\n".join(lines)


def on_test_rows(checkpoint: Path) -> dict[str, int]:
    """How many of its test rows a model answers right."""
    from grok_lightning.data import TableDataModule
    from grok_lightning.run import (
        load_run,  # only where there is something to evaluate: Lightning takes seconds
    )

    run = load_run(checkpoint)
    assert isinstance(run.data, TableDataModule)
    places = [place for place, element in enumerate(run.data.vocabulary) if element.isdigit()]
    chosen = run.data.splits[0].test
    with torch.no_grad():
        logits_BV = run.model(run.data.tokens(run.operands_NK[chosen]), 1)[0, :, -1]
    right = logits_BV[:, places].argmax(-1).numpy() == run.results_N[chosen]
    return {"right": int(right.sum()), "rows": len(right)}


def write_table(name: str, table: str) -> None:
    """Puts a table between its marks in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    marks = (f"<!-- {name} -->", f"<!-- end of {name} -->")
    found = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
    if not found.search(text):
        print(f"{DOCUMENT.name} has no place for the table of {name}", file=sys.stderr)
        return
    DOCUMENT.write_text(found.sub(lambda _: f"{marks[0]}\n{table}\n{marks[1]}", text), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
