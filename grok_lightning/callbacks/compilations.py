"""Counts how often the training step is compiled: once, or something varies that must not; and remembers how long."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch._dynamo.utils import counters

from grok_lightning.hardware.compilation import Graph, Kind, remember


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
    """Looks at the number of compiled graphs after each call of the training step, and remembers how long one took.

    Args:
        graph: What is compiled.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._before = self._missed = 0
        self._began: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before, self._missed, self._began = _graphs(), _missed(), time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not pl_module.compiled:
            return
        if _graphs() - self._before > 1:
            raise Recompiled(_graphs() - self._before)
        if self._began is not None:
            kind: Kind = "cold" if _missed() > self._missed else "warm"
            if trainer.is_global_zero and _graphs() > self._before:
                remember(self.graph, kind, time.perf_counter() - self._began)
            self._began = None


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def _missed() -> int:
    """Graphs that torch's caches did not hold."""
    return int(counters["inductor"]["fxgraph_cache_miss"])
