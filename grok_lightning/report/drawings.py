"""Which figures a report has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure

from grok_lightning.figures.ablation import ablation, ablation_table
from grok_lightning.figures.accuracy_by_value import accuracy_by_value, accuracy_by_value_table
from grok_lightning.figures.band import band, band_table
from grok_lightning.figures.conditions import FEW, naming
from grok_lightning.figures.curves import curves as one_run
from grok_lightning.figures.delay import delay, delay_table
from grok_lightning.figures.measures import measures, measures_table
from grok_lightning.figures.overlaid import overlaid, overlaid_table
from grok_lightning.figures.phase import phase, phase_table
from grok_lightning.figures.steps_by_value import steps_by_value, steps_by_value_table
from grok_lightning.figures.survival import survival, survival_table

REST = "other keys"
BOTH = "accuracy and loss"
MOST_VALUES = 12  # of the other keys, as colors beside a numeric one
MANY, SHOWN = 60, 40  # from so many conditions on, figures that have a part for each show so many of them


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        name: The stem of its files.
        caption: What it shows, a sentence.
        table: What is drawn.
        figure: The figure.
    """

    name: str
    caption: str
    table: pd.DataFrame
    figure: Figure


def drawings(runs: pd.DataFrame, curves: pd.DataFrame, keys: Sequence[str]) -> Iterator[Drawing]:
    """The figures that these runs allow.

    Args:
        runs: As ``frame`` gives them.
        curves: Their evaluations.
        keys: What parts them into conditions, their columns in ``runs``.
    """
    operations = runs["operation"].unique()
    of = operations[0] if len(operations) == 1 else f"{len(operations)} operations"
    if runs["condition"].nunique() == 1 and len(curves):
        table = measures_table(curves)
        caption = "Accuracy, loss, weight norm and whatever else was measured."
        yield Drawing("measures", caption, table, measures(table, of))
    if len(runs) == 1:
        yield _single(runs, curves, of)
        return
    shown, which = _first(runs)
    if len(curves):
        yield from _over_steps(shown, curves[curves["run"].isin(set(shown["run"]))], of, which)
    table = survival_table(shown)
    caption = f"Share of runs that have not grokked yet{which}."
    yield Drawing("survival", caption, table, survival(table, f"{of}: not yet grokked"))
    if runs["condition"].nunique() > 1:
        table = ablation_table(shown)
        caption = f"Grok step of each condition{which}."
        yield Drawing("ablation", caption, table, ablation(table, f"{of}: grok step by condition"))
    yield from _by_value(runs, keys, of)
    if len(keys) == 2 and all(runs[key].nunique() > 1 for key in keys):
        table = phase_table(runs, *keys)
        words = " and ".join(map(_short, keys))
        yield Drawing("phase", f"Grok step by {words}.", table, phase(table, f"{of}: grok step by {words}"))
    table = delay_table(runs.assign(condition=pd.Categorical(["all runs"] * len(runs))) if which else runs)
    caption = "Steps to memorize against steps to grok."
    yield Drawing("delay", caption, table, delay(table, f"{of}: memorizing and grokking"))


def _first(runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The runs of conditions that are shown one by one, and words for a caption if those are not all."""
    conditions = runs["condition"].cat.remove_unused_categories().cat.categories
    if len(conditions) < MANY:
        return runs, ""
    chosen = runs[runs["condition"].isin(conditions[:SHOWN])]
    chosen = chosen.assign(condition=chosen["condition"].cat.remove_unused_categories())
    return chosen, f" (the first {SHOWN} of {len(conditions):,} conditions)"


def _single(runs: pd.DataFrame, curves: pd.DataFrame, of: str) -> Drawing:
    run = runs.iloc[0]
    rows = [{str(key): value for key, value in row.items()} for row in curves.drop(columns="run").to_dict("records")]
    marks = {name: None if pd.isna(run[name]) else int(run[name]) for name in ("memorize_step", "grok_step")}
    return Drawing("curves", "Accuracy and loss of the run.", curves, one_run(rows, marks, of))


def _over_steps(runs: pd.DataFrame, curves: pd.DataFrame, of: str, which: str) -> Iterator[Drawing]:
    conditions = runs["condition"].cat.categories
    # where each condition has a panel of its own, a figure shows one measure
    alone = len(conditions) > FEW and naming(conditions).values is None
    table = band_table(runs, curves) if runs["condition"].duplicated().any() else None
    single = overlaid_table(runs, curves)
    words: dict[Literal["acc", "loss"], str] = {"acc": "accuracy", "loss": "loss"} if alone else {"acc": BOTH}
    for measure, word in words.items():
        name = f"-{word}" if alone else ""
        if table is not None:
            caption = f"{word.capitalize()}, the median over the runs of each condition{which}."
            yield Drawing(f"median-curves{name}", caption, table, band(table, f"{of}: {word}", measure))
        caption = f"{word.capitalize()} of single runs{which}."
        yield Drawing(f"curves{name}", caption, single, overlaid(single, f"{of}: {word}, single runs", measure))


def _by_value(runs: pd.DataFrame, keys: Sequence[str], of: str) -> Iterator[Drawing]:
    """For each numeric key: grok step and best accuracy against it, colored by all other keys together."""
    for key in keys:
        if not pd.api.types.is_numeric_dtype(runs[key]) or runs[key].nunique() < 2:
            continue
        others = [other for other in keys if other != key]
        rest = runs[others].astype(str).agg(" ".join, axis=1) if others else None
        if rest is not None and rest.nunique() > MOST_VALUES:
            continue
        name = _short(others[0]) if len(others) == 1 else REST
        shown = runs if rest is None else runs.assign(**{name: rest})
        by = None if rest is None else name
        word = _short(key)
        table = steps_by_value_table(shown, key, by)
        title = f"{of}: grok step by {word}"
        yield Drawing(f"steps-by-{word}", f"Grok step against {word}.", table, steps_by_value(table, title))
        table = accuracy_by_value_table(shown, key, by)
        title = f"{of}: best validation accuracy by {word}"
        caption = f"Best validation accuracy against {word}."
        yield Drawing(f"accuracy-by-{word}", caption, table, accuracy_by_value(table, title))


def _short(key: str) -> str:
    return key.rsplit(".", 1)[-1]
