"""Phase map: median grok step, or accuracy, over the values of two keys."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm, Normalize, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from grok_lightning.figures import style
from grok_lightning.figures.conditions import SEQUENCE, shorten_names
from grok_lightning.figures.values import find_distinct, format_value, format_values, list_keys, sort_by, to_ordered
from grok_lightning.statistics import kaplan_meier, times

# what most of the runs that did not grok did, in cells without a median: face color and hatching
PHASES = {"memorized only": ("#D9D9D9", ""), "neither": ("#8C8C8C", ""), "diverged": ("#FFFFFF", "xxxx")}
EDGE = "#777777"
ACCURACY = "best validation accuracy (%)"
BRIGHT_FIRST = SEQUENCE.reversed()  # earlier is brighter
MOST = 400  # cells with legible counts
NAMES = 34  # characters in a line of a name
CHARACTER, LINE = 0.075, 0.16  # inches


def tabulate_phase(runs: pd.DataFrame, x: str, y: str, by: str | None = None) -> pd.DataFrame:
    """The table that ``draw_phase`` draws.

    Args:
        runs: One row per run, as in a report.
        x: The column of the x axis.
        y: The column of the y axis.
        by: A third one, with a map for each of its values.

    Returns:
        One row for each combination of values of the keys that has runs: the keys under their own names, ``kind``
        (``grokked`` if the median was reached, else what most of the other runs did, the first of ``memorized only``,
        ``neither`` and ``diverged`` if several did as often), ``median`` grok step by Kaplan-Meier (infinity: not
        reached), ``best_val_acc`` (the median over the runs), ``n``, ``grokked``, ``memorized``, ``diverged`` (numbers
        of runs) and ``threshold``.
    """
    keys = [x, y] if by is None else [x, y, by]
    known = runs[["status", "memorize_step", "best_val_acc", "threshold"]]
    base = pd.concat([runs[keys].apply(to_ordered), known, times(runs, "grok")], axis=1)
    rows = []
    for values, group in base.groupby(keys, observed=True, sort=False):
        median = kaplan_meier(group["step"], group["observed"]).median
        left = group[~group["observed"]]
        still = left[left["status"] != "diverged"]
        memorized = int(still["memorize_step"].notna().sum())
        counts = (memorized, len(still) - memorized, len(left) - len(still))
        others = dict(zip(PHASES, counts, strict=True))  # of several with as many runs, the first counts
        kind = "grokked" if np.isfinite(median) else max(others, key=lambda name: others[name])
        rows.append(
            dict(zip(keys, values, strict=True))
            | {"kind": kind, "median": median, "best_val_acc": group["best_val_acc"].median(), "n": len(group)}
            | {"grokked": int(group["observed"].sum()), "memorized": int(group["memorize_step"].notna().sum())}
            | {"diverged": int((group["status"] == "diverged").sum()), "threshold": group["threshold"].max()}
        )
    columns = [*keys, "kind", "median", "best_val_acc", "n", "grokked", "memorized", "diverged", "threshold"]
    return sort_by(pd.DataFrame(rows, columns=columns), keys)


def draw_phase(table: pd.DataFrame, title: str) -> Figure:
    """A map of cells colored by median grok step; gray or hatched where the median was not reached.

    In each cell stands the median step, or the best validation accuracy where it was not reached; below it, with
    several runs, how many grokked of how many. Where no cell reached it, all are colored by that accuracy.

    Args:
        table: From ``tabulate_phase``; the keys' names label the axes, a third one's values stand above a map each.
        title: The figure's title.
    """
    x, y, *rest = list_keys(table)
    columns, rows = find_distinct(table[x]), find_distinct(table[y])
    third = table[rest[0]] if rest else pd.Series(dtype=float)
    maps = {value: table[to_ordered(third) == value] for value in find_distinct(third)}
    cells = table.assign(x=_locate(table[x], columns), y=_locate(table[y], rows))
    readable = len(columns) * len(rows) * max(1, len(maps)) <= MOST
    across = next(number for number in (1, 2, 3, 4, 5, 6) if len(maps) <= number**2 or number == 6)
    down = max(1, -(-len(maps) // across))
    wide, tall = _measure_map(columns, rows, several=bool((cells["n"] > 1).any()))
    width = wide if across == 1 else 1.8 + across * (wide - 3.2)
    figure = style.make_figure(title, _describe(cells, readable), width, down * tall)
    norm = _make_norm(cells["median"].to_numpy(float))
    names = shorten_names([x, y, *rest])
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for place, (axes, (value, part)) in enumerate(zip(grid.ravel(), maps.items() or [("", cells)], strict=False)):
        size = 9 if max(len(columns), len(rows)) <= 12 else 7
        _draw_map(axes, cells.loc[part.index], norm, size if readable else 0)
        shown = value if isinstance(value, str) else f"{names[rest[0]]}={format_value(value)}"
        axes.set_title(style.wrap_text(shown, 40), fontsize=9)
        _set_ticks(axes, "x", columns, names[x], 14)
        _set_ticks(axes, "y", rows, names[y], 20)
        if place % across:
            axes.set_ylabel("")
        if place + across >= len(maps):  # no panel below
            axes.tick_params(labelbottom=True)
        else:
            axes.set_xlabel("")
    for axes in grid.ravel()[max(1, len(maps)) :]:
        axes.remove()
    if not isinstance(norm, LogNorm):
        _draw_accuracy_bar(figure)
        return figure
    threshold = style.format_threshold(table["threshold"]).removesuffix(" of")
    _draw_colorbar(figure, norm, f"median steps to {threshold}")
    occurring = [name for name in PHASES if (cells["kind"] == name).any()]
    patches = [Patch(facecolor=PHASES[name][0], hatch=PHASES[name][1], edgecolor=EDGE) for name in occurring]
    if occurring:
        style.draw_legend(figure, patches, occurring, "most of the others")
    return figure


def _make_norm(medians: NDArray[np.float64]) -> Normalize:
    """The scale of colors: logarithmic over the medians that were reached, else that of accuracies."""
    steps = medians[np.isfinite(medians)].clip(1)
    if not len(steps):
        return Normalize(0, 1)
    low, high = float(steps.min()), float(steps.max())
    return LogNorm(low, high) if low < high else LogNorm(0.8 * low, 1.25 * high)


def _draw_map(axes: Axes, cells: pd.DataFrame, norm: Normalize, size: float) -> None:
    """Draws one map, with words in its cells unless the font size is 0."""
    logarithmic = isinstance(norm, LogNorm)
    values = cells["median"].clip(1) if logarithmic else cells["best_val_acc"]
    known = np.isfinite(values.to_numpy(float))
    styles = [PHASES.get(name, ("", "")) if logarithmic else PHASES["neither"] for name in cells["kind"]]
    colors = iter((BRIGHT_FIRST if logarithmic else SEQUENCE)(norm(values.to_numpy(float)[known])))
    faces = [to_hex(tuple(next(colors))) if has else face for has, (face, _) in zip(known, styles, strict=True)]
    hatched = np.array([bool(hatch) for _, hatch in styles], bool)
    _draw_squares(axes, cells, np.array(faces, object), hatched)
    if size:
        _write_cells(axes, cells, faces, hatched, size)


def _locate(column: pd.Series, values: list[float] | list[str]) -> NDArray[np.intp]:
    return pd.Index(values).get_indexer(pd.Index(to_ordered(column)))


def _measure_map(columns: list[float] | list[str], rows: list[float] | list[str], several: bool) -> tuple[float, float]:
    """Width and height of a map with its labels, in inches; ``several`` if cells have two lines."""
    cell = max(0.28, min(0.62, 7 / max(len(columns), len(rows), 1)))
    lines = max((text.count("\n") + 1 for text in format_values(rows, NAMES)), default=1)
    wide, tall = max(2.9, cell * len(columns)), max(1.9, max(0.75 * cell, 0.26 * several, LINE * lines) * len(rows))
    beside, below = (CHARACTER * max(0, _count_longest(names) - 10) for names in (rows, columns))
    return 3.6 + wide + beside, 1.3 + tall + below


def _count_longest(values: list[float] | list[str]) -> int:
    """Characters in the longest line of names; 0 for numbers, which always fit."""
    if not values or not isinstance(values[0], str):
        return 0
    return max(len(line) for text in format_values(values, NAMES) for line in text.split("\n"))


def _draw_squares(axes: Axes, cells: pd.DataFrame, faces: NDArray[np.object_], hatched: NDArray[np.bool_]) -> None:
    for which, edge, hatch in ((~hatched, "white", None), (hatched, EDGE, "xxxx")):
        corners = cells.loc[which, ["x", "y"]].to_numpy(float) - 0.5
        squares = [Rectangle((left, bottom), 1, 1) for left, bottom in corners]
        drawn = PatchCollection(squares, facecolors=list(faces[which]), edgecolors=edge, linewidths=0.8, hatch=hatch)
        axes.add_collection(drawn)


def _write_cells(axes: Axes, cells: pd.DataFrame, faces: list[str], hatched: NDArray[np.bool_], size: float) -> None:
    """Writes step or accuracy, and grokked/runs, into each cell, in black or white, whichever has more contrast."""
    numbers = cells[["x", "y", "grokked", "n", "median", "best_val_acc"]].to_numpy(float)
    for (x, y, grokked, n, median, accuracy), face, on_hatching in zip(numbers, faces, hatched, strict=True):
        light = np.dot(to_rgb(face), (0.299, 0.587, 0.114)) > 0.55
        lines = [style.format_steps(median)] if np.isfinite(median) else []
        lines = lines or ([f"{np.floor(100 * accuracy):.0f} %"] if np.isfinite(accuracy) else [])
        lines += [f"{grokked:,.0f}/{n:,.0f}"] if n > 1 or not lines else []
        axes.text(
            x, y, "\n".join(lines), ha="center", va="center", fontsize=size, color="black" if light else "white",
            linespacing=1.0,
            bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "linewidth": 0} if on_hatching else None,
        )  # fmt: skip


def _set_ticks(axes: Axes, which: str, values: list[float] | list[str], key: str, most: int) -> None:
    named = bool(values) and isinstance(values[0], str)
    every = 1 if named else max(1, -(-len(values) // most))
    texts = format_values(values, NAMES)[::every]
    axes.set(**{f"{which}ticks": range(0, len(values), every), f"{which}ticklabels": texts})
    ends = (-0.5, max(len(values), 1) - 0.5)
    ends = ends[::-1] if named and which == "y" else ends
    axes.set(**{f"{which}lim": ends, f"{which}label": style.wrap_text(key, 60)})
    axes.tick_params(length=0, labelsize=9)
    if which == "x" and (_count_longest(values) > 8 or (len(texts) > 6 and max(map(len, texts)) > 5)):
        axes.tick_params(axis="x", labelrotation=90)
    axes.spines[:].set_visible(False)


def _draw_accuracy_bar(figure: Figure) -> None:
    scale = ScalarMappable(Normalize(0, 100), SEQUENCE)
    bar = figure.colorbar(scale, ax=figure.axes, label=ACCURACY, aspect=9 * figure.get_figheight())
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9)


def _draw_colorbar(figure: Figure, norm: LogNorm, label: str) -> None:
    scale = ScalarMappable(norm, BRIGHT_FIRST)
    bar = figure.colorbar(scale, ax=figure.axes, label=label, aspect=9 * figure.get_figheight())
    subs: Sequence[float] = (1.0, 2.0, 5.0)
    ratio = float(norm.vmax or 1) / float(norm.vmin or 1)
    if ratio < 8:
        subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    if ratio < 2:
        subs = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=subs))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda step, _: style.format_steps(step)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9)


def _describe(cells: pd.DataFrame, numbers: bool) -> str:
    runs, grokked, diverged = (int(cells[name].sum()) for name in ("n", "grokked", "diverged"))
    lost = f", {diverged:,} diverged" if diverged else ""
    found = f"{style.format_count(runs, 'run')}, {grokked:,} grokked{lost}."
    several = ", and grokked/runs" if (cells["n"] > 1).any() else ""
    if not np.isfinite(cells["median"].to_numpy(float)).any():
        what = f"In each cell: the best validation accuracy{several}." if numbers else ""
        medians = " Medians over the runs of a cell." if several else ""
        return f"{found} No cell has a median grok step. {what}{medians} Empty where there is no run."
    what = f"In each cell: the median step, or the best validation accuracy where it was not reached{several}."
    what = what if numbers else "The medians and how many grokked of how many are in the table."
    estimate = "Medians by Kaplan-Meier. " if several else ""
    return f"{found} {estimate}{what} Gray or hatched where the median was not reached; empty where there is no run."
