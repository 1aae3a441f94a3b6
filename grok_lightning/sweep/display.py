"""How a sweep is shown while it runs: a line for each worker and one for the whole."""

import shutil
import sys
import time
from dataclasses import dataclass, field
from typing import Any, TextIO

from grok_lightning.sweep.places import Places, read_notices

BAR = 20
QUIET_SECONDS = 60.0


@dataclass
class Display:
    """Lines that are redrawn in place in a terminal; elsewhere one line a minute.

    Args:
        places: The experiments'.
        total: Runs that are to be done now.
        stream: Where lines go.
    """

    places: list[Places]
    total: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    began: float = field(default_factory=time.monotonic)
    _lines: int = 0
    _shown: float = 0.0
    _compiling: tuple[int, int] = (0, 0)

    def show(
        self,
        done: int,
        grokked: int,
        diverged: int,
        failed: int,
        last: bool = False,
        compiling: tuple[int, int] = (0, 0),
    ) -> None:
        """Shows how far the sweep is.

        Args:
            done: Runs that are over.
            grokked, diverged, failed: How many of these.
            last: Whether it ends now.
            compiling: How many workers compile what others wait for, and how many wait; a change is shown at once.
        """
        notices = [notice for places in self.places for notice in read_notices(places.own / "workers").values()]
        terminal = self.stream.isatty()
        now = time.monotonic()
        changed = compiling != self._compiling
        if not terminal and not last and not changed and now - self._shown < QUIET_SECONDS:
            return
        self._shown, self._compiling = now, compiling
        counts = f"{done:,}/{self.total:,} runs  {grokked:,} grokked"
        counts += "".join(
            f"  {count:,} {name}" for name, count in (("diverged", diverged), ("failed", failed)) if count
        )
        lines = [f"{counts}{_compiling(*compiling)}  {self._left(done, notices)}"]
        if terminal:
            lines = [] if last else [_line(notice) for notice in notices] + lines
            self._redraw(lines)
        else:
            print(lines[0], file=self.stream, flush=True)

    def _left(self, done: int, notices: list[dict[str, Any]]) -> str:
        """How long it took so far and will take at this rate, parts of runs counted."""
        parts = sum((n["runs"] - n["over"]) * n["step"] / n["budget"] + n["over"] for n in notices)
        elapsed = time.monotonic() - self.began
        shown = f"{_duration(elapsed)} gone"
        if elapsed > 5 and done + parts >= 0.02 and done < self.total:  # before, the rate is that of compiling
            shown += f", at most {_duration(elapsed * (self.total - done - parts) / (done + parts))} left"
        return shown

    def _redraw(self, lines: list[str]) -> None:
        columns = shutil.get_terminal_size().columns
        up = f"\x1b[{self._lines}F" if self._lines else ""
        self.stream.write(up + "\x1b[J" + "".join(f"{line[: columns - 1]}\n" for line in lines))
        self.stream.flush()
        self._lines = len(lines)


def _line(notice: dict[str, Any]) -> str:
    share = notice["step"] / notice["budget"]
    bar = "█" * int(share * BAR) + " " * (BAR - int(share * BAR))
    rate = f"  {notice['rate'] * notice['runs']:,.0f} run-steps/s" if notice.get("rate") else ""
    several = notice["runs"] > 1 and not notice.get("compiling")
    phases = f"{notice['grokked']} grokked" if several else _phase(notice)
    what = f"{notice['runs']} runs, {notice['over']} over" if notice["runs"] > 1 else notice["name"][:44]
    return f"{what:<44} |{bar}| {notice['step']:>7,}/{notice['budget']:,}  {phases:<10}{rate}"


def _compiling(first: int, waiting: int) -> str:
    if not first:
        return ""
    others = f"; {waiting:,} wait for its cache" if waiting else ""
    return f"  compiling ({first:,} worker{'s' * (first > 1)}{others})"


def _phase(notice: dict[str, Any]) -> str:
    if notice.get("compiling"):
        return "compiling"
    return "grokked" if notice["grokked"] else "memorized" if notice["memorized"] else "memorizing"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
