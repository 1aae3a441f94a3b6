"""The delay law, its constants fitted to the runs of the same task, network and layers, where there are enough."""

from collections import defaultdict
from collections.abc import Sequence

from grok_lightning.forecast.features import class_name
from grok_lightning.forecast.history import History
from predictors.common import DelayForecast, clock, grokked
from predictors.law import fit, forecast

ENOUGH = 4  # runs of a cell; with fewer, the constants of all


class Predictor:
    """Two constants for each cell."""

    def __init__(self, histories: Sequence[History]) -> None:
        cells = defaultdict(list)
        for each in grokked(histories):
            if clock(each) > 0:
                cells[cell_of(each)].append(each)
        self.laws = {cell: fit(runs) for cell, runs in cells.items() if len(runs) >= ENOUGH}
        self.common = fit(histories)

    def __call__(self, history: History, step: int) -> DelayForecast:
        return forecast(self.laws.get(cell_of(history), self.common), history, step)


def cell_of(history: History) -> tuple[str, ...]:
    """Task, train fraction, network, layers and optimizer."""
    options = history.options
    kept = ("data.formula", "data.modulus", "data.train_fraction", "model.network.layers")
    return (
        *(str(options.get(name)) for name in kept),
        *(class_name(options, f"model.{part}") for part in ("network", "optimizer")),
    )
