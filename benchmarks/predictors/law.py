"""The delay law, its two constants fitted to all runs at once."""

from collections.abc import Sequence
from math import inf, log

from grok_lightning.forecast.history import History
from grok_lightning.forecast.law import Law, fit_law
from predictors.common import SPREAD, DelayForecast, clock, delay, grokked, memorized, norm_at_memorization


class Predictor:
    """ln(V / V*) / (2 κ η λ) after memorizing; never without decay."""

    def __init__(self, histories: Sequence[History]) -> None:
        self.law = fit(histories)

    def __call__(self, history: History, step: int) -> DelayForecast:
        return forecast(self.law, history, step)


def fit(histories: Sequence[History]) -> Law:
    """The law of the runs that grokked with weight decay."""
    runs = [each for each in grokked(histories) if clock(each) > 0]
    delays = [delay(each) for each in runs]
    return fit_law([norm_at_memorization(each) for each in runs], [clock(each) for each in runs], delays)


def forecast(law: Law, history: History, step: int) -> DelayForecast:
    """The forecast of a fitted law."""
    delay = float(law.delay(norm_at_memorization(history), clock(history)))
    location = log(max(delay, 1.0)) if delay < inf else inf
    return DelayForecast(step, memorized(history), location, max(law.scatter * SPREAD, 0.02))
