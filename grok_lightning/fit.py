"""A fit, and an evaluation of a checkpoint: from a resolved config to what is on disk afterwards."""

import errno
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import yaml

from grok_lightning.callbacks.guards import interruptible
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.cli import GrokCLI, Observers
from grok_lightning.errors import UserError, count_from_environment
from grok_lightning.files import write_durably
from grok_lightning.hardware.default_type import float32_by_default
from grok_lightning.options.aliases import naming
from grok_lightning.options.choices import CHOSEN_BY_PARENT
from grok_lightning.options.classes import Nested
from grok_lightning.options.config import Config, RecordedRun, Records
from grok_lightning.options.merging import normalize
from grok_lightning.options.parsing import RUN_FROM_PARENT
from grok_lightning.options.refusals import FREE_ON_RESUME
from grok_lightning.reading import read_yaml
from grok_lightning.records.checkpoint import load
from grok_lightning.records.claims import claim, settle
from grok_lightning.records.defaults import complete_listed
from grok_lightning.records.locks import Locks, lock_name, locks_of
from grok_lightning.records.record import CONFIG, METRICS, flatten, read_metrics, run_directories, write_json
from grok_lightning.records.runs import fresh_number
from grok_lightning.records.tasks import task_title

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


class Fit:
    """The training of one run, or of a stack of runs.

    Everything is built and checked when the object is made; nothing is written before ``run``.

    Args:
        config: A resolved config of ``fit``.
        records: What is recorded, and where; default: the config's own run, which is claimed and locked.
        observers: Makes callbacks that show how the fit proceeds.
        kills: Whether a second SIGINT ends the process; else it raises KeyboardInterrupt, as a notebook expects.

    Attributes:
        config: The config. If its run's number has been taken by another process, ``run`` takes the next.
        cli: The Trainer, module, data and callbacks.

    Raises:
        UserError: If what was asked for cannot be done.
    """

    def __init__(
        self,
        config: Config,
        records: Records | None = None,
        observers: Observers | None = None,
        kills: bool = True,
    ) -> None:
        self._observers, self._kills, self._locked = observers, kills, False
        with naming(config.typed), float32_by_default():
            self._build(config, records)
        if self.cli.records.fresh and count_from_environment("LOCAL_RANK", 0) == 0:
            _refuse_claim(self.cli.records.runs[0], config, self.cli.lifecycle.detection.schedule)
        self.cli.add_loggers()

    def run(self) -> None:
        """Trains until every run is over.

        Raises:
            StopRequested: A signal asked for it; everything is saved.
            Diverged: No run's loss is finite any more; the records say so.
            UserError: Another process trains the run, or has taken its name.
        """
        lead, fresh = self.cli.trainer.is_global_zero, self.cli.records.fresh
        locks = locks_of(self.config.root, self.config.options["experiment"])
        try:
            if lead:
                if fresh:
                    self._claim(locks)
                self._begin()
                self._open_loggers(fresh)
            self.cli.lifecycle.checkpoints.signals.install()
            saved = self.config.saved
            # a checkpoint of step 0 is the state of a fresh start, which repeats it exactly
            path = None if saved is None or saved.step == 0 else str(saved.path)
            fit, method = self.cli.trainer.fit, self.config.method
            with interruptible(), float32_by_default():
                fit(self.cli.model, datamodule=self.cli.datamodule, ckpt_path=path, **method)
        finally:
            self.cli.loggers.end()
            self.cli.lifecycle.checkpoints.signals.restore()
            for name in (RUN_FROM_PARENT, CHOSEN_BY_PARENT):
                os.environ.pop(name, None)
            if self._locked:
                locks.release(lock_name(self.config.options["run"]))
                self._locked = False

    def _build(self, config: Config, records: Records | None = None) -> None:
        self.config = config
        self.cli = GrokCLI(config, records, self._observers)
        self.cli.lifecycle.checkpoints.signals.kills = self._kills
        measured = self.cli.lifecycle.measures.describe() if self.cli.records.fresh else []
        self._notes = [*config.notes, *self._describe_trajectory(), *measured]

    def _describe_trajectory(self) -> list[str]:
        """How many checkpoints of single steps there will be; a sweep has said so for all its runs."""
        if not self.cli.records.fresh:
            return []
        trainer, weights, saved = self.cli.trainer, self.cli.model.state_dict(), self.config.saved
        if trainer.precision == "bf16-true":  # which Lightning makes of it when the fit begins
            weights = {name: weight.bfloat16() for name, weight in weights.items()}
        step = saved.step if saved is not None and saved.step else None
        line = self.cli.lifecycle.checkpoints.describe_trajectory(weights, step, int(trainer.max_steps))
        return [] if line is None else [line]

    def _claim(self, locks: Locks) -> None:
        """Locks the config's own run and, if it is new, makes its directories; a number that is taken is raised."""
        config = self.config
        while not _try_claim(config, locks):
            if not config.numbered:
                raise UserError(f"--{_name(config)} is being trained by another process")
            names = config.options["experiment"], config.options["run"]
            number = max(int(names[1]) + 1, int(fresh_number(config.root, names[0])))
            config = replace(config, options=config.options | {"run": str(number)})
        self._locked = True
        if config is not self.config:
            with float32_by_default():
                self._build(config)
            self.cli.add_loggers()

    def _open_loggers(self, fresh: bool) -> None:
        """Opens the loggers; where one refuses, a new run's name is not taken."""
        try:
            self.cli.loggers.begin(self.cli.trainer.loggers)
        except UserError:
            if fresh and self.config.saved is None:
                names = self.config.options["experiment"], self.config.options["run"]
                for directory in run_directories(self.config.root, *names):
                    shutil.rmtree(directory, ignore_errors=True)
            raise

    def _begin(self) -> None:
        """Makes what directories are not there yet, and writes the configs: everything has been checked by now."""
        config = self.config
        # for the other processes, which repeat the command line
        os.environ |= {RUN_FROM_PARENT: config.options["run"], CHOSEN_BY_PARENT: json.dumps(config.chosen)}
        data, fresh = self.cli.datamodule, self.cli.records.fresh
        first = f"{task_title(config.options['data'], data.title)}: {data.describe_counts()}"
        for line in (*([first] if fresh else []), *self._notes, *(data.notes if fresh else ())):
            print(line, flush=True)
        for run in self.cli.records.runs:
            if config.saved is None and not self.cli.records.fresh:
                claim(run.logs, run.checkpoints, replace=True)  # a sweep's run that begins anew; the sweep has its lock
            _save_config(run.logs / CONFIG, run.config)
            settle(run.logs, run.checkpoints)


def _try_claim(config: Config, locks: Locks) -> bool:
    """Locks a config's run and, if it is new, makes its directories.

    Returns:
        False if another process has the lock, or the run's number is taken.

    Raises:
        UserError: If the run's name is taken, or the checkpoint is not what it was when it was read.
    """
    name = lock_name(config.options["run"])
    if not locks.take(name):
        return False
    try:
        if config.saved is not None:
            if load(config.saved.path)["global_step"] != config.saved.step:
                raise UserError(f"--ckpt_path {str(config.saved.path)!r} has just been changed by another process")
            return True
        directories = run_directories(config.root, config.options["experiment"], config.options["run"])
        if claim(*directories, replace=config.overwrite):
            return True
        if not config.numbered:
            raise UserError(f"--{_name(config)} has just been taken by another process; name another")
    except BaseException:
        locks.release(name)
        raise
    locks.release(name)
    return False


def _name(config: Config) -> str:
    return f"run {config.options['run']!r} of experiment {config.options['experiment']!r}"


def _refuse_claim(run: RecordedRun, config: Config, schedule: EvaluationSchedule) -> None:
    """Refuses to begin a run whose name is taken, and to resume one in the place or without the record of its own."""
    existing = [path for path in (run.logs, run.checkpoints) if path.exists()]
    if config.saved is None and existing and not config.overwrite and not config.numbered:
        raise UserError(
            f"--{_name(config)} exists already ({str(existing[0])!r}); "
            "continue it with --ckpt_path last, replace it with --overwrite, or rename"
        )
    if config.saved is None:
        return
    where = f"--ckpt_path {str(config.saved.path)!r} belongs to {_name(config)}"
    other = _find_other_option(run.logs, config.saved.config)
    if other is not None:
        raise UserError(f"{where}, but {str(run.logs)!r} holds another run, {other}; continue it in another directory")
    if config.saved.step and config.saved.evaluations is None:
        _refuse_gap(run.logs, config.saved.step, schedule, where)


def _refuse_gap(logs: Path, step: int, schedule: EvaluationSchedule, where: str) -> None:
    """Refuses to resume from an older checkpoint where ``metrics.csv`` does not hold all evaluations up to its step."""
    try:
        rows = read_metrics(logs)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{where}, whose record {str(logs / METRICS)!r} cannot be read ({reason})") from None
    gap = schedule.find_gap({int(row["step"]) for row in rows}, step)
    if gap is not None:
        raise UserError(f"{where}, whose record {str(logs / METRICS)!r} lacks the evaluation at step {gap}")


def _find_other_option(logs: Path, config: Nested) -> str | None:
    """How the record in a directory differs from a run, in words; None if it is the run's own, or has no config."""
    try:
        recorded = flatten(complete_listed(normalize(read_yaml(logs / CONFIG), of_trainer=False)))
    except (OSError, ValueError, UserError, AttributeError):  # none, or cut short by a crash
        return None
    wanted = flatten(config)
    free = tuple(f"{name}." for name in FREE_ON_RESUME)
    for option, value in recorded.items():
        if not f"{option}.".startswith(free) and value != wanted.get(option, value):
            return f"with {option} {value!r} instead of {wanted[option]!r}"
    return None


def evaluate(config: Config) -> GrokCLI:
    """Validates, tests or predicts with a checkpoint.

    Args:
        config: A resolved config of ``validate``, ``test`` or ``predict``.

    Returns:
        What was built; its ``model.evaluation`` holds the metrics. They are also written beside the run's record, or
        below ``evaluations`` if that is not here, and predictions to the file that ``output`` names.

    Raises:
        UserError: If what was asked for cannot be done.
    """
    with float32_by_default():
        cli = GrokCLI(config)
    assert config.saved is not None
    method = config.method | ({"return_predictions": False} if config.command == "predict" else {})
    run = getattr(cli.trainer, config.command)
    with interruptible(), float32_by_default():
        run(cli.model, datamodule=cli.datamodule, ckpt_path=str(config.saved.path), **method)
    if config.command != "predict" and cli.trainer.is_global_zero:
        metrics = {key: float(value[0]) for key, value in cli.model.evaluation.items()}
        _record_evaluation(config, {"checkpoint": str(config.saved.path), "step": config.saved.step} | metrics)
    return cli


def _record_evaluation(config: Config, found: Nested) -> None:
    """Writes what an evaluation found; where its folder is read-only, it says so: what was asked for is printed."""
    logs = _evaluations_directory(config)
    path = logs / f"{config.command}.json"
    try:
        if config.command == "validate":
            _save_config(logs / "config-validate.yaml", config.options)
        write_json(path, found)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        print(f"grok-lightning: {str(path)!r} is not written: {error.strerror}", file=sys.stderr)


def _evaluations_directory(config: Config) -> Path:
    """Where an evaluation is written: beside the run's record; where that is not, in a directory that is no record."""
    assert config.saved is not None
    names = config.options["experiment"], config.options["run"]
    logs, _ = run_directories(config.root, *names)
    if (logs / METRICS).exists() and _find_other_option(logs, config.saved.config) is None:
        return logs
    return config.root / "evaluations" / Path(*names)


def _save_config(path: Path, options: Nested) -> None:
    write_durably(path, yaml.safe_dump(options, sort_keys=False).encode())
