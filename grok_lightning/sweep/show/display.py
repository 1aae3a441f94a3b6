"""Progress of a sweep: a line for each worker and one for the whole sweep."""

import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from typing import Any, TextIO

from grok_lightning.callbacks.progress import unharmed
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.run.notices import read_notices
from grok_lightning.sweep.run.worker import Tally

BAR = 20
QUIET_SECONDS = 60.0


@dataclass
class Display:
    """Shows the progress of a sweep: redrawn in place in a terminal, elsewhere one line a minute.

    Args:
        places: Directories of the experiments.
        total: Number of runs to train now.
        stream: Output.
    """

    places: list[Places]
    total: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    began: float = field(default_factory=time.monotonic)
    _lines: int = 0
    _shown: float = 0.0
    _compiling: tuple[int, int] = (0, 0)

    def show(self, tally: Tally, last: bool = False) -> None:
        """Show the progress of the sweep; a change in who waits for a compilation is shown at once.

        Args:
            tally: Counts of runs so far.
            last: Whether the sweep ends now.
        """
        notices = [notice for places in self.places for notice in read_notices(places.notices).values()]
        # a cell of a notebook gives commands a terminal too, but shows the moves of its cursor as text
        terminal = self.stream.isatty() and "JPY_PARENT_PID" not in os.environ
        now, compiling = time.monotonic(), (tally.compiling, tally.waiting)
        if not terminal and not last and compiling == self._compiling and now - self._shown < QUIET_SECONDS:
            return
        self._shown, self._compiling = now, compiling
        counts = f"{tally.done:,}/{self.total:,} runs"
        counts += f"  {tally.grokked:,} grokked" if tally.grokked or not tally.memorized else ""
        endings = (("memorized", tally.memorized), ("diverged", tally.diverged), ("failed", tally.failed))
        counts += "".join(f"  {count:,} {name}" for name, count in endings if count)
        if tally.compiling:
            others = f"; {tally.waiting:,} wait for its cache" if tally.waiting else ""
            counts += f"  compiling ({tally.compiling:,} worker{'s' * (tally.compiling > 1)}{others})"
        whole = f"{counts}  {self._describe_time(tally.done, notices)}"
        if not terminal:
            with unharmed():
                print(whole, file=self.stream, flush=True)
            return
        lines = [] if last else [*map(_describe_worker, notices), whole]
        columns = shutil.get_terminal_size().columns
        up = f"\x1b[{self._lines}F" if self._lines else ""
        with unharmed():
            self.stream.write(up + "\x1b[J" + "".join(f"{line[: columns - 1]}\n" for line in lines))
            self.stream.flush()
        self._lines = len(lines)

    def _describe_time(self, done: int, notices: list[dict[str, Any]]) -> str:
        """Elapsed time and an estimate of the time left, at the rate so far; parts of runs count."""
        parts = sum((n["runs"] - n["over"]) * n["step"] / n["budget"] + n["over"] for n in notices)
        elapsed = time.monotonic() - self.began
        shown = f"{_format_duration(elapsed)} gone"
        if elapsed > 5 and done + parts >= 0.02 and done < self.total:  # before, the rate is that of compiling
            shown += f", at most {_format_duration(elapsed * (self.total - done - parts) / (done + parts))} left"
        return shown


def _describe_worker(notice: dict[str, Any]) -> str:
    share = notice["step"] / notice["budget"]
    bar = "█" * int(share * BAR) + " " * (BAR - int(share * BAR))
    rate = f"  {notice['rate'] * notice['runs']:,.0f} run-steps/s" if notice.get("rate") else ""
    if notice.get("compiling"):
        phase = "compiling"
    elif notice["runs"] > 1:
        phase = f"{notice['grokked']} grokked"
    else:
        phase = next((name for name in ("grokked", "memorized") if notice[name]), "memorizing")
    what = f"{notice['runs']} runs, {notice['over']} over" if notice["runs"] > 1 else notice["name"][:44]
    reached = f"  {notice['reached']}" if notice.get("reached") else ""
    return f"{what:<44} |{bar}| {notice['step']:>7,}/{notice['budget']:,}  {phase:<10}{reached}{rate}"


def _format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
