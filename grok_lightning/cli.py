"""GrokCLI: joins data, model, optimizer, callbacks and Trainer, and refuses what contradicts itself."""

import json
import logging
import os
import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError
from lightning.pytorch import Trainer

from grok_lightning.callbacks.checkpoints import Checkpoints
from grok_lightning.callbacks.compilations import CompilationGuard
from grok_lightning.callbacks.curves_figure import CurvesFigure
from grok_lightning.callbacks.departures import Departures
from grok_lightning.callbacks.detection import GrokDetection
from grok_lightning.callbacks.divergence import DivergenceGuard
from grok_lightning.callbacks.events import Events
from grok_lightning.callbacks.images import Images
from grok_lightning.callbacks.measures import Measures
from grok_lightning.callbacks.pace import Pace
from grok_lightning.callbacks.predictions import Predictions
from grok_lightning.callbacks.progress import ProgressLine
from grok_lightning.callbacks.recorder import Recorder
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.errors import UserError, user_error_in
from grok_lightning.experiment import start_from
from grok_lightning.files import refuse_unwritable
from grok_lightning.options.choices import graph_of
from grok_lightning.options.classes import Nested
from grok_lightning.options.parsing import CHOSEN_BY_PARENT, MEASURED, RUN_FROM_PARENT, ResolvedOptions
from grok_lightning.options.refusals import refuse_directories, refuse_nothing_to_learn, refuse_optimizer
from grok_lightning.options.wording import title
from grok_lightning.records.checkpoint import DurableCheckpointIO
from grok_lightning.records.record import NOT_RESULTS, config_hash, run_directories, write_json


@dataclass(frozen=True)
class RecordedRun:
    """A run whose record is written.

    Attributes:
        config: Its resolved config.
        hash: Of the options that change results.
        logs: The directory of its record.
        checkpoints: The directory of its checkpoints.
    """

    config: Nested
    hash: str
    logs: Path
    checkpoints: Path


class GrokCLI(ResolvedOptions):
    """The subcommands that are Trainer methods: fit, validate, test and predict.

    Args:
        arguments: The command line after the program's name.

    Raises:
        UserError: If what was asked for cannot be done; nothing has been written then.
    """

    events, close_up = True, False  # a sweep decides otherwise

    # --- building -----------------------------------------------------------------------------------------------------

    def _parse_ckpt_path(self) -> None:
        """Nothing: a checkpoint's config was laid under the given options already."""

    def _set_seed(self) -> None:
        """Nothing: no randomness here comes from a global generator."""

    def instantiate_classes(self) -> None:
        if "threads" in self.resolved:  # before anything is built: compiled code counts on the number
            torch.set_num_threads(self.resolved["threads"])
        try:
            super().instantiate_classes()
        except (UserError, TypeError, ValueError, ArgumentError, RuntimeError, MemoryError) as error:
            raise user_error_in(error) or UserError(" ".join(str(error).split())[:300]) from None

    def _prepare_model(self) -> None:
        """Gives the model the precision that it trains in, and refuses a checkpoint of another model."""
        if self.resolved["trainer"]["precision"] == "64-true":
            self.model.double()  # Lightning loads a checkpoint before it converts: 64-bit weights would be rounded
        if self.checkpoint is not None:
            shapes = {name: weight.shape for name, weight in self.model.state_dict().items()}
            if shapes != {name: weight.shape for name, weight in self.saved_weights.items()}:
                raise UserError(f"ckpt_path {str(self.checkpoint)!r}: its weights are not those of its config's model")
            self.model.load_state_dict(self.saved_weights)  # of step 0 nothing more is needed than the weights
        elif self.resolved.get("init_from") is not None:
            if not self.resolved["init_from"]:
                raise UserError("--init_from is ''; a checkpoint file, or a directory of checkpoints, is expected")
            start_from(Path(self.resolved["init_from"]), self.model, self.datamodule)
        refuse_nothing_to_learn(self.model, self.datamodule)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        self.logs, self.checkpoints = run_directories(self.root, self.resolved["experiment"], self.resolved["run"])
        trainer = dict(self._get(self.config_init, "trainer"))
        own_loggers = trainer.pop("logger")
        self._prepare_model()
        refuse_optimizer(self.model)
        callbacks = self._callbacks() + _as_list(trainer.pop("callbacks"))
        plugins = [*_as_list(trainer.pop("plugins")), DurableCheckpointIO()]
        if trainer["default_root_dir"] is None:
            trainer["default_root_dir"] = str(self.root)
        self.refuse_places()
        try:
            return Trainer(**trainer, logger=self._loggers(own_loggers), callbacks=callbacks, plugins=plugins)
        except Exception as error:  # whatever a Trainer cannot be built from is an option of the Trainer
            raise UserError(f"--trainer: {' '.join(str(error).split())[:300]}") from None

    def refuse_places(self) -> None:
        """Refuses directories that are taken, or not there."""
        if self.subcommand == "fit":
            refuse_directories(self.checkpoint, self.resolved, self.overwrite, self.logs, self.checkpoints)

    def recorded_runs(self) -> list[RecordedRun]:
        """The runs of the stack that is trained."""
        hashed = config_hash(self.resolved, self._defaults(), NOT_RESULTS)
        return [RecordedRun(self.resolved, hashed, self.logs, self.checkpoints)]

    def stack_checkpoint(self) -> tuple[Path, Nested] | None:
        """Where the checkpoint of a stack of several runs goes, and the config it holds."""
        return None

    def _loggers(self, own: Any) -> Any:
        """TensorBoard in the run's own directory, beside whatever loggers the user brought; none for ``false``."""
        if self.subcommand != "fit" or own is False:
            return False
        brought = [] if own is True else _as_list(own)
        purge = None if self.checkpoint is None else self.checkpoint_step + 1
        return [Events(self.logs, purge), *brought]

    def _callbacks(self) -> list[Any]:
        measures = Measures(self._get(self.config_init, "measures") if self.subcommand in MEASURED else [])
        measures.check(self.model.network, self.datamodule)
        if self.subcommand == "predict":
            output = Path(self._get(self.config_init, "output"))
            refuse_unwritable("output", output.parent)
            if output.is_dir() or not output.name:
                raise UserError(f"--output is {str(output)!r}; the path of a CSV file is expected")
            split = self._get(self.config_init, "split")
            self.datamodule.predict_splits = self._predicted_splits(split)
            return [Predictions(output)]
        if self.subcommand == "fit":
            return self._fit_callbacks(measures)
        if self.subcommand == "test":
            self.datamodule.test_dataloader()  # says so at once if there are no test rows
        return [measures]

    def _fit_callbacks(self, measures: Measures) -> list[Any]:
        self.runs = self.recorded_runs()
        configs, logs = [run.config for run in self.runs], [run.logs for run in self.runs]
        options = self._get(self.config_init, "evaluation").as_dict()
        schedule = EvaluationSchedule(options.pop("per_decade"), options.pop("every"))
        checkpoints = Checkpoints(
            [run.checkpoints for run in self.runs],
            configs,
            self.stack_checkpoint(),
            **self._get(self.config_init, "checkpoint").as_dict(),
        )
        self.detection = GrokDetection(logs, schedule, checkpoints, **options)
        fractions = [split.commutative_fraction for split in self.datamodule.splits]
        self.recorder = Recorder(self.detection, configs, [run.hash for run in self.runs], fractions, self.events)
        names = [f"{config['experiment']}/{config['run']}" for config in configs]
        titles = [f"{name}: {title(config)}" for name, config in zip(names, configs, strict=True)]
        self.figure = CurvesFigure(self.detection, titles)
        figure = self.figure if self.events else None
        self.departures = Departures(self.detection, self.recorder, figure, checkpoints, self.close_up)
        # in this order: notice divergence, measure, notice the evaluation, write it down, let runs go, show; last, save
        before = [
            CompilationGuard(graph_of(self.resolved)),
            DivergenceGuard(),
            schedule,
            measures,
            self.detection,
            self.recorder,
            self.departures,
        ]
        own = [*before, self.figure, *self.observers(names), checkpoints]
        return [*own, Pace(checkpoints, own)]

    def observers(self, names: list[str]) -> list[Any]:
        """The callbacks that show how the fit goes on, and what it came to."""
        wanted = self.resolved["trainer"]["enable_progress_bar"] is not False
        return [Images(self.figure), *([ProgressLine(self.detection, names[0])] if wanted else [])]

    def _predicted_splits(self, split: str) -> list[str]:
        wanted = ["train", "val", "test"] if split == "all" else [split]
        kept = [name for name in wanted if max(self.datamodule.counts(name))]
        if not kept:
            raise UserError(f"--split is {split!r}, which has no rows in this run; use train, val or all")
        return kept

    # --- running ------------------------------------------------------------------------------------------------------

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing yet: ``execute`` runs it, when the whole object stands."""

    def execute(self) -> None:
        """Runs the subcommand."""
        try:
            super()._run_subcommand(str(self.subcommand))
        finally:
            for name in (RUN_FROM_PARENT, CHOSEN_BY_PARENT):
                os.environ.pop(name, None)

    def before_fit(self) -> None:
        """Makes the runs' directories: everything has been checked by now."""
        if not self.trainer.is_global_zero:
            return
        # for the other ranks, which repeat the command line
        os.environ |= {RUN_FROM_PARENT: self.resolved["run"], CHOSEN_BY_PARENT: json.dumps(self.chosen)}
        for line in self.said:
            print(line, flush=True)
        for run in self.runs:
            for directory in (run.logs, run.checkpoints) if self.checkpoint is None else ():
                if directory.exists():
                    shutil.rmtree(directory)
                try:
                    directory.mkdir(parents=True)
                except FileExistsError:  # another process took the name a moment ago
                    raise UserError(f"--run {run.config['run']!r} has just been taken; name another") from None
            _save_config(run.logs / "config.yaml", run.config)

    def _save_config(self) -> None:
        _save_config(self.logs / f"config-{self.subcommand}.yaml", self.resolved)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        # a checkpoint of step 0 is the state of a fresh start, which repeats it exactly
        fresh = self.checkpoint is None or (subcommand == "fit" and self.checkpoint_step == 0)
        kwargs["ckpt_path"] = None if fresh else str(self.checkpoint)
        if subcommand == "predict":
            kwargs["return_predictions"] = False
        return kwargs

    def before_validate(self) -> None:
        self._save_config()

    def after_validate(self) -> None:
        self._save_evaluation()

    def before_test(self) -> None:
        self._save_config()

    def after_test(self) -> None:
        self._save_evaluation()

    def before_predict(self) -> None:
        self._save_config()

    def _save_evaluation(self) -> None:
        """Writes ``test.json`` or ``validate.json`` beside the run's record."""
        if self.trainer.is_global_zero:
            metrics = {key: float(value[0]) for key, value in self.model.evaluation.items()}
            found = {"checkpoint": str(self.checkpoint), "step": self.checkpoint_step} | metrics
            write_json(self.logs / f"{self.subcommand}.json", found)


def _save_config(path: Path, config: Nested) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8", newline="\n")


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def quiet() -> None:
    """Silences what Lightning tells every user about itself."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*IterableDataset.*__len__.*")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module="lightning")
