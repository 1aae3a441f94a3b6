"""Adds the configured measures to every evaluation."""

from collections.abc import Collection, Mapping
from math import nan
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.data import SequenceDataModule
from grok_lightning.errors import UserError, show
from grok_lightning.measures.base import Measure, Objective, View
from grok_lightning.module import GrokModule
from grok_lightning.records.checkpoint import COLUMN


class Measures(Callback):
    """Computes measures after each evaluation; their keys stand beside its own. In a fit ``Lifecycle`` calls it.

    Args:
        measures: The measures.
        data: The data they are taken on.
        module: The module whose network they are taken of. Its evaluations keep the logits, if there are measures.
        schedule: The schedule of a fit's evaluations, by which a measure with an interval is left out at some of them;
            None: every measure is computed.

    Raises:
        UserError: If a measure is listed twice, or cannot be taken of this network and data.
    """

    def __init__(
        self,
        measures: list[Measure],
        data: SequenceDataModule,
        module: GrokModule,
        schedule: EvaluationSchedule | None = None,
    ) -> None:
        self.measures, self.data, self.schedule = measures, data, schedule
        names = [type(measure).__name__ for measure in measures]
        for name, measure in zip(names, measures, strict=True):
            if names.count(name) > 1:
                raise UserError(f"measures has {name} {names.count(name)} times; their columns would be the same")
            measure.check(module.network, data)
        module.keep_logits = bool(measures)

    def describe(self) -> list[str]:
        """A line that names the measures that are not computed at each evaluation; none if there are none."""
        rare = [f"{type(each).__name__} every {each.interval:,} steps" for each in self.measures if each.interval > 1]
        rest = ["the others at each evaluation"] if 0 < len(rare) < len(self.measures) else []
        return [f"measures: {', '.join(rare + rest)}"] if rare else []

    def take(self, pl_module: LightningModule, known: Collection[str] = ()) -> None:
        """Adds the measures to the module's newest evaluation, and logs them, so that callbacks can monitor them.

        Args:
            pl_module: The module.
            known: Keys of earlier evaluations, which this one has too: as NaN where a measure is left out.
        """
        if self.measures:
            module = cast(GrokModule, pl_module)
            view = View(module.network, self.data, module.passed, Objective(module.loss, module.targets))
            for measure in self.measures:
                if self._is_due(measure, module.passed_at):
                    values = check_values(measure, measure(view), module.runs, module.evaluation)
                    found = {key: value.double().cpu() for key, value in values.items()}
                    module.evaluation |= found
                    module.log_values(found)
            absent = torch.full((module.runs,), nan, dtype=torch.float64)
            module.evaluation |= {key: absent for key in known if key not in module.evaluation}

    def _is_due(self, measure: Measure, step: int) -> bool:
        """Whether no evaluation lies between the newest multiple of a measure's interval and a step."""
        multiple = step - step % measure.interval
        if self.schedule is None or step == multiple:
            return True
        return multiple > 0 and self.schedule.next_point(multiple - 1) >= step  # at step 0 there always is one

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.take(pl_module)


def check_values(measure: Measure, values: Any, runs: int, taken: Collection[str]) -> Mapping[str, Tensor]:
    """What a measure returned, which is to be a tensor (R,) by each key.

    Args:
        measure: The measure.
        values: What it returned.
        runs: R.
        taken: Keys that the evaluation already has.

    Raises:
        UserError: If it is no mapping, a key cannot be the name of a column or is taken, or a value has another type or
            shape.
    """
    where = f"measures: {type(measure).__name__} returns"
    if not isinstance(values, Mapping):
        raise UserError(f"{where} {type(values).__name__}; expected: a dictionary of tensors")
    for key, value in values.items():
        if not isinstance(key, str) or not COLUMN.fullmatch(key):
            raise UserError(f"{where} the key {show(key)}; expected: text in one line without commas and quotes")
        if key == "step" or key in taken:
            raise UserError(f"{where} the key {show(key)}, which is recorded already; take another, such as 'mine/a'")
        if not isinstance(value, Tensor):
            raise UserError(f"{where} {type(value).__name__} for {show(key)}; expected: a tensor of shape ({runs},)")
        if value.shape != (runs,):
            shape = tuple(value.shape)
            raise UserError(f"{where} a tensor of shape {shape} for {show(key)}; expected: ({runs},), one for each run")
        if value.is_complex():
            raise UserError(f"{where} complex numbers for {show(key)}; expected: real ones")
    return values
