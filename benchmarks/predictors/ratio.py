"""One ratio of grok step to memorize step for all runs."""

from collections.abc import Sequence

import numpy as np
from predictors.common import SPREAD, DelayForecast, grokked

from grok_lightning.forecast.history import History


class Predictor:
    """The geometric mean of delay / memorize step in the runs it was fitted to."""

    def __init__(self, histories: Sequence[History]) -> None:
        logs = np.log(
            [(each.grok_step - each.memorize_step) / max(each.memorize_step, 1) for each in grokked(histories)]
        )
        self.mean, self.scale = float(logs.mean()), float(logs.std()) * SPREAD

    def __call__(self, history: History, step: int) -> DelayForecast:
        location = float(np.log(max(history.memorize_step, 1))) + self.mean
        return DelayForecast(step, history.memorize_step, location, self.scale)
