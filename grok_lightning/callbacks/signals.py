"""Ctrl-C, Ctrl-Break and SIGTERM as a request that is honored at the next step boundary."""

import os
import signal
import threading
from types import FrameType
from typing import Any

# SIGBREAK is Ctrl-Break on Windows, the only one of them that another process can send there
WATCHED = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))


class StopRequested(Exception):
    """Ends a fit at a step boundary, after its checkpoint is saved.

    Args:
        signum: The signal that asked for it.
        step: The step that the checkpoint stands at.
    """

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} at step {step:,}")
        self.signum, self.step = signum, step


class StopSignals:
    """Notes the first of the signals in ``WATCHED`` while installed; a second SIGINT quits at once, unsaved.

    Attributes:
        received: The signal noted, or 0.
        kills: Whether a second SIGINT ends the process; else it raises KeyboardInterrupt, as a notebook expects.
    """

    kills = True

    def __init__(self) -> None:
        self.received = 0
        self._interrupted = False
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Takes the handlers over (only a main thread can)."""
        if threading.current_thread() is threading.main_thread() and not self._previous:
            self._previous = {signum: signal.signal(signum, self._note) for signum in WATCHED}

    def restore(self) -> None:
        """Puts back the handlers that were there."""
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT:
            if self._interrupted and not self.kills:
                raise KeyboardInterrupt
            if self._interrupted:
                os.write(2, b"\nquit at once, unsaved\n")
                os._exit(130)
            self._interrupted = True
        self.received = self.received or signum
