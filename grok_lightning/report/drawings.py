"""The figures of a report."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import pandas as pd
from matplotlib.figure import Figure

from grok_lightning.figures.ablation import draw_ablation, tabulate_ablation
from grok_lightning.figures.accuracy import draw_accuracy, tabulate_accuracy
from grok_lightning.figures.after_grok import draw_after_grok, tabulate_after_grok
from grok_lightning.figures.by_value import MOST as SIDE_BY_SIDE
from grok_lightning.figures.by_value import Quantity, draw_by_value, tabulate_by_value
from grok_lightning.figures.condition_curves import MOST_COLUMNS, Measure, draw_condition_curves
from grok_lightning.figures.conditions import FEW, Naming, pick_names, shorten_names, split_conditions
from grok_lightning.figures.curve_tables import tabulate_medians, tabulate_single_runs
from grok_lightning.figures.curves import draw_curves
from grok_lightning.figures.delay import draw_delay, tabulate_delay
from grok_lightning.figures.measures import draw_measures, tabulate_measures
from grok_lightning.figures.phase import draw_phase, tabulate_phase
from grok_lightning.figures.survival import draw_survival, tabulate_survival
from grok_lightning.records.columns import add_columns
from grok_lightning.records.words import format_option

BETWEEN = " / "  # several keys as one
BOTH = "accuracy and loss"
QUANTITIES: dict[Quantity, str] = {"steps": "grok step", "accuracy": "best validation accuracy"}
MOST_VALUES = 12  # of another key, as colors beside a numeric one
MOST_MAPS = 9  # beside one another
MANY, SHOWN = 60, 12  # from so many conditions on, figures that have a part for each show so many of them


@dataclass(frozen=True)
class Drawing:
    """A figure of a report, drawn on demand.

    Attributes:
        name: Stem of its files.
        caption: One sentence.
        make: Returns the table and the figure drawn from it.
    """

    name: str
    caption: str
    make: Callable[[], tuple[pd.DataFrame, Figure]]


def list_drawings(runs: pd.DataFrame, curves: pd.DataFrame, keys: Sequence[str]) -> Iterator[Drawing]:
    """Yields the figures that the keys of these runs allow and that have something to show.

    Args:
        runs: Runs from ``tabulate_runs``.
        curves: Their evaluations.
        keys: The options that group them into conditions, columns in ``runs``.
    """
    operations = runs["operation"].unique()
    of = operations[0] if len(operations) == 1 else f"{len(operations)} operations"
    curves = _leave_out_validation(runs, curves)
    curves = curves[:0] if len(curves) and not _is_any_drawn(curves) else curves
    if len(runs) == 1:
        if len(curves):
            yield Drawing("curves", "Accuracy and loss of the run.", lambda: (curves, _draw_single(runs, curves, of)))
            yield from _draw_after(runs, curves, of, "")
            yield from _draw_measures(runs, curves, of)
        return
    shown, which = _select(runs, MANY - 1, SHOWN)
    if len(curves):
        yield from _draw_over_steps(shown, curves, of, which)
        yield from _draw_after(shown, curves, of, which)
    yield from _draw_conditions(shown, of, which)
    names, validated = shorten_names(keys), _keep_validated(runs)
    yield from _draw_by_value(validated, names, of)
    if validated[["grok_step", "best_val_acc"]].notna().any(axis=None):
        yield from _draw_maps(validated, names, of)
    if len(curves):
        yield from _draw_measures(runs, curves, of)
    if _have_delays(validated):
        pooled = validated.drop(columns=list(keys)).assign(condition="all runs") if which else validated
        caption, title = "Steps to memorize against steps to grok.", f"{of}: memorizing and grokking"
        yield Drawing("delay", caption, _prepare(lambda: tabulate_delay(pooled), draw_delay, title))


def _is_any_drawn(curves: pd.DataFrame) -> bool:
    """Whether any evaluation is after step 0, which axes of steps do not show."""
    return bool(curves["step"].gt(0).any())


def list_left_out(runs: pd.DataFrame, keys: Sequence[str] = ()) -> list[str]:
    """Why figures are left out that reports of other runs have, a sentence each.

    Args:
        runs: Runs from ``tabulate_runs``.
        keys: The options that group them into conditions, columns in ``runs``.
    """
    grokked = bool(runs["grok_step"].notna().any())
    if not runs["validated"].any():
        return ["No rows are held out for validation, so that there are no figures of grokking; accuracy and loss show "
                "how well the runs have memorized."]  # fmt: skip
    if len(runs) == 1:
        return []
    found = []
    if not grokked:
        found.append("No run grokked, so that there are no figures of grok steps, delays and the share of runs that "
                     "have not grokked yet; accuracies are shown instead.")  # fmt: skip
    elif not runs["condition"].duplicated().any():
        found.append("Each condition has one run, so that there is no figure of shares of runs.")
    if grokked and not _have_delays(runs):
        found.append("No run has memorized and grokked, so that there is no figure of delays.")
    return [*found, *_list_crowded(_keep_validated(runs), shorten_names(keys))]


def _list_crowded(runs: pd.DataFrame, keys: Mapping[str, str]) -> list[str]:
    """Why options have no figure because the others have too many values."""
    known = [word for name, word in (("grok_step", "steps"), ("best_val_acc", "accuracy")) if runs[name].notna().any()]
    found = []
    for key, others in _list_numeric(runs, keys) if known else ():
        groups, most = _count_groups(runs, others), _most_groups(others)
        if groups > most:
            figures = " and ".join(f"{word}-by-{keys[key]}" for word in known)
            found.append(
                f"{figures} {'are' if len(known) > 1 else 'is'} left out: {_tell_excess(others, groups, most)}."
            )
    pair = _pick_pair(runs, keys) if known else None
    rest = [key for key in _list_varying(runs, keys) if pair and key not in pair]
    if rest and (groups := _count_groups(runs, rest)) > MOST_MAPS:
        found.append(f"phase is left out: {_tell_excess(rest, groups, MOST_MAPS)}.")
    return found


def _tell_excess(others: Sequence[str], groups: int, most: int) -> str:
    many = f"options have {groups:,} combinations of values" if len(others) > 1 else f"option has {groups:,} values"
    return f"the other {many}, and a figure has room for {most}"


def _have_delays(runs: pd.DataFrame) -> bool:
    return bool(runs[["memorize_step", "grok_step"]].notna().all(axis=1).any())


def _keep_validated(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with rows held out for validation: others cannot grok."""
    return runs[runs["validated"]]


def _leave_out_validation(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The evaluations, without those of validation where they are of the training rows."""
    without = runs["run"][~runs["validated"]]
    columns = [name for name in curves if str(name).startswith("val/")]
    if without.empty or not columns:
        return curves
    return curves.assign(**{str(name): curves[name].mask(curves["run"].isin(without)) for name in columns})


def _draw_after(runs: pd.DataFrame, curves: pd.DataFrame, of: str, which: str) -> Iterator[Drawing]:
    """Validation accuracy after the grok, where a run was evaluated after it."""
    runs = _keep_validated(runs)
    if not (runs["dips"].notna() & runs["grok_step"].gt(0)).any():
        return
    caption, title = f"Validation accuracy after the grok, of each run{which}.", f"{of}: after the grok"
    table = partial(tabulate_after_grok, runs, curves)
    yield Drawing("after-grok", caption, _prepare(table, draw_after_grok, title))


def _draw_conditions(runs: pd.DataFrame, of: str, which: str) -> Iterator[Drawing]:
    """Accuracy of each condition at the end, and its grok steps where any run grokked."""
    if runs["condition"].nunique() > 1:
        splits = ["train", "test"] if not runs["validated"].any() else ["train", "val", "test"]
        left = [name for name in runs if str(name).startswith("final_") and str(name).split("_")[1] not in splits]
        caption, title = f"Accuracy and loss at the end, by condition{which}.", f"{of}: accuracy and loss at the end"
        table = partial(tabulate_accuracy, runs.drop(columns=left))
        yield Drawing("final-accuracy", caption, _prepare(table, draw_accuracy, title))
    runs = _keep_validated(runs)
    if runs["grok_step"].isna().all():
        return
    if runs["condition"].duplicated().any():
        caption, title = f"Share of runs that have not grokked yet{which}.", f"{of}: not yet grokked"
        yield Drawing("survival", caption, _prepare(lambda: tabulate_survival(runs), draw_survival, title))
    if runs["condition"].nunique() > 1:
        caption, title = f"Grok step of each condition{which}.", f"{of}: grok step by condition"
        yield Drawing("ablation", caption, _prepare(lambda: tabulate_ablation(runs), draw_ablation, title))


def _prepare(
    table: Callable[[], pd.DataFrame], figure: Callable[..., Figure], *options: str | None
) -> Callable[[], tuple[pd.DataFrame, Figure]]:
    def make() -> tuple[pd.DataFrame, Figure]:
        made = table()
        return made, figure(made, *options)

    return make


def _select(runs: pd.DataFrame, most: int, some: int) -> tuple[pd.DataFrame, str]:
    """The runs, of some conditions only if there are more than ``most``, and a remark for captions in that case."""
    conditions = runs["condition"].cat.remove_unused_categories().cat.categories
    if len(conditions) <= most:
        return runs, ""
    places = [place * (len(conditions) - 1) // (some - 1) for place in range(some)]
    chosen = runs[runs["condition"].isin(conditions[places])]
    chosen = chosen.assign(condition=chosen["condition"].cat.remove_unused_categories())
    return chosen, f" ({some} of the {len(conditions):,} conditions, evenly from the first to the last)"


def _draw_measures(runs: pd.DataFrame, curves: pd.DataFrame, of: str) -> Iterator[Drawing]:
    """All measures of one condition, or a comparison of conditions, of some of them where colors are too few."""
    shown, which = runs, ""
    if not _name(runs).has_colors:
        shown, which = _select(runs, FEW, FEW)
    caption = "Accuracy, loss, weight norm and all other measures"
    if runs["condition"].nunique() > 1:
        caption = "Weight norm and all other measures, the median over the runs of each condition"
    title = f"{of}: measures{which}" if which else of
    yield Drawing(
        "measures", f"{caption}{which}.", _prepare(lambda: tabulate_measures(curves, shown), draw_measures, title)
    )


def _name(runs: pd.DataFrame) -> Naming:
    return pick_names([condition for condition, _ in split_conditions(runs)])


def _draw_single(runs: pd.DataFrame, curves: pd.DataFrame, of: str) -> Figure:
    run = runs.iloc[0]
    rows = [{str(key): value for key, value in row.items()} for row in curves.drop(columns="run").to_dict("records")]
    marks = {name: None if pd.isna(run[name]) else int(run[name]) for name in ("memorize_step", "grok_step")}
    return draw_curves(rows, marks, of)


def _draw_over_steps(runs: pd.DataFrame, curves: pd.DataFrame, of: str, which: str) -> Iterator[Drawing]:
    """Single runs in a panel for each condition; beside it conditions in color, or their medians in panels."""
    count = runs["condition"].nunique()
    overlaid = _name(runs).has_colors and count > 1
    medians, single = cache(partial(tabulate_medians, runs, curves)), cache(partial(tabulate_single_runs, runs, curves))
    measures: dict[Measure | None, str] = {None: BOTH}
    if count > MOST_COLUMNS:  # a figure shows one measure
        measures = {"acc": "accuracy", "loss": "loss"}
    both = "" if not runs["validated"].any() else " in training and validation"
    for measure, word in measures.items():
        name = f"-{word}" if measure else ""
        caption = f"{word.capitalize()} of single runs{both}{', by condition' if count > 1 else ''}{which}."
        yield Drawing(
            f"curves{name}", caption, _prepare(single, partial(draw_condition_curves, panels=True),
            f"{of}: {word}, single runs", measure)
        )  # fmt: skip
    several = runs["condition"].duplicated().any()
    if overlaid:
        name, words = ("median-curves", "the median over the runs of each condition")
        if not several:
            name, words = "compared-curves", "a line for each condition"
        table = medians if several else single
        caption = f"{BOTH.capitalize()}, {words}{which}."
        yield Drawing(name, caption, _prepare(table, draw_condition_curves, f"{of}: {BOTH}"))
    elif several:
        for measure, word in measures.items():
            name = f"-{word}" if measure else ""
            caption = f"{word.capitalize()}, the median over the runs of each condition{which}."
            yield Drawing(
                f"median-curves{name}", caption, _prepare(medians, draw_condition_curves, f"{of}: {word}", measure)
            )


def _draw_by_value(runs: pd.DataFrame, keys: Mapping[str, str], of: str) -> Iterator[Drawing]:
    """Grok step and best accuracy against each numeric key, colored by all other keys together."""
    for key, others in _list_numeric(runs, keys):
        if _count_groups(runs, others) > _most_groups(others):
            continue
        shown, by = _join(runs, others, keys)
        word = keys[key]
        for quantity, label in QUANTITIES.items():
            events = runs["grok_step"] if quantity == "steps" else runs["best_val_acc"]
            if events.isna().all():
                continue
            table, title = partial(tabulate_by_value, shown, key, by, quantity), f"{of}: {label} by {word}"
            caption = f"{label.capitalize()} against {word}."
            yield Drawing(f"{quantity}-by-{word}", caption, _prepare(table, draw_by_value, title, quantity))


def _draw_maps(runs: pd.DataFrame, keys: Mapping[str, str], of: str) -> Iterator[Drawing]:
    """A map over two keys, or over the last two of several that are numbers, then one for each value of the rest.

    Two keys that the rest determines make no map: it would be a single cell, row or column.
    """
    pair = _pick_pair(runs, keys)
    if pair is None:
        return
    x, y = pair
    rest = [key for key in _list_varying(runs, keys) if key not in pair]
    if _count_groups(runs, rest) > MOST_MAPS:
        return
    shown, by = _join(runs, rest, keys)
    words = f"{keys[x]} and {keys[y]}"
    table = partial(tabulate_phase, shown, x, y, by)
    label = QUANTITIES["accuracy" if runs["grok_step"].isna().all() else "steps"]
    caption, title = f"{label.capitalize()} by {words}.", f"{of}: {label} by {words}"
    yield Drawing("phase", caption, _prepare(table, draw_phase, title))


def _pick_pair(runs: pd.DataFrame, keys: Iterable[str]) -> tuple[str, str] | None:
    """The keys of the axes of a map, if two make one."""
    varying = _list_varying(runs, keys)
    numbers = [key for key in varying if pd.api.types.is_numeric_dtype(runs[key])]
    pairs = [(x, y) for y in reversed(numbers) for x in reversed(numbers[: numbers.index(y)])]
    if len(varying) == 2:
        pairs = [(varying[0], varying[1])]
    x, y = next((pair for pair in pairs if _spans_map(runs, varying, pair)), ("", ""))
    if not x:
        return None
    return (y, x) if x not in numbers and y in numbers else (x, y)  # names read better from left to right


def _list_varying(runs: pd.DataFrame, keys: Iterable[str]) -> list[str]:
    return [key for key in keys if runs[key].nunique() > 1]


def _list_numeric(runs: pd.DataFrame, keys: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Each key that varies and is a number, with the others that vary."""
    varying = _list_varying(runs, keys)
    numbers = [key for key in varying if pd.api.types.is_numeric_dtype(runs[key])]
    return [(key, [other for other in varying if other != key]) for key in numbers]


def _count_groups(runs: pd.DataFrame, keys: Sequence[str]) -> int:
    """The number of combinations of values that some keys have."""
    return int(runs.groupby(list(keys), observed=True, sort=False, dropna=False).ngroups) if keys else 1


def _most_groups(others: Sequence[str]) -> int:
    """How many combinations of values of the other keys a figure by value has room for."""
    return MOST_VALUES if len(others) == 1 else SIDE_BY_SIDE


def _spans_map(runs: pd.DataFrame, keys: Sequence[str], pair: tuple[str, str]) -> bool:
    """Whether runs that agree in the other keys fill more than a row, a column or a diagonal of the map of a pair."""
    rest = [key for key in keys if key not in pair]
    groups = [group for _, group in runs.groupby(rest, dropna=False)] if rest else [runs]
    cells = [group[list(pair)].drop_duplicates() for group in groups]
    return any(len(each) > each.nunique().max() for each in cells)


def _label(column: pd.Series) -> pd.Series:
    """Values in words, numbers in short form where that tells them apart."""
    words = column.map(format_option)
    return words if words.nunique() == column.nunique() else column.astype(str)


def _join(runs: pd.DataFrame, keys: Sequence[str], names: Mapping[str, str]) -> tuple[pd.DataFrame, str | None]:
    """Joins several keys in one column named after their short names; None without keys."""
    if not keys:
        return runs, None
    name = BETWEEN.join(names[key] for key in keys)
    if name in runs and name not in keys:  # a column of another kind, status for example
        name = BETWEEN.join(keys)
    joined, *others = (_label(runs[key]) for key in keys)
    for other in others:
        joined = joined + BETWEEN + other
    return add_columns(runs, **{name: joined}), name
