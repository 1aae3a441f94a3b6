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
        self._told, self._began, self._first = 0.0, 0.0, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began, self._first = 0.0, trainer.global_step
        self._tell(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if not self._began:  # after the first step, which may have been compiled
            self._began, self._first = now, trainer.global_step
        if now - self._told >= self.every:
            self._told = now
            self._tell(trainer)

    def _tell(self, trainer: Trainer) -> None:
        seconds = time.monotonic() - self._began if self._began else 0.0
        phases = [self.detection.phase(run) for run in range(len(self.detection.over))]
        self.tell(
            step=trainer.global_step,
            budget=trainer.max_steps,
            rate=(trainer.global_step - self._first) / seconds if seconds > 0 else None,
            runs=len(phases),
            over=sum(self.detection.over),
            memorized=phases.count("memorized"),
            grokked=phases.count("grokked"),
        )
