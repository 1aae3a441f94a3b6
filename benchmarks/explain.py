"""Renews tables and figures of docs/science/explanation.md from the records: ``python benchmarks/explain.py``."""

import re
import sys
from pathlib import Path

import pandas as pd

from grok_lightning.figures.by_value import draw_by_value, tabulate_by_value
from grok_lightning.figures.measures import draw_measures, tabulate_measures
from grok_lightning.records.archive import read_archive
from grok_lightning.report.making import make_report

HOME = Path(__file__).parents[1]
RECORDS = HOME / "docs" / "science" / "reproductions"
DOCUMENT = HOME / "docs" / "science" / "explanation.md"
FIGURES = HOME / "docs" / "science" / "explanation"
RATE, DECAY, PRODUCT = "optimizer.lr", "optimizer.weight_decay", "learning rate × weight decay"
INSIDE = {"addition-fractions": "x + y", "division-fractions": "x / y"}  # whose norms are told, and of what
PHASES = {  # metric, its heading and how it is written
    "train/acc": ("training accuracy", "share"),
    "val/acc": ("validation accuracy", "share"),
    "train/loss": ("training loss", "loss"),
    "val/loss": ("validation loss", "loss"),
    "restricted_loss": ("restricted loss", "loss"),
    "excluded_loss": ("excluded loss", "loss"),
    "fourier/embedding_gini": ("Gini, embedding", "number"),
    "fourier/neurons_gini": ("Gini, neurons to logits", "number"),
    "norm/weights": ("weight norm", "norm"),
}
ALPHA, SEED = "config.data.train_fraction", "config.seed_everything"


def main() -> int:
    """Renews all tables and figures."""
    FIGURES.mkdir(exist_ok=True)
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    for name, operation in INSIDE.items():
        runs, curves = read_archive(RECORDS / f"{name}.parquet")
        chosen = runs["path"][runs[ALPHA] == 0.4]
        table = tabulate_measures(curves[curves["run"].isin(set(chosen))])
        figure = draw_measures(table, f"{operation} mod 97 from 40 % of the table")
        figure.savefig(FIGURES / f"{name}-inside.png", dpi=110)
    table = tabulate_by_value(clocked()[0], PRODUCT, "lr")
    figure = draw_by_value(table, "x + y mod 97: grok step by learning rate times weight decay")
    figure.savefig(FIGURES / "clock.png", dpi=110)
    runs, curves = read_archive(RECORDS / "progress-measures.parquet")
    for _, run in runs.iterrows():
        table = tabulate_measures(curves[curves["run"] == run["path"]])
        marks = [(run[f"{event}_step"], word) for event, word in (("memorize", "memorized"), ("grok", "grokked"))]
        marks = [(float(step), word) for step, word in marks if pd.notna(step)]
        figure = draw_measures(table, f"x + y mod 113, progress measures, seed {run[SEED]}", marks)
        figure.savefig(FIGURES / f"progress-measures-{run[SEED]}.png", dpi=110)
    return 0


def with_tables(text: str) -> str:
    """The document with its tables as the records have them."""
    for name in INSIDE:
        text = placed(text, f"norms of {name}", norms(*read_archive(RECORDS / f"{name}.parquet")))
    runs, curves = read_archive(RECORDS / "progress-measures.parquet")
    at_end = pd.read_csv(DOCUMENT.parent / "results" / "progress-measures-end.csv")  # from benchmarks/phases.py
    for _, run in runs.iterrows():
        curve = curves[curves["run"] == run["path"]].merge(at_end[at_end["seed"] == run[SEED]], "inner", "step")
        text = placed(text, f"progress measures, seed {run[SEED]}", phases(curve))
    return placed(text, "the clock", clock())


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


def phases(curve: pd.DataFrame) -> str:
    """Accuracy, losses, sparsity and norm of one run at its saved checkpoints, as Markdown."""
    lines = [f"| step | {' | '.join(heading for heading, _ in PHASES.values())} |", "| ---: " * (len(PHASES) + 1) + "|"]
    for row in curve.sort_values("step").to_dict("records"):
        cells = [_written(row[metric], kind) for metric, (_, kind) in PHASES.items()]
        lines.append(f"| {row['step']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _written(value: float, kind: str) -> str:
    if kind == "share":
        return "100 %" if value == 1 else f"{min(99.9, 100 * value):.1f} %"
    if kind == "loss":
        return f"{value:.1e}" if value < 1e-3 else f"{value:.2g}" if value < 1 else f"{value:.1f}"
    return f"{value:.2f}" if kind == "number" else f"{value:.1f}"


def clocked() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs of both sweeps over learning rate and decay, and their curves."""
    paths = [RECORDS / f"{name}.parquet" for name in ("learning-rate-decay", "decay-clock")]
    report = make_report([str(path) for path in paths], HOME, [RATE, DECAY])
    runs = report.runs.rename(columns={f"model.{RATE}": "lr", f"model.{DECAY}": "decay"})
    runs[PRODUCT] = (runs["lr"] * runs["decay"]).round(9)
    # of two runs that differ in their budget alone, the one watched for longer
    runs = runs.sort_values("steps").drop_duplicates(["lr", "decay", "seed"], keep="last")
    return runs, report.gathered.curves


def clock() -> str:
    """Grok step against learning rate times decay, as Markdown."""
    runs, curves = clocked()
    norm = dict(tuple(curves.groupby("run")))
    lines = [
        "| lr × decay | lr | decay | memorize steps | grok steps | lr × decay × grok step | norm at the grok |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    keys = [PRODUCT, "lr", "decay"]
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
