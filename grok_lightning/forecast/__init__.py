"""Forecasts of the step at which a run groks: the delay law, a fitted forecaster, and their scores."""

from grok_lightning.forecast.forecaster import (
    Forecast,
    Forecaster,
    fit_forecaster,
    read_forecaster,
    shipped_forecaster,
)
from grok_lightning.forecast.history import History, histories_of_records, history_of_rows
from grok_lightning.forecast.law import Law, fit_law

__all__ = [
    "Forecast",
    "Forecaster",
    "History",
    "Law",
    "fit_forecaster",
    "fit_law",
    "histories_of_records",
    "history_of_rows",
    "read_forecaster",
    "shipped_forecaster",
]
