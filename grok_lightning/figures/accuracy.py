"""Accuracy and loss of each condition's runs at their last evaluation, a row for each condition."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from grok_lightning.figures import style
from grok_lightning.figures.conditions import pick_names, split_conditions, stack
from grok_lightning.figures.values import list_keys

MOST = 40  # rows that fit a page
ROW = 0.34  # inches
COLORS = {"train": style.TRAIN, "val": style.VAL, "test": style.HUES[2]}
MARKERS = {"train": "s", "val": "o", "test": "D"}
WORDS = {"train": "training", "val": "validation", "test": "test"}


def tabulate_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    """The table that ``draw_accuracy`` draws.

    Args:
        runs: One row per run, as in a report.

    Returns:
        The keys and ``condition``, in order, ``kind`` (``run`` or ``median``), ``run``, ``split`` (``train``, ``val``
        or ``test``, as far as any run knows it), ``acc`` and ``loss`` at the last evaluation, and ``n``, the number of
        runs with a known accuracy. Rows of kind ``median`` are medians over the runs of the condition.
    """
    splits = [split for split in WORDS if f"final_{split}_acc" in runs and runs[f"final_{split}_acc"].notna().any()]
    columns, parts = ["kind", "run", "split", "acc", "loss", "n"], []
    for condition, group in split_conditions(runs):
        rows: list[dict[str, object]] = []
        for split in splits:
            acc, loss = group[f"final_{split}_acc"], group[f"final_{split}_loss"]
            each = zip(group["run"], acc, loss, strict=True)
            rows += [{"kind": "run", "run": run, "split": split, "acc": a, "loss": b} for run, a, b in each]
            rows.append({"kind": "median", "split": split, "acc": acc.median(), "loss": loss.median()})
            rows[-1]["n"] = int(acc.count())
        parts.append((condition, pd.DataFrame(rows, columns=columns)))
    return stack(parts, list_keys(runs, "condition"), columns).astype({"acc": float, "loss": float})


def draw_accuracy(table: pd.DataFrame, title: str) -> Figure:
    """A row for each condition: accuracy, beside it loss, of its runs and their medians, in color by split.

    Only the first 40 conditions are drawn, and the note then says so.

    Args:
        table: From ``tabulate_accuracy``.
        title: The figure's title.
    """
    conditions = [condition for condition, _ in split_conditions(table)]
    names = pick_names(conditions[:MOST], 44)
    row = {condition.label: float(place) for place, condition in enumerate(conditions[:MOST])}
    shown = table[table["condition"].isin(list(row)) & table["split"].notna()]
    splits = [split for split in WORDS if (shown["split"] == split).any()]
    runs, medians = shown[shown["kind"] == "run"], shown[shown["kind"] == "median"]
    several = bool((medians["n"] > 1).any())
    more = f" The first {MOST} of {len(conditions):,} conditions; the rest is in the table only."
    note = f"{style.format_count(int(runs['run'].nunique()), 'run')} at the last evaluation."
    note += " Large marks: medians over the runs of a condition." * several + more * (len(conditions) > MOST)
    tall = 1 + max((label.count("\n") for label in names.labels), default=0)
    height = 1.5 + max(ROW, 0.2 * tall) * max(2, len(row))
    figure = style.make_figure(title, note, 9, height)
    accuracy, loss = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for axes in (accuracy, loss):
        style.hide_frame(axes)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    for place, split in enumerate(splits):
        shift = 0.22 * (place - (len(splits) - 1) / 2)
        mine, middle = runs[runs["split"] == split], medians[medians["split"] == split]
        for axes, measure, scale in ((accuracy, "acc", 100), (loss, "loss", 1)):
            _draw_split(axes, mine.assign(x=scale * mine[measure]), row, shift, split, small=several)
            if several:
                _draw_split(axes, middle.assign(x=scale * middle[measure]), row, shift, split, small=False)
    accuracy.set(xlabel="accuracy (%)", xlim=(-3, 103), xticks=range(0, 101, 20))
    accuracy.set(yticks=range(len(row)), yticklabels=names.labels, ylim=(max(len(row), 1) - 0.4, -0.6))
    above = {"transform": accuracy.transAxes, "ha": "right", "va": "bottom", "fontsize": 8, "color": style.NOTE}
    accuracy.text(-0.015, 1.01, names.title, **above)
    _set_loss_axis(loss, shown["loss"])
    handles = [style.make_handle(MARKERS[split], COLORS[split]) for split in splits]
    style.draw_legend(figure, handles, [WORDS[split] for split in splits])
    return figure


def _draw_split(axes: Axes, rows: pd.DataFrame, row: dict[str, float], shift: float, split: str, small: bool) -> None:
    at = rows["condition"].astype(str).map(row).to_numpy(float) + shift
    axes.scatter(
        rows["x"], at, s=14 if small else 44, marker=MARKERS[split], color=COLORS[split], alpha=0.5 if small else 1,
        linewidths=0, rasterized=len(rows) > style.CROWD, zorder=3 if small else 4, clip_on=False,
    )  # fmt: skip


def _format_loss(loss: float) -> str:
    """A loss at a tick: ``0.01``, ``1e-4``."""
    return f"{loss:g}" if loss >= 1e-3 else f"{loss:.0e}".replace("e-0", "e-")


def _set_loss_axis(axes: Axes, losses: "pd.Series[float]") -> None:
    """Logarithmic, around the losses that are finite and positive."""
    axes.set_xlabel("loss (nats)")
    seen = losses[np.isfinite(losses) & (losses > 0)]
    if len(seen):
        limits = (seen.min() / 1.5, seen.max() * 1.5)
        axes.set(xscale="log", xlim=limits)
        wide = limits[1] > 30 * limits[0]
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=4 if wide else 9))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda loss, _: _format_loss(loss)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xticks([])
