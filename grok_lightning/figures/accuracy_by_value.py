"""Best validation accuracy against a numeric key: data efficiency, if the key is the train fraction."""

import pandas as pd
from matplotlib.figure import Figure

from grok_lightning.figures.conditions import FEW, Look, colorbar, heads, naming
from grok_lightning.figures.slots import slots
from grok_lightning.figures.style import CROWD, NOTE, bare, counted, each, legend, mark, new_figure, percent_axis
from grok_lightning.figures.values import ordered_type, sorted_by, value_axis


def accuracy_by_value_table(runs: pd.DataFrame, key: str, by: str | None = None) -> pd.DataFrame:
    """What ``accuracy_by_value`` draws.

    Args:
        runs: One row per run, as reports make them.
        key: The column to stand on the x axis.
        by: A second one, for the color.

    Returns:
        The keys under their own names, then ``kind``: rows of kind ``run`` with ``run``, ``status`` and
        ``best_val_acc``; rows of kind ``median`` with that of the runs that have one, and their number ``n``.
    """
    keys = [key] if by is None else [key, by]
    base = pd.concat(
        [runs[keys].apply(ordered_type), runs[["run", "status", "best_val_acc"]].assign(kind="run")], axis=1
    )
    found = base.groupby(keys, observed=True, sort=False)["best_val_acc"].agg(["median", "count"]).reset_index()
    medians = found.rename(columns={"median": "best_val_acc", "count": "n"}).assign(kind="median")
    columns = [*keys, "kind", "run", "status", "best_val_acc", "n"]
    both = pd.DataFrame(base.to_dict("records") + medians.to_dict("records"), columns=columns)
    return sorted_by(both, keys)


def accuracy_by_value(table: pd.DataFrame, title: str) -> Figure:
    """Best validation accuracy against a key: each run, and the medians joined.

    Args:
        table: From ``accuracy_by_value_table``; the key's name labels the axis, a second one's the colors.
        title: The figure's title.
    """
    drawn = slots(table)
    figure = new_figure(title, _note(drawn.runs, drawn.medians), 7.5, 4.4)
    axes = figure.subplots()
    bare(axes)
    percent_axis(axes, "best validation accuracy (%)")
    crowd = len(drawn.runs) > CROWD
    for look, runs, runs_at, medians, medians_at in drawn.parts:
        axes.scatter(runs_at, 100 * runs["best_val_acc"], s=8 if crowd else 18, color=look.color, marker=look.marker,
                     alpha=0.15 if crowd else 0.5, linewidths=0, rasterized=crowd, zorder=3)  # fmt: skip
        axes.plot(medians_at, 100 * medians["best_val_acc"], color=look.color, linestyle=look.line,
                  marker=look.marker, markersize=7, markeredgecolor="white", zorder=4)  # fmt: skip
    value_axis(axes, drawn.where, drawn.key)
    _legend(figure, drawn.conditions, drawn.kinds)
    return figure


def _legend(figure: Figure, conditions: list[str], kinds: list[Look]) -> None:
    names = naming(conditions)
    color = kinds[0].color if not conditions else NOTE
    handles, labels = [mark("o", color, line="-"), mark("o", color, size=4)], ["median", "a run"]
    if len(conditions) > FEW and names.values:
        colorbar(figure, names)
        names = names._replace(title="")
    elif conditions:
        handles = [*heads(kinds), mark(""), handles[1]]
        labels = [*names.labels, "", labels[1]]
    legend(figure, handles, labels, names.title)


def _note(runs: pd.DataFrame, medians: pd.DataFrame) -> str:
    diverged, unknown = int((runs["status"] == "diverged").sum()), int(runs["best_val_acc"].isna().sum())
    lost = f", {diverged:,} diverged" if diverged else ""
    left_out = f", {unknown:,} without any accuracy left out" if unknown else ""
    return (
        f"{counted(len(runs), 'run')} ({each(medians['n'])} per median){lost}{left_out}. Each run counts with the "
        "best of its evaluations; the line joins the medians."
    )
