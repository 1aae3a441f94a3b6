"""Lets each run of a stack go when it is over: its checkpoints, its record, its figure."""

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from grok_lightning.callbacks.checkpoints import Checkpoints
from grok_lightning.callbacks.curves_figure import CurvesFigure
from grok_lightning.callbacks.detection import GrokDetection
from grok_lightning.callbacks.divergence import Diverged
from grok_lightning.callbacks.recorder import Recorder

WORTH_COMPILING = 1000


class Departures(Callback):
    """Ends each run that has grokked for long enough, diverged, or spent its budget; and the fit with the last of them.

    A stack of which at most half is left in training may end early, to be closed up: to go on as a smaller one. That is
    a pure function of the evaluations, so a sweep that was interrupted closes its stacks up at the same steps.

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

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for run in set(range(len(self.detection.over))) - set(self.detection.in_training()):
            self.checkpoints.mark_over(run, -1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        detection, runs = self.detection, len(self.detection.over)
        for run in detection.in_training():
            if runs > 1 and (detection.is_done(run) or _diverged(pl_module, run)):
                self._leave(trainer, pl_module, run, _status(trainer))
        left = detection.in_training()
        if all(detection.is_done(run) for run in left):
            trainer.should_stop = True
        elif self.close_up and 2 * len(left) <= runs and trainer.global_step < trainer.max_steps:
            steps = int(trainer.max_steps) - trainer.global_step
            self.closing_up = trainer.should_stop = not pl_module.compiled or steps >= WORTH_COMPILING

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.closing_up:
            self.checkpoints.save_stack(trainer)
            return
        for run in self.detection.in_training():
            self._leave(trainer, pl_module, run, _status(trainer))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Diverged):
            for run in self.detection.in_training():
                self._leave(trainer, pl_module, run, "diverged")

    def _leave(self, trainer: Trainer, pl_module: LightningModule, run: int, status: str) -> None:
        if status != "diverged":
            self.checkpoints.save_last(trainer, run)
        if trainer.is_global_zero:
            self.recorder.write(trainer, pl_module, run, status)
            self.checkpoints.tidy(run)
            if self.figure is not None:
                self.figure.draw(run)
        self.detection.over[run] = True
        self.checkpoints.mark_over(run, trainer.global_step)


def _status(trainer: Trainer) -> str:
    return "finished" if trainer.global_step >= int(trainer.max_steps) else "stopped"


def _diverged(module: LightningModule, run: int) -> bool:
    diverged_at_R = module.diverged_at_R
    assert isinstance(diverged_at_R, Tensor)
    return bool(diverged_at_R[run] >= 0)
