"""Our clock: ηλ × delay is one number, without the norm."""

from collections.abc import Sequence
from math import inf

import numpy as np
from predictors.common import SPREAD, DelayForecast, clock, grokked

from grok_lightning.forecast.history import History


class Predictor:
    """The geometric mean of ηλ × (grok step − memorize step) in the runs it was fitted to; never without decay."""

    def __init__(self, histories: Sequence[History]) -> None:
        runs = [each for each in grokked(histories) if clock(each) > 0]
        logs = np.log([clock(each) * (each.grok_step - each.memorize_step) for each in runs])
        self.mean, self.scale = float(logs.mean()), float(logs.std()) * SPREAD

    def __call__(self, history: History, step: int) -> DelayForecast:
        rate = clock(history)
        location = self.mean - float(np.log(rate)) if rate > 0 else inf
        return DelayForecast(step, history.memorize_step, location, self.scale)
