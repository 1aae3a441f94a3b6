"""What a run shows: its curves as a file, and in TensorBoard pictures of it and of its task."""

from hashlib import sha256
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer

from grok_lightning.callbacks.events import Events
from grok_lightning.callbacks.states import RunStates
from grok_lightning.data import SequenceDataModule
from grok_lightning.figures.curves import draw_curves
from grok_lightning.figures.saving import png
from grok_lightning.module import GrokModule

CURVES = "curves.png"
DOTS_PER_INCH = 100


class RunFigures:
    """Draws accuracy and loss of each run into its directory, and shows a single run's pictures in TensorBoard.

    Args:
        states: The states of the runs.
        titles: One title for each run.
        data: The stack's data.
        images: Whether a single run's pictures are shown in TensorBoard.
        task: A single run's task, in words.
    """

    def __init__(
        self, states: RunStates, titles: list[str], data: SequenceDataModule, images: bool, task: str = ""
    ) -> None:
        self.states, self.titles, self.data, self.images, self.task = states, titles, data, images, task

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
        """Shows curves and pictures of a single run in TensorBoard, if there is a TensorBoard logger of ours.

        Those of its task are the experiment's, and shown once.
        """
        loggers = [logger for logger in trainer.loggers if isinstance(logger, Events)]
        if not self.images or not loggers:
            return
        # imported here: with it comes pandas, whose import takes as long as many a whole command
        from grok_lightning.callbacks.pictures import network_pictures

        assert isinstance(pl_module, GrokModule)
        path = self.path(0)
        images = {"view/curves": path.read_bytes()} if path.exists() else {}
        # these names come after those of the scalars, so that TensorBoard's first tab begins with accuracy and loss
        for name, (_, figure) in network_pictures(pl_module, self.data, 0, self.titles[0], trainer.global_step).items():
            images[f"view/{name}"] = png(figure, DOTS_PER_INCH)
        for logger in loggers:
            logger.log_images(images, trainer.global_step)
        self._show_task()

    def _show_task(self) -> None:
        """Shows the task in a file of events of the experiment's own, unless one of the same task is there."""
        from grok_lightning.callbacks.pictures import task_pictures

        directory, suffix = self.states.directories[0].parent, f".task-{sha256(self.task.encode()).hexdigest()[:16]}"
        if any(directory.glob(f"events.out.tfevents.*{suffix}")):
            return
        found = task_pictures(self.data, 0, self.titles[0])
        if found:
            events = Events(directory, suffix=suffix)
            named = {
                f"view/task: {self.task}/{name}": png(figure, DOTS_PER_INCH) for name, (_, figure) in found.items()
            }
            events.log_images(named, 0)
            events.experiment.close()
