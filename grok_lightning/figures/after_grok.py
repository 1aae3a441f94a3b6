"""Validation accuracy after the grok, against multiples of the grok step."""

from math import log10

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from grok_lightning.figures import style
from grok_lightning.figures.conditions import pick_names, split_conditions, stack
from grok_lightning.figures.multiples import draw_panels
from grok_lightning.figures.values import list_keys
from grok_lightning.records.after_grok import STABLE

LABEL, TIMES = "validation accuracy (%)", "step / grok step"
TICKS = (100, 99, 95, 90, 50, 0)
MOST = 300  # lines; crowded ones are rasterized


def tabulate_after_grok(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The table that ``draw_after_grok`` draws.

    Args:
        runs: One row per run, as in a report.
        curves: Their evaluations.

    Returns:
        The keys and ``condition``, in order, and a row for each evaluation of a run that grokked, from its grok on:
        ``run``, ``step``, ``times`` (step over grok step), ``val_acc``, and ``threshold``, ``n`` (the runs of the
        condition). Of each condition up to 300 runs; those that grokked at step 0 are left out.
    """
    grokked = runs[runs["grok_step"] > 0].groupby("condition", observed=True, sort=False).head(MOST)
    known = grokked[["run", "grok_step", "threshold"]].merge(curves[["run", "step", "val/acc"]], on="run")
    after = known[known["step"] >= known["grok_step"]].rename(columns={"val/acc": "val_acc"})
    after = after.assign(times=after["step"] / after["grok_step"])
    by_run = dict(tuple(after.groupby("run", sort=False)))
    parts = []
    for condition, rows in split_conditions(runs):
        own = [by_run[name] for name in rows["run"] if name in by_run]
        found = pd.concat(own) if own else after.reindex([-1])
        parts.append((condition, found.assign(n=len(rows))))
    return stack(parts, list_keys(runs, "condition"), ["run", "step", "times", "val_acc", "threshold", "n"])


def draw_after_grok(table: pd.DataFrame, title: str) -> Figure:
    """A panel for each condition with a line for each run; errors are on a logarithmic scale, linear up to 1 %.

    Args:
        table: From ``tabulate_after_grok``.
        title: The figure's title.
    """
    whole = split_conditions(table)
    count = sum(int(rows["n"].iloc[0]) for _, rows in whole)
    grokked = [(condition, rows[rows["run"].notna()]) for condition, rows in whole]
    parts = [part for part in grokked if len(part[1])] or grokked[:1]
    sizes = [rows["run"].nunique() for _, rows in parts]
    without = len(grokked) - len([size for size in sizes if size])
    note = f"{style.format_count(count, 'run')}; {sum(sizes):,} that grokked are drawn"
    note += f", in {without:,} of the conditions none." if without else "."
    threshold = style.format_threshold(table["threshold"]).removesuffix(" of")
    note += f" Dotted: {threshold}, at which a run groks"
    note += f"; dashed: {STABLE:.0%}." if (table["threshold"] > STABLE).any() else "."
    if len(parts) <= 1:
        figure = style.make_figure(title, note, 7.5, 4.4)
        cells = [figure.subplots()]
        for axes in cells:
            _set_axes(axes, table)
            style.hide_frame(axes)
    else:
        names = pick_names([condition for condition, _ in parts])
        figure, cells = draw_panels(title, note, names, sizes, LABEL, lambda axes: _set_axes(axes, table, narrow=True))
    for (_, rows), axes in zip(parts, cells, strict=False):
        _draw_lines(axes, rows)
        if axes.get_xlabel():
            axes.set_xlabel(TIMES)
    return figure


def _draw_lines(axes: Axes, rows: pd.DataFrame) -> None:
    if rows.empty:
        return
    threshold = rows["threshold"].max()
    for level, line in ((threshold, style.DOTTED), (min(STABLE, threshold), style.DASHED)):
        axes.axhline(100 * (1 - level), color=style.NOTE, linewidth=0.8, linestyle=line, zorder=1)
    crowd = len(rows) > 10 * style.CROWD
    for place, (_, own) in enumerate(rows.groupby("run", sort=False)):
        hue = style.HUES[place % len(style.HUES)]
        axes.plot(
            own["times"], 100 * (1 - own["val_acc"].astype(float)), color=hue, linewidth=0.9, alpha=0.85,
            marker="o", markersize=1.6, markeredgewidth=0, rasterized=crowd,
        )  # fmt: skip


def _set_axes(axes: Axes, table: pd.DataFrame, narrow: bool = False) -> None:
    most = max(float(table["times"].max()), 1.2) if table["times"].notna().any() else 10.0
    axes.set(xscale="log", xlim=(0.97, most * 1.1), xlabel=TIMES)
    steps = (1.0, 2.0, 5.0) if most < (25 if narrow else 300) else (1.0,)
    powers = range(0, int(log10(most)) + 1, 2 if narrow and most >= 1000 else 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    axes.xaxis.set_major_locator(FixedLocator(ticks if most >= 2 else [1, 1.2, 1.4, 1.6, 1.8]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda times, _: f"{times:,g}x"))
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    axes.set(ylim=(120, -0.2), ylabel=LABEL)
    axes.yaxis.set_major_locator(FixedLocator([100 - tick for tick in TICKS]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([f"{tick}" for tick in TICKS])
