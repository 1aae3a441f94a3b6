"""Adds the configured measures to every evaluation."""

from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.data import SequenceDataModule
from grok_lightning.errors import UserError
from grok_lightning.measures.base import Measure, View
from grok_lightning.module import GrokModule


class Measures(Callback):
    """Computes measures after each evaluation; their keys stand beside its own. In a fit ``Lifecycle`` calls it.

    Args:
        measures: The measures.
        data: The data they are taken on.
        module: The module whose network they are taken of. Its evaluations keep the logits, if there are measures.

    Raises:
        UserError: If a measure is listed twice, or cannot be taken of this network and data.
    """

    def __init__(self, measures: list[Measure], data: SequenceDataModule, module: GrokModule) -> None:
        self.measures, self.data = measures, data
        names = [type(measure).__name__ for measure in measures]
        for name, measure in zip(names, measures, strict=True):
            if names.count(name) > 1:
                raise UserError(f"measures has {name} {names.count(name)} times; their columns would be the same")
            measure.check(module.network, data)
        module.keep_logits = bool(measures)

    def take(self, pl_module: LightningModule) -> None:
        """Adds the measures to the module's newest evaluation, and logs them, so that callbacks can monitor them."""
        if self.measures:
            module = cast(GrokModule, pl_module)
            view = View(module.network, self.data, module.passed)
            for measure in self.measures:
                found = {key: value.double().cpu() for key, value in measure(view).items()}
                module.evaluation |= found
                module.log_values(found)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.take(pl_module)
