"""The curves show what the rows say, and mark what came."""

import io
import math

import pytest
from matplotlib.figure import Figure

from grok_lightning.figures.curves import draw_curves
from grok_lightning.records.record import Row

NOTHING = {"memorize_step": None, "grok_step": None}


def row(step: int, train: float, val: float, loss: float = 1.0) -> Row:
    return {"step": step, "train/acc": train, "val/acc": val, "train/loss": loss, "val/loss": 2 * loss}


ROWS = [row(0, 0.01, 0.01, 4.0), row(10, 0.5, 0.1), row(100, 1.0, 0.2, 0.1), row(1000, 1.0, 1.0, 0.01)]


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def marks(figure: Figure) -> list[list[float]]:
    """The vertical lines of each panel, by their step."""
    lines = [[list(map(float, line.get_xdata())) for line in axes.get_lines()] for axes in figure.axes]
    return [[first for first, *rest in panel if rest == [first]] for panel in lines]


def test_two_panels_share_a_logarithmic_step_axis() -> None:
    figure = drawn(draw_curves(ROWS, NOTHING, "x + y mod 97"))
    accuracy, loss = figure.axes
    assert accuracy.get_xscale() == loss.get_xscale() == "log"
    assert accuracy.get_shared_x_axes().joined(accuracy, loss)
    assert "accuracy" in accuracy.get_ylabel()
    assert "loss" in loss.get_ylabel()
    assert "steps" in loss.get_xlabel()
    assert figure.get_suptitle() == "x + y mod 97"


def test_the_lines_are_the_rows_after_step_0() -> None:
    accuracy, loss = draw_curves(ROWS, NOTHING, "").axes
    found = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in accuracy.get_lines()}
    assert found == {"training": ([10, 100, 1000], [50, 100, 100]), "validation": ([10, 100, 1000], [10, 20, 100])}
    assert [list(line.get_ydata()) for line in loss.get_lines()] == [[1.0, 0.1, 0.01], [2.0, 0.2, 0.02]]


@pytest.mark.parametrize(("memorize", "grok"), [(None, None), (0, 0), (10, None), (None, 1000), (10, 1000)])
def test_marks_stand_where_milestones_came(memorize: int | None, grok: int | None) -> None:
    figure = drawn(draw_curves(ROWS, {"memorize_step": memorize, "grok_step": grok}, ""))
    came = [step for step in (memorize, grok) if step]
    assert marks(figure) == [came, came]
    words = [text.get_text() for text in figure.axes[0].texts]
    assert len(words) == len(came)
    assert all(f"{step:,}" in word for step, word in zip(came, words, strict=True))


def test_milestones_may_be_missing_altogether() -> None:
    assert marks(drawn(draw_curves(ROWS, {}, ""))) == [[], []]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="no row"),
        pytest.param(ROWS[:1], id="step 0"),
        pytest.param(ROWS[1:2], id="one row"),
        pytest.param([row(1, 1.0, 1.0, 0.0), row(2, 1.0, 1.0, 0.0)], id="loss 0"),
        pytest.param([row(1, 0.0, 0.0), row(2, math.nan, math.nan, math.nan)], id="diverged"),
        pytest.param([row(1, math.nan, math.nan, math.nan)], id="diverged at once"),
        pytest.param([row(1, 0.0, 0.0), row(2, 0.0, 0.0, math.inf)], id="infinite loss"),
    ],
)
def test_odd_records_are_drawn_without_a_warning(rows: list[Row]) -> None:
    figure = drawn(draw_curves(rows, NOTHING, "title"))
    assert len(figure.axes) == 2


def test_drawing_twice_gives_the_same_picture_and_changes_no_row() -> None:
    pictures = [io.BytesIO(), io.BytesIO()]
    before = [dict(row) for row in ROWS]
    for picture in pictures:
        draw_curves(ROWS, {"grok_step": 1000}, "title").savefig(picture, format="raw", dpi=40)
    assert pictures[0].getvalue() == pictures[1].getvalue()
    assert before == ROWS


def test_validation_is_left_out_where_there_is_none() -> None:
    rows = [row(step, 0.5, math.nan) | {"val/loss": math.nan} for step in (1, 10, 100)]
    (legend,) = [axes.get_legend() for axes in drawn(draw_curves(rows, NOTHING, "")).axes if axes.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == ["training"]
