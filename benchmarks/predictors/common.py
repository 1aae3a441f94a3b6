"""What simple predictors share: a log-logistic distribution of the delay after memorizing."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, log, pi, sqrt

import numpy as np
from scipy.special import expit, logit

from grok_lightning.forecast.features import decay_clock
from grok_lightning.forecast.history import History

SPREAD = sqrt(3) / pi  # scale of a logistic distribution of standard deviation 1


@dataclass(frozen=True)
class DelayForecast:
    """Grok step = start + delay, ln(delay) logistic, given that it comes after ``step``.

    Attributes:
        step: When the forecast is made.
        start: The memorize step.
        location: ln of the median delay; infinity: never.
        scale: Scale of ln(delay).
    """

    step: int
    start: int
    location: float
    scale: float

    def _survival(self, step: float) -> float:
        if step <= self.start or not isfinite(self.location):
            return 1.0
        return float(expit((self.location - log(step - self.start)) / self.scale))

    def quantile(self, share: float) -> float:
        if not isfinite(self.location):
            return inf
        left = (1 - share) * self._survival(self.step)
        return max(self.start + float(np.exp(self.location - self.scale * logit(max(left, 1e-300)))), self.step)

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    @property
    def interval(self) -> tuple[float, float]:
        return self.quantile(0.1), self.quantile(0.9)

    def by(self, step: float) -> float:
        return 0.0 if step <= self.step else 1 - self._survival(step) / self._survival(self.step)


def grokked(histories: Sequence[History]) -> list[History]:
    """The runs that grokked after they memorized."""
    return [each for each in histories if each.waits and each.grok_step is not None]


def memorized(history: History) -> int:
    """The memorize step of a run that memorized."""
    assert history.memorize_step is not None
    return history.memorize_step


def delay(history: History) -> int:
    """Grok step − memorize step of a run that grokked."""
    assert history.grok_step is not None
    return history.grok_step - memorized(history)


def clock(history: History) -> float:
    """ηλ, learning rate times weight decay; 0 without decay, NaN where one is not known."""
    return decay_clock(history.options)


def norm_at_memorization(history: History) -> float:
    """V, the squared norm of all weights at the memorize step."""
    place = int(np.searchsorted(history.steps, history.memorize_step or 0))
    return float(history.columns["norm/weights"][place]) ** 2
