"""Tells, once a second, how far a fit is."""

import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.callbacks.detection import GrokDetection


class Heartbeat(Callback):
    """Reports the step, the rate and the phases of a stack's runs.

    Args:
        detection: Who knows the phases.
        tell: Called with what there is to say.
        every: Seconds between reports.
    """

    def __init__(self, detection: GrokDetection, tell: Callable[..., None], every: float = 1.0) -> None:
        self.detection, self.tell, self.every = detection, tell, every
        self._told: tuple[float, int] | None = None
        self._rate: float | None = None
        self._compiling = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._compiling = bool(pl_module.compiled)
        self._tell(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, step = time.monotonic(), trainer.global_step
        if self._told is None:  # after the first step, which may have been compiled
            self._told = now, step
            if self._compiling:
                self._compiling = False
                self._tell(trainer)
        elif now - self._told[0] >= self.every:
            rate = (step - self._told[1]) / (now - self._told[0])
            self._rate = rate if self._rate is None else 0.8 * self._rate + 0.2 * rate
            self._told = now, step
            self._tell(trainer)

    def _tell(self, trainer: Trainer) -> None:
        phases = [self.detection.phase(run) for run in range(len(self.detection.over))]
        self.tell(
            step=trainer.global_step,
            budget=trainer.max_steps,
            rate=self._rate,
            runs=len(phases),
            over=sum(self.detection.over),
            memorized=phases.count("memorized"),
            grokked=phases.count("grokked"),
            compiling=self._compiling,
        )
