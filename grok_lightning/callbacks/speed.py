"""The rate of training, and the time left once the rate is steady."""

import time
from collections import deque
from collections.abc import Callable

RECENT = 10.0  # seconds over which the rate is taken
WINDOW = 60.0  # seconds over which the time left is estimated
TOLERANCE = 0.2  # largest difference of the rates in the two halves of the window
_EVERY = 0.5  # seconds between two samples


class Speed:
    """Rate of steps. It begins with the first sample, which follows the first step: that may have been compiled.

    Steady is a rate that has been observed for ``RECENT`` seconds, and whose values in the older and the newer half of
    the last ``WINDOW`` seconds (or of all, if it is less) differ by at most ``TOLERANCE`` of the larger. It is decided
    anew with each sample, so that the time left disappears while a machine is stalled.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, step: int) -> None:
        """Take a sample: the steps taken so far."""
        now = self._clock()
        if self._samples and now - self._samples[-1][0] < _EVERY:
            return
        self._samples.append((now, step))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW:
            self._samples.popleft()

    @property
    def rate(self) -> float | None:
        """Steps per second over the last ``RECENT`` seconds; None before the second sample."""
        if len(self._samples) < 2:
            return None
        end = self._samples[-1][0]
        older = [place for place, (at, _) in enumerate(self._samples) if end - at >= RECENT]
        return self._rate_between(older[-1] if older else 0, len(self._samples) - 1)

    @property
    def is_steady(self) -> bool:
        """Whether the rate allows an estimate of the time left."""
        if len(self._samples) < 3:
            return False
        (begin, _), (end, _) = self._samples[0], self._samples[-1]
        if end - begin < RECENT:
            return False
        middle = min(
            range(1, len(self._samples) - 1), key=lambda place: abs(self._samples[place][0] - (begin + end) / 2)
        )
        older, newer = self._rate_between(0, middle), self._rate_between(middle, len(self._samples) - 1)
        return min(older, newer) > 0 and abs(older - newer) <= TOLERANCE * max(older, newer)

    def find_left(self, steps: int) -> float | None:
        """Seconds that further steps will take at the rate of the last ``WINDOW`` seconds; None if it is not steady."""
        return steps / self._rate_between(0, len(self._samples) - 1) if self.is_steady else None

    def _rate_between(self, first: int, last: int) -> float:
        (begin, before), (end, after) = self._samples[first], self._samples[last]
        return (after - before) / (end - begin)
