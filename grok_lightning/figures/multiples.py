"""Figures with a panel for each condition, for more conditions than one panel can show."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_lightning.figures import style
from grok_lightning.figures.conditions import Naming

MOST = 30  # panels that fit a page
HEAD, LINE = 22, 0.14  # characters in a line of a panel's head, and its inches


def draw_panels(
    title: str, note: str, names: Naming, sizes: Sequence[int], label: str, set_axes: Callable[[Axes], None]
) -> tuple[Figure, list[Axes]]:
    """A figure with an empty panel for each condition, row by row; the panels share both axes.

    Only the first 30 conditions get a panel, and the note then says so. Only panels at the edge have ticks, and places
    are computed here, since 30 panels with their own ticks and matplotlib's layout take ten times as long.

    Args:
        title: The figure's title.
        note: The note below the figure.
        names: Names of the conditions.
        sizes: Number of runs of each.
        label: Label of the y axes.
        set_axes: Sets scales and limits of a panel, which all others then share.
    """
    shown = min(len(sizes), MOST)
    columns = next(columns for columns in (3, 4, 5, 6) if shown <= columns**2 or columns == 6)
    rows = -(-shown // columns)
    if len(sizes) > MOST:
        note += f" The first {MOST} of {len(sizes):,} conditions; the rest is in the table only."
    titles = [
        f"{style.wrap_text(name.replace(chr(10), ' '), HEAD, 5)} ({size:,})"
        for name, size in zip(names.labels[:shown], sizes, strict=False)
    ]
    more = LINE * max(0, max(text.count("\n") for text in titles) - 1)  # inches beyond two lines
    heads = f"{names.title} (runs)" if names.title else "condition (runs)"
    figure = style.make_figure(
        title, f"{note} Above each panel: {heads}.", max(7.5, 1.8 * columns), (1.5 + more) * rows + 1.0, arranged=False
    )
    width, height = figure.get_size_inches()
    below = height - (1.5 + more) * rows - 0.45  # inches
    figure.subplots_adjust(
        left=0.85 / width, right=1 - 0.15 / width, bottom=below / height, top=1 - (0.65 + more) / height,
        wspace=0.12, hspace=0.42 + 0.95 * more,
    )  # fmt: skip
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    set_axes(grid[0])
    for axes in grid[shown:]:
        axes.remove()
    for place, axes in enumerate(grid[:shown]):
        lowest = place >= shown - columns
        axes.set(xlabel="optimizer steps" if lowest else "", ylabel="")
        axes.xaxis.label.set_fontsize(8)
        axes.set_title(titles[place], fontsize=8, pad=3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_visible(lowest)
        axes.yaxis.set_visible(place % columns == 0)
        axes.tick_params(labelsize=8, labelbottom=lowest)
    figure.supylabel(label, x=0.1 / width, fontsize=9)
    return figure, list(grid[:shown])
