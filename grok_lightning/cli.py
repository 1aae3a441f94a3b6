"""GrokCLI: joins data, model, callbacks and Trainer of one config (which ``options/parsing.py`` resolves)."""

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from grok_lightning.build import build
from grok_lightning.callbacks.checkpoints import Checkpoints
from grok_lightning.callbacks.events import Events
from grok_lightning.callbacks.final_test import FinalTest
from grok_lightning.callbacks.forecasts import KEYS, Forecasts
from grok_lightning.callbacks.guards import CompilationGuard, DivergenceGuard
from grok_lightning.callbacks.lifecycle import Lifecycle
from grok_lightning.callbacks.loggers import Loggers, LoggerStates
from grok_lightning.callbacks.measures import Measures
from grok_lightning.callbacks.pace import Pace
from grok_lightning.callbacks.predictions import Predictions
from grok_lightning.callbacks.progress import Heartbeat, ProgressLine
from grok_lightning.callbacks.recorder import Recorder
from grok_lightning.callbacks.run_figures import RunFigures
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.callbacks.states import GrokDetection, RunStates
from grok_lightning.errors import UserError, refusing
from grok_lightning.measures.base import Measure
from grok_lightning.options.brought import (
    build_listed,
    place,
    refuse_callbacks,
    refuse_decay_monitor,
    refuse_monitors,
)
from grok_lightning.options.choices import graph_of
from grok_lightning.options.classes import TRAINER_LISTS, Nested
from grok_lightning.options.config import Config, Records
from grok_lightning.options.merging import expand
from grok_lightning.options.parser import TRAINER_DEFAULTS, add_trainer
from grok_lightning.options.parsing import recorded_run
from grok_lightning.options.probe import refuse_network
from grok_lightning.options.refusals import refuse_nothing_to_learn, refuse_optimizer, refuse_other_rows
from grok_lightning.options.shown import shown_options
from grok_lightning.records.checkpoint import DurableCheckpointIO, load
from grok_lightning.records.checkpoint_form import check_state
from grok_lightning.records.notices import FITS, Notice
from grok_lightning.records.tasks import task_title
from grok_lightning.run import title
from grok_lightning.starting import set_initial_weights

Observers = Callable[[RunStates], list[Callback]]


class GrokCLI(LightningCLI):
    """LightningCLI on a config that is resolved already; ``trainer``, ``model`` and ``datamodule`` are what it builds.

    Args:
        config: The resolved config.
        records: What a fit records, and where; default: the config's own run, whose name must not be taken.
        observers: Makes callbacks that show how the fit proceeds; default: a progress line and images in TensorBoard.

    Attributes:
        records: As above.
        states, recorder, figures, lifecycle, loggers: The parts of a fit that its caller asks about.

    Raises:
        UserError: If what was asked for cannot be done; nothing has been written then.
    """

    states: RunStates
    recorder: Recorder
    figures: RunFigures
    lifecycle: Lifecycle
    loggers: Loggers

    def __init__(self, config: Config, records: Records | None = None, observers: Observers | None = None) -> None:
        self.resolved, self.observers = config, observers
        self.records = records or Records([recorded_run(config)] if config.command == "fit" else [], fresh=True)
        self.placed = config.options
        if config.command == "fit":
            self.placed = place(config.options, self.records.runs[0], config.saved, sweep=not self.records.fresh)
        trainer = {key: value for key, value in self.placed["trainer"].items() if f"trainer.{key}" not in TRAINER_LISTS}
        super().__init__(
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=False,  # no random number here comes from a global generator
            args=expand({key: self.placed[key] for key in ("measures",) if key in self.placed} | {"trainer": trainer}),
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_trainer(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--measures", type=list[Measure], default=[])

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        self.config = parser.parse_object(args)

    def instantiate_classes(self) -> None:
        options = self.resolved.options
        if "threads" in options:  # before anything is built: compiled code depends on the number
            torch.set_num_threads(options["threads"])
        try:
            self.model, self.datamodule = build(options)
        except UserError as error:
            saved = self.resolved.saved
            raise (
                error if saved is None else UserError(f"ckpt_path {str(saved.path)!r}: {str(error)[:400]}")
            ) from None
        refuse_other_rows(self.datamodule, self.resolved.saved)
        set_initial_weights(self.model, self.datamodule, self.resolved)
        refuse_nothing_to_learn(self.model, self.datamodule)
        refuse_network(self.model, self.datamodule)
        refuse_optimizer(self.model, options["trainer"]["max_steps"] if self.resolved.command == "fit" else 0)
        self.config_init: Namespace = refusing(
            lambda: self.parser.instantiate(self.config), "--trainer: ", also=(ArgumentError,)
        )
        self.trainer = self.instantiate_trainer()
        self._refuse_state()

    def _refuse_state(self) -> None:
        """Refuses a checkpoint whose state, beside its weights, does not fit what has been built."""
        saved, training = self.resolved.saved, self.resolved.command == "fit"
        if saved is None or (training and saved.step == 0):  # of step 0 nothing more is needed than the weights
            return
        try:
            check_state(load(saved.path), self.model, self.trainer, training)
        except ValueError as error:
            raise UserError(f"ckpt_path {str(saved.path)!r}: {error}") from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config, options = self.resolved, dict(self.config_init["trainer"])
        brought = build_listed(self.placed, "trainer.callbacks")
        callbacks = self._fit_callbacks(brought) if config.command == "fit" else self._evaluation_callbacks()
        # ours last, so that what it saves holds the states of theirs after the same evaluation
        last = [each for each in callbacks if isinstance(each, Checkpoints)]
        options["callbacks"] = [*(each for each in callbacks if each not in last), *brought, *last]
        options["plugins"] = [*_as_list(options["plugins"]), DurableCheckpointIO()]
        options["default_root_dir"] = options["default_root_dir"] or str(config.root)
        if config.command == "fit" and self.placed["trainer"]["logger"] is not False:
            purge = None if config.saved is None else config.saved.step + 1
            options["logger"] = [Events(self.records.runs[0].logs, purge)] if self.records.events or brought else []
        else:
            options["logger"] = False
        if config.command != "fit" and not sys.stdout.isatty():
            options["enable_progress_bar"] = False  # no bar in a file or a pipe
        # what a Trainer cannot be built from is one of its options: a device that is not here, a package not installed
        also = (TypeError, RuntimeError, ImportError, MisconfigurationException)
        return refusing(lambda: Trainer(**options | kwargs), "--trainer: ", also)

    def add_loggers(self) -> None:
        """Builds the loggers that the user names: when all else has been checked, for MLflow's writes at once.

        Raises:
            UserError: If one cannot be built.
        """
        self.trainer.loggers = [*self.trainer.loggers, *build_listed(self.placed, "trainer.logger")]

    def _fit_callbacks(self, brought: list[Callback]) -> list[Callback]:
        refuse_callbacks(brought, self.placed["trainer"]["logger"] is not False)
        forecast = KEYS if self.resolved.options["evaluation"].get("forecast") else ()
        refuse_monitors(brought, self.model, self.datamodule, self.config_init["measures"], forecast)
        refuse_decay_monitor(brought, self.model)
        options, saved, data, runs = self.resolved.options, self.resolved.saved, self.datamodule, self.records.runs
        configs, logs, events = [run.config for run in runs], [run.logs for run in runs], self.records.events
        names = [f"{config['experiment']}/{config['run']}" for config in configs]
        counts = [
            {"train": train, "val": val} for train, val in zip(data.counts("train"), data.counts("val"), strict=True)
        ]
        evaluation = dict(options["evaluation"])
        schedule = EvaluationSchedule(evaluation.pop("per_decade"), evaluation.pop("every"))
        validated = [data.is_validated(run) for run in range(len(runs))]
        states = self.states = RunStates(logs, counts, **evaluation, validated=validated)
        directories = [run.checkpoints for run in runs]
        checkpoints = Checkpoints(states, directories, configs, self.records.stack, **options["checkpoint"])
        fractions = [split.commutative_fraction for split in data.splits]
        hashes = [run.hash for run in runs]
        self.recorder = Recorder(states, configs, hashes, fractions, events, lambda run: shown_options(runs[run]))
        titles = [f"{name}: {title(config, data.title)}" for name, config in zip(names, configs, strict=True)]
        task = task_title(configs[0]["data"], data.title)
        self.figures = RunFigures(states, titles, data, images=self.observers is None, task=task)
        forecasts = Forecasts(states, configs)
        self.lifecycle = Lifecycle(
            GrokDetection(states, schedule, None if saved is None else saved.evaluations),
            Measures(self.config_init["measures"], data, self.model, schedule),
            self.recorder,
            self.figures if events else None,
            checkpoints,
            FinalTest(data),
            self.records.close_up,
            forecasts,
        )
        if self.observers is not None:
            shown = self.observers(states)
        else:
            silent = options["trainer"]["enable_progress_bar"] is False
            silent |= any(isinstance(callback, ProgressBar) for callback in brought)
            shown = [] if silent else [ProgressLine(states, names[0], forecasts)]
            shown.append(_notify(states, configs[0], logs[0].parent))
        shows = events and len(runs) == 1  # a stack's runs get theirs when they are over
        self.loggers = Loggers(
            configs[0],
            LoggerStates() if saved is None else saved.loggers,
            shown_options(runs[0]) if shows else None,
        )
        guards = [CompilationGuard(graph_of(options)), DivergenceGuard()]
        own = [*guards, schedule, self.loggers, self.lifecycle, self.recorder, *shown, checkpoints]
        return [*own, Pace(checkpoints, own)]

    def _evaluation_callbacks(self) -> list[Callback]:
        options, data = self.resolved.options, self.datamodule
        if self.resolved.command == "predict":
            return [Predictions(Path(options["output"]), options["split"], data)]
        if self.resolved.command == "test":
            data.test_dataloader()  # says so at once if there are no test rows
        return [Measures(self.config_init["measures"], data, self.model)]


def _notify(states: RunStates, config: Nested, logs: Path) -> Heartbeat:
    """Has a fit tell how it proceeds in a file that ``status`` reads, until it ends."""
    notice = Notice(logs / FITS)
    named = {"experiment": config["experiment"], "name": config["run"], "members": [config["run"]]}
    return Heartbeat(states, partial(notice.try_write, **named), end=notice.try_remove)


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _report_thread(raised: threading.ExceptHookArgs) -> None:
    """Prints the error of a thread, except of TensorBoard's writer, which raises it again in the main thread."""
    if type(raised.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(raised)


def quiet() -> None:
    """Silences what Lightning tells every user about itself, and what is told a second time."""
    threading.excepthook = _report_thread
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.callbacks").setLevel(logging.INFO)  # of a summary, of EarlyStopping's reason
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*IterableDataset.*__len__.*")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module="lightning")
