"""Callbacks and loggers that users name: what cannot work here, what nothing records, and where they write."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from inspect import getsource
from re import search
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    DeviceStatsMonitor,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
    ThroughputMonitor,
)
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from grok_lightning.callbacks.loggers import number_classes
from grok_lightning.data import SequenceDataModule
from grok_lightning.errors import UserError, refusing, show
from grok_lightning.measures.base import Measure, View
from grok_lightning.module import GrokModule
from grok_lightning.options.classes import (
    NAMING,
    RUN_DIRECTORY,
    Nested,
    class_hints,
    find_object,
    listed,
    put,
    suggestion,
)
from grok_lightning.options.config import RecordedRun, SavedRun
from grok_lightning.options.importing import import_object
from grok_lightning.options.merging import expand
from grok_lightning.training.norms import weight_norms

REFUSED: dict[type[Callback], str] = {  # with what would do
    StochasticWeightAveraging: "it replaces the schedule of the learning rate; use EMAWeightAveraging",
    GradientAccumulationScheduler: "no batch is split here; use data.batch_size",
    BatchSizeFinder: "it changes the batch size, which is a part of the experiment; use data.batch_size",
    LearningRateFinder: "it trains on a schedule of its own first; vary model.optimizer.lr in a sweep",
    BackboneFinetuning: "it looks for a part of the model called backbone, and networks here have none",
    ModelPruning: "its masks are not in checkpoints, so that a resumed run would be another one",
}
LOGGING = (LearningRateMonitor, DeviceStatsMonitor, ThroughputMonitor)


def refuse_callbacks(callbacks: Sequence[Callback], logs: bool) -> None:
    """Refuses Lightning's callbacks that cannot work here.

    Args:
        callbacks: Those that the user has named.
        logs: Whether the run has a logger.

    Raises:
        UserError: For the first of them, with the reason.
    """
    for callback in callbacks:
        name = type(callback).__name__
        for kind, reason in REFUSED.items():
            if isinstance(callback, kind):
                raise UserError(f"trainer.callbacks: {name} cannot be used here: {reason}")
        if isinstance(callback, LOGGING) and not logs:
            raise UserError(
                f"trainer.callbacks: {name} needs a logger, but trainer.logger is false; leave one of them out"
            )
        if isinstance(callback, DeviceStatsMonitor) and find_spec("psutil") is None:
            raise UserError(f"trainer.callbacks: {name} needs the package psutil, which is not installed")


def refuse_monitors(
    callbacks: Sequence[Callback],
    module: GrokModule,
    data: SequenceDataModule,
    measures: Sequence[Measure],
    others: Sequence[str] = (),
) -> None:
    """Refuses callbacks that monitor a value that is not recorded.

    The names of what measures record are taken from the measures themselves, if a callback monitors anything else than
    loss, accuracy, norms and what ``others`` names.

    Raises:
        UserError: For the first such callback, with the nearest name.
    """
    known = {f"{split}/{key}" for split in ("train", "val") for key in ("loss", "acc")}
    known |= {*weight_norms(module.network), "norm/gradient", *others}
    measured, found = not measures, dict[str, Measure]()
    for callback in callbacks:
        own = {"step", "epoch"} if isinstance(callback, ModelCheckpoint) else set()
        for name in _names_monitored(callback):
            if name not in known | own and not measured:
                with torch.no_grad():
                    view = View(module.network, data)
                    found = {key: measure for measure in measures for key in measure(view)}
                known |= {key for key, measure in found.items() if measure.interval == 1}
                measured = True
            if name in found and name not in known:
                kind, owner = type(callback).__name__, found[name]
                raise UserError(
                    f"trainer.callbacks: {kind}.monitor is {show(name)}, which {type(owner).__name__} computes every "
                    f"{owner.interval:,} steps only; give it every: 1"
                )
            if name not in known | own and not any(_may_log(each, name) for each in callbacks):
                kind = type(callback).__name__
                raise UserError(
                    f"trainer.callbacks: {kind}.monitor is {show(name)}, which nothing records{suggestion(name, known)}"
                )


def refuse_decay_monitor(callbacks: Sequence[Callback], module: GrokModule) -> None:
    """Refuses a ``LearningRateMonitor`` that is to log the weight decay of an optimizer whose groups hold none.

    Raises:
        UserError: If that is so.
    """
    if not any(isinstance(each, LearningRateMonitor) and each.log_weight_decay for each in callbacks):
        return
    weights = [(name, weight.detach().clone().requires_grad_()) for name, weight in module.network.named_parameters()]
    optimizer = module.new_optimizer(weights)
    if any("weight_decay" not in group for group in optimizer.param_groups):
        raise UserError(
            "trainer.callbacks: LearningRateMonitor.log_weight_decay is True, but the groups of the optimizer "
            f"{type(optimizer).__name__} hold no weight_decay, which stays as its option says; leave it out"
        )


def build_listed(options: Nested, option: str) -> list[Any]:
    """Builds the callbacks or loggers that an option names.

    Args:
        options: Resolved options.
        option: ``trainer.callbacks`` or ``trainer.logger``.

    Raises:
        UserError: If a class does not accept an option, or a package that it needs is not installed.
    """
    parser = ArgumentParser(exit_on_error=False)
    action = parser.add_argument("--built", type=import_object(NAMING[option].base))
    action.sub_add_kwargs = {"fail_untyped": False}  # arguments may have no type
    built = []
    for item in listed(expand({"trainer": options["trainer"]}), option):
        typed = parser.parse_object({"built": item})
        name = item["class_path"]
        of_lightning: tuple[type[Exception], ...] = (Exception,) if name.startswith("lightning.") else ()
        also = (ArgumentError, ImportError, MisconfigurationException, *of_lightning)
        where = f"{option}: {name.rpartition('.')[2]}: "
        built.append(refusing(lambda typed=typed: parser.instantiate(typed).built, where, also))  # type: ignore[misc]
    return built


def place(options: Nested, run: RecordedRun, saved: SavedRun | None, sweep: bool) -> Nested:
    """Says where the callbacks and loggers of a run write, unless the user has.

    Loggers that need a directory write into the run's own, in a folder of their name; those of wandb and MLflow, which
    keep many runs in one place, are told the run's name. ``ModelCheckpoint`` saves beside the run's other checkpoints.

    Args:
        options: The resolved options of the run; not modified.
        run: The directories of its record and its checkpoints.
        saved: The checkpoint that it resumes from.
        sweep: Whether several processes write at the same time, so that loggers must not count folders themselves.

    Returns:
        The options with paths, names and versions filled in.
    """
    placed: Nested = options | {"trainer": dict(options["trainer"])}
    logs, versions = run.logs, {} if saved is None else saved.loggers.versions
    loggers = [dict(item) for item in listed(options, "trainer.logger")]
    kinds = [find_object("trainer.logger", item["class_path"]) for item in loggers]
    for item, kind, key in zip(loggers, kinds, number_classes(kinds), strict=True):
        takes = class_hints("trainer.logger", item["class_path"]).keys()  # a class of one's own may take fewer options
        if item.get("save_dir") == RUN_DIRECTORY:
            item["save_dir"] = str(logs)
            unnamed = (item.get("name"), item.get("version")) == ("lightning_logs", None)
            if issubclass(kind, CSVLogger | TensorBoardLogger) and unnamed and {"name", "version"} <= takes:
                item |= {"name": kind.__name__, "version": ""}
        for name in {"version", "run_id"} & takes:
            if item.get(name) is None:
                item[name] = versions.get(key)
            if item[name] is None and sweep and issubclass(kind, CSVLogger | TensorBoardLogger):
                item[name] = logs.name
        if issubclass(kind, WandbLogger) and "name" in takes and item.get("name") is None:
            item["name"] = f"{logs.parent.name}/{logs.name}"
        if issubclass(kind, MLFlowLogger):
            if "run_name" in takes:
                item["run_name"] = item.get("run_name") or logs.name
            if isinstance(item.get("experiment_name"), str):
                item["experiment_name"] = item["experiment_name"].replace("lightning_logs", logs.parent.name)
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # Lightning's default store, which MLflow keeps
        if issubclass(kind, TensorBoardLogger) and saved is not None and item.get("purge_step", 0) is None:
            item["purge_step"] = saved.step + 1
    callbacks = [
        item | {"dirpath": str(run.checkpoints)} if item.get("dirpath", "") in (None, RUN_DIRECTORY) else item
        for item in listed(options, "trainer.callbacks")
    ]
    for option, items in (("trainer.logger", loggers), ("trainer.callbacks", callbacks)):
        if items:
            put(placed, option, items)
    return placed


def _names_monitored(callback: Callback) -> Sequence[str]:
    monitor = getattr(callback, "monitor", None)
    named = monitor if isinstance(monitor, list | tuple) else [monitor]
    return [name for name in named if isinstance(name, str)]


def _may_log(callback: Callback, name: str) -> bool:
    """Whether a callback may log a value itself: one of the user's own, by the source of its class."""
    own = [kind for kind in type(callback).__mro__ if not kind.__module__.startswith(("lightning.", "builtins", "abc"))]
    if isinstance(callback, LambdaCallback) or (isinstance(callback, LearningRateMonitor) and name.startswith("lr-")):
        return True
    try:
        return any(search(r"\.log(_dict)?\(", getsource(kind)) for kind in own)
    except (OSError, TypeError):  # there is no source
        return True
