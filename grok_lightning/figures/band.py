"""Accuracy and loss of each condition: the median over its runs and a band around it."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from grok_lightning.figures.conditions import FEW, by_condition, colorbar, heads, looks, naming
from grok_lightning.figures.multiples import panel_each
from grok_lightning.figures.splits import COLORS, LABELS, MEASURES, Measure, accuracy_and_loss, frame
from grok_lightning.figures.style import DASHED, SOLID, Line, bare, counted, legend, mark, new_figure

QUARTILES, RANGE = "25-75%", "min-max"
ENOUGH = 5  # runs from which on quartiles mean something
POINTS = 400  # steps of one line


def band_table(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """What ``band`` draws.

    A run that stopped early because it had grokked for long enough, or because it diverged, counts with its last values
    from then on: else the median would become that of the slow ones. Other runs count as long as they were watched.

    Args:
        runs: One row per run, as reports make them.
        curves: Their evaluations.

    Returns:
        Conditions in order, in them each ``measure`` (``train/acc``, ``val/acc``, ``train/loss``, ``val/loss``) at the
        ``step``s (from 1 on) that at least half of the runs under way were evaluated at, as far as half of all
        count: ``median``, ``low``, ``high``,
        ``n`` runs, of which ``carried`` had stopped early; ``interval``: what ``low`` and ``high`` are, quartiles if
        every condition has 5 runs or more, else minimum and maximum; ``runs``: of the condition.
    """
    known = runs[runs["run"].isin(pd.unique(curves["run"]))]
    groups = dict(by_condition(known))
    interval = QUARTILES if groups and min(map(len, groups.values())) >= ENOUGH else RANGE
    by_run = curves.groupby("run", sort=False).indices
    parts = []
    for condition, rows in groups.items():
        places = [by_run[name] for name in rows["run"]]
        carried = rows["status"].eq("diverged") | (rows["status"].ne("running") & rows["sustained_grok_step"].notna())
        own = curves.iloc[np.concatenate(places)]
        table = _bands(own, np.array(list(map(len, places))), carried.to_numpy(bool), interval)
        parts.append(table.assign(condition=condition, interval=interval, runs=len(rows)))
    columns = ["condition", "measure", "step", "median", "low", "high", "n", "carried", "interval", "runs"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _bands(curves: pd.DataFrame, lengths: NDArray[np.int_], carried: NDArray[np.bool_], interval: str) -> pd.DataFrame:
    """One condition's, from the rows of its runs one after another."""
    run, step = np.repeat(np.arange(len(lengths)), lengths), curves["step"].to_numpy(np.int64)
    last = step[np.cumsum(lengths) - 1]
    grid = _shared(step, last)
    far = int(step.max()) + 1
    # one sorted sequence of (run, step): the newest evaluation of each run up to each step is found at once
    found = np.searchsorted(run * far + step, np.arange(len(lengths))[:, None] * far + grid, side="right") - 1
    early = grid > last[:, None]
    known = (found >= (np.cumsum(lengths) - lengths)[:, None]) & (~early | carried[:, None])
    parts = []
    for measure in MEASURES:
        values_RS = np.where(known, curves[measure].to_numpy(float)[found.clip(0)], np.nan)
        n = (~np.isnan(values_RS)).sum(0)
        seen = (n > 0) & (2 * n >= len(lengths))
        ends = [0.25, 0.5, 0.75] if interval == QUARTILES else [0.0, 0.5, 1.0]
        low, middle, high = _quantiles(values_RS[:, seen], n[seen], ends)
        parts.append(
            pd.DataFrame({"measure": measure, "step": grid[seen], "median": middle, "low": low, "high": high}).assign(
                n=n[seen], carried=(known & early)[:, seen].sum(0)
            )
        )
    return pd.concat(parts, ignore_index=True)


def _quantiles(values_RS: NDArray[np.float64], n: NDArray[np.int_], shares: list[float]) -> list[NDArray[np.float64]]:
    """Of each column's n values that are not NaN, by linear interpolation; numpy's own goes column by column."""
    ordered_RS, columns = np.sort(values_RS, axis=0), np.arange(values_RS.shape[1])
    found = []
    for share in shares:
        place = share * (n - 1)
        below = np.floor(place).astype(int)
        first, second = ordered_RS[below, columns], ordered_RS[np.ceil(place).astype(int), columns]
        with np.errstate(invalid="ignore"):  # inf - inf, a loss out of range in both
            found.append(np.where(first == second, first, first + (place - below) * (second - first)))
    return found


def _shared(step: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """The steps at which at least half of the runs under way were evaluated, at most some hundred."""
    steps, counts = np.unique(step[step > 0], return_counts=True)
    under_way = len(last) - np.searchsorted(np.sort(last), steps)
    steps = steps[2 * counts >= under_way]
    if len(steps) > POINTS:
        even = np.searchsorted(steps, np.geomspace(steps[0], steps[-1], POINTS).round())
        steps = steps[np.unique(even.clip(0, len(steps) - 1))]
    return steps


def band(table: pd.DataFrame, title: str, measure: Measure = "acc") -> Figure:
    """Medians and bands: accuracy above loss, training beside validation, or in one panel if there is one condition.

    With more than 8 conditions: lines colored by their number without bands, if they are numbers of one key; else a
    panel for each, of one measure.

    Args:
        table: From ``band_table``.
        title: The figure's title.
        measure: ``acc`` or ``loss``: which to draw where each condition has a panel.
    """
    parts = dict(by_condition(table))
    names, kinds = naming(parts), looks(parts)
    sizes = {name: int(rows["runs"].iloc[0]) for name, rows in parts.items()}
    many = len(parts) > FEW
    note = _note(table, sum(sizes.values()), many and names.values is not None)
    losses = table.loc[table["measure"].str.endswith("loss"), ["low", "median", "high"]].add_suffix("/loss")
    if many and names.values is None:
        return panel_each(title, note, parts, measure, losses, partial(_band, line=SOLID, shaded=True))
    if len(parts) == 1:
        return _single(table, title, note, losses)
    figure = new_figure(title, note, 9.5, 6)
    for (split, kind), axes in accuracy_and_loss(figure, table["step"], losses).items():
        for rows, look in zip(parts.values(), kinds, strict=True):
            _band(axes, rows, f"{split}/{kind}", look.color, look.line, not many)
    if many:
        colorbar(figure, names)
    elif parts:
        labels = [f"{label} (n = {n:,})" for label, n in zip(names.labels, sizes.values(), strict=True)]
        legend(figure, heads(kinds, markers=False), labels, names.title)
    return figure


def _single(table: pd.DataFrame, title: str, note: str, losses: pd.DataFrame) -> Figure:
    figure = new_figure(title, note, 7.5, 6)
    for measure, axes in zip(LABELS, figure.subplots(2, 1, sharex=True), strict=True):
        bare(axes)
        frame(axes, measure, table["step"], losses)
        axes.set_xlabel("optimizer steps" if measure == "loss" else "")
        for split, line in (("train", DASHED), ("val", SOLID)):
            _band(axes, table, f"{split}/{measure}", COLORS[split], line, True)
    handles = [mark("", COLORS["train"], line=DASHED), mark("", COLORS["val"], line=SOLID)]
    legend(figure, handles, ["training", "validation"])
    return figure


def _band(axes: Axes, rows: pd.DataFrame, measure: str, color: str, line: Line, shaded: bool) -> None:
    rows = rows[rows["measure"] == measure]
    scale = 100 if measure.endswith("acc") else 1
    axes.plot(rows["step"], scale * rows["median"], color=color, linestyle=line, linewidth=1.5)
    if shaded:
        axes.fill_between(rows["step"], scale * rows["low"], scale * rows["high"], color=color, alpha=0.16, linewidth=0)


def _note(table: pd.DataFrame, runs: int, bare_lines: bool) -> str:
    interval = table["interval"].iloc[0] if len(table) else RANGE
    shaded = f"bands ({interval}) are in the table only" if bare_lines else f"band: {interval}"
    note = f"{counted(runs, 'run')}. Lines: medians, as far as half of the runs were watched; {shaded}."
    if not (table["carried"] > 0).any():
        return note
    return (
        f"{note} Runs that stopped early, after a lasting grok or diverged, count with their last values from then on."
    )
