"""What a run shows: TensorBoard events in its own directory, its curves as a file, and pictures of its task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import Summary, hparams

from grok_lightning.callbacks.states import RunStates
from grok_lightning.data import SequenceDataModule
from grok_lightning.figures.curves import draw_curves
from grok_lightning.figures.saving import png
from grok_lightning.module import GrokModule

CURVES = "curves.png"
SHOWN = ("train/acc", "train/loss", "val/acc", "val/loss", "test/acc", "test/loss")  # metrics in the HPARAMS tab
_HPARAMS = b"_hparams_/session_start_info"  # by which a file of events shows that it has the options
DOTS_PER_INCH = 100


class Events(TensorBoardLogger):
    """Lightning's TensorBoard logger for one run directory, without a second file of hyperparameters.

    Args:
        directory: The run's directory.
        purge_step: On resume, the first step whose events are to be dropped.
    """

    def __init__(self, directory: Path, purge_step: int | None = None) -> None:
        super().__init__(str(directory), name="", version="", default_hp_metric=False, purge_step=purge_step)

    def save(self) -> None:
        self.experiment.flush()

    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Adds the run to the HPARAMS tab, once; the tab's metrics are scalars that are logged anyway.

        Args:
            params: Numbers, booleans or texts by dotted name; None is left out.
            metrics, step: Not used.
        """
        events = Path(self.log_dir).glob("events.out.tfevents.*")
        if not any(_HPARAMS in path.read_bytes() for path in events):
            known = {key: value for key, value in params.items() if value is not None}
            for summary in hparams(known, dict.fromkeys(SHOWN, 0.0))[:2]:
                self.experiment.file_writer.add_summary(summary)
            self.save()

    def log_end(self) -> None:
        """Tells the HPARAMS tab that the run is over."""
        self.experiment.file_writer.add_summary(hparams({}, {})[2])
        self.save()

    def log_images(self, images: Mapping[str, bytes], step: int) -> None:
        """Adds pictures to the IMAGES tab, without encoding them again.

        Args:
            images: PNG files by name.
            step: The optimizer step that they show.
        """
        for name, image in images.items():
            width, height = (int.from_bytes(image[start : start + 4], "big") for start in (16, 20))
            shown = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=image)
            self.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=shown)]), step)
        self.save()


class RunFigures:
    """Draws accuracy and loss of each run into its directory, and shows a single run's pictures in TensorBoard.

    Args:
        states: The states of the runs.
        titles: One title for each run.
        data: The stack's data.
        images: Whether a single run's pictures are shown in TensorBoard.
    """

    def __init__(self, states: RunStates, titles: list[str], data: SequenceDataModule, images: bool) -> None:
        self.states, self.titles, self.data, self.images = states, titles, data, images

    def path(self, run: int) -> Path:
        """The file of a run's curves."""
        return self.states.directories[run] / CURVES

    def draw_curves(self, run: int) -> None:
        """Draws the curves of one run, if there are two evaluations or more."""
        rows = self.states.rows[run]
        if len(rows) > 1:
            figure = draw_curves(rows, self.states.milestones(run), self.titles[run])
            self.path(run).write_bytes(png(figure, 150))

    def show_images(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows curves and pictures of a single run in TensorBoard, if there is a TensorBoard logger of ours."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, Events)]
        if not self.images or not loggers:
            return
        # imported here: with it comes pandas, whose import takes as long as many a whole command
        from grok_lightning.callbacks.pictures import pictures

        assert isinstance(pl_module, GrokModule)
        path = self.path(0)
        images = {"view/curves": path.read_bytes()} if path.exists() else {}
        # these names come after those of the scalars, so that TensorBoard's first tab begins with accuracy and loss
        for name, (_, figure) in pictures(pl_module, self.data, 0, self.titles[0], trainer.global_step).items():
            images[f"view/{name}"] = png(figure, DOTS_PER_INCH)
        for logger in loggers:
            logger.log_images(images, trainer.global_step)
