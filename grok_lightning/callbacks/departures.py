"""Lets each run of a stack go when it is over: its checkpoints, its record, its figure."""

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from grok_lightning.callbacks.checkpoints import Checkpoints
from grok_lightning.callbacks.curves_figure import CurvesFigure
from grok_lightning.callbacks.detection import GrokDetection
from grok_lightning.callbacks.divergence import Diverged
from grok_lightning.callbacks.recorder import Recorder
from grok_lightning.hardware.compilation import WORTH_COMPILING
from grok_lightning.records.record import RESULT


class Departures(Callback):
    """Ends each run that has grokked for long enough, diverged, or spent its budget; and the fit with the last of them.

    A stack of which at most half is left in training may end early, to be closed up: to go on as a smaller one. That is
    a pure function of the evaluations, so a sweep that was interrupted closes its stacks up at the same steps.

    A fit that was interrupted between its last step and its records, or its closing up, takes no further step.

    Args:
        detection: Knows which runs are over.
        recorder: Writes their records.
        figure: Draws their curves, or None.
        checkpoints: Saves their checkpoints.
        close_up: Whether the fit ends when half the stack has left.

    Attributes:
        closing_up: Whether the fit ended for that.
    """

    def __init__(
        self,
        detection: GrokDetection,
        recorder: Recorder,
        figure: CurvesFigure | None,
        checkpoints: Checkpoints,
        close_up: bool = False,
    ) -> None:
        self.detection, self.recorder, self.figure, self.checkpoints = detection, recorder, figure, checkpoints
        self.close_up, self.closing_up = close_up, False
        self._recorded: list[bool] = []
        self._started = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._recorded = [(directory / RESULT).exists() for directory in self.detection.directories]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = True
        left = self.detection.in_training()
        for run in set(range(len(self.detection.over))) - set(left):
            self.checkpoints.mark_over(run, -1)
        # a recorded run that is done is one that a fit goes on with beyond its end
        if trainer.global_step and all(self.detection.is_done(run) and not self._recorded[run] for run in left):
            trainer.should_stop = True
        else:
            self._close_up(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        detection, runs = self.detection, len(self.detection.over)
        for run in detection.in_training():
            if runs > 1 and (detection.is_done(run) or _diverged(pl_module, run)):
                self._leave(trainer, pl_module, run)
        left = detection.in_training()
        if all(detection.is_done(run) for run in left):
            trainer.should_stop = True
        else:
            self._close_up(trainer, pl_module)

    def _close_up(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the fit if the stack is to go on as a smaller one."""
        steps = int(trainer.max_steps) - trainer.global_step
        half_left = 2 * len(self.detection.in_training()) <= len(self.detection.over)
        if self.close_up and half_left and steps > 0 and (not pl_module.compiled or steps >= WORTH_COMPILING):
            self.closing_up = trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.closing_up:
            self.checkpoints.save_stack(trainer)
            return
        for run in self.detection.in_training():
            self._leave(trainer, pl_module, run)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._started:  # the checkpoint stood at the end of the budget, so that there was nothing to train
            for callback in (self.detection, self.recorder, self):
                callback.on_train_start(trainer, pl_module)
            self.on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Diverged):
            for run in self.detection.in_training():
                self._leave(trainer, pl_module, run)

    def _leave(self, trainer: Trainer, pl_module: LightningModule, run: int) -> None:
        if not _diverged(pl_module, run):  # what it saved before is of more use than weights that are not finite
            self.checkpoints.save_last(trainer, run)
        if trainer.is_global_zero:
            if self.figure is not None:
                self.figure.draw(run)
            self.recorder.write(trainer, pl_module, run, _status(trainer))  # from now on the run is over
            self.checkpoints.tidy(run)
        self.detection.over[run] = True
        self.checkpoints.mark_over(run, trainer.global_step)


def _status(trainer: Trainer) -> str:
    return "finished" if trainer.global_step >= int(trainer.max_steps) else "stopped"


def _diverged(module: LightningModule, run: int) -> bool:
    diverged_at_R = module.diverged_at_R
    assert isinstance(diverged_at_R, Tensor)
    return bool(diverged_at_R[run] >= 0)
