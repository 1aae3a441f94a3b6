"""Axes whose numbers are elements: how they are written, how much room that takes, and where such axes stand."""

from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from grok_lightning.figures.style import plain

TITLE_LETTERS = 66


class NothingToShow(ValueError):
    """Says why there is no such picture of a task or a model."""


def placed(figure: Figure, place: tuple[float, float, float, float], size: tuple[float, float]) -> Axes:
    """New axes at a place (left, bottom, width, height) of a figure of a size, in inches.

    Every picture of a kind then has the same geometry, and costs half of what it does under a layout engine.
    """
    figure.set_size_inches(size)
    width, height = size
    return figure.add_axes((place[0] / width, place[1] / height, place[2] / width, place[3] / height))


def entitle(figure: Figure, title: str, above: float) -> None:
    """Gives a figure a title, whose lines stay lines, centered at so many inches from the left."""
    width, height = figure.get_size_inches()
    figure.suptitle("\n".join(title_lines(title)), fontsize=11, x=above / width, y=1 - 0.08 / height, va="top")


def title_lines(title: str) -> list[str]:
    """A title's lines as they are set."""
    return [part for line in title.split("\n") for part in plain(line, TITLE_LETTERS).split("\n")]


def name_ticks(axis: Axis, elements: list[str]) -> None:
    """Writes elements as they are written, at as many places as there is room for."""
    long = are_long(elements)
    axis.set_major_locator(MaxNLocator(6 if long else 10, integer=True, min_n_ticks=1))
    axis.set_major_formatter(
        FuncFormatter(lambda place, _: elements[round(place)] if 0 <= round(place) < len(elements) else "")
    )
    if long:
        axis.set_tick_params(labelsize=7, labelrotation=30 if isinstance(axis, XAxis) else 0)


def are_long(elements: list[str]) -> bool:
    """Whether some element is too long to stand beside others of its kind, as permutations are."""
    return max(map(len, elements)) > 5


def room_for(elements: list[str]) -> float:
    """How wide the elements are beside an axis, in inches, without its label."""
    return 0.05 * max(map(len, elements)) + 0.2 if are_long(elements) else 0.4
