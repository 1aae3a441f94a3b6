"""Our clock: ηλ × delay is one number, without the norm."""

from collections.abc import Sequence
from math import inf

import numpy as np

from grok_lightning.forecast.history import History
from predictors.common import SPREAD, DelayForecast, clock, delay, grokked, memorized


class Predictor:
    """The geometric mean of ηλ × (grok step − memorize step) in the runs it was fitted to; never without decay."""

    def __init__(self, histories: Sequence[History]) -> None:
        runs = [each for each in grokked(histories) if clock(each) > 0]
        logs = np.log([clock(each) * delay(each) for each in runs])
        self.mean, self.scale = float(logs.mean()), float(logs.std()) * SPREAD

    def __call__(self, history: History, step: int) -> DelayForecast:
        rate = clock(history)
        location = self.mean - float(np.log(rate)) if rate > 0 else inf
        return DelayForecast(step, memorized(history), location, self.scale)
