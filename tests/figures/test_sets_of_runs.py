"""What holds for every figure of a set of runs, whatever the set."""

import io
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from sets_of_runs import curves_of, ordered, runs_of

from grok_lightning.figures.ablation import draw_ablation, tabulate_ablation
from grok_lightning.figures.accuracy import draw_accuracy, tabulate_accuracy
from grok_lightning.figures.after_grok import draw_after_grok, tabulate_after_grok
from grok_lightning.figures.by_value import Quantity, draw_by_value, tabulate_by_value
from grok_lightning.figures.condition_curves import draw_condition_curves
from grok_lightning.figures.curve_tables import tabulate_medians, tabulate_single_runs
from grok_lightning.figures.delay import draw_delay, tabulate_delay
from grok_lightning.figures.measures import draw_measures, tabulate_measures
from grok_lightning.figures.phase import draw_phase, tabulate_phase
from grok_lightning.figures.survival import draw_survival, tabulate_survival


class Kind(NamedTuple):
    table: Callable[[pd.DataFrame], pd.DataFrame]
    draw: Callable[[pd.DataFrame, str], Figure]


KEY, SEED = "train_fraction", "seed"


def with_losses(runs: pd.DataFrame) -> pd.DataFrame:
    """With losses at the end, and test rows in one condition only."""
    tested = runs["final_val_acc"].where(runs["condition"] == runs["condition"].min()) if len(runs) else 1.0
    number = runs["run"].str.removeprefix("run ").astype(float)
    losses = {f"final_{split}_loss": 0.1 + number for split in ("train", "val", "test")}
    return runs.assign(final_test_acc=tested, **losses)


accuracy_by_value = partial(draw_by_value, quantity="accuracy")
panels = partial(draw_condition_curves, panels=True)
KINDS = {
    "panels": Kind(lambda runs: tabulate_single_runs(runs, curves_of(runs)), panels),
    "panels of medians": Kind(lambda runs: tabulate_medians(runs, curves_of(runs)), partial(panels, measure="loss")),
    "final accuracy": Kind(lambda runs: tabulate_accuracy(with_losses(runs)), draw_accuracy),
    "overlaid": Kind(lambda runs: tabulate_single_runs(runs, curves_of(runs)), draw_condition_curves),
    "band": Kind(lambda runs: tabulate_medians(runs, curves_of(runs)), draw_condition_curves),
    "steps by value": Kind(lambda runs: tabulate_by_value(runs, KEY), draw_by_value),
    "steps by two": Kind(lambda runs: tabulate_by_value(runs, SEED, KEY), draw_by_value),
    "accuracy by value": Kind(lambda runs: tabulate_by_value(runs, KEY, None, "accuracy"), accuracy_by_value),
    "accuracy by two": Kind(lambda runs: tabulate_by_value(runs, SEED, KEY, "accuracy"), accuracy_by_value),
    "survival": Kind(tabulate_survival, draw_survival),
    "ablation": Kind(tabulate_ablation, draw_ablation),
    "phase": Kind(lambda runs: tabulate_phase(runs, KEY, SEED), draw_phase),
    "maps": Kind(lambda runs: tabulate_phase(runs, SEED, "budget", KEY), draw_phase),
    "after the grok": Kind(lambda runs: tabulate_after_grok(runs, curves_of(runs)), draw_after_grok),
    "delay": Kind(tabulate_delay, draw_delay),
}


BESIDE = (draw_ablation, draw_accuracy)  # with names beside their rows instead of a label


def never(runs: pd.DataFrame) -> pd.DataFrame:
    """All censored, nothing known of their accuracy."""
    gone = ["memorize_step", "memorize_after", "grok_step", "grok_after", "sustained_grok_step", "best_val_acc"]
    return runs.assign(**dict.fromkeys(gone, np.nan), status="finished", steps=runs["budget"])


def at_once(runs: pd.DataFrame) -> pd.DataFrame:
    """All there at step 0, none censored."""
    return runs.assign(memorize_step=0.0, grok_step=0.0, sustained_grok_step=0.0, status="finished", steps=10)


NAMES = [
    "_hidden",
    "$x^2$ and $y",
    "x / y if y % 2 else x - y, and many more words than fit on a line of a legend",
    *"abcdefg",
]
SETS = {
    "no run": runs_of([0.5]).iloc[:0],
    "one run": runs_of([0.5], 1),
    "one condition": runs_of([0.5]),
    "two": runs_of([0.3, 0.5]),
    "eight names": runs_of(NAMES[:8]),
    "ten names": runs_of(NAMES),
    "four numbers": runs_of([0.0, 0.001, 0.1 + 0.2, 1e6]),
    "ten numbers": runs_of([0.0, *(0.001 * 2.0**power for power in range(9))]),
    "32 names": runs_of([f"variant {number}" for number in range(32)], 2),
    "all diverged": runs_of([0.3, 0.5]).assign(
        status="diverged", grok_step=np.nan, sustained_grok_step=np.nan, steps=40
    ),
    "never": never(runs_of([0.3, 0.5])),
    "at once": at_once(runs_of([0.3, 0.5])),
    "two keys": runs_of([0.3, 0.5], other={"optimizer": ["AdamW", "SGD"]}),
}


def picture(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="raw", dpi=40)
    return buffer.getvalue()


def through_csv(table: pd.DataFrame) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(table.to_csv(index=False)), keep_default_na=True)


every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


@pytest.mark.parametrize("name", ["four numbers", pytest.param("never", marks=pytest.mark.slow)])
@every_kind
def test_a_figure_is_drawn_from_its_csv_and_says_what_it_shows(kind: Kind, name: str) -> None:
    table = kind.table(SETS[name])
    figure = kind.draw(table, "x + y mod 97")
    drawn = picture(figure)
    assert picture(kind.draw(through_csv(table), "x + y mod 97")) == drawn
    assert figure.get_suptitle() == "x + y mod 97"
    assert "run" in figure.get_supxlabel()
    assert any(axes.get_xlabel() for axes in figure.axes)
    assert any(axes.get_ylabel() for axes in figure.axes) or figure.get_supylabel() or kind.draw in BESIDE


def check_its_texts(figure: Figure) -> None:
    """None is cut off, and no legend lies on a panel."""
    figure.draw_without_rendering()
    canvas = figure.bbox.padded(1)
    texts = [text for axes in figure.axes for text in (axes.xaxis.label, axes.yaxis.label, axes.title, *axes.texts)]
    texts += [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for text in texts:
        if text.get_text():
            box = text.get_window_extent()
            assert canvas.containsx(box.x0), text
            assert canvas.containsx(box.x1), text
            assert canvas.containsy(box.y0), text
            assert canvas.containsy(box.y1), text
    for legend in figure.legends:
        labels = [text.get_text() for text in legend.get_texts() if text.get_text()]
        assert len(set(labels)) == len(labels)
        assert not any(legend.get_window_extent().overlaps(axes.bbox) for axes in figure.axes)


WIDEST = "ten names"


@every_kind
def test_no_text_is_cut_off_and_no_legend_lies_on_a_panel(kind: Kind) -> None:
    check_its_texts(kind.draw(kind.table(SETS[WIDEST]), "x + y mod 97"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SETS if name not in (WIDEST, "two", "never", "one condition")])
@every_kind
def test_no_text_is_cut_off_of_any_set_of_runs(kind: Kind, name: str) -> None:
    check_its_texts(kind.draw(kind.table(SETS[name]), "x + y mod 97"))


OPTIMIZERS = ["AdamW weight_decay=0.005 decay=l2", "AdamW weight_decay=0.05 decay=zero", "SGD lr=0.01 momentum=0.99"]
BY_NAME = {
    "names beside rows": lambda runs: draw_phase(tabulate_phase(runs, KEY, "optimizer"), "title"),
    "names below columns": lambda runs: draw_phase(tabulate_phase(runs, "optimizer", KEY), "title"),
    "names above maps": lambda runs: draw_phase(tabulate_phase(runs, KEY, SEED, "optimizer"), "title"),
    "names in a legend": lambda runs: draw_by_value(tabulate_by_value(runs, KEY, "optimizer"), "title"),
    "names in another": lambda runs: accuracy_by_value(tabulate_by_value(runs, KEY, "optimizer", "accuracy"), "title"),
}


@pytest.mark.parametrize("draw", BY_NAME.values(), ids=list(BY_NAME))
def test_long_names_can_be_read(draw: Callable[[pd.DataFrame], Figure]) -> None:
    figure = draw(runs_of([0.3, 0.5, 0.7], other={"optimizer": OPTIMIZERS}))
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in (axes.title, *axes.get_xticklabels(), *axes.get_yticklabels())]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    names = {text: " ".join(text.get_text().split()) for text in texts if text.get_visible()}
    assert set(OPTIMIZERS) <= set(names.values())
    boxes = {text: text.get_window_extent() for text, name in names.items() if name}
    for text in (text for text, name in names.items() if name in OPTIMIZERS):
        left, bottom, right, top = boxes[text].extents
        assert -1 <= left < right <= figure.bbox.width + 1
        assert -1 <= bottom < top <= figure.bbox.height + 1
        assert not [other for other in boxes if other is not text and boxes[other].overlaps(boxes[text])]


@every_kind
def test_making_a_table_changes_nothing_and_does_not_depend_on_the_order_of_runs(kind: Kind) -> None:
    runs = runs_of([0.3, 0.5, 0.4])
    before = runs.copy(deep=True)
    table = kind.table(runs)
    pd.testing.assert_frame_equal(runs, before)
    shuffled = kind.table(runs.sample(frac=1, random_state=0))
    order = [name for name in ("condition", "measure", KEY, SEED, "kind", "run", "step") if name in table]
    same = [each.sort_values(order, ignore_index=True) for each in (table, shuffled)]
    pd.testing.assert_frame_equal(*same)


@pytest.mark.parametrize("kind", [KINDS[name] for name in ("overlaid", "band", "survival", "ablation", "delay")])
def test_conditions_keep_their_order_of_display(kind: Kind) -> None:
    runs = runs_of(["b", "a", "c"])
    names = list(runs["condition"].cat.categories)
    assert list(pd.unique(kind.table(runs.iloc[::-1])["condition"])) == names
    assert list(pd.unique(kind.table(ordered(runs.iloc[::-1]))["condition"])) == names[::-1]


@pytest.mark.slow
@every_kind
def test_ten_thousand_runs_are_drawn(kind: Kind) -> None:
    curves = getattr(kind.draw, "func", kind.draw) is draw_condition_curves  # hundreds of points of each run
    runs = runs_of([0.3, 0.5], 400 if curves else 5000)
    figure = kind.draw(kind.table(runs.assign(seed=runs["seed"] % 10)), "many")
    picture(figure)
    assert f"{len(runs):,}" in figure.get_supxlabel()


@pytest.mark.parametrize("runs", [1, 2, 4, 5])
@pytest.mark.parametrize("kind", ["ablation", "steps by value"])
def test_fewer_than_five_runs_have_no_interval(kind: str, runs: int) -> None:
    steps = [100.0, 200.0, 300.0, 400.0, 500.0]
    table = KINDS[kind].table(at_once(runs_of([0.5], runs)).assign(grok_step=steps[:runs]))
    drawn = [part for part in KINDS[kind].draw(table, "title").axes[0].collections if isinstance(part, LineCollection)]
    assert bool([segment for part in drawn for segment in part.get_segments()]) == (runs == 5)


def colors_by_label(figure: Figure) -> dict[str, object]:
    """The color of each condition in a figure's legend, by its label without counts and remarks."""
    (shown,) = figure.legends
    pairs = zip(shown.get_texts(), shown.legend_handles, strict=True)
    return {text.get_text().split(" (")[0]: handle.get_color() for text, handle in pairs}


@pytest.mark.parametrize("key", ["train_fraction", "optimizer"])
def test_a_condition_has_one_color_in_all_figures_also_where_it_is_not_drawn(key: str) -> None:
    values = [0.3, 0.5, 0.7, 0.9] if key == "train_fraction" else list("abcd")
    runs = runs_of(values, key=key)
    first = runs["condition"] == runs["condition"].iloc[0]
    runs = runs.assign(memorize_step=runs["memorize_step"].mask(first))
    curves = curves_of(runs[~first]).assign(**{"norm/weights": 1.0})
    kinds = [KINDS[name] for name in ("survival", "delay")]
    figures = [kind.draw(kind.table(runs), "t") for kind in kinds]
    figures += [draw_condition_curves(make(runs, curves), "t") for make in (tabulate_medians, tabulate_single_runs)]
    figures += [draw_measures(tabulate_measures(curves, runs), "t")]
    found = [colors_by_label(figure) for figure in figures]
    for value in values:
        assert len({str(colors[str(value)]) for colors in found}) == 1
    assert len({str(found[0][str(value)]) for value in values}) == len(values)


@pytest.mark.parametrize("quantity", ["steps", "accuracy"])
def test_runs_and_medians_stand_at_their_value_on_an_axis_of_numbers(quantity: Quantity) -> None:
    values = [0.1, 0.2, 0.25]
    table = tabulate_by_value(runs_of(values, other={"optimizer": ["a", "b", "c"]}), KEY, "optimizer", quantity)
    (axes,) = draw_by_value(table, "t", quantity).axes
    points = [part for part in axes.collections if isinstance(part, PathCollection)]
    at = [place for part in points for place in part.get_offsets()[:, 0]]
    at += [place for line in axes.lines for place in np.asarray(line.get_xdata(), float)]
    assert set(np.unique(at)) == set(values)


def test_names_of_keys_on_axes_are_short() -> None:
    runs = runs_of([0.1, 0.2], key="data.train_fraction", other={"model.optimizer.lr": [1, 2]})
    keys = ("data.train_fraction", "model.optimizer.lr")
    for figure in (draw_by_value(tabulate_by_value(runs, *keys), "t"), draw_phase(tabulate_phase(runs, *keys), "t")):
        labels = {axes.get_xlabel() for axes in figure.axes} | {axes.get_ylabel() for axes in figure.axes}
        labels |= {legend.get_title().get_text() for legend in figure.legends}
        assert {"train_fraction", "lr"} <= labels
        assert not any("data." in label or "model." in label for label in labels)


def cells(runs: pd.DataFrame) -> tuple[Figure, list[str]]:
    """The map of train fraction and optimizer, and the words in its cells."""
    figure = draw_phase(tabulate_phase(runs, KEY, "optimizer"), "t")
    return figure, [text.get_text() for text in figure.axes[0].texts]


def test_cells_of_a_map_name_the_median_step_or_the_accuracy() -> None:
    runs = runs_of([0.3, 0.5], 3, other={"optimizer": ["a"]}).assign(status="finished", best_val_acc=0.456)
    runs = runs.assign(grok_step=[1540.0, 1540.0, np.nan, np.nan, np.nan, 900.0])
    assert cells(runs)[1] == ["1.54k\n2/3", "45 %\n1/3"]
    assert cells(runs.iloc[[0, 3]])[1] == ["1.54k", "45 %"]


def test_a_map_without_a_median_is_colored_by_accuracy() -> None:
    runs = never(runs_of([0.3, 0.5], 1, other={"optimizer": ["a"]})).assign(best_val_acc=[0.02, 0.97])
    figure, words = cells(runs)
    assert words == ["2 %", "97 %"]
    assert "best validation accuracy (%)" in {axes.get_ylabel() for axes in figure.axes}
    first, second = figure.axes[0].collections[0].get_facecolor()
    assert first.tolist() != second.tolist()


def test_medians_are_pale_from_where_a_run_has_stopped() -> None:
    runs = runs_of([0.5], 3).assign(status="finished", steps=[1000, 3000, 20_000])
    runs["sustained_grok_step"] = [900.0, 2900.0, np.nan]
    figure = draw_condition_curves(tabulate_medians(runs, curves_of(runs)), "t")
    for axes in figure.axes:
        for place in range(0, len(axes.lines), 2):
            whole, pale = axes.lines[place : place + 2]
            assert (whole.get_alpha(), np.max(whole.get_xdata())) == (1.0, 1000)
            assert pale.get_alpha() < 0.5
            assert (np.min(pale.get_xdata()), np.max(pale.get_xdata())) == (1000, 20_000)
    assert "Pale" in figure.get_supxlabel()


def test_the_final_accuracy_of_each_split_is_that_of_the_records() -> None:
    runs = with_losses(runs_of([0.3, 0.5], 3))
    table = tabulate_accuracy(runs)
    each = table[table["kind"] == "run"].set_index(["run", "split"])
    for run in runs.itertuples():
        assert each.loc[(run.run, "val"), ["acc", "loss"]].tolist() == [run.final_val_acc, run.final_val_loss]
    medians = table[table["kind"] == "median"].set_index(["condition", "split"])
    assert medians.loc[("train_fraction=0.5", "test"), "n"] == 0
    assert medians.loc[("train_fraction=0.3", "val"), "acc"] == runs["final_val_acc"].iloc[:3].median()
    assert set(tabulate_accuracy(runs.drop(columns=["final_test_acc"]))["split"]) == {"train", "val"}


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("kind", ["ablation", "steps by value"])
def test_one_run_at_each_place_is_not_called_a_median(kind: str, seeds: int) -> None:
    figure = KINDS[kind].draw(KINDS[kind].table(runs_of([0.1, 0.2, 0.3, 0.4], seeds)), "t")
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    words.append(figure.get_supxlabel())
    assert any("edian" in word for word in words) == (seeds > 1)
    assert ("grok step of a run" in words) == (seeds == 1)


def test_delay_and_after_the_grok_name_no_threshold_where_conditions_have_several() -> None:
    runs = runs_of([0.1, 0.2], 3)
    for thresholds, delay, after in (
        ([0.9, 0.99], "steps to the threshold of validation accuracy", "Dotted: the threshold, at which"),
        ([0.9, 0.9], "steps to 90% validation accuracy", "Dotted: 90%, at which"),
    ):
        several = runs.assign(threshold=np.repeat(thresholds, 3))
        axes = KINDS["delay"].draw(KINDS["delay"].table(several), "t").axes[0]
        assert axes.get_ylabel() == delay
        assert axes.get_xlabel() == delay.replace("validation", "training")
        figure = KINDS["after the grok"].draw(KINDS["after the grok"].table(several), "t")
        assert after in " ".join(figure.get_supxlabel().split())


def test_a_map_says_that_its_marks_are_of_the_runs_that_did_not_grok() -> None:
    runs = runs_of([0.1, 0.2], 3).assign(grok_step=[np.nan] * 3 + [500.0] * 3)
    figure = KINDS["phase"].draw(KINDS["phase"].table(runs), "t")
    assert [legend.get_title().get_text() for legend in figure.legends] == ["most of the others"]


def test_a_table_without_any_accuracy_can_be_drawn() -> None:
    nothing = dict.fromkeys(("final_train_acc", "final_val_acc", "final_test_acc"), np.nan)
    table = tabulate_accuracy(with_losses(runs_of([0.3, 0.5], 3)).assign(**nothing))
    assert table["acc"].isna().all()
    assert draw_accuracy(table, "nothing").axes
