"""The pictures of a task show each equation in its place, as what it is."""

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from grok_lightning.figures import task
from grok_lightning.figures.elements import NothingToShow

Formula = Callable[[int, int], int | None]


def table_of(size: int, formula: Formula, names: list[str] | None = None) -> pd.DataFrame:
    """All equations of a formula over two operands, dealt in turns, every third answered wrongly."""
    elements = names or [str(number) for number in range(size)]
    rows = [(x, y, z) for x in range(size) for y in range(size) if (z := formula(x, y)) is not None]
    columns = {
        name: pd.Categorical.from_codes(codes, elements, ordered=True)  # type: ignore[call-overload]
        for name, codes in zip(("x", "y", "answer"), np.array(rows).T, strict=True)
    }
    place = np.arange(len(rows))
    split = np.array(["train", "val", "test", "unused", "train"])[place % 5]
    return pd.DataFrame(columns).assign(split=split, correct=place % 3 > 0)


def divided(x: int, y: int) -> int | None:
    return x * pow(y, 9, 11) % 11 if y else None


def added(x: int, y: int) -> int:
    return (x + y) % 11


def drawn(figure: Figure) -> np.ndarray:
    """The cells of a figure's map, y first; NaN where nothing is drawn."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return np.ma.filled(figure.axes[0].images[0].get_array().astype(float), np.nan)


def colors(figure: Figure) -> dict[tuple[str, str], str]:
    """The color of each pair of operands, as it is painted."""
    cells = drawn(figure)
    image = figure.axes[0].images[0]
    return {
        (str(x), str(y)): to_hex(image.cmap(image.norm(cells[y, x]))).upper()
        for y, x in zip(*np.nonzero(~np.isnan(cells)), strict=True)
    }


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


def test_an_answer_stands_at_its_operands_and_nothing_where_there_is_no_equation() -> None:
    table = table_of(11, divided)
    figure = task.draw_answers(table, "x / y mod 11", cyclic=True)
    cells = drawn(figure)
    assert np.isnan(cells[0]).all()
    assert np.isnan(cells).sum() == 11
    assert all(cells[y, x] == divided(x, y) for x in range(11) for y in range(1, 11))
    assert legend(figure) == ["no equation (11)"]
    assert [figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()] == ["x", "y"]
    assert figure.get_suptitle() == "x / y mod 11"


def test_answers_that_follow_each_other_in_a_circle_do_so_in_color() -> None:
    image = task.draw_answers(table_of(11, added), "", cyclic=True).axes[0].images[0]
    first, last, middle = (np.array(image.cmap(image.norm(answer))[:3]) for answer in (0, 10.999, 5.5))
    assert np.abs(first - last).max() < 0.02
    assert np.abs(first - middle).max() > 0.5


@pytest.mark.parametrize(
    ("formula", "agreeing", "pairs"),
    [
        pytest.param(added, 55, 55, id="commutative"),
        pytest.param(lambda x, y: (x - y) % 11, 0, 55, id="difference"),
        pytest.param(divided, 5, 45, id="quotient: of a number and its negative"),
        pytest.param(lambda x, y: 0 if x >= y else None, 0, 0, id="half"),
    ],
)
def test_symmetry_counts_pairs_with_both_rows(formula: Formula, agreeing: int, pairs: int) -> None:
    table = table_of(11, formula)
    assert task.count_symmetric(table) == (agreeing, pairs)
    assert f"{agreeing} of {pairs} pairs" in task.draw_answers(table, "").axes[0].get_title()


def test_membership_is_painted_as_the_split_says() -> None:
    table = table_of(11, divided)
    figure = task.draw_split(table, "")
    painted = colors(figure)
    assert len(painted) == len(table)
    for row in table.itertuples():
        assert painted[row.x, row.y] == task.MEMBERS[row.split].upper()
    counts = table["split"].value_counts()
    assert legend(figure) == [
        *(f"{word} ({counts[split]})" for split, word in task.SPLITS.items()), "no equation (11)"
    ]  # fmt: skip


def test_what_is_painted_wrong_is_what_is_wrong() -> None:
    table = table_of(11, divided)
    figure = task.draw_predictions(table, "")
    painted = colors(figure)
    assert len(painted) == len(table)
    for row in table.itertuples():
        assert painted[row.x, row.y] == (task.RIGHT if row.correct else task.WRONG)[row.split].upper()
    inside = [text for text in legend(figure) if "no equation" not in text]
    assert sum(int(text.split("(")[1].rstrip(")")) for text in inside) == len(table)


def test_a_single_wrong_answer_is_not_lost_in_rounding() -> None:
    table = table_of(50, lambda x, y: 0).assign(split="train")
    assert "99.9 %" in task.draw_predictions(table.assign(correct=np.arange(2500) > 0), "").axes[0].get_title()
    assert "100.0 %" in task.draw_predictions(table.assign(correct=True), "").axes[0].get_title()


@pytest.mark.parametrize("palette", [[*task.RIGHT.values(), *task.WRONG.values()], list(task.MEMBERS.values())])
def test_cells_differ_in_gray_and_the_right_ones_are_lighter(palette: list[str]) -> None:
    gray = [float(np.dot(to_rgb(color), (0.2126, 0.7152, 0.0722))) for color in palette]
    assert min(np.diff(sorted(gray))) > 0.04
    if len(palette) == 8:
        assert min(gray[:4]) > max(gray[4:7])  # what trains, validates or tests


def test_value_counts_add_up_to_the_rows_and_keep_the_elements_order() -> None:
    table = table_of(11, lambda x, y: x * x * y * y % 11)
    counts = task.tabulate_value_counts(table)
    assert counts["count"].sum() == len(table)
    assert list(counts["answer"]) == [str(number) for number in range(11)]
    for answer, count in zip(counts["answer"], counts["count"], strict=True):
        assert count == (table["answer"] == answer).sum()
    assert (counts["count"] > 0).sum() == 6  # zero and the squares
    assert counts["even"].sum() == pytest.approx(len(table))
    assert set(counts["even"][counts["count"] == 0]) == {0.0}


def test_bars_are_the_counts_and_the_line_is_the_even_count() -> None:
    counts = task.tabulate_value_counts(table_of(11, divided))
    axes = task.draw_value_counts(counts, "").axes[0]
    assert list(axes.patches[0].get_data().values) == list(counts["count"])
    assert list(axes.get_lines()[0].get_ydata()) == [10.0, 10.0]
    assert "110 equations; 11 of 11 elements" in axes.get_title()


def test_other_tables_are_refused_in_words() -> None:
    table = table_of(11, added)
    three, one = table.assign(z=table["x"])[["x", "y", "z", "answer"]], table[["x", "answer"]]
    for odd, count in ((three, 3), (one, 1)):
        with pytest.raises(NothingToShow, match=f"has {count}"):
            task.draw_answers(odd, "")
    assert task.tabulate_value_counts(three)["count"].sum() == len(table)
    many = [str(number) for number in range(task.MOST_ELEMENTS + 1)]
    large = pd.DataFrame({name: pd.Categorical(["0"], categories=many) for name in ("x", "y", "answer")})
    for draw in (task.count_symmetric, lambda table: task.draw_value_counts(task.tabulate_value_counts(table), "")):
        with pytest.raises(NothingToShow, match="1,025"):
            draw(large)
    assert issubclass(NothingToShow, ValueError)


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(table_of(2, lambda x, y: x * y), id="two elements"),
        pytest.param(table_of(1, lambda x, y: 0), id="one element"),
        pytest.param(table_of(24, lambda x, y: x, [f"(0 1 2)({n} {n + 1})" for n in range(24)]), id="long names"),
    ],
)
def test_odd_tables_are_drawn_without_a_warning_and_left_as_they_were(table: pd.DataFrame) -> None:
    before = table.copy()
    for figure in (task.draw_answers(table, "t"), task.draw_split(table, "t"), task.draw_predictions(table, "t")):
        assert drawn(figure).size == len(table)
    task.draw_value_counts(task.tabulate_value_counts(table), "t").savefig(io.BytesIO(), dpi=40)
    pd.testing.assert_frame_equal(table, before)


def test_everything_written_lies_inside_the_figure() -> None:
    names = [f"(0 1 2 3)({n} {n + 1})" for n in range(24)]
    for table in (table_of(11, divided), table_of(24, lambda x, y: x, names)):
        title = "Predictions at step 3,000\nexperiment/run: x + y mod 11, α = 0.5, seed 0 and more of it: words, words"
        maps = [draw(table, title) for draw in (task.draw_answers, task.draw_split, task.draw_predictions)]
        for figure in [*maps, task.draw_value_counts(task.tabulate_value_counts(table), title)]:
            figure.draw_without_rendering()
            tight = figure.get_tightbbox()
            width, height = figure.get_size_inches()
            assert tight.x0 >= 0
            assert tight.y0 >= 0
            assert tight.x1 <= width
            assert tight.y1 <= height
