"""Axes of elements: tick labels, the room they take, and placement in inches."""

from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from grok_lightning.figures.style import wrap_text

TITLE_LETTERS = 66


class NothingToShow(ValueError):
    """Raised, with the reason, where a task or a model has no such figure."""


def add_axes(figure: Figure, place: tuple[float, float, float, float], size: tuple[float, float]) -> Axes:
    """Adds axes at (left, bottom, width, height) to a figure of the given size, all in inches.

    Figures of one kind then have the same geometry, and take half the time that they do with a layout engine.
    """
    figure.set_size_inches(size)
    width, height = size
    return figure.add_axes((place[0] / width, place[1] / height, place[2] / width, place[3] / height))


def entitle(figure: Figure, title: str, above: float) -> None:
    """Sets a title of several lines, centered at a distance from the left in inches."""
    width, height = figure.get_size_inches()
    figure.suptitle("\n".join(wrap_title(title)), fontsize=11, x=above / width, y=1 - 0.08 / height, va="top")


def wrap_title(title: str) -> list[str]:
    """Wraps a title into lines."""
    return [part for line in title.split("\n") for part in wrap_text(line, TITLE_LETTERS).split("\n")]


def name_ticks(axis: Axis, elements: list[str]) -> None:
    """Labels ticks with elements, as many as there is room for."""
    long = are_long(elements)
    axis.set_major_locator(MaxNLocator(6 if long else 10, integer=True, min_n_ticks=1))
    axis.set_major_formatter(
        FuncFormatter(lambda place, _: elements[round(place)] if 0 <= round(place) < len(elements) else "")
    )
    if long:
        axis.set_tick_params(labelsize=7, labelrotation=30 if isinstance(axis, XAxis) else 0)


def are_long(elements: list[str]) -> bool:
    """Whether the longest element takes more than 5 characters, as permutations do."""
    return max(map(len, elements)) > 5


def room_for(elements: list[str]) -> float:
    """Width of the tick labels of elements in inches."""
    return 0.05 * max(map(len, elements)) + 0.2 if are_long(elements) else 0.4
