"""Ends a fit in which every run has diverged, or whose training step is compiled more than once."""

import time
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch._dynamo.utils import counters

from grok_lightning.hardware.compilation import Graph, Kind, remember
from grok_lightning.module import GrokModule

LOOK_EVERY = 50


class Diverged(Exception):
    """Ends a fit in which every run has diverged.

    Args:
        step: The last step at which a run did.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"diverged: the loss was no longer finite at step {step}")
        self.step = step


class Recompiled(Exception):
    """Ends a fit whose training step was compiled more than once.

    Args:
        count: The number of compilations.
    """

    def __init__(self, count: int) -> None:
        super().__init__(
            f"the training step was compiled {count} times instead of once, so that something varies which must not; "
            "leave model.compile out"
        )


def raise_if_diverged(pl_module: LightningModule) -> None:
    """Ends the fit if no run's loss is finite.

    Raises:
        Diverged: If every run has diverged.
    """
    diverged_at_R = cast(GrokModule, pl_module).diverged_at_R
    if bool((diverged_at_R >= 0).all()):
        raise Diverged(int(diverged_at_R.max()))


class DivergenceGuard(Callback):
    """Checks the losses after each call on a CPU; on a GPU, which a check would hold up, every 50 steps.

    ``Lifecycle`` checks at every evaluation too, because no training loss shows the effect of a run's last update.
    """

    def __init__(self) -> None:
        self._looked = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._looked = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.device.type == "cpu" or trainer.global_step - self._looked >= LOOK_EVERY:
            self._looked = trainer.global_step
            raise_if_diverged(pl_module)


class CompilationGuard(Callback):
    """Checks the number of compiled graphs after each call, and remembers the duration of the first compilation.

    Args:
        graph: The graph that is compiled.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._before = self._missed = 0
        self._began: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before, self._missed = _count_graphs(), _count_cache_misses()
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not pl_module.compiled:
            return
        compiled = _count_graphs() - self._before
        if compiled > 1:
            raise Recompiled(compiled)
        if self._began is not None:
            kind: Kind = "cold" if _count_cache_misses() > self._missed else "warm"
            if trainer.is_global_zero and compiled:
                remember(self.graph, kind, time.perf_counter() - self._began)
            self._began = None


def _count_graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def _count_cache_misses() -> int:
    """Number of graphs that torch's caches did not hold."""
    return int(counters["inductor"]["fxgraph_cache_miss"])
