"""TensorBoard events in the run's own directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import Summary, hparams


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

    def log_final(self, options: dict[str, Any], metrics: dict[str, float]) -> None:
        """Adds a finished run to the HPARAMS tab; its metrics have the keys of scalars logged before.

        Args:
            options: Numbers, booleans or texts by dotted name.
            metrics: Final values by key.
        """
        for summary in hparams(options, metrics):
            self.experiment.file_writer.add_summary(summary)
        self.save()

    def log_images(self, images: Mapping[str, bytes], step: int) -> None:
        """Adds pictures to the IMAGES tab, without encoding them again.

        Args:
            images: PNG files by name.
            step: The optimizer step that they show.
        """
        for name, png in images.items():
            width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
            image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
            self.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
        self.save()
