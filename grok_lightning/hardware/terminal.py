"""What is shown on a terminal: its size, lines that are redrawn in place, and durations in words."""

import os
import shutil
from collections.abc import Sequence
from typing import TextIO

FALLBACK = os.terminal_size((80, 24))  # where the size is unknown, or 0 as under some serial lines and containers
_CLEAR_BELOW = "\x1b[J"


def can_redraw(stream: TextIO, several: bool = False) -> bool:
    """Whether a stream is a terminal in which a line, or ``several``, can be replaced; elsewhere lines are added.

    A cell of a notebook gives commands a terminal too, but shows the codes that move its cursor up as text.
    """
    fit = "JPY_PARENT_PID" not in os.environ and os.name != "nt" if several else True
    return stream.isatty() and os.environ.get("TERM") != "dumb" and fit


def find_size(stream: TextIO) -> os.terminal_size:
    """Columns and lines of a terminal, as it is now; COLUMNS and LINES take precedence.

    Args:
        stream: The terminal. Of a stream without one, those of stdout's.

    Returns:
        ``FALLBACK``'s for what is unknown or 0.
    """
    try:
        own = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):  # no terminal, closed, or no file as in a notebook
        return shutil.get_terminal_size(FALLBACK)
    known = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
    given = [int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0 for text in known]
    columns, lines = (
        chosen or found or least for chosen, found, least in zip(given, own, FALLBACK, strict=True)
    )  # fmt: skip
    return os.terminal_size((columns, lines))


class Redrawn:
    """Lines on a terminal that are replaced in place; they never take more room than it has.

    Args:
        stream: A terminal for which ``can_redraw`` holds, or the output of a notebook's cell for single lines.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._shown: list[str] = []

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what was drawn before."""
        columns, rows = find_size(self.stream)
        room = max(1, rows - 1)
        if len(lines) > room:
            lines = [*lines[: room - 1], f"... {len(lines) - room + 1:,} more lines"]
        lines = [line[: max(1, columns - 1)] for line in lines]
        # a terminal that was made narrower has broken longer lines
        taken = sum(max(1, -(-len(line) // columns)) for line in self._shown)
        up = f"\x1b[{min(taken, room)}F" if taken else ""
        self.stream.write(up + ("\r" if not taken else "") + _CLEAR_BELOW + "".join(f"{line}\n" for line in lines))
        self.stream.flush()
        self._shown = lines

    def draw_line(self, line: str) -> None:
        """Replace the one line that was drawn before; the cursor stays in it. Needs no more than a carriage return."""
        line = line[: max(1, find_size(self.stream).columns - 1)]
        before = self._shown[0] if self._shown else ""
        self.stream.write("\r" + line.ljust(min(len(before), find_size(self.stream).columns - 1)))
        self.stream.flush()
        self._shown = [line]

    def end_line(self) -> None:
        """Leave the line as it is and go on below it."""
        self.stream.write("\n")
        self.stream.flush()
        self._shown = []


def draw_bar(share: float, length: int = 20) -> str:
    """A bar of so many characters, filled from the left to a share from 0 to 1."""
    filled = int(min(max(share, 0.0), 1.0) * length)
    return "█" * filled + " " * (length - filled)


def fit_line(candidates: Sequence[str], columns: int) -> str:
    """The first of several forms of a line, ordered from the longest, that a terminal has room for; else the last."""
    return next((line for line in candidates if len(line) < columns), candidates[-1])


def format_rate(rate: float) -> str:
    """``312 steps/s``, ``4.2 steps/s``, or for less than one a second ``2.5 s/step``."""
    if rate >= 1:
        return f"{rate:,.0f} steps/s" if rate >= 9.95 else f"{rate:.1f} steps/s"
    return f"{1 / rate:,.1f} s/step" if rate > 0 else ""


def format_left(seconds: float, at_most: bool) -> str:
    """``3 min 20 s left``; ``at most ...`` where training may end before its budget."""
    return f"{'at most ' if at_most else ''}{format_duration(seconds)} left"


def format_duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 05 min``, ``4 d 3 h``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
