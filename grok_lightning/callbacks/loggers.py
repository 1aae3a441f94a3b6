"""Loggers that users name: the options that they are given, and how their files go on where a run is resumed."""

import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.fabric.loggers import CSVLogger
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from grok_lightning.callbacks.events import Events
from grok_lightning.errors import refusing
from grok_lightning.files import write_durably
from grok_lightning.records.record import flatten

_VERSION = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.=+-]{0,127})?")


def flat_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of a run by its dotted name: numbers, booleans, texts and None; lists as JSON."""
    plain = (bool, int, float, str, type(None))
    return {key: value if isinstance(value, plain) else json.dumps(value) for key, value in flatten(config).items()}


def number_classes(classes: Iterable[type]) -> list[str]:
    """A key for each of several loggers: its class, and how many of that class come before it."""
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in classes]
    return [f"{name}#{names[:place].count(name)}" for place, name in enumerate(names)]


class LoggerStates:
    """What a checkpoint holds of a run's loggers.

    Args:
        state: The state of the callback ``Loggers`` in a checkpoint, whatever it is.

    Attributes:
        versions: The version of each logger: the number of its folder, or the id that wandb or MLflow has given it.
            What could lead out of a directory is left out.
        rows: The number of rows that each ``CSVLogger`` had written.
    """

    def __init__(self, state: Any = None) -> None:
        versions, rows = (state.get(key) if isinstance(state, dict) else None for key in ("versions", "rows"))
        self.versions: dict[str, int | str] = {
            key: version
            for key, version in (versions.items() if isinstance(versions, dict) else ())
            if (type(version) is int and version >= 0) or (isinstance(version, str) and _VERSION.fullmatch(version))
        }
        self.rows: dict[str, int] = {
            key: count for key, count in (rows.items() if isinstance(rows, dict) else ()) if type(count) is int
        }


class Loggers(Callback):
    """Gives a run's loggers its options, and has those that users name go on where they stood at the checkpoint.

    Args:
        options: The run's resolved options.
        saved: What the checkpoint holds from which the fit resumes.
        shown: Those of its options that TensorBoard shows; default: all.
    """

    def __init__(self, options: Mapping[str, Any], saved: LoggerStates, shown: Mapping[str, Any] | None = None) -> None:
        self.options, self.saved = flat_options(options), saved
        self.shown = self.options if shown is None else shown
        self._brought: dict[str, Logger] = {}
        self._events: list[Events] = []

    def begin(self, loggers: Sequence[Logger]) -> None:
        """Opens what the loggers write: before the fit, in which Lightning would open it anew.

        Raises:
            UserError: If a logger of Lightning's cannot write.
        """
        self._events = [logger for logger in loggers if isinstance(logger, Events)]
        brought = [logger for logger in loggers if not isinstance(logger, Events)]
        self._brought = dict(zip(number_classes(map(type, brought)), brought, strict=True))
        for logger in loggers:
            key = next((key for key, own in self._brought.items() if own is logger), "")
            kind = type(logger)
            mistakes = (Exception,) if kind.__module__.startswith("lightning.") else ()
            refusing(partial(self._open, logger, key), f"trainer.logger: {kind.__name__}: ", mistakes)

    def _open(self, logger: Logger, key: str) -> None:
        continued = bool(key) and key in self.saved.versions and self.saved.versions[key] == logger.version
        if continued and isinstance(logger, CSVLogger):
            restore_rows(logger, self.saved.rows.get(key, 0))
        # these two keep the options that they were given first, and MLflow refuses other values
        if not (continued and isinstance(logger, MLFlowLogger | TensorBoardLogger)):
            logger.log_hyperparams(dict(self.shown if isinstance(logger, Events) else self.options))
        logger.save()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # what decides when callbacks log; resumed from a checkpoint of an evaluation, Lightning is one behind
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        for logger in (*self._brought.values(), *self._events):
            logger.save()  # a checkpoint is never ahead of the files
        versions = {key: logger.version for key, logger in self._brought.items()}
        rows = {key: len(_read_lines(each)) - 1 for key, each in self._brought.items() if isinstance(each, CSVLogger)}
        known = {key: version for key, version in versions.items() if type(version) in (int, str)}
        return {"versions": known, "rows": rows} if self._brought else {}

    def end(self) -> None:
        """Ends what the next run of this process would otherwise go on with: wandb has one run at a time."""
        for logger in self._brought.values():
            if isinstance(logger, WandbLogger) and logger._experiment is not None:  # else it would begin now
                logger.experiment.finish()


def restore_rows(logger: CSVLogger, count: int) -> None:
    """Has a logger go on below the first rows of its file; by itself it would remove the file.

    Args:
        logger: The logger, before it has written anything.
        count: The number of rows to keep.
    """
    lines = _read_lines(logger)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")
        experiment = logger.experiment
    if count > 0 and lines:
        write_durably(_file_of(logger), b"".join(lines[: 1 + count]))
        experiment.metrics_keys = lines[0].decode().strip().split(",")


def _file_of(logger: CSVLogger) -> Path:
    return Path(logger.log_dir, "metrics.csv")


def _read_lines(logger: CSVLogger) -> list[bytes]:
    """The lines of a logger's file, the header first; none if it has written nothing."""
    path = _file_of(logger)
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []
