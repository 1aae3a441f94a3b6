"""Progress of a sweep: a line for each worker and one for the whole sweep."""

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TextIO

from grok_lightning.callbacks.progress import QUIET_SECONDS, unharmed
from grok_lightning.hardware.terminal import (
    Redrawn,
    can_redraw,
    draw_bar,
    find_size,
    fit_line,
    format_duration,
    format_left,
)
from grok_lightning.records.notices import find_left, name_process, read_notices
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.run.worker import ENDED, Tally

BEGINNING = 5.0  # seconds in which the rate is that of compiling
LEAST = 0.02  # of a run that has been trained before the time left is estimated


@dataclass
class Display:
    """Shows the progress of a sweep: redrawn in place in a terminal, elsewhere one line a minute.

    The time left of the whole sweep appears after ``BEGINNING`` seconds, once a run is over or a worker's rate is
    steady (``Speed``). It is that at the average rate so far, where each run takes its whole budget.

    Args:
        places: Directories of the experiments.
        total: Number of runs to train now.
        stream: Output.
    """

    places: list[Places]
    total: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    began: float = field(default_factory=time.monotonic)
    _lines: Redrawn | None = None
    _shown: float = 0.0
    _compiling: tuple[int, int] = (0, 0)
    _most: Counter[str] = field(default_factory=Counter)

    def show(self, tally: Tally, last: bool = False) -> None:
        """Show the progress of the sweep; a change in who waits for a compilation is shown at once.

        Args:
            tally: Counts of runs so far.
            last: Whether the sweep ends now.
        """
        notices = [notice for places in self.places for notice in read_notices(places.notices).values()]
        terminal = can_redraw(self.stream, several=True)
        now, compiling = time.monotonic(), (tally.compiling, tally.waiting)
        if not terminal and not last and compiling == self._compiling and now - self._shown < QUIET_SECONDS:
            return
        self._shown, self._compiling = now, compiling
        ended = self._count_ended(tally, notices, last)
        counts = f"{ended['done']:,}/{self.total:,} runs"
        counts += f"  {ended['grokked']:,} grokked" if ended["grokked"] or not ended["memorized"] else ""
        counts += "".join(f"  {ended[name]:,} {name}" for name in ("memorized", "diverged", "failed") if ended[name])
        if tally.compiling:
            others = f"; {tally.waiting:,} wait for its cache" if tally.waiting else ""
            counts += f"  compiling ({tally.compiling:,} worker{'s' * (tally.compiling > 1)}{others})"
        gone = f"{format_duration(now - self.began)} gone"
        left = self._find_left(tally, notices)
        times = gone if left is None else f"{gone}, {format_left(left, at_most=True)}"
        with unharmed():
            if not terminal:
                print(f"{counts}  {times}", file=self.stream, flush=True)
                return
            self._lines = self._lines or Redrawn(self.stream)
            columns, rows = find_size(self.stream)
            short = f"{ended['done']:,}/{self.total:,} runs"
            remaining = "" if left is None else f"  {format_duration(left)} left"
            whole = [
                f"{counts}  {times}",
                f"{short}  {ended['grokked']:,} grokked{remaining}",
                f"{short}{remaining}",
                short,
            ]
            shown = notices[: max(0, rows - 2)]
            lines = [*(fit_line(_describe_worker(notice), columns) for notice in shown), fit_line(whole, columns)]
            self._lines.draw([] if last else lines)

    def _count_ended(self, tally: Tally, notices: list[dict[str, Any]], last: bool) -> Counter[str]:
        """Counts of runs that are over, those within stacks in training included; never fewer than shown before."""
        ended = Counter({name: getattr(tally, name) for name in ENDED})
        if last:
            return ended
        for notice in notices:
            if notice.get("sweep") == name_process():
                ended.update(notice.get("ended", {}))
        self._most |= ended  # a stack that has just ended, or whose worker died, has no notice for a moment
        return self._most

    def _find_left(self, tally: Tally, notices: list[dict[str, Any]]) -> float | None:
        """Seconds left at the rate so far, parts of runs included; None as long as that rate is not steady.

        A run that its grok has ended counts in the rate with what it took of its budget, not as a whole one.
        """
        elapsed, parts, trained, done = time.monotonic() - self.began, 0.0, tally.trained, tally.done
        for n in notices:
            parts += (n["runs"] - n["over"]) * n["step"] / n["budget"] + n["over"]
            trained += n["runs"] * max(0, n["step"] - n.get("began", 0)) / n["budget"]
        steady = done > 0 or any(notice.get("steady", False) for notice in notices)
        if not steady or elapsed <= BEGINNING or trained < LEAST or done >= self.total:
            return None
        return elapsed * max(0.0, self.total - done - parts) / trained


def _describe_worker(notice: dict[str, Any]) -> list[str]:
    """The line of a worker, from its longest form to its shortest."""
    share = notice["step"] / notice["budget"]
    rate = f"{notice['rate'] * notice['runs']:,.0f} run-steps/s" if notice.get("rate") else ""
    if notice.get("compiling"):
        phase = "compiling"
    elif notice["runs"] > 1:
        phase = f"{notice['grokked']} grokked"
    else:
        phase = next((name for name in ("grokked", "memorized") if notice[name]), "memorizing")
    what = f"{notice['runs']} runs, {notice['over']} over" if notice["runs"] > 1 else notice["name"][:44]
    bar, steps = f"|{draw_bar(share)}|", f"{notice['step']:>7,}/{notice['budget']:,}"
    seconds, reached = find_left(notice), notice.get("reached", "")
    left = "" if seconds is None else format_left(seconds, notice.get("at_most", False))
    forms = [
        (f"{what:<44} {bar} {steps}", f"{phase:<10}", reached, rate, left),
        (f"{what:<44} {bar} {steps}", f"{phase:<10}", reached, left),
        (f"{what:<44} {bar} {steps}", f"{phase:<10}", left),
        (f"{what[:24]:<24} {steps}", f"{phase:<10}", reached, left),
        (f"{what[:24]:<24} {steps}", f"{phase:<10}", left),
        (f"{what[:16]:<16} {share:>4.0%}", phase),
        (f"{share:>4.0%} {phase}",),
        (f"{share:>4.0%}",),
    ]
    return ["  ".join(filter(None, parts)).rstrip() for parts in forms]
