"""Counts how often the training step is compiled: once, or something varies that must not."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch._dynamo.utils import counters


class Recompiled(Exception):
    """Ends a fit whose training step was compiled more than once.

    Args:
        count: How often it was.
    """

    def __init__(self, count: int) -> None:
        super().__init__(
            f"the training step was compiled {count} times instead of once, so that something varies which must not; "
            "leave model.compile out"
        )


class CompilationGuard(Callback):
    """Looks at the number of compiled graphs after each call of the training step."""

    def __init__(self) -> None:
        self._before = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before = _graphs()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.compiled and _graphs() - self._before > 1:
            raise Recompiled(_graphs() - self._before)


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])
