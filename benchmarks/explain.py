"""Renews tables and figures of docs/explanation.md from docs/reproductions: ``python benchmarks/explain.py``."""

import re
import sys
from pathlib import Path

import pandas as pd

from grok_lightning.figures.measures import measures, measures_table
from grok_lightning.figures.steps_by_value import steps_by_value, steps_by_value_table
from grok_lightning.index.archive import read_archive
from grok_lightning.report.making import make_report

HOME = Path(__file__).parents[1]
RECORDS = HOME / "docs" / "reproductions"
DOCUMENT = HOME / "docs" / "explanation.md"
FIGURES = HOME / "docs" / "explanation"
RATE, DECAY, PRODUCT = "optimizer.lr", "optimizer.weight_decay", "learning rate × weight decay"
ALPHA, SEED = "config.data.train_fraction", "config.seed_everything"


def main() -> int:
    """Renews what there are records for."""
    FIGURES.mkdir(exist_ok=True)
    text = DOCUMENT.read_text()
    for name, operation in (("addition-fractions", "x + y"), ("division-fractions", "x / y")):
        runs, curves = read_archive(RECORDS / f"{name}.parquet")
        text = placed(text, f"norms of {name}", norms(runs, curves))
        chosen = runs["path"][runs[ALPHA] == 0.4]
        table = measures_table(curves[curves["run"].isin(set(chosen))])
        figure = measures(table, f"{operation} mod 97 from 40 % of the table")
        figure.savefig(FIGURES / f"{name}-inside.png", dpi=110)
    text = placed(text, "the clock", clock())
    path = RECORDS / "progress-measures.parquet"
    if path.exists():
        runs, curves = read_archive(path)
        for _, run in runs.iterrows():
            table = measures_table(curves[curves["run"] == run["path"]])
            marks = [(run[f"{event}_step"], word) for event, word in (("memorize", "memorized"), ("grok", "grokked"))]
            marks = [(float(step), word) for step, word in marks if pd.notna(step)]
            figure = measures(table, f"x + y mod 113, progress measures, seed {run[SEED]}", marks)
            figure.savefig(FIGURES / f"progress-measures-{run[SEED]}.png", dpi=110)
    DOCUMENT.write_text(text)
    return 0


def norms(runs: pd.DataFrame, curves: pd.DataFrame) -> str:
    """The weight norm at the start, when the table is known by heart, at the grok, and at its least, as Markdown."""
    rows = []
    by_run = dict(tuple(curves.groupby("run")))
    for _, run in runs.iterrows():
        curve = by_run[run["path"]]
        norm = curve.set_index("step")["norm/weights"]
        found = {"fraction": run[ALPHA], "at the start": norm.iloc[0]}
        for word, event in (("memorized", "memorize"), ("grokked", "grok")):
            step = run[f"{event}_step"]
            found[word] = norm.loc[int(step)] if pd.notna(step) else float("nan")
        rows.append(found | {"least": norm.min(), "highest validation loss": curve["val/loss"].max(), "n": 1})
    table = pd.DataFrame(rows).groupby("fraction").agg(
        {"n": "sum", "at the start": "median", "memorized": "median", "grokked": "median", "least": "median",
         "highest validation loss": "median"}
    )  # fmt: skip
    lines = [
        "| fraction | n | norm at the start | when memorized | when grokked | at its least | highest validation loss |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for fraction, row in table.iterrows():
        cells = [f"{value:.1f}" if value == value else "-" for value in row.iloc[1:]]
        lines.append(f"| {fraction:g} | {int(row['n'])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def clock() -> str:
    """Grok step against learning rate times decay, as a figure and as Markdown."""
    paths = [RECORDS / f"{name}.parquet" for name in ("learning-rate-decay", "decay-clock")]
    report = make_report([str(path) for path in paths if path.exists()], HOME, [RATE, DECAY])
    norm = dict(tuple(report.gathered.curves.groupby("run")))
    runs = report.runs.assign(**{PRODUCT: (report.runs[f"model.{RATE}"] * report.runs[f"model.{DECAY}"]).round(9)})
    # of two runs that differ in their budget alone, the one watched for longer
    runs = runs.sort_values("steps").drop_duplicates([f"model.{RATE}", f"model.{DECAY}", "seed"], keep="last")
    table = steps_by_value_table(runs.rename(columns={f"model.{RATE}": "lr"}), PRODUCT, "lr")
    steps_by_value(table, "x + y mod 97: grok step by learning rate times weight decay").savefig(
        FIGURES / "clock.png", dpi=110
    )
    lines = [
        "| lr × decay | lr | decay | memorize steps | grok steps | lr × decay × grok step | norm at the grok |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    keys = [PRODUCT, f"model.{RATE}", f"model.{DECAY}"]
    for values, group in runs.sort_values(["seed"]).groupby(keys):
        grokked = group[group["grok_step"].notna()]
        norms = [
            norm[run].set_index("step")["norm/weights"][step] for run, step in grokked[["run", "grok_step"]].values
        ]
        cells = [
            *(f"{value:g}" for value in values),
            _both(group["memorize_step"], group["steps"]),
            _both(group["grok_step"], group["steps"]),
            " ".join(f"{values[0] * step:.2f}" for step in grokked["grok_step"] if values[0]) or "-",
            " ".join(f"{value:.0f}" for value in norms) or "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _both(steps: "pd.Series[float]", watched: "pd.Series[float]") -> str:
    return " ".join(f"{a:,.0f}" if a == a else f"> {b:,.0f}" for a, b in zip(steps, watched, strict=True))


def placed(text: str, name: str, block: str) -> str:
    """A document with a block between its marks."""
    marks = (f"<!-- {name} -->", f"<!-- end of {name} -->")
    return re.sub(
        f"{re.escape(marks[0])}.*?{re.escape(marks[1])}",
        lambda _: f"{marks[0]}\n{block}\n{marks[1]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    sys.exit(main())
