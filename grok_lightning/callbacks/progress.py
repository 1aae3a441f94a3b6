"""Progress of a fit: a line on the terminal, and reports to other processes."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isnan
from typing import Any, TextIO

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar, Timer

from grok_lightning.callbacks.forecasts import Forecasts
from grok_lightning.callbacks.speed import Speed
from grok_lightning.callbacks.states import RunStates
from grok_lightning.forecast.forecaster import describe
from grok_lightning.hardware.process import mute_lost_terminal
from grok_lightning.hardware.terminal import (
    Redrawn,
    can_redraw,
    draw_bar,
    find_size,
    fit_line,
    format_left,
    format_rate,
)
from grok_lightning.records.words import format_percent

REDRAW_SECONDS = 0.1
QUIET_SECONDS = 60.0  # between two lines where nothing can be redrawn


class ProgressLine(ProgressBar):
    """Shows the phase (memorizing, memorized, grokked), steps, accuracies, rate, and the time left.

    In a terminal or a notebook the line is redrawn in place, as wide as the terminal is; elsewhere (a file, a pipe,
    TERM=dumb) a line with the losses is printed at the start, when the phase changes, and once a minute. The time left
    appears once the rate is steady (``Speed``), with "at most" where the run may stop before its budget.

    Args:
        states: The states of the runs.
        name: The run's name, with which the line begins.
        forecasts: Forecasts the run, whose grok step is shown from memorization on; None: no forecast.
    """

    def __init__(self, states: RunStates, name: str, forecasts: Forecasts | None = None) -> None:
        super().__init__()
        self.states, self.name, self.forecasts = states, name, forecasts
        self._line: Redrawn | None = None
        self._speed = Speed()
        self._enabled, self._phase, self._shown = True, "", 0.0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stream = _redrawn_stream()
        if self._enabled and trainer.is_global_zero and stream is not None:
            self._line = Redrawn(stream)
        self._speed, self._shown = Speed(), time.monotonic()
        self._show(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._speed.note(trainer.global_step)
        every = QUIET_SECONDS if self._line is None else REDRAW_SECONDS
        if time.monotonic() - self._shown >= every:
            self._show(trainer, due=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._show(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close(trainer)

    def _show(self, trainer: Trainer, due: bool = False) -> None:
        """Redraw the line; or print one, if the phase has changed or it is ``due``."""
        phases = [self.states.phase(run) for run in range(len(self.states))]
        phase = min(phases, key=["memorizing", "memorized", "grokked"].index)
        rows = [rows[-1] for rows in self.states.rows if rows]
        if not self._enabled or not trainer.is_global_zero or not (rows or due or self._line):
            return
        with unharmed():
            if self._line is not None:
                columns = find_size(self._line.stream).columns
                self._line.draw_line(fit_line(self._list_forms(trainer, phase, rows), columns))
            elif due or phase != self._phase:
                print("  ".join(filter(None, self._list_parts(trainer, phase, rows))), flush=True)
            else:
                return
            self._phase, self._shown = phase, time.monotonic()

    def _list_parts(self, trainer: Trainer, phase: str, rows: list[dict[str, float]]) -> list[str]:
        """What a printed line says."""
        splits = ("train", "val") if all(self.states.validated) else ()  # else what is reached has the loss
        losses = [f"{split} {loss:.3g}" for split in splits if (loss := _mean(rows, f"{split}/loss")) is not None]
        where = f"step {trainer.global_step:,}/{trainer.max_steps:,}"
        accuracies = describe_reached(self.states)
        return [
            self.name,
            f"{phase:<10}",
            where,
            accuracies,
            self._forecast(trainer),
            f"loss {', '.join(losses)}" if losses else "",
            *self._list_pace(trainer),
        ]

    def _list_forms(self, trainer: Trainer, phase: str, rows: list[dict[str, float]]) -> list[str]:
        """The redrawn line, from its longest form to its shortest."""
        step, budget, accuracies = trainer.global_step, int(trainer.max_steps), describe_reached(self.states)
        share = step / budget if budget > 0 else 0.0
        rate, left = self._list_pace(trainer)
        steps, bar = f"{step:,}/{budget:,}", f"|{draw_bar(share)}|"
        forecast = self._forecast(trainer)
        forms = [
            (self.name, f"{phase:<10}", accuracies, forecast, bar, steps, rate, left),
            (self.name, f"{phase:<10}", accuracies, forecast, steps, left),
            (self.name, f"{phase:<10}", accuracies, bar, steps, rate, left),
            (self.name, f"{phase:<10}", accuracies, steps, rate, left),
            (self.name, phase, accuracies, steps, left),
            (phase, accuracies, steps, left),
            (phase, accuracies, f"{share:.0%}"),
            (f"{share:.0%}", accuracies.replace("  ", " ").replace("%", "")),
            (f"{share:.0%}", phase),
            (f"{share:.0%}",),
        ]
        return ["  ".join(filter(None, parts)) for parts in forms]

    def _forecast(self, trainer: Trainer) -> str:
        budget = int(trainer.max_steps)
        made = None if self.forecasts is None else self.forecasts.forecast(0, budget)
        return "" if made is None else describe(made, budget)

    def _list_pace(self, trainer: Trainer) -> tuple[str, str]:
        """The rate and the time left, or empty texts."""
        rate, left = self._speed.rate, self._speed.find_left(int(trainer.max_steps) - trainer.global_step)
        shown = format_left(left, may_stop_early(trainer, self.states)) if left is not None and left >= 1 else ""
        return format_rate(rate) if rate else "", shown

    def _close(self, trainer: Trainer) -> None:
        if self._line is not None:
            self._show(trainer)
            with unharmed():
                self._line.end_line()
            self._line = None


def may_stop_early(trainer: Trainer, states: RunStates) -> bool:
    """Whether a fit may end before its budget: when its runs have grokked, or by a callback of Lightning's."""
    whole: Any = trainer
    return states.may_stop_early() or any(isinstance(each, EarlyStopping | Timer) for each in whole.callbacks)


def _mean(rows: list[dict[str, float]], key: str) -> float | None:
    """The mean of a metric over runs that have it; None if none has."""
    values = [row[key] for row in rows if key in row and not isnan(row[key])]
    return sum(values) / len(values) if values else None


def describe_reached(states: RunStates) -> str:
    """Mean accuracies of the runs' newest evaluations; empty before the first.

    Where no rows are held out, the training loss stands in place of the validation accuracy.
    """
    rows = [rows[-1] for rows in states.rows if rows]
    accuracies = {split: _mean(rows, f"{split}/acc") for split in ("train", "val")}
    if not all(states.validated):
        del accuracies["val"]
    shown = [f"{split} {format_percent(accuracy):>6}" for split, accuracy in accuracies.items() if accuracy is not None]
    loss = _mean(rows, "train/loss")
    if not all(states.validated) and loss is not None:
        shown.append(f"loss {loss:.3g}")
    return "  ".join(shown)


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
    return sys.stderr if can_redraw(sys.stderr) else None


class Heartbeat(Callback):
    """Reports the step, the rate and the phases of a stack's runs.

    Args:
        states: The states of the runs.
        tell: Called with the report, as keyword arguments.
        every: Seconds between reports.
        end: Called when the fit ends, however it does.
    """

    def __init__(
        self,
        states: RunStates,
        tell: Callable[..., None],
        every: float = 1.0,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self.states, self.tell, self.every, self.end = states, tell, every, end
        self._speed = Speed()
        self._told: float | None = None
        self._began = 0
        self._compiling = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._speed, self._told, self._began = Speed(), None, trainer.global_step
        self._compiling = bool(pl_module.compiled)
        self._report(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        self._speed.note(trainer.global_step)
        if self._told is None:  # after the first step, which may have been compiled
            self._told = now
            if self._compiling:
                self._compiling = False
                self._report(trainer)
        elif now - self._told >= self.every:
            self._told = now
            self._report(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.end()

    def _report(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero:
            return
        phases = [self.states.phase(run) for run in range(len(self.states))]
        self.tell(
            step=trainer.global_step,
            budget=trainer.max_steps,
            began=self._began,
            rate=self._speed.rate,
            steady=self._speed.is_steady,
            at_most=may_stop_early(trainer, self.states),
            runs=len(phases),
            over=len(phases) - len(self.states.in_training()),
            memorized=phases.count("memorized"),
            grokked=phases.count("grokked"),
            compiling=self._compiling,
            reached=describe_reached(self.states),
        )
