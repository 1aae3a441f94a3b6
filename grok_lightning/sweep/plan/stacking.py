"""Which runs can train as one stack (``pending.py`` cuts the stacks), and which stacks share a compiled graph."""

import json
from collections.abc import Sequence
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from grok_lightning.data.formula import count_operands
from grok_lightning.module import GrokModule
from grok_lightning.optim.base import StackOptimizer
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    LIST_OPTIONS,
    NETWORK,
    Nested,
    class_hints,
    is_module,
    is_ordinary_data,
    lookup,
)
from grok_lightning.options.importing import import_object
from grok_lightning.records.record import flatten
from grok_lightning.sweep.plan.modules import find_module_obstacle
from grok_lightning.training.separate import needs_closure, takes_stacks

SEED, FORMULA, SPLITS = "seed_everything", "data.formula", "data.splits"
NAMES = ("experiment", "run")
# single options on whose values it depends in which others the runs of a stack may differ
DECIDING = (
    *("data.batch_size", "data.tokenizer"),
    *("trainer.precision", "trainer.callbacks", "trainer.logger"),
)
# options on which the compiled part of a step, the forward and its loss, does not depend
OUTSIDE_GRAPH = (
    *("model.optimizer", "model.filters", "model.warmup", "model.schedule", "model.scheduler"),
    *("model.weight_norm", "model.constraints", "model.interventions", "model.compile"),
    *("data.train_fraction", "data.val_fraction", "data.split_seed", "data.rows_seed", "data.pairing"),
    *("data.commutative_fraction", "data.answer_noise", "data.answer_noise_kind", SPLITS),
)


def _takes_one_each(hint: Any) -> bool:
    """Whether an option's type is one value, or a list with one for each run of a stack."""
    if get_origin(hint) not in (Union, UnionType):
        return False
    kinds = get_args(hint)
    return any(get_origin(kind) is list and get_args(kind)[0] in kinds for kind in kinds)


@cache
def _per_run_arguments(option: str, name: str) -> frozenset[str]:
    return frozenset(key for key, hint in class_hints(option, name).items() if _takes_one_each(hint))


def find_per_run_options(resolved: Nested) -> set[str]:
    """Find the dotted options in which the runs of a stack may differ, without those in lists of classes.

    Args:
        resolved: Resolved config of one of the runs.
    """
    if _mixes_runs(resolved):
        return set()
    hints = get_type_hints(GrokModule.__init__)
    found = {SEED, *(f"model.{name}" for name, hint in hints.items() if _takes_one_each(hint) and name != "seeds")}
    found.add("model.weight_norm.at_most")
    for option in _stacked_classes(resolved):
        found |= {f"{option}.{key}" for key in _per_run_arguments(option, lookup(resolved, option)["class_path"])}
    if resolved["model"].get("scheduler"):  # which may set rates that are no multiples of theirs
        found.discard("model.optimizer.lr")
    data = resolved["data"]
    if not isinstance(data.get("batch_size"), int):  # it follows from the training rows, which then must agree
        found -= {option for option in found if option.startswith("data.") and option != "data.split_seed"}
    if data.get("tokenizer") != "elements" or resolved.get("measures"):  # lengths differ; measures look at one table
        found -= {FORMULA, SPLITS}
    if is_ordinary_data(data["class_path"]):
        found = {option for option in found if not option.startswith("data.")}
    return found


def _optimizer_class(resolved: Nested) -> Any:
    return import_object(resolved["model"]["optimizer"]["class_path"])


def _stacked_classes(resolved: Nested) -> list[str]:
    """The options whose classes take lists with a value for each run: all but schedulers, and what others wrote."""
    single = {"model.scheduler"}
    if not issubclass(_optimizer_class(resolved), StackOptimizer):
        single.add("model.optimizer")
    if is_module(resolved["model"]["network"]):
        single.add(NETWORK)  # an ordinary module's options are of one run, whatever their type
    return [option for option in CLASS_OPTIONS if option not in single]


def _mixes_runs(resolved: Nested) -> bool:
    """Whether a component acts on the stack as a whole: a callback, a logger, or the scaler of 16-mixed.

    So do an optimizer that evaluates the loss several times a step, and an ordinary module that cannot be stacked.
    """
    trainer, optimizer = resolved["trainer"], _optimizer_class(resolved)
    return (
        (needs_closure(optimizer) and not takes_stacks(optimizer))
        or bool(find_watching(resolved))
        or trainer.get("precision") == "16-mixed"
        or find_module_obstacle(resolved) is not None
    )


def find_watching(resolved: Nested) -> list[str]:
    """Find the options that name callbacks or loggers, which watch a single run."""
    trainer = resolved["trainer"]
    named = {"trainer.callbacks": trainer.get("callbacks"), "trainer.logger": isinstance(trainer.get("logger"), list)}
    return [option for option, given in named.items() if given]


def shape_key(resolved: Nested, without: Sequence[str] = ()) -> str:
    """Text that is the same for two configs only if their runs can be stacked.

    Args:
        resolved: Resolved config.
        without: Options to leave out, which the caller compares.
    """
    free = find_per_run_options(resolved)
    flat = flatten(resolved)
    for option in (*NAMES, *without):
        flat.pop(option, None)
    for option in flat.keys() & free:
        flat[option] = value_key(option, flat[option])
    for option in LIST_OPTIONS:
        items = lookup(resolved, option) or []
        flat[option] = [
            item | {key: value_key(key, item[key]) for key in _per_run_arguments(option, item["class_path"])}
            for item in items
        ]
    return json.dumps(flat, sort_keys=True, default=str)


def graph_key(resolved: Nested, runs: int) -> str:
    """Text that is the same for stacks with the same compiled graph of the training step.

    Args:
        resolved: Resolved config of one of the stack's runs.
        runs: Number of its runs.
    """
    flat = flatten({"model": resolved["model"], "data": resolved["data"], "trainer": {
        name: resolved["trainer"][name] for name in ("precision", "accelerator")
    }})  # fmt: skip
    sized = not isinstance(resolved["data"].get("batch_size"), int)  # by the training rows
    outside = [name for name in OUTSIDE_GRAPH if not (sized and name.startswith("data."))]
    kept = {
        option: value_key(option, value) if option == FORMULA and not sized else value
        for option, value in flat.items()
        if not any(f"{option}.".startswith(f"{name}.") for name in outside)
    }
    return json.dumps([runs, kept], sort_keys=True, default=str)


def has_transformer(resolved: Nested) -> bool:
    """Whether the network is the Transformer, for which compiling was measured to pay."""
    return str(resolved["model"]["network"]["class_path"]) == "grok_lightning.models.Transformer"


def value_key(option: str, value: Any) -> Any:
    """Stack-compatibility key of a per-run value: that it is a number, or the value itself."""
    if option == FORMULA:
        return f"a formula of {_count_operands(value)} operands"
    if option == SPLITS:
        return "files" if value else value
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else value


@cache
def _count_operands(formula: str) -> int:
    return count_operands(formula)
