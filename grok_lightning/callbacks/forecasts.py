"""Forecasts of the grok step while runs are trained."""

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer

from grok_lightning.callbacks.states import RunStates
from grok_lightning.forecast import Forecast, history_of_rows, shipped_forecaster
from grok_lightning.module import GrokModule
from grok_lightning.records.record import Row, flatten

KEYS = ("forecast/grok_step", "forecast/grok_step_low", "forecast/grok_step_high")


class Forecasts:
    """Forecasts the runs of a stack, from their evaluations alone.

    Args:
        states: The states of the runs.
        configs: The resolved config of each run.
    """

    def __init__(self, states: RunStates, configs: Sequence[Mapping[str, Any]]) -> None:
        self.states, self.options = states, [flatten(config) for config in configs]
        self._made: dict[int, tuple[tuple[int, int], Forecast | None]] = {}  # by run, after which evaluation and budget

    def forecast(self, run: int, budget: int, newest: Sequence[Row] = ()) -> Forecast | None:
        """The forecast for a run; None before it has memorized and once it has grokked.

        Args:
            run: The run.
            budget: The most steps that it may take.
            newest: An evaluation that the states do not hold yet.
        """
        states, rows = self.states, [*self.states.rows[run], *newest]
        if not rows or states.has_grokked(run) or not states.validated[run]:
            return None
        moment = int(rows[-1]["step"]), budget
        if self._made.get(run, (None, None))[0] != moment:  # asked for at every redrawing of a line
            history = history_of_rows(self.options[run], rows, states.counts[run], states.threshold, budget)
            self._made[run] = moment, shipped_forecaster()(history)
        return self._made[run][1]

    def add(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds ``KEYS`` to the module's newest evaluation if they are recorded; NaN where there is no forecast."""
        if not self.states.forecast:
            return
        module, training = cast(GrokModule, pl_module), self.states.in_training()
        values = {key: value.tolist() for key, value in module.evaluation.items()}
        found = torch.full((len(KEYS), len(self.states)), nan, dtype=torch.float64)
        for run in training:
            row = {"step": trainer.global_step} | {key: value[run] for key, value in values.items()}
            if (made := self.forecast(run, int(trainer.max_steps), [row])) is not None:
                found[:, run] = torch.tensor([made.median, *made.interval], dtype=torch.float64)
        columns = dict(zip(KEYS, found, strict=True))
        module.evaluation |= columns
        module.log_values(columns)
