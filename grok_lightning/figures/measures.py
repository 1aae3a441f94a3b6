"""Every recorded metric over the optimizer steps: a panel for each kind, or for each metric to compare conditions."""

import re
import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_lightning.figures import style
from grok_lightning.figures.conditions import add_legend, make_handles, pick_looks, pick_names, split_conditions, stack
from grok_lightning.figures.values import list_keys

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
COLORS = {"train/acc": style.TRAIN, "train/loss": style.TRAIN, "val/acc": style.VAL, "val/loss": style.VAL}
LINES: dict[str, style.Line] = {"progress/restricted_loss": (0, (5, 1.5)), "progress/excluded_loss": (0, (1, 1.5))}


def tabulate_measures(curves: pd.DataFrame, runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """The table that ``draw_measures`` draws.

    Args:
        curves: Evaluations of runs: ``run``, ``step`` and metrics.
        runs: One row per run, as in a report; default: all runs are of one condition.

    Returns:
        For each step from 1 on and each metric that is there: ``median``, ``low`` and ``high`` (least and most) over
        ``n`` runs, as far as all runs of the condition were evaluated. If there are several conditions: their keys and
        ``condition`` before these columns, and accuracy and loss, which other figures compare, are left out.
    """
    known = [metric for metrics in PANELS.values() for metric in metrics]
    names = [*known, *(metric for metric in map(str, curves) if "/" in metric and metric not in known)]
    if runs is None or runs["condition"].nunique() < 2:
        return _summarize(curves, names)
    names = [name for name in names if name not in COLORS]
    parts = [
        (condition, _summarize(curves[curves["run"].isin(rows["run"])], names))
        for condition, rows in split_conditions(runs)
    ]
    return stack(parts, list_keys(runs, "condition"), ["metric", "step", "median", "low", "high", "n"])


def _summarize(curves: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    found = [name for name in names if name in curves and curves[name].notna().any()]
    long = curves[curves["step"] > 0].melt(["run", "step"], found, "metric", "value").dropna(subset=["value"])
    table = long.groupby(["metric", "step"], sort=True)["value"].agg(["median", "min", "max", "count"]).reset_index()
    table = table.rename(columns={"min": "low", "max": "high", "count": "n"})
    most = table.groupby("metric")["n"].transform("max")
    return table[table["n"] == most].reset_index(drop=True)  # else the median would become that of the slow runs


def draw_measures(table: pd.DataFrame, title: str, marks: Sequence[tuple[float, str]] = ()) -> Figure:
    """Metrics over the same logarithmic steps.

    Of one condition, a panel for each known kind of metric and for each other metric. Of several, a panel for each
    metric, with a line for each condition.

    Args:
        table: From ``tabulate_measures``.
        title: The figure's title.
        marks: Of one condition: steps to mark in all panels, with their labels.
    """
    if "condition" in table:
        return _compare(table, title)
    panels: dict[str, dict[str, str]] = {}  # names of metrics, by panel
    for metric in _order_metrics(table):
        label, name = _place_metric(metric)
        panels.setdefault(label, {})[metric] = name
    runs = int(table["n"].max()) if len(table) else 0
    bands = f" Lines: medians; bands: least to most of {style.format_range([runs])}." if runs > 1 else ""
    figure = style.make_figure(
        title, f"{style.format_count(runs, 'run')}.{bands}", 7.5, 0.9 + 1.75 * max(len(panels), 1)
    )
    grid = figure.subplots(max(len(panels), 1), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, names) in zip(grid, panels.items(), strict=False):
        handles = []
        for place, metric in enumerate(names):
            color, line = COLORS.get(metric, style.HUES[2 + place % 5]), LINES.get(metric, style.SOLID)
            _draw_metric(axes, table[table["metric"] == metric], label, color, line, band=runs > 1)
            handles.append(style.make_handle("", color, line=line))
        _set_axes(axes, label)
        axes.legend(
            handles, list(names.values()), loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8
        )
        for step, _ in marks:
            axes.axvline(step, color=style.NOTE, linewidth=1, linestyle=":")
    for step, word in marks:
        grid[0].annotate(word, (step, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                         ha="center", fontsize=8, color=style.NOTE)  # fmt: skip
    if len(table):
        style.set_step_axis(grid[-1], "x", table["step"].min(), table["step"].max())
    return figure


def _compare(table: pd.DataFrame, title: str) -> Figure:
    """Draws a panel for each metric with a line for each condition, in the conditions' colors of other figures."""
    metrics, parts = _order_metrics(table), split_conditions(table)
    names = pick_names([condition for condition, _ in parts])
    most = int(table["n"].fillna(0).max())
    note = f"{style.format_range(rows['n'].max() for _, rows in parts)} run{'' if most == 1 else 's'} per condition."
    if most > 1:
        note += " Lines: medians." if names.has_scale else " Lines: medians; bands: least to most."
    across = 1 if len(metrics) == 1 else 2
    down = max(1, -(-len(metrics) // across))
    figure = style.make_figure(title, note, 5.2 * across, 0.9 + 2.1 * down)
    grid = figure.subplots(down, across, sharex=True, squeeze=False).ravel()
    for axes, metric in zip(grid, metrics, strict=False):
        label, name = _place_metric(metric)
        for (_, rows), look in zip(parts, pick_looks(names), strict=True):
            _draw_metric(axes, rows[rows["metric"] == metric], label, look.color, look.line, not names.has_scale)
        _set_axes(axes, label)
        axes.set_title(name if name.startswith(label) else f"{label}: {name}", fontsize=9)
        axes.set_ylabel("")
    for axes in grid[len(metrics) :]:
        axes.remove()
    if metrics:
        style.set_step_axis(grid[0], "x", table["step"].min(), table["step"].max(), label="")
    for axes in grid[max(0, len(metrics) - across) : len(metrics)]:
        axes.set_xlabel("optimizer steps")
        axes.tick_params(labelbottom=True)
    add_legend(figure, names, make_handles(pick_looks(names), markers=False), {})
    return figure


def _order_metrics(table: pd.DataFrame) -> list[str]:
    """The metrics of a table: known ones in the order of their panels, then the others."""
    found = list(map(str, table["metric"].dropna().unique()))
    known = [metric for metrics in PANELS.values() for metric in metrics]
    return [*(metric for metric in known if metric in found), *(metric for metric in found if metric not in known)]


def _place_metric(metric: str) -> tuple[str, str]:
    """Panel and name of a metric; weight norms share a panel, and so do metrics that differ only in a last number.

    So do those of a group's representations and subgroups, which differ in a last word.
    """
    for label, names in PANELS.items():
        if metric in names:
            return label, names[metric]
    group, slash, last = metric.partition("/")
    name = f"{group}: {last.replace('_', ' ')}" if slash else metric
    if metric == "norm/gradient":
        return "gradient norm", "gradient norm"
    if group == "norm":
        return "weight norm", last.replace("_", " ")
    if group in ("irreps", "cosets"):
        return re.sub(r"(?<!:) [^ ]+$", "", name), name
    return re.sub(r" \d+$", "", name), name


def _draw_metric(axes: Axes, rows: pd.DataFrame, label: str, color: str, line: style.Line, band: bool) -> None:
    scale = 100 if "%" in label else 1
    axes.plot(rows["step"], scale * rows["median"], color=color, linestyle=line, linewidth=1.4)
    if band:
        axes.fill_between(rows["step"], scale * rows["low"], scale * rows["high"], color=color, alpha=0.13, lw=0)


def _set_axes(axes: Axes, label: str) -> None:
    style.hide_frame(axes)
    axes.set_ylabel(textwrap.fill(label, 20), fontsize=9)
    if "accuracy" in label:
        style.set_percent_axis(axes, label)
    elif label.startswith("loss"):
        style.set_loss_axis(axes)
