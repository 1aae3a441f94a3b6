"""Every recorded metric of the runs of one condition over the optimizer steps, a panel for each kind."""

import re
import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from grok_lightning.figures.style import (
    HUES,
    SOLID,
    TRAIN,
    VAL,
    bare,
    counted,
    each,
    loss_axis,
    mark,
    new_figure,
    percent_axis,
    step_axis,
)

# panels by their y labels: metrics and their names
PANELS: dict[str, dict[str, str]] = {
    "accuracy (%)": {"train/acc": "training accuracy", "val/acc": "validation accuracy"},
    "loss (nats)": {
        "train/loss": "training loss", "val/loss": "validation loss",
        "progress/restricted_loss": "restricted loss", "progress/excluded_loss": "excluded loss",
    },
    "weight norm": {"norm/weights": "all weights"},
    "Gini coefficient": {
        "fourier/embedding_gini": "embedding, Fourier", "fourier/neurons_gini": "neurons to logits, Fourier",
        "fourier/unembedding_gini": "head, Fourier",
    },
    "validation accuracy (%)": {
        "symmetry/mirrored_acc": "mirror in training", "symmetry/unmirrored_acc": "mirror not in training",
    },
}  # fmt: skip
COLORS = {"train/acc": TRAIN, "train/loss": TRAIN, "val/acc": VAL, "val/loss": VAL}
LINES = {"progress/restricted_loss": (0, (5, 1.5)), "progress/excluded_loss": (0, (1, 1.5))}


def measures_table(curves: pd.DataFrame, until: float | None = None) -> pd.DataFrame:
    """The table that ``measures`` draws.

    Args:
        curves: Evaluations of runs of one condition.
        until: The last step to show; default: the last one.

    Returns:
        For each step from 1 on and each metric that is there: ``median``, ``low`` and ``high`` (least and most) over
        ``n`` runs, as far as all of them were evaluated.
    """
    shown = curves[(curves["step"] > 0) & (curves["step"] <= (until or float("inf")))]
    known = [metric for metrics in PANELS.values() for metric in metrics]
    names = [*known, *(metric for metric in map(str, shown) if "/" in metric and metric not in known)]
    found = [metric for metric in names if metric in shown and shown[metric].notna().any()]
    long = shown.melt(["run", "step"], found, "metric", "value").dropna(subset=["value"])
    table = long.groupby(["metric", "step"], sort=True)["value"].agg(["median", "min", "max", "count"]).reset_index()
    table = table.rename(columns={"min": "low", "max": "high", "count": "n"})
    most = table.groupby("metric")["n"].transform("max")
    return table[table["n"] == most].reset_index(drop=True)  # else the median would become that of the slow runs


def name_metric(metric: str) -> str:
    """Name of a metric in a legend: ``norm: gradient`` for ``norm/gradient``."""
    group, slash, name = metric.partition("/")
    return f"{group}: {name.replace('_', ' ')}" if slash else metric


def name_panel(metric: str) -> str:
    """Panel of other metrics: weight norms share one, and so do metrics that differ only in a last number."""
    if metric.startswith("norm/") and metric != "norm/gradient":
        return "weight norm"
    return name_metric(re.sub(r"_\d+$", "", metric))


def measures(table: pd.DataFrame, title: str, marks: Sequence[tuple[float, str]] = ()) -> Figure:
    """Panels over the same logarithmic steps: one for each known kind of metric, one for each other metric.

    Args:
        table: From ``measures_table``.
        title: The figure's title.
        marks: Steps to mark in all panels, with their labels.
    """
    parts = dict(tuple(table.groupby("metric", sort=False)))
    known = {metric for names in PANELS.values() for metric in names}
    every = {label: dict(names) for label, names in PANELS.items()}
    for metric in map(str, parts):
        if metric not in known:
            every.setdefault(name_panel(metric), {})[metric] = name_metric(metric)
    panels = {label: [metric for metric in names if metric in parts] for label, names in every.items()}
    panels = {label: metrics for label, metrics in panels.items() if metrics}
    runs = int(table["n"].max()) if len(table) else 0
    bands = f" Lines: medians; bands: least to most of {each([runs])}." if runs > 1 else ""
    figure = new_figure(title, f"{counted(runs, 'run')}.{bands}", 7.5, 0.9 + 1.75 * max(len(panels), 1))
    grid = figure.subplots(max(len(panels), 1), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, metrics) in zip(grid, panels.items(), strict=False):
        bare(axes)
        handles = []
        scale = 100 if "%" in label else 1
        for place, metric in enumerate(metrics):
            rows = parts[metric]
            color, line = COLORS.get(metric, HUES[2 + place % 5]), LINES.get(metric, SOLID)
            axes.plot(rows["step"], scale * rows["median"], color=color, linestyle=line, linewidth=1.4)
            if runs > 1:
                axes.fill_between(
                    rows["step"], scale * rows["low"], scale * rows["high"], color=color, alpha=0.13, lw=0
                )
            handles.append(mark("", color, line=line))
        names = [every[label][metric] for metric in metrics]
        axes.legend(handles, names, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
        axes.set_ylabel(textwrap.fill(label, 20), fontsize=9)
        if "accuracy" in label:
            percent_axis(axes, label)
        elif label.startswith("loss"):
            loss_axis(axes)
        for step, _ in marks:
            axes.axvline(step, color="#555555", linewidth=1, linestyle=":")
    for step, word in marks:
        grid[0].annotate(word, (step, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                         ha="center", fontsize=8, color="#555555")  # fmt: skip
    if len(table):
        step_axis(grid[-1], "x", table["step"].min(), table["step"].max())
    return figure
