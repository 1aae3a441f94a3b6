"""GrokCLI: joins data, model, callbacks and Trainer of one resolved config."""

import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from grok_lightning.build import build
from grok_lightning.callbacks.checkpoints import Checkpoints
from grok_lightning.callbacks.events import Events
from grok_lightning.callbacks.guards import CompilationGuard, DivergenceGuard
from grok_lightning.callbacks.lifecycle import Lifecycle
from grok_lightning.callbacks.measures import Measures
from grok_lightning.callbacks.pace import Pace
from grok_lightning.callbacks.predictions import Predictions
from grok_lightning.callbacks.progress import ProgressLine
from grok_lightning.callbacks.recorder import Recorder
from grok_lightning.callbacks.run_figures import RunFigures
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.callbacks.states import GrokDetection, RunStates
from grok_lightning.errors import UserError, refusing
from grok_lightning.files import refuse_unwritable
from grok_lightning.measures.base import Measure
from grok_lightning.options.choices import graph_of
from grok_lightning.options.classes import Nested
from grok_lightning.options.merging import expand
from grok_lightning.options.parser import TRAINER_DEFAULTS, add_trainer
from grok_lightning.options.parsing import Config, defaults_of
from grok_lightning.options.refusals import refuse_directories, refuse_nothing_to_learn, refuse_optimizer
from grok_lightning.options.wording import title
from grok_lightning.records.checkpoint import DurableCheckpointIO
from grok_lightning.records.record import NOT_RESULTS, config_hash, run_directories
from grok_lightning.run import start_from

Observers = Callable[[RunStates], list[Callback]]


@dataclass(frozen=True)
class RecordedRun:
    """A run whose record is written.

    Attributes:
        config: Its resolved options.
        hash: Of the options that change results.
        logs: The directory of its record.
        checkpoints: The directory of its checkpoints.
    """

    config: Nested
    hash: str
    logs: Path
    checkpoints: Path


def recorded_run(config: Config) -> RecordedRun:
    """The record of a config's own run."""
    hashed = config_hash(config.options, defaults_of(config.options), NOT_RESULTS)
    names = config.options["experiment"], config.options["run"]
    return RecordedRun(config.options, hashed, *run_directories(config.root, *names))


@dataclass(frozen=True)
class Records:
    """What is recorded of a fit, and where.

    Attributes:
        runs: The runs of the stack.
        stack: The directory of the whole stack's checkpoint and the config it holds; None for a single run.
        events: Whether the runs get TensorBoard events and a figure.
        close_up: Whether the stack is made smaller when half of its runs are over.
        fresh: Whether the directories must not exist before a new run begins.
    """

    runs: list[RecordedRun] = field(default_factory=list)
    stack: tuple[Path, Nested] | None = None
    events: bool = True
    close_up: bool = False
    fresh: bool = False


class GrokCLI(LightningCLI):
    """LightningCLI on a config that is resolved already; ``trainer``, ``model`` and ``datamodule`` are what it builds.

    Args:
        config: The resolved config.
        records: What a fit records, and where; default: the config's own run, whose name must not be taken.
        observers: Makes callbacks that show how the fit proceeds; default: a progress line and images in TensorBoard.

    Attributes:
        records: As above.
        states, recorder, figures, lifecycle: The parts of a fit that its caller asks about.

    Raises:
        UserError: If what was asked for cannot be done; nothing has been written then.
    """

    states: RunStates
    recorder: Recorder
    figures: RunFigures
    lifecycle: Lifecycle

    def __init__(self, config: Config, records: Records | None = None, observers: Observers | None = None) -> None:
        self.resolved, self.observers = config, observers
        self.records = records or Records([recorded_run(config)] if config.command == "fit" else [], fresh=True)
        super().__init__(
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=False,  # no random number here comes from a global generator
            args={key: value for key, value in expand(config.options).items() if key in ("trainer", "measures")},
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
        self.model, self.datamodule = build(options)
        self._load_weights()
        self.config_init: Namespace = refusing(
            lambda: self.parser.instantiate(self.config), "--trainer: ", also=(ArgumentError,)
        )
        self.trainer = self.instantiate_trainer()

    def _load_weights(self) -> None:
        """Gives the model its precision and the weights that it begins with, and refuses what does not fit it."""
        options, saved = self.resolved.options, self.resolved.saved
        if options["trainer"]["precision"] == "64-true":
            self.model.double()  # Lightning loads a checkpoint before it converts: 64-bit weights would be rounded
        if saved is not None:
            shapes = {name: weight.shape for name, weight in self.model.state_dict().items()}
            if shapes != {name: weight.shape for name, weight in saved.weights.items()}:
                raise UserError(f"ckpt_path {str(saved.path)!r}: its weights are not those of its config's model")
            self.model.load_state_dict(saved.weights)  # of step 0 nothing more is needed than the weights
        elif options.get("init_from") is not None:
            if not options["init_from"]:
                raise UserError("--init_from is ''; a checkpoint file, or a directory of checkpoints, is expected")
            start_from(Path(options["init_from"]), self.model, self.datamodule)
        refuse_nothing_to_learn(self.model, self.datamodule)
        refuse_optimizer(self.model)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config, options = self.resolved, dict(self.config_init["trainer"])
        callbacks = {"fit": self._fit_callbacks, "predict": self._predict_callbacks}.get(config.command, self._measures)
        options["callbacks"] = [*callbacks(), *_as_list(options["callbacks"])]
        options["plugins"] = [*_as_list(options["plugins"]), DurableCheckpointIO()]
        options["default_root_dir"] = options["default_root_dir"] or str(config.root)
        if config.command == "fit" and self.records.fresh:
            (run,) = self.records.runs
            saved = config.saved.path if config.saved else None
            refuse_directories(saved, config.options, config.overwrite, run.logs, run.checkpoints)
        if config.command != "fit" and options["enable_progress_bar"] is None:
            options["enable_progress_bar"] = sys.stdout.isatty()  # no bar in a file or a pipe
        options["logger"] = self._loggers(options["logger"])
        # what a Trainer cannot be built from is one of its options: a device that is not here, a package not installed
        also = (TypeError, RuntimeError, ImportError, MisconfigurationException)
        return refusing(lambda: Trainer(**options | kwargs), "--trainer: ", also)

    def _loggers(self, own: Any) -> Any:
        """TensorBoard in the run's own directory, beside whatever loggers the user brought; none for ``false``."""
        if self.resolved.command != "fit" or own is False:
            return False
        brought = [] if own is True else _as_list(own)
        purge = None if self.resolved.saved is None else self.resolved.saved.step + 1
        return [Events(self.records.runs[0].logs, purge), *brought]

    def _measures(self) -> list[Measures]:
        measures = Measures(self.config_init["measures"], self.datamodule)
        measures.check(self.model.network)
        if self.resolved.command == "test":
            self.datamodule.test_dataloader()  # says so at once if there are no test rows
        return [measures]

    def _predict_callbacks(self) -> list[Callback]:
        output, split = Path(self.resolved.options["output"]), self.resolved.options["split"]
        refuse_unwritable("output", output.parent)
        if output.is_dir() or not output.name:
            raise UserError(f"--output is {str(output)!r}; the path of a CSV file is expected")
        wanted = ["train", "val", "test"] if split == "all" else [split]
        self.datamodule.predict_splits = [name for name in wanted if max(self.datamodule.counts(name))]
        if not self.datamodule.predict_splits:
            raise UserError(f"--split is {split!r}, which has no rows in this run; use train, val or all")
        return [Predictions(output, self.datamodule)]

    def _fit_callbacks(self) -> list[Callback]:
        options, runs = self.resolved.options, self.records.runs
        configs, logs = [run.config for run in runs], [run.logs for run in runs]
        evaluation = dict(options["evaluation"])
        schedule = EvaluationSchedule(evaluation.pop("per_decade"), evaluation.pop("every"))
        pairs = zip(self.datamodule.counts("train"), self.datamodule.counts("val"), strict=True)
        self.states = RunStates(logs, [{"train": train, "val": val} for train, val in pairs], **evaluation)
        checkpoints = Checkpoints(
            self.states, [run.checkpoints for run in runs], configs, self.records.stack, **options["checkpoint"]
        )
        fractions = [split.commutative_fraction for split in self.datamodule.splits]
        events = self.records.events
        self.recorder = Recorder(self.states, configs, [run.hash for run in runs], fractions, events)
        names = [f"{config['experiment']}/{config['run']}" for config in configs]
        titles = [f"{name}: {title(config)}" for name, config in zip(names, configs, strict=True)]
        self.figures = RunFigures(self.states, titles, self.datamodule, images=self.observers is None)
        (measures,) = self._measures()
        self.lifecycle = Lifecycle(
            GrokDetection(self.states, schedule),
            measures,
            self.recorder,
            self.figures if events else None,
            checkpoints,
            self.records.close_up,
        )
        if self.observers is not None:
            shown = self.observers(self.states)
        else:
            line = options["trainer"]["enable_progress_bar"] is not False
            shown = [ProgressLine(self.states, names[0])] if line else []
        guards = [CompilationGuard(graph_of(options)), DivergenceGuard()]
        own = [*guards, schedule, self.lifecycle, self.recorder, *shown, checkpoints]
        return [*own, Pace(checkpoints, own)]


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
