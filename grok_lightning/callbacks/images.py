"""The pictures on TensorBoard's images tab."""

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.callbacks.attached import datamodule
from grok_lightning.callbacks.curves_figure import CurvesFigure
from grok_lightning.callbacks.divergence import Diverged
from grok_lightning.callbacks.events import Events
from grok_lightning.figures.saving import png
from grok_lightning.module import GrokModule

DOTS_PER_INCH = 100


class Images(Callback):
    """Shows the curves and the pictures of a single run in TensorBoard when its fit is over.

    Args:
        curves: Who has drawn the curves.
    """

    def __init__(self, curves: CurvesFigure) -> None:
        self.curves = curves
        self._shown = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._shown:  # there was nothing left to train
            self._show(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Diverged):
            self._show(trainer, pl_module)

    def _show(self, trainer: Trainer, module: LightningModule) -> None:
        self._shown = True
        loggers = [logger for logger in trainer.loggers if isinstance(logger, Events)]
        if not loggers or not trainer.is_global_zero:
            return
        # only here: with it comes pandas, whose import takes as long as many a whole command
        from grok_lightning.callbacks.pictures import pictures

        assert isinstance(module, GrokModule)
        (title,), (path,) = self.curves.titles, self.curves.paths()
        images = {"view/curves": path.read_bytes()} if path.exists() else {}
        data = datamodule(trainer)
        # these names come after those of the scalars, so that TensorBoard's first tab begins with accuracy and loss
        for name, (_, figure) in pictures(module, data, 0, title, trainer.global_step).items():
            images[f"view/{name}"] = png(figure, DOTS_PER_INCH)
        for logger in loggers:
            logger.log_images(images, trainer.global_step)
