"""Adds the measures that were asked for to every evaluation."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.callbacks.attached import datamodule
from grok_lightning.errors import UserError
from grok_lightning.measures.base import Measure, View
from grok_lightning.module import GrokModule


class Measures(Callback):
    """Computes measures after each evaluation; their keys stand beside its own.

    Args:
        measures: What is measured.
    """

    def __init__(self, measures: list[Measure]) -> None:
        self.measures = measures

    def check(self, network: Any, data: Any) -> None:
        """Refuses measures that cannot be taken of these models and data.

        Raises:
            UserError: For the first that cannot.
        """
        names = [type(measure).__name__ for measure in self.measures]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"measures has {name} {names.count(name)} times; their columns would be the same")
        for measure in self.measures:
            measure.check(network, data)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, GrokModule)
        pl_module.keep_logits = bool(self.measures)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.measures:
            return
        assert isinstance(pl_module, GrokModule)
        view = View(pl_module.network, datamodule(trainer), pl_module.passed)
        evaluation = pl_module.evaluation
        for measure in self.measures:
            evaluation |= {key: value.double().cpu() for key, value in measure(view).items()}
