"""Saves the curves of each run when it is over."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.callbacks.detection import GrokDetection
from grok_lightning.figures.curves import curves
from grok_lightning.figures.saving import png

CURVES = "curves.png"


class CurvesFigure(Callback):
    """Draws accuracy and loss of each run into its directory when it is over or stopped.

    Args:
        detection: Who keeps the evaluations.
        titles: One title for each run.
    """

    def __init__(self, detection: GrokDetection, titles: list[str]) -> None:
        self.detection, self.titles = detection, titles

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if len(self.titles) == 1 and trainer.is_global_zero:  # what a stopped run has so far
            self.draw(0)

    def paths(self) -> list[Path]:
        """Where the figures are."""
        return [directory / CURVES for directory in self.detection.directories]

    def draw(self, run: int) -> None:
        """Draws one run."""
        rows = self.detection.rows[run]
        if len(rows) > 1:
            figure = curves(rows, self.detection.milestones(run), self.titles[run])
            self.paths()[run].write_bytes(png(figure, 150))
