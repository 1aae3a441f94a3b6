"""Saves the curves of each run when its fit is over."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.callbacks.detection import GrokDetection
from grok_lightning.figures.curves import curves

CURVES = "curves.png"


class CurvesFigure(Callback):
    """Draws accuracy and loss of each run into its directory at the end of a fit.

    Args:
        detection: Who keeps the evaluations.
        titles: One title for each run.
    """

    def __init__(self, detection: GrokDetection, titles: list[str]) -> None:
        self.detection, self.titles = detection, titles

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._draw(trainer)

    def paths(self) -> list[Path]:
        """Where the figures are."""
        return [directory / CURVES for directory in self.detection.directories]

    def _draw(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero:
            return
        for run, (path, rows) in enumerate(zip(self.paths(), self.detection.rows, strict=True)):
            if len(rows) > 1:
                figure = curves(rows, self.detection.milestones(run), self.titles[run])
                figure.savefig(path, dpi=150)
