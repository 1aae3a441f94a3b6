"""The shipped forecaster, fitted anew (choice of features and width of intervals included) to the runs it is given."""

from collections.abc import Sequence

from grok_lightning.forecast import Forecast, History, fit_forecaster


class Predictor:
    """``grok_lightning.forecast.fit_forecaster``."""

    def __init__(self, histories: Sequence[History]) -> None:
        self.forecaster = fit_forecaster(histories)

    def __call__(self, history: History, step: int) -> Forecast | None:
        return self.forecaster(history, step)
