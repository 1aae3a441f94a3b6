"""Shared style of figures: colors, titles, notes, axes, marks and legends."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from math import isfinite, log10
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, LogFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from grok_lightning.errors import escape_unprintable

# colors that the common forms of color blindness tell apart (Okabe and Ito); their yellow is lost on white paper
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
TRAIN, VAL, NOTE, FAINT = "#0072B2", "#D55E00", "#555555", "#A8A8A8"
STEP = "grok step of a run"
SIGNS = re.compile(r"(?<=[=\[,/_])")  # after which a long word may go on in the next line
CROWD = 500  # more points are drawn faintly and rasterized

Line = Literal["-", ""] | tuple[float, tuple[float, ...]]
SOLID: Line = "-"
DASHED: Line = (0, (5, 1.5))
DOTTED: Line = (0, (1, 2.5))

_ARROW = np.array([(0, -1), (0, 1), (-0.45, 0.3), (0, 1), (0.45, 0.3)])
_STROKES = [Path.MOVETO, Path.LINETO, Path.MOVETO, Path.LINETO, Path.LINETO]
UP, RIGHT = Path(_ARROW, _STROKES), Path(_ARROW[:, ::-1], _STROKES)


class _Wrapper(textwrap.TextWrapper):
    """Breaks what is longer than a line after its signs, ``interventions=[at=`` ``grokked``, sooner than in a word."""

    def _split(self, text: str) -> list[str]:
        chunks = super()._split(text)
        return [
            part for chunk in chunks for part in (SIGNS.split(chunk) if len(chunk) > self.width else [chunk]) if part
        ]


def wrap_text(text: object, width: int = 32, most: int = 4) -> str:
    """Literal text in lines of a width: no dollar starts a formula, no underscore hides a legend entry.

    What no font has (control characters of a damaged record) is shown as Python writes it.
    """
    lines = _Wrapper(width).wrap(escape_unprintable(str(text), kept="\t\n")) or [""]
    shown = "\n".join(lines[:most]) + (" …" if len(lines) > most else "")
    return (" " if shown.startswith("_") else "") + shown.replace("$", r"\$")


def format_steps(step: float) -> str:
    """A number of steps in few characters: ``950``, ``1.5k``, ``20k``, ``3M``."""
    step = float(f"{step:.3g}")  # first, for it may reach the next unit
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if step >= size:
            return f"{step / size:.3g}{unit}"
    return f"{step:.3g}"


def make_figure(title: str, note: str, width: float, height: float, arranged: bool = True) -> Figure:
    """An empty figure with a title above and a note on counts and intervals below.

    Args:
        title: The title.
        note: One paragraph.
        width: In inches.
        height: In inches; the note's lines are added to it.
        arranged: Whether to use matplotlib's constrained layout; else the caller places the axes.
    """
    per_line = int(width * 15)  # characters of 8 points
    lines = len(textwrap.wrap(note, per_line))
    figure = Figure(figsize=(width, height + 0.16 * lines))
    if arranged:
        figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    figure.suptitle(wrap_text(title, int(width * 11)), fontsize=11)
    if note:
        figure.supxlabel(wrap_text(note, per_line, lines), x=0.012, ha="left", fontsize=8, color=NOTE)
    return figure


def hide_frame(axes: Axes) -> None:
    """Hides the upper and right spine and draws a faint grid."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def set_step_axis(
    axes: Axes, which: str, low: float, high: float, label: str = "optimizer steps", narrow: bool = False
) -> None:
    """Makes an axis logarithmic with ticks at round numbers.

    Args:
        axes: The axes.
        which: ``x`` or ``y``.
        low: The smallest step to include; values below 1 count as 1.
        high: The largest step to include.
        label: Its label.
        narrow: Whether there is room for few ticks only.
    """
    low = max(low, 1.0)
    high = max(high, low)
    room = 0.04 * log10(high / low) + (0.15 if high < 2 * low else 0.0)
    limits = (low / 10**room, high * 10**room)
    decades = log10(limits[1] / limits[0])
    decades *= 3 if narrow else 1
    subs = (1.0,) if decades > 2.2 else (1.0, 2.0, 5.0) if decades > 0.9 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    axes.set(**{f"{which}scale": "log", f"{which}lim": limits, f"{which}label": label})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(LogLocator(subs=(2.0, 5.0) if decades > 2.2 else tuple(map(float, range(2, 10)))))
    axis.set_major_formatter(FuncFormatter(lambda step, _: format_steps(step)))
    axis.set_minor_formatter(NullFormatter())


class _PlainFormatter(LogFormatter):
    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def set_loss_axis(axes: Axes) -> None:
    """Makes the y axis logarithmic with plain numbers as tick labels."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_PlainFormatter())
    axes.yaxis.set_minor_formatter(_PlainFormatter(minor_thresholds=(1, 0.4)))


def set_percent_axis(axes: Axes, label: str = "accuracy (%)") -> None:
    """Makes the y axis a percent axis, with room at both ends."""
    axes.set(ylabel=label, ylim=(-3, 104), yticks=range(0, 101, 20))


def draw_legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], title: str = "") -> None:
    """Draws a legend right of the panels, in as many columns as needed, and widens the figure for it."""
    if not labels:
        return
    lines = [line for label in labels for line in label.split("\n")]
    columns = -(-len(lines) // max(1, int(figure.get_figheight() / 0.21) - 4))
    wide = columns * (0.75 + 0.078 * max(map(len, lines)))  # inches, of 9 points a character
    figure.set_figwidth(figure.get_figwidth() + max(0.0, wide - 0.45 * figure.get_figwidth()))
    figure.legend(
        handles, labels, title=title or None, loc="outside right center", frameon=False, fontsize=9, title_fontsize=9,
        ncols=columns, alignment="left",
    )  # fmt: skip


def format_count(number: int, noun: str) -> str:
    """``1 run``, ``12,000 runs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def describe_runs(grokked: "pd.Series[bool]", status: pd.Series) -> str:
    """Numbers of runs, grokked and diverged ones: ``5 runs, 3 grokked, 1 diverged``."""
    diverged = int((status == "diverged").sum())
    lost = f", {diverged:,} diverged" if diverged else ""
    return f"{format_count(len(grokked), 'run')}, {int(grokked.sum()):,} grokked{lost}"


def format_range(counts: Iterable[float]) -> str:
    """Range of counts: ``5``, ``3 to 5``."""
    known = [int(count) for count in counts if isfinite(count)] or [0]
    return f"{known[0]:,}" if min(known) == max(known) else f"{min(known):,} to {max(known):,}"


def format_threshold(thresholds: pd.Series) -> str:
    """The threshold, ``99%``; in words where conditions have several."""
    distinct = thresholds.dropna().unique()
    return format_percent(float(distinct[0])) if len(distinct) == 1 else "the threshold of"


def format_percent(share: float) -> str:
    """``99%`` for 0.99."""
    return f"{100 * share:.4g}%"


def draw_points(axes: Axes, x: ArrayLike, y: ArrayLike, observed: ArrayLike, color: str, marker: str = "o") -> None:
    """Draws runs: filled markers for observed events, open triangles for censored runs."""
    x, y, observed = np.asarray(x, float), np.asarray(y, float), np.asarray(observed, bool)
    crowd = len(x) > CROWD
    axes.scatter(
        x[observed], y[observed], s=8 if crowd else 22, marker=marker, color=color, alpha=0.15 if crowd else 0.55,
        linewidths=0, rasterized=crowd, zorder=3,
    )  # fmt: skip
    axes.scatter(
        x[~observed], y[~observed], s=14 if crowd else 26, marker="^", facecolors="none", edgecolors=color,
        linewidths=0.9, alpha=0.25 if crowd else 0.9, rasterized=crowd, zorder=3,
    )  # fmt: skip


def make_handle(marker: str | Path, color: str = NOTE, open: bool = False, line: Line = "", size: float = 6) -> Line2D:
    """Legend handle of a marker or a line."""
    face = "none" if open else color
    return Line2D([], [], color=color, marker=marker, markerfacecolor=face, linestyle=line, markersize=size)
