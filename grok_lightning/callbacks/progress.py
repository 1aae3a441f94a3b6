"""One live line about a fit: step, rate, phase, accuracies."""

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from grok_lightning.callbacks.detection import GrokDetection

FORMAT = "{desc}  |{bar:20}| {n:,}/{total:,}  {rate_noinv_fmt}"


class ProgressLine(ProgressBar):
    """Shows the phase (memorizing, memorized, grokked), steps, rate, and train and val accuracy.

    In a terminal the line is redrawn in place; elsewhere (a file, a pipe) a line is printed when the phase changes.

    Args:
        detection: Who keeps the evaluations.
        name: What the line begins with.
    """

    def __init__(self, detection: GrokDetection, name: str) -> None:
        super().__init__()
        self.detection, self.name = detection, name
        self._bar: tqdm[Any] | None = None
        self._enabled = True
        self._phase = ""

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._enabled and trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(
                total=trainer.max_steps,
                initial=trainer.global_step,
                bar_format=FORMAT,
                dynamic_ncols=True,
                unit=" steps",
            )
        self._show(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._show(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _show(self, trainer: Trainer) -> None:
        phases = [self.detection.phase(run) for run in range(len(self.detection.rows))]
        phase = min(phases, key=["memorizing", "memorized", "grokked"].index)
        rows = [rows[-1] for rows in self.detection.rows if rows]
        if not rows:
            return
        accuracies = [sum(row[f"{split}/acc"] for row in rows) / len(rows) for split in ("train", "val")]
        shown = f"train {accuracies[0]:6.1%}  val {accuracies[1]:6.1%}"
        if self._bar is not None:
            self._bar.set_description_str(f"{self.name}  {phase:<10}  {shown}")
        elif self._enabled and trainer.is_global_zero and phase != self._phase:
            print(f"{self.name}  {phase:<10}  step {trainer.global_step:,}/{trainer.max_steps:,}  {shown}", flush=True)
        self._phase = phase

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
