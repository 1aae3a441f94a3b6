"""TensorBoard events of a run, with tags in the order in which its tabs list them."""

from collections.abc import Iterable, Mapping
from math import isnan
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import Summary, custom_scalars, hparams

from grok_lightning.records.record import Row

# The TIME SERIES tab sorts groups (what stands before the first slash) by name and opens the first two. The HPARAMS tab
# sorts metrics by name and shows the first five. There a blank comes before a slash, in the other tabs after it.
NAMES = {"acc": "accuracy", "loss": "loss"}
LEARNING = {f"{split}/{key}": f"learning/{name}/{split}" for key, name in NAMES.items() for split in ("train", "val")}
RESULT = "learning (result)"
_LAYOUT = {
    "Learning": {
        "Accuracy: training and validation": ["Multiline", ["^learning/accuracy/"]],
        "Loss: training and validation": ["Multiline", ["^learning/loss/"]],
    },
    "Weights": {"Norm of all weights": ["Multiline", ["^norm/weights$"]]},
}
_HPARAMS = "_hparams_/session_start_info"  # the tag of a run's options


def tag_of(key: str) -> str:
    """The tag of a column of ``metrics.csv``."""
    return LEARNING.get(key) or (key if key.startswith("norm/") else f"measures/{key}")


class Events(TensorBoardLogger):
    """Lightning's TensorBoard logger for one run directory, without a second file of hyperparameters.

    Args:
        directory: The run's directory.
        purge_step: On resume, the first step whose events are to be dropped.
        suffix: The end of the file's name.
    """

    def __init__(self, directory: Path, purge_step: int | None = None, suffix: str = "") -> None:
        options: dict[str, Any] = {"purge_step": purge_step, "filename_suffix": suffix}
        super().__init__(str(directory), name="", version="", default_hp_metric=False, **options)

    def save(self) -> None:
        self.experiment.flush()

    def log_evaluation(self, row: Row) -> None:
        """Adds an evaluation: its accuracies, losses, norms and measures at its step."""
        there = {tag_of(key): value for key, value in row.items() if key != "step" and not isnan(value)}
        self.log_metrics(there, int(row["step"]))

    def log_missing(self, rows: Iterable[Row]) -> None:
        """On resume, adds evaluations from before that are not here, or not under these tags: an earlier version's."""
        held: dict[str, bool] = {}
        for row in rows:
            held |= {key: self._holds(tag_of(key)) for key in row.keys() - held.keys()}
            self.log_evaluation({key: value for key, value in row.items() if key == "step" or not held[key]})

    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Adds the run to the HPARAMS tab, and the charts of the CUSTOM SCALARS tab, once.

        The file does not say which columns the tab has: TensorBoard would take those of any one run for all. Without,
        it shows the options of all runs, those that differ first.

        Args:
            params: Numbers, booleans or texts by dotted name; None is left out.
            metrics, step: Not used.
        """
        if not self._holds(_HPARAMS):
            known = {key: value for key, value in params.items() if value is not None}
            self.experiment.file_writer.add_summary(hparams(known, {})[1])
            self.experiment.file_writer.add_summary(custom_scalars(_LAYOUT), 0)
            self.save()

    def log_end(self, result: Mapping[str, Any]) -> None:
        """Tells the HPARAMS tab that the run is over, and what it reached.

        Args:
            result: The fields of ``result.json``. Their step is the one after the last, so that a resumed run drops
                them.
        """
        reached = {f"{name} step": result[f"{name}_step"] for name in ("memorize", "grok")}
        reached |= {f"test {name}": result["final"].get(f"test/{key}") for key, name in NAMES.items()}
        found = {f"{RESULT}/{name}": value for name, value in reached.items() if value is not None}
        self.log_metrics(found, result["steps"] + 1)
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

    def _holds(self, tag: str) -> bool:
        field = b"\n" + bytes([len(tag)]) + tag.encode()  # as a file of events has it
        return any(field in path.read_bytes() for path in Path(self.log_dir).glob("events.out.tfevents.*"))
