"""Steps to grok against steps to memorize."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_lightning.figures.conditions import FEW, PLAIN, by_condition, colorbar, looks, naming, stack
from grok_lightning.figures.style import NOTE, bare, counted, legend, mark, new_figure, percent, points, step_axis
from grok_lightning.figures.values import keys_of
from grok_lightning.statistics import times


def delay_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The table that ``delay`` draws.

    Args:
        runs: One row per run, as in a report.

    Returns:
        One row for each run, conditions in order: the keys, ``condition``, ``run``, ``status``, ``memorize_step`` (NaN:
        never, and such a run is not drawn), ``step`` (grok step, or the step of censoring), ``observed`` and
        ``threshold``.
    """
    known = times(runs, "grok")
    table = runs.assign(step=known["step"], observed=known["observed"])
    columns = ["run", "status", "memorize_step", "step", "observed", "threshold"]
    return stack(by_condition(table), keys_of(runs, "condition"), columns)


def delay(table: pd.DataFrame, title: str) -> Figure:
    """Each run by its two steps, on logarithmic axes, with lines of ratio 1, 10 and 100.

    Args:
        table: From ``delay_table``.
        title: The figure's title.
    """
    shown = table[table["memorize_step"].notna()]
    parts = by_condition(shown)
    names = naming([condition for condition, _ in parts])
    alike = len(parts) > FEW and names.values is None  # no legend could tell them apart
    kinds = [PLAIN] * len(parts) if alike else looks(names)
    figure = new_figure(title, _describe(table, shown), 7.5, 5)
    axes = figure.subplots()
    bare(axes)
    threshold = percent(table["threshold"].max()) if len(table) else "threshold"
    x, y = (shown[name].clip(lower=1).to_numpy(float) for name in ("memorize_step", "step"))
    step_axis(
        axes, "x", x.min(initial=1e9) if len(x) else 1, x.max(initial=1), f"steps to {threshold} training accuracy"
    )
    step_axis(
        axes,
        "y",
        min(y.min(initial=1e9), x.min(initial=1e9)) if len(y) else 1,
        max(y.max(initial=1), x.max(initial=1)),
        f"steps to {threshold} validation accuracy",
    )
    _draw_diagonals(axes)
    for (_, rows), look in zip(parts, kinds, strict=True):
        points(
            axes,
            rows["memorize_step"].clip(lower=1),
            rows["step"].clip(lower=1),
            rows["observed"].eq(True),
            look.color,
            look.marker,
        )
    censored = shown["observed"].eq(False).any()
    marks = [mark("^", open=True, size=5)] * int(censored)
    words = ["not grokked (so far)"] * int(censored)
    if alike:
        legend(figure, [mark("o", PLAIN.color), *marks], ["a run", *words])
    elif len(parts) > FEW:
        colorbar(figure, names)
        legend(figure, marks, words)
    else:
        dots = [mark(look.marker, look.color) for look in kinds]
        legend(figure, [*dots, *marks], [*names.labels, *words], names.title)
    return figure


def _draw_diagonals(axes: Axes) -> None:
    """Draws lines of equal ratio, labeled at the edge of the frame."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for factor, line in ((1, "-"), (10, "--"), (100, ":")):
        if factor * right <= bottom or factor * left >= top:
            continue
        axes.plot([left, right], [factor * left, factor * right], color=NOTE, linewidth=0.9, linestyle=line, zorder=1)
        name = "at once" if factor == 1 else f"{factor}× later"
        inside = factor * right <= top
        axes.annotate(
            name, (right, factor * right) if inside else (top / factor, top), xytext=(4, 0) if inside else (0, 3),
            textcoords="offset points", ha="left" if inside else "center", va="center" if inside else "bottom",
            fontsize=8, color=NOTE, annotation_clip=False,
        )  # fmt: skip
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _describe(table: pd.DataFrame, shown: pd.DataFrame) -> str:
    grokked, diverged = int(table["observed"].eq(True).sum()), int((table["status"] == "diverged").sum())
    never = len(table) - len(shown)
    lost = f", {diverged:,} diverged" if diverged else ""
    left_out = f"; {never:,} that never memorized left out" if never else ""
    lines = "Lines: grokked as soon as memorized, 10 and 100 times as late."
    return f"{counted(len(table), 'run')}, {grokked:,} grokked{lost}{left_out}. {lines}"
