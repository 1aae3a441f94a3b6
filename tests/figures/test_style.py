"""Conditions can be told apart, axes are ticked in round numbers, keys stand where their values are."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from grok_lightning.figures.conditions import FEW, Condition, pick_looks, pick_names, split_conditions
from grok_lightning.figures.style import (
    draw_legend,
    format_count,
    format_percent,
    format_range,
    format_steps,
    format_threshold,
    make_figure,
    make_handle,
    set_loss_axis,
    set_step_axis,
    wrap_text,
)
from grok_lightning.figures.values import find_places, format_values, set_value_axis, spread, to_ordered
from grok_lightning.records.words import format_option


def conditions(values: dict[str, list], label: str = "") -> list[Condition]:
    """Conditions by the values of each key, labeled as reports do, or alike."""
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return [
        Condition(row, label or ", ".join(f"{key}={format_option(value)}" for key, value in row.items()))
        for row in rows
    ]


@pytest.mark.parametrize("values", [list(range(FEW)), [f"name {n}" for n in range(FEW)]])
def test_a_few_conditions_differ_in_color_and_in_marker(values: list) -> None:
    found = pick_looks(pick_names(conditions({"k": values})))
    assert len({look.color for look in found}) == len({look.marker for look in found}) == FEW


def test_numbers_of_one_key_go_from_dark_to_bright_in_any_order() -> None:
    colors = {
        name: look.color
        for name, look in zip("3214", pick_looks(pick_names(conditions({"k": [3, 2, 1, 4]}))), strict=True)
    }
    light = [sum(int(colors[n][place : place + 2], 16) for place in (1, 3, 5)) for n in "1234"]
    assert light == sorted(light)


def test_a_legend_says_the_key_once() -> None:
    assert pick_names(conditions({"lr": [0.1, 0.01]})) == ("lr", ["0.1", "0.01"], [0.1, 0.01])
    assert pick_names(conditions({"optimizer": ["Adam", "SGD"]})) == ("optimizer", ["Adam", "SGD"], None)
    assert pick_names(conditions({"lr": [1, 2], "decay": [1, 0]})) == ("lr, decay", ["1, 1", "2, 0"], None)
    lists = {"hidden": ["[64, 64]", "[64]"], "formula": ["x if y == 0 else 1, a=b", "y"]}
    labels = ["[64, 64], x if y == 0 else 1, a=b", "[64], y"]
    assert pick_names(conditions(lists), 99) == ("hidden, formula", labels, None)
    dotted = pd.DataFrame({"model.lr": [10**6, 10**6 + 1], "condition": ["lr=1000000", "lr=1000001"]})
    assert pick_names([each for each, _ in split_conditions(dotted)]) == (
        "lr",
        ["1000000", "1000001"],
        [1e6, 1e6 + 1],
    )
    assert pick_names(conditions({"k": [1, 2]}, "x + y")) == ("", ["x + y", "x + y"], None)
    assert pick_names([Condition({}, "all runs")]) == ("", ["all runs"], None)
    assert pick_names([]) == ("", [], None)


def test_plain_text_is_never_a_formula_nor_hidden() -> None:
    for text in ("_hidden", "$x$", "x" * 100, "a b " * 100):
        shown = wrap_text(text, 20, 3)
        assert not shown.startswith("_")
        assert shown.count("$") == shown.count(r"\$")
        assert max(len(line.replace("\\", "")) for line in shown.split("\n")) <= 22
        assert shown.count("\n") < 3


def test_long_words_go_on_after_a_sign() -> None:
    assert wrap_text("no filter, interventions=[at=grokked freeze=[embeddings,head]]", 22, 9).split("\n") == [
        "no filter,",
        "interventions=[at=",
        "grokked freeze=[",
        "embeddings,head]]",
    ]
    assert wrap_text("weight_decay=0.1", 16) == "weight_decay=0.1"


def test_characters_that_no_font_has_are_escaped() -> None:
    assert wrap_text("x + y\x1b[2J\r\x00\u202e; näher") == r"x + y\x1b[2J\r\x00\u202e; näher"


ENDS = [(0, 0), (1, 1), (500, 700), (1, 1e6), (300, 20_000), (0, 1e8), (99, 101)]


def test_a_step_axis_has_labels_that_differ() -> None:
    for ends in ENDS:
        for narrow in (True, False):
            axes = Figure().subplots()
            set_step_axis(axes, "x", *ends, narrow=narrow)
            low, high = axes.get_xlim()
            assert low < max(ends[0], 1) <= max(ends[1], 1) < high
            labels = [format_steps(step) for step in axes.xaxis.get_majorticklocs() if low <= step <= high]
            assert len(set(labels)) == len(labels) >= 1


def test_steps_are_short() -> None:
    known = {1: "1", 950: "950", 999.7: "1k", 1500: "1.5k", 20_000: "20k", 999_900: "1M", 3e6: "3M"}
    for step, text in known.items():
        assert format_steps(step) == text


def test_words_for_numbers() -> None:
    assert (format_count(1, "run"), format_count(12_000, "run")) == ("1 run", "12,000 runs")
    assert (format_range([5, 5]), format_range([3, 5]), format_range([])) == ("5", "3 to 5", "0")
    assert (format_percent(0.99), format_percent(0.999)) == ("99%", "99.9%")


def test_numbers_stand_in_proportion_by_logarithm_or_beside() -> None:
    assert find_places(pd.Series([0.5, 0.2, 0.5])).at.tolist() == [0.2, 0.5]
    np.testing.assert_allclose(find_places(pd.Series([0.1, 0.01, 1])).at, [-2, -1, 0])
    zero = find_places(pd.Series([0, 0.1, 0.01, 1])).at
    assert zero[0] < zero[1] - 0.4
    assert find_places(pd.Series(["b", "a", "b"])).values == ["b", "a"]


def test_a_column_of_numbers_as_text_is_numbers() -> None:
    assert to_ordered(pd.Series(["1", "0.5"])).tolist() == [1.0, 0.5]
    assert to_ordered(pd.Series(["1", "x"])).tolist() == ["1", "x"]


@pytest.mark.parametrize("values", [[0.2], [0.3, 0.33, 0.9], list(np.linspace(0.1, 0.9, 40)), ["a" * 50, "b"], []])
def test_ticks_of_a_key_can_be_read_and_all_values_are_inside(values: list) -> None:
    axes = Figure().subplots()
    where = find_places(pd.Series(values, dtype=object))
    set_value_axis(axes, where, "key")
    low, high = axes.get_xlim()
    assert ((low < where.at) & (where.at < high)).all()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert min(len(values), 1) <= len(ticks) <= 12
    assert len(values) > 12 or set(ticks) <= set(where.at)


def test_ticks_have_as_many_digits_as_tell_them_apart() -> None:
    assert format_values([0.1, 1 / 3]) == ["0.1", "0.333"]
    assert format_values([0.12341, 0.12342]) == ["0.12341", "0.12342"]


def test_points_of_a_group_are_spread_within_the_width_around_its_place() -> None:
    for size in (1, 2, 5, 12, 13, 500):
        at = spread(["a"] * size, 2.0)
        assert len(set(at)) == size
        assert np.abs(at).max() <= 1
        assert abs(at.mean()) < 0.1
    assert spread(["a", "b"], 2.0).tolist() == [0, 0]


def test_conditions_come_in_the_order_of_their_categories_or_as_they_stand() -> None:
    frame = pd.DataFrame({"condition": ["b", "a", "b"], "value": [1, 2, 3]})
    assert [condition.label for condition, _ in split_conditions(frame)] == ["b", "a"]
    frame["condition"] = pd.Categorical(frame["condition"], ["c", "a", "b"], ordered=True)
    assert [condition.label for condition, _ in split_conditions(frame)] == ["a", "b"]
    frame.insert(0, "k", [2, 1, 2])
    assert [condition.values for condition, _ in split_conditions(frame)] == [{"k": 1}, {"k": 2}]


@pytest.mark.parametrize(
    ("ends", "known"), [((1e-6, 9), "0.01"), ((0.01, 10), "0.1"), ((2.1, 4.9), "3"), ((1e-9, 1e-7), "1e-08")]
)
def test_a_loss_axis_has_plain_numbers_where_there_is_room(ends: tuple[float, float], known: str) -> None:
    axes = Figure(figsize=(5, 2.5)).subplots()
    set_loss_axis(axes)
    axes.set_ylim(ends)
    axes.figure.draw_without_rendering()
    ticks = [*axes.yaxis.get_major_ticks(), *axes.yaxis.get_minor_ticks()]
    texts = {tick.label1.get_text(): tick.get_loc() for tick in ticks if ends[0] <= tick.get_loc() <= ends[1]}
    named = {text: place for text, place in texts.items() if text}
    assert 2 <= len(named) <= 8
    assert known in named
    assert all(float(text) == pytest.approx(place) for text, place in named.items())


@pytest.mark.parametrize("labels", [1, 12, 60])
@pytest.mark.parametrize("length", [3, 32])
def test_a_legend_leaves_the_panels_their_room(labels: int, length: int) -> None:
    figure = make_figure("title", "note", 7.5, 4.4)
    axes = figure.subplots()
    draw_legend(figure, [make_handle("o")] * labels, [("weight_decay=0.3, " * 2)[:length]] * labels)
    figure.draw_without_rendering()
    assert axes.get_window_extent().width > 0.4 * 7.5 * figure.dpi
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1 + 1


def test_an_axis_names_no_threshold_where_conditions_have_several() -> None:
    assert format_threshold(pd.Series([0.99, 0.99])) == "99%"
    assert (
        format_threshold(pd.Series([0.99, 0.5])) == format_threshold(pd.Series([], dtype=float)) == "the threshold of"
    )
