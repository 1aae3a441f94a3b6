"""Progress of a fit: a line on the terminal, and reports to a sweep."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from grok_lightning.callbacks.forecasts import Forecasts
from grok_lightning.callbacks.states import RunStates
from grok_lightning.forecast.forecaster import describe
from grok_lightning.hardware.process import mute_lost_terminal

FORMAT = "{desc}  |{bar:20}| {n:,}/{total:,}  {rate_noinv_fmt}"


class ProgressLine(ProgressBar):
    """Shows the phase (memorizing, memorized, grokked), steps, rate, and train and val accuracy.

    In a terminal or a notebook the line is redrawn in place; elsewhere (a file, a pipe) a line is printed when the
    phase changes.

    Args:
        states: The states of the runs.
        name: The run's name, with which the line begins.
        forecasts: Forecasts the run, whose grok step is shown from memorization on; None: no forecast.
    """

    def __init__(self, states: RunStates, name: str, forecasts: Forecasts | None = None) -> None:
        super().__init__()
        self.states, self.name, self.forecasts = states, name, forecasts
        self._bar: tqdm[Any] | None = None
        self._enabled, self._phase = True, ""

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stream = _redrawn_stream()
        if self._enabled and trainer.is_global_zero and stream is not None:
            self._bar = tqdm(
                desc=self.name,
                total=trainer.max_steps,
                initial=trainer.global_step,
                bar_format=FORMAT,
                dynamic_ncols=True,
                unit=" steps",
                file=stream,
            )
        self._show(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is not None:
            with unharmed():
                self._bar.update(trainer.global_step - self._bar.n)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._show(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _show(self, trainer: Trainer) -> None:
        phases = [self.states.phase(run) for run in range(len(self.states))]
        phase = min(phases, key=["memorizing", "memorized", "grokked"].index)
        rows = [rows[-1] for rows in self.states.rows if rows]
        if not rows:
            return
        accuracies = [sum(row[f"{split}/acc"] for row in rows) / len(rows) for split in ("train", "val")]
        shown = f"train {accuracies[0]:6.1%}  val {accuracies[1]:6.1%}{self._forecast(trainer)}"
        where = f"step {trainer.global_step:,}/{trainer.max_steps:,}"
        with unharmed():
            if self._bar is not None:
                self._bar.set_description_str(f"{self.name}  {phase:<10}  {shown}")
            elif self._enabled and trainer.is_global_zero and phase != self._phase:
                print(f"{self.name}  {phase:<10}  {where}  {shown}", flush=True)
        self._phase = phase

    def _forecast(self, trainer: Trainer) -> str:
        budget = int(trainer.max_steps)
        made = None if self.forecasts is None else self.forecasts.forecast(0, budget)
        return "" if made is None else f"  {describe(made, budget)}"

    def _close(self) -> None:
        if self._bar is not None:
            with unharmed():
                self._bar.close()
            self._bar = None


@contextmanager
def unharmed() -> Iterator[None]:
    """Ignores that progress cannot be shown any more, because a terminal is closed, a pipe broken or a disk full."""
    try:
        yield
    except OSError:
        mute_lost_terminal()


def _redrawn_stream() -> TextIO | None:
    """Where a line can be redrawn in place: a terminal's stderr, or the output of a notebook's cell."""
    if type(sys.stdout).__module__.startswith("ipykernel"):
        return sys.stdout  # what a notebook shows of stderr looks like an error
    return sys.stderr if sys.stderr.isatty() else None


class Heartbeat(Callback):
    """Reports the step, the rate and the phases of a stack's runs.

    Args:
        states: The states of the runs.
        tell: Called with the report, as keyword arguments.
        every: Seconds between reports.
    """

    def __init__(self, states: RunStates, tell: Callable[..., None], every: float = 1.0) -> None:
        self.states, self.tell, self.every = states, tell, every
        self._last: tuple[float, int] | None = None
        self._rate: float | None = None
        self._compiling = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._compiling = bool(pl_module.compiled)
        self._report(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, step = time.monotonic(), trainer.global_step
        if self._last is None:  # after the first step, which may have been compiled
            self._last = now, step
            if self._compiling:
                self._compiling = False
                self._report(trainer)
        elif now - self._last[0] >= self.every:
            rate = (step - self._last[1]) / (now - self._last[0])
            self._rate = rate if self._rate is None else 0.8 * self._rate + 0.2 * rate
            self._last = now, step
            self._report(trainer)

    def _report(self, trainer: Trainer) -> None:
        phases = [self.states.phase(run) for run in range(len(self.states))]
        self.tell(
            step=trainer.global_step,
            budget=trainer.max_steps,
            rate=self._rate,
            runs=len(phases),
            over=len(phases) - len(self.states.in_training()),
            memorized=phases.count("memorized"),
            grokked=phases.count("grokked"),
            compiling=self._compiling,
        )
