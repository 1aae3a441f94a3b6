"""The life of the runs of a stack: what is done, in this order, when they start, are evaluated, and end."""

from dataclasses import replace
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.callbacks.checkpoints import Checkpoints
from grok_lightning.callbacks.final_test import FinalTest
from grok_lightning.callbacks.forecasts import Forecasts
from grok_lightning.callbacks.guards import Diverged, raise_if_diverged
from grok_lightning.callbacks.measures import Measures
from grok_lightning.callbacks.recorder import Recorder
from grok_lightning.callbacks.run_figures import RunFigures
from grok_lightning.callbacks.states import Ending, GrokDetection, diverged_at
from grok_lightning.hardware.compilation import WORTH_COMPILING
from grok_lightning.module import GrokModule
from grok_lightning.records.checkpoint import EVALUATIONS_KEY
from grok_lightning.records.record import DIVERGED, FINISHED, RESULT, STOPPED


class Lifecycle(Callback):
    """Ends each run that has grokked for long enough, diverged, or spent its budget; and the fit with the last of them.

    The fit of a stack may end early when at most half of its runs are left in training, so that the stack is closed up:
    trained further as a smaller one. That is a pure function of the evaluations, so an interrupted sweep closes its
    stacks up at the same steps.

    A fit that was interrupted between its last step and its records, or its closing up, takes no further step.

    Args:
        detection: Updates the states of the runs.
        measures: The measures taken at every evaluation.
        recorder: Writes the records.
        figures: Draws the figures, or None.
        checkpoints: Saves the checkpoints.
        final_test: Evaluates the test rows of runs that are over, or None.
        close_up: Whether the fit ends when half the stack has left.
        forecasts: Forecasts the runs, or None.

    Attributes:
        states: The states of the runs.
        closing_up: Whether the fit ended so that the stack is closed up.
    """

    def __init__(
        self,
        detection: GrokDetection,
        measures: Measures,
        recorder: Recorder,
        figures: RunFigures | None,
        checkpoints: Checkpoints,
        final_test: FinalTest | None = None,
        close_up: bool = False,
        forecasts: Forecasts | None = None,
    ) -> None:
        self.detection, self.states, self.measures = detection, detection.states, measures
        self.recorder, self.figures, self.checkpoints = recorder, figures, checkpoints
        self.final_test = final_test
        self.close_up, self.closing_up, self.forecasts = close_up, False, forecasts
        self._recorded: list[bool] = []
        self._begun = False

    # --- when the Trainer calls ---------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._recorded = [(directory / RESULT).exists() for directory in self.states.directories]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[EVALUATIONS_KEY] = [self.states.pack(run) for run in range(len(self.states))]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # here, and not at the end, the weights are still those evaluated, and what is logged can be monitored
        if trainer.state.fn == "fit" and not bool(cast(GrokModule, pl_module).lost_R().all()):
            known = next((rows[-1] for rows in self.states.rows if rows), {})
            self.measures.take(pl_module, known.keys() - {"step"})
            if self.forecasts is not None:
                self.forecasts.add(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            return
        raise_if_diverged(pl_module)
        for run in self.detection.note(trainer, pl_module):
            self.checkpoints.mark_grokked(run)
        self.recorder.append(trainer)
        if not trainer.sanity_checking:
            diverged = diverged_at(pl_module)
            for run in self.states.in_training() if len(self.states) > 1 else ():
                if self.states.is_done(run) or diverged[run] >= 0:
                    self._end(trainer, pl_module, run)
            self._stop_if(all(map(self.states.is_done, self.states.in_training())), trainer, pl_module)
        # the checkpoints of this step are saved after all other callbacks, because Lightning calls ``Checkpoint`` last

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # just before an update: a checkpoint of this step holds none, so that a larger budget may find other moments
        module = cast(GrokModule, pl_module)
        if module.interventions:
            module.intervene({run: self.states.reached(run) for run in self.states.in_training()})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._begun:  # the checkpoint stood at the end of the budget, so that there was nothing to train
            self._begin(trainer, pl_module)
            self._finish(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Diverged):
            for run in self.states.in_training():
                self._end(trainer, pl_module, run)
        elif self.figures is not None and len(self.states) == 1 and trainer.is_global_zero:
            self.figures.draw_curves(0)  # what a stopped run has so far

    # --- what is done then --------------------------------------------------------------------------------------------

    def _begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begun = True
        self.detection.restore(trainer, pl_module)
        self.checkpoints.forget_groks(trainer)
        self.recorder.begin(trainer)
        left = self.states.in_training()
        # a run that is done and recorded is resumed on purpose, from an earlier checkpoint or to a later end
        over = all(self.states.is_done(run) and not self._recorded[run] for run in left)
        self._stop_if(trainer.global_step > 0 and over, trainer, pl_module)

    def _stop_if(self, over: bool, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the fit if it is over, or if the stack is to be closed up."""
        steps = int(trainer.max_steps) - trainer.global_step
        half_left = 2 * len(self.states.in_training()) <= len(self.states)
        if over:
            trainer.should_stop = True
        elif self.close_up and half_left and steps > 0 and (not pl_module.compiled or steps >= WORTH_COMPILING):
            self.closing_up = trainer.should_stop = True

    def _finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the runs that are left, or saves the stack that is closed up."""
        if self.closing_up:
            self.checkpoints.save_stack(trainer)
            return
        for run in self.states.in_training():
            self._end(trainer, pl_module, run)

    def _end(self, trainer: Trainer, pl_module: LightningModule, run: int) -> None:
        """Ends a run: checkpoint, test, curves, record, tidying, pictures. From the record on it counts as over."""
        step, diverged = trainer.global_step, diverged_at(pl_module)[run]
        if diverged >= 0:  # what it saved before is of more use than weights that are not finite
            ending = Ending(DIVERGED, diverged, step)
        else:
            ending = Ending(FINISHED if step >= int(trainer.max_steps) else STOPPED, step, step)
            self.checkpoints.save_last(trainer, run)
            if self.final_test is not None:
                saved = self.checkpoints.weights if len(self.states) == 1 else None
                ending = replace(ending, tested=self.final_test.take(trainer, cast(GrokModule, pl_module), run, saved))
        if trainer.is_global_zero:
            if self.figures is not None:
                self.figures.draw_curves(run)
            self.recorder.write(trainer, pl_module, run, ending)
            self.checkpoints.tidy(run)
        self.states.end(run, ending)
        if self.figures is not None and len(self.states) == 1 and trainer.is_global_zero:
            self.figures.show_images(trainer, pl_module)
