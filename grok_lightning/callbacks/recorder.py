"""Writes the record of each run of a stack: metrics.csv, result.json, and TensorBoard events."""

import math
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.callbacks.events import Events
from grok_lightning.callbacks.states import Ending, RunStates
from grok_lightning.files import sweep
from grok_lightning.hardware.naming import name_device
from grok_lightning.module import GrokModule
from grok_lightning.records.after_grok import AFTER
from grok_lightning.records.defaults import HASH_VERSION
from grok_lightning.records.record import (
    DIVERGED,
    METRICS,
    RESULT,
    SCHEMA,
    Row,
    append_metrics,
    flush_metrics,
    write_json,
    write_metrics,
)

RECORDED_PACKAGES = ("grok_lightning", "torch", "lightning", "numpy")


class Recorder(Callback):
    """Writes ``metrics.csv`` at every evaluation and ``result.json`` when a run is over; ``Lifecycle`` calls it.

    A single run's events go to the Trainer's loggers as they come; those of a stack's runs are written when each is
    over, because each open event file takes a thread.

    Args:
        states: The states of the runs.
        configs: The resolved config of each run.
        hashes: The hash of each run's config.
        commutative_fractions: The commutative fraction of each run's split; None where there are no mirrored pairs.
        events: Whether a stack's runs get TensorBoard events.
        shown: The options of a run, by its index, that TensorBoard shows.
    """

    def __init__(
        self,
        states: RunStates,
        configs: list[dict[str, Any]],
        hashes: list[str],
        commutative_fractions: list[float | None],
        events: bool = False,
        shown: Callable[[int], dict[str, Any]] = lambda run: {},
    ) -> None:
        self.states, self.configs, self.hashes = states, configs, hashes
        self.commutative_fractions, self.events, self.shown = commutative_fractions, events, shown
        self._versions = {"python": platform.python_version()} | {name: _version(name) for name in RECORDED_PACKAGES}
        self._stack = len(configs)  # at the start: runs leave it
        self._seconds_before = 0.0
        self._compile_seconds = 0.0
        self._started: float | None = None
        self._first_batch: float | None = None

    @property
    def seconds(self) -> float:
        """Wall time of training so far, evaluations included, compilation left out."""
        running = time.perf_counter() - self._started if self._started is not None else 0.0
        return self._seconds_before + running - self._compile_seconds

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "stack": self._stack}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds_before = float(state_dict["seconds"])
        self._stack = int(state_dict.get("stack", self._stack))  # earlier versions did not save it

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if len(self.configs) > 1:  # a checkpoint must never be ahead of the evaluations on disk
            for directory in self.states.directories:
                if (directory / METRICS).exists():
                    flush_metrics(directory)

    def begin(self, trainer: Trainer) -> None:
        """Brings the files of the runs in training to the state they resume from, and starts the clock."""
        if trainer.is_global_zero:
            training = self.states.in_training()
            for run, (directory, rows) in enumerate(zip(self.states.directories, self.states.rows, strict=True)):
                if run not in training:  # its record is whole, unless somebody has removed it
                    if rows and not (directory / METRICS).exists():
                        write_metrics(directory, rows)
                    continue
                directory.mkdir(parents=True, exist_ok=True)
                sweep(directory)
                (directory / RESULT).unlink(missing_ok=True)
                if rows or (directory / METRICS).exists():
                    write_metrics(directory, rows)
            if len(self.configs) == 1:
                for logger in trainer.loggers:
                    if isinstance(logger, Events):
                        logger.log_missing(self.states.rows[0])
        self._started = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._first_batch is None:
            self._first_batch = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._first_batch is not None and self._first_batch >= 0 and pl_module.compiled:
            self._compile_seconds = time.perf_counter() - self._first_batch
        self._first_batch = -1.0

    def append(self, trainer: Trainer) -> None:
        """Appends the evaluation of this step to ``metrics.csv``; a single run's goes to the Trainer's loggers too."""
        if not trainer.is_global_zero:
            return
        single = len(self.configs) == 1
        for run in self.states.in_training():
            directory, rows = self.states.directories[run], self.states.rows[run]
            if rows and rows[-1]["step"] == trainer.global_step:
                if len(rows) == 1 or (directory / METRICS).exists():
                    append_metrics(directory, rows[-1], durably=single)
                else:  # somebody has removed it
                    write_metrics(directory, rows)
                if single:
                    for logger in trainer.loggers:
                        if isinstance(logger, Events):  # which has a thread that writes
                            logger.log_evaluation(rows[-1])
                        else:
                            logger.log_metrics(_points(rows[-1]), trainer.global_step)
                            logger.save()

    def write(self, trainer: Trainer, pl_module: LightningModule, run: int, ending: Ending) -> None:
        """Writes ``result.json`` of a run that is over, and its entries in TensorBoard."""
        directory, rows = self.states.directories[run], self.states.rows[run]
        loggers = [logger for logger in trainer.loggers if isinstance(logger, Events)]
        if len(self.configs) > 1 and self.events:
            for old in directory.glob("events.out.tfevents.*"):
                old.unlink()
            loggers = [Events(directory)]
            for row in rows:
                loggers[0].log_evaluation(row)
            loggers[0].log_hyperparams(self.shown(run))
        for own in trainer.loggers:
            if ending.tested and not isinstance(own, Events):  # which takes them from the result
                own.log_metrics(ending.tested, ending.step)
                own.save()
        result = self._result(trainer, pl_module, run, ending)
        for logger in loggers:
            logger.log_end(result)
        if len(self.configs) > 1:
            for logger in loggers:
                logger.experiment.close()
        write_json(directory / RESULT, result)

    def _result(self, trainer: Trainer, pl_module: LightningModule, run: int, ending: Ending) -> dict[str, Any]:
        rows = self.states.rows[run]
        final = _metrics(rows[-1]) | ending.tested if rows else ending.tested
        data = getattr(trainer, "datamodule", None)
        best = max(rows, key=lambda row: (row["val/acc"], -row["step"]), default=None)
        seconds, steps = self.seconds, cast(GrokModule, pl_module).interventions.steps
        return {
            "schema": SCHEMA,
            "status": ending.status,
            "steps": ending.step,
            "budget": trainer.max_steps,
            "threshold": self.states.threshold,
            **self.states.milestones(run),
            AFTER: self.states.after_grok(run, ending.step if ending.status == DIVERGED else None),
            **({"intervention_steps": [None if at < 0 else at for at in made]} if (made := steps[run]) else {}),
            "counts": data and data.held_counts(run),
            "final": final,
            "best": best and {"val/acc": best["val/acc"], "step": int(best["step"])},
            "commutative_fraction": self.commutative_fractions[run],
            # what the algebra or the data are called, and their identity; null where they have none, as text
            "algebra": data and data.title,
            "algebra_identity": data and data.identity(),
            "stack": self._stack,
            "seconds": round(seconds, 3),
            "steps_per_second": round(trainer.global_step / seconds, 3) if seconds > 0 else None,
            "compile_seconds": round(self._compile_seconds, 3),
            "device": name_device(pl_module.device),
            "precision": str(trainer.precision),
            "versions": self._versions,
            "config": self.configs[run],
            "config_hash": self.hashes[run],
            "config_hash_version": HASH_VERSION,
        }


def _version(package: str) -> str:
    """The version of an installed package; a source tree need not be one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _metrics(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "step"}


def _points(row: Row) -> Row:
    """The values of an evaluation that there are: no point of a curve is NaN."""
    return {key: value for key, value in _metrics(row).items() if not math.isnan(value)}
