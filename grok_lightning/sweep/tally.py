"""What the stacks of a sweep have come to so far."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Tally:
    """Counts of runs.

    Attributes:
        done: Runs that are over.
        grokked, diverged, failed: How many of these did.
        busy: Runs that another process has.
        stopped: The signal that ended the sweep, or 0.
        full: What the system said when no more could be written.
        compiling: Workers that compile a graph now which others wait for.
        waiting: Workers that wait for it.
    """

    done: int = 0
    grokked: int = 0
    diverged: int = 0
    failed: int = 0
    busy: int = 0
    stopped: int = 0
    full: str = ""
    compiling: int = 0
    waiting: int = 0

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Adds what one stack came to."""
        for name in ("done", "grokked", "diverged", "failed", "busy"):
            setattr(self, name, getattr(self, name) + outcome.get(name, 0))
        self.full = self.full or outcome.get("full", "")
