"""A fit, and an evaluation of a checkpoint: from a resolved config to what is on disk afterwards."""

import json
import os
import shutil
from pathlib import Path

import yaml

from grok_lightning.cli import GrokCLI, Observers
from grok_lightning.errors import UserError, count_from_environment
from grok_lightning.options.choices import CHOSEN_BY_PARENT
from grok_lightning.options.classes import Nested
from grok_lightning.options.config import Config, RecordedRun, Records
from grok_lightning.options.parsing import RUN_FROM_PARENT
from grok_lightning.records.record import run_directories, write_json


class Fit:
    """The training of one run, or of a stack of runs.

    Everything is built and checked when the object is made; nothing is written before ``run``.

    Args:
        config: A resolved config of ``fit``.
        records: What is recorded, and where; default: the config's own run, whose name must not be taken.
        observers: Makes callbacks that show how the fit proceeds.

    Attributes:
        cli: The Trainer, module, data and callbacks.

    Raises:
        UserError: If what was asked for cannot be done.
    """

    def __init__(self, config: Config, records: Records | None = None, observers: Observers | None = None) -> None:
        self.config = config
        self.cli = GrokCLI(config, records, observers)
        if self.cli.records.fresh:
            _refuse_claim(self.cli.records.runs[0], config)

    def run(self) -> None:
        """Trains until every run is over.

        Raises:
            StopRequested: A signal asked for it; everything is saved.
            Diverged: No run's loss is finite any more; the records say so.
        """
        try:
            self._begin()
            saved = self.config.saved
            # a checkpoint of step 0 is the state of a fresh start, which repeats it exactly
            path = None if saved is None or saved.step == 0 else str(saved.path)
            self.cli.trainer.fit(self.cli.model, datamodule=self.cli.datamodule, ckpt_path=path, **self.config.method)
        finally:
            for name in (RUN_FROM_PARENT, CHOSEN_BY_PARENT):
                os.environ.pop(name, None)

    def _begin(self) -> None:
        """Makes the runs' directories: everything has been checked by now."""
        if not self.cli.trainer.is_global_zero:
            return
        config = self.config
        # for the other processes, which repeat the command line
        os.environ |= {RUN_FROM_PARENT: config.options["run"], CHOSEN_BY_PARENT: json.dumps(config.chosen)}
        for line in config.notes:
            print(line, flush=True)
        for run in self.cli.records.runs:
            if config.saved is None:
                _claim(run)
            _save_config(run.logs / "config.yaml", run.config)


def _refuse_claim(run: RecordedRun, config: Config) -> None:
    """Refuses to resume a run whose directory is gone, or to begin one whose name is taken."""
    named = f"run {run.config['run']!r} of experiment {run.config['experiment']!r}"
    existing = [path for path in (run.logs, run.checkpoints) if path.exists()]
    is_main = count_from_environment("LOCAL_RANK", 0) == 0
    if config.saved is not None and not run.logs.is_dir():
        raise UserError(
            f"--ckpt_path {str(config.saved.path)!r} belongs to {named}, whose directory {str(run.logs)!r} is not here"
        )
    if config.saved is None and existing and is_main and not config.overwrite:
        raise UserError(
            f"--{named} exists already ({str(existing[0])!r}); "
            "continue it with --ckpt_path last, replace it with --overwrite, or rename"
        )


def _claim(run: RecordedRun) -> None:
    """Makes the directories of a new run, in place of those it replaces."""
    for directory in (run.logs, run.checkpoints):
        if directory.exists():
            shutil.rmtree(directory)
        try:
            directory.mkdir(parents=True)
        except FileExistsError:  # another process took the name a moment ago
            raise UserError(f"--run {run.config['run']!r} has just been taken; name another") from None


def evaluate(config: Config) -> GrokCLI:
    """Validates, tests or predicts with a checkpoint.

    Args:
        config: A resolved config of ``validate``, ``test`` or ``predict``.

    Returns:
        What was built; its ``model.evaluation`` holds the metrics. They are also written beside the run's record, and
        predictions to the file that ``output`` names.

    Raises:
        UserError: If what was asked for cannot be done.
    """
    cli = GrokCLI(config)
    assert config.saved is not None
    logs, _ = run_directories(config.root, config.options["experiment"], config.options["run"])
    _save_config(logs / f"config-{config.command}.yaml", config.options)
    method = config.method | ({"return_predictions": False} if config.command == "predict" else {})
    run = getattr(cli.trainer, config.command)
    run(cli.model, datamodule=cli.datamodule, ckpt_path=str(config.saved.path), **method)
    if config.command != "predict" and cli.trainer.is_global_zero:
        metrics = {key: float(value[0]) for key, value in cli.model.evaluation.items()}
        found = {"checkpoint": str(config.saved.path), "step": config.saved.step} | metrics
        write_json(logs / f"{config.command}.json", found)
    return cli


def _save_config(path: Path, options: Nested) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8", newline="\n")
