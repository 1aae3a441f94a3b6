"""The figures of a report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

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
from grok_lightning.figures.slots import MOST as SLOTS
from grok_lightning.figures.steps_by_value import steps_by_value, steps_by_value_table
from grok_lightning.figures.survival import survival, survival_table
from grok_lightning.report.keys import shortest

BETWEEN = " / "  # several keys as one
BOTH = "accuracy and loss"
MOST_VALUES = 12  # of another key, as colors beside a numeric one
MOST_MAPS = 9  # beside one another
MANY, SHOWN = 60, 12  # from so many conditions on, figures that have a part for each show so many of them


@dataclass(frozen=True)
class Drawing:
    """One figure, made when it is wanted.

    Attributes:
        name: The stem of its files.
        caption: What it shows, a sentence.
        make: Gives the table of what is drawn, and the figure.
    """

    name: str
    caption: str
    make: Callable[[], tuple[pd.DataFrame, Figure]]


def drawings(runs: pd.DataFrame, curves: pd.DataFrame, keys: Sequence[str]) -> Iterator[Drawing]:
    """The figures that these runs allow.

    Args:
        runs: As ``frame`` gives them.
        curves: Their evaluations.
        keys: The options that group them into conditions, columns in ``runs``.
    """
    operations = runs["operation"].unique()
    of = operations[0] if len(operations) == 1 else f"{len(operations)} operations"
    if runs["condition"].nunique() == 1 and len(curves):
        caption = "Accuracy, loss, weight norm and whatever else was measured."
        yield Drawing("measures", caption, _drawn(lambda: measures_table(curves), measures, of))
    if len(runs) == 1:
        yield Drawing("curves", "Accuracy and loss of the run.", lambda: (curves, _single(runs, curves, of)))
        return
    shown, which = _first(runs)
    if len(curves):
        yield from _over_steps(shown, curves[curves["run"].isin(set(shown["run"]))], of, which)
    caption = f"Share of runs that have not grokked yet{which}."
    yield Drawing("survival", caption, _drawn(lambda: survival_table(shown), survival, f"{of}: not yet grokked"))
    if runs["condition"].nunique() > 1:
        caption = f"Grok step of each condition{which}."
        title = f"{of}: grok step by condition"
        yield Drawing("ablation", caption, _drawn(lambda: ablation_table(shown), ablation, title))
    names = shortest(keys)
    yield from _by_value(runs, names, of)
    yield from _maps(runs, names, of)
    pooled = runs.assign(condition=pd.Categorical(["all runs"] * len(runs))) if which else runs
    caption = "Steps to memorize against steps to grok."
    yield Drawing("delay", caption, _drawn(lambda: delay_table(pooled), delay, f"{of}: memorizing and grokking"))


def _drawn(
    table: Callable[[], pd.DataFrame], figure: Callable[..., Figure], *options: str
) -> Callable[[], tuple[pd.DataFrame, Figure]]:
    def make() -> tuple[pd.DataFrame, Figure]:
        made = table()
        return made, figure(made, *options)

    return make


def _first(runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The runs of conditions that are shown one by one, and words for a caption if those are not all."""
    conditions = runs["condition"].cat.remove_unused_categories().cat.categories
    if len(conditions) < MANY:
        return runs, ""
    places = [place * (len(conditions) - 1) // (SHOWN - 1) for place in range(SHOWN)]
    chosen = runs[runs["condition"].isin(conditions[places])]
    chosen = chosen.assign(condition=chosen["condition"].cat.remove_unused_categories())
    return chosen, f" ({SHOWN} of the {len(conditions):,} conditions, evenly from the first to the last)"


def _single(runs: pd.DataFrame, curves: pd.DataFrame, of: str) -> Figure:
    run = runs.iloc[0]
    rows = [{str(key): value for key, value in row.items()} for row in curves.drop(columns="run").to_dict("records")]
    marks = {name: None if pd.isna(run[name]) else int(run[name]) for name in ("memorize_step", "grok_step")}
    return one_run(rows, marks, of)


def _over_steps(runs: pd.DataFrame, curves: pd.DataFrame, of: str, which: str) -> Iterator[Drawing]:
    conditions = runs["condition"].cat.categories
    # where each condition has a panel of its own, a figure shows one measure
    alone = len(conditions) > FEW and naming(conditions).values is None
    medians, single = cache(partial(band_table, runs, curves)), cache(partial(overlaid_table, runs, curves))
    for measure, word in {"acc": "accuracy", "loss": "loss"}.items() if alone else {"acc": BOTH}.items():
        name = f"-{word}" if alone else ""
        if runs["condition"].duplicated().any():
            caption = f"{word.capitalize()}, the median over the runs of each condition{which}."
            yield Drawing(f"median-curves{name}", caption, _drawn(medians, band, f"{of}: {word}", measure))
        caption = f"{word.capitalize()} of single runs{which}."
        yield Drawing(f"curves{name}", caption, _drawn(single, overlaid, f"{of}: {word}, single runs", measure))


def _by_value(runs: pd.DataFrame, keys: Mapping[str, str], of: str) -> Iterator[Drawing]:
    """For each numeric key: grok step and best accuracy against it, colored by all other keys together."""
    for key in keys:
        if not pd.api.types.is_numeric_dtype(runs[key]) or runs[key].nunique() < 2:
            continue
        others = [other for other in keys if other != key and runs[other].nunique() > 1]
        groups = runs.groupby(others, observed=True, sort=False, dropna=False).ngroups if others else 1
        if groups > (MOST_VALUES if len(others) == 1 else SLOTS):
            continue
        shown, by = _joined(runs, others, keys)
        word = keys[key]
        title, caption = f"{of}: grok step by {word}", f"Grok step against {word}."
        table = partial(steps_by_value_table, shown, key, by)
        yield Drawing(f"steps-by-{word}", caption, _drawn(table, steps_by_value, title))
        title, caption = f"{of}: best validation accuracy by {word}", f"Best validation accuracy against {word}."
        table = partial(accuracy_by_value_table, shown, key, by)
        yield Drawing(f"accuracy-by-{word}", caption, _drawn(table, accuracy_by_value, title))


def _maps(runs: pd.DataFrame, keys: Mapping[str, str], of: str) -> Iterator[Drawing]:
    """A map over two keys, or over the last two of several that are numbers, then one for each value of the rest."""
    varying = [key for key in keys if runs[key].nunique() > 1]
    numbers = [key for key in varying if pd.api.types.is_numeric_dtype(runs[key])]
    x, y = numbers[-2:] if len(varying) > 2 and len(numbers) >= 2 else (varying if len(varying) == 2 else ("", ""))
    if not x:
        return
    if x not in numbers and y in numbers:  # names read better from left to right
        x, y = y, x
    shown, by = _joined(runs, [key for key in varying if key not in (x, y)], keys)
    if by and shown[by].nunique() > MOST_MAPS:
        return
    words = f"{keys[x]} and {keys[y]}"
    table = partial(phase_table, shown, x, y, by)
    yield Drawing("phase", f"Grok step by {words}.", _drawn(table, phase, f"{of}: grok step by {words}"))


def _joined(runs: pd.DataFrame, keys: Sequence[str], names: Mapping[str, str]) -> tuple[pd.DataFrame, str | None]:
    """Several keys as one, under their short names; None without any."""
    if not keys:
        return runs, None
    name = BETWEEN.join(names[key] for key in keys)
    if name in runs and name not in keys:  # a column of another kind, status for example
        name = BETWEEN.join(keys)
    joined, *others = (runs[key].astype(str) for key in keys)
    for other in others:
        joined = joined + BETWEEN + other
    return runs.assign(**{name: joined}), name
