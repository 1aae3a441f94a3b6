"""One ratio of grok step to memorize step for all runs."""

from collections.abc import Sequence

import numpy as np

from grok_lightning.forecast.history import History
from predictors.common import SPREAD, DelayForecast, delay, grokked, memorized


class Predictor:
    """The geometric mean of delay / memorize step in the runs it was fitted to."""

    def __init__(self, histories: Sequence[History]) -> None:
        logs = np.log([delay(each) / max(memorized(each), 1) for each in grokked(histories)])
        self.mean, self.scale = float(logs.mean()), float(logs.std()) * SPREAD

    def __call__(self, history: History, step: int) -> DelayForecast:
        location = float(np.log(max(memorized(history), 1))) + self.mean
        return DelayForecast(step, memorized(history), location, self.scale)
