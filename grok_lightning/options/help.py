"""The short help of fit, validate, test and predict: this project's own options, one line each."""

import re
import textwrap
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser

from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    LIST_OPTIONS,
    Argument,
    arguments_of,
    class_arguments,
    class_names,
    class_path,
)
from grok_lightning.options.parser import LINKED, METHOD_OPTIONS
from grok_lightning.options.refusals import FREE_ON_RESUME

WIDTH = 100
HELP = re.compile(r"-h|--help|--help[-_]all|--[\w.]+\.help(=.*)?")  # what asks for help on a command line
_NAME, _VALUE = 34, 16  # columns of the option, with its indent, and of its type and default
_LIGHTNING = {  # options of Lightning's that belong to every run, in our words
    "config": "Options from a YAML file or a shipped config.",
    "seed_everything": "Seed of the weights, split and batches.",
    "ckpt_path": "Checkpoint to resume: a file, or last.",
    "print_config": "Print all options and exit.",
    "trainer.max_steps": "Training budget in steps.",
    "trainer.precision": "Or auto, bf16-mixed, 16-mixed, 64-true.",
    "trainer.accelerator": "Device: cpu, gpu, mps; auto: a GPU if any.",
    "trainer.devices": "Number of devices; they share each batch.",
    "trainer.default_root_dir": "Folder of lightning_logs and checkpoints.",
    "trainer.enable_progress_bar": "Show progress.",
}
_OF_A_CHECKPOINT = {  # what differs where a checkpoint is evaluated
    "experiment": "Experiment, for --ckpt_path last.",
    "run": "Run, for last; default: the newest unfinished.",
    "ckpt_path": "Checkpoint file, or last.",
    "trainer.precision": "Precision; default: the checkpoint's.",
}
_GROUPS = {  # heading: options, or the names that they begin with; the longest that fits counts
    "Run": ("config", "experiment", "run", "seed_everything", "ckpt_path", "init_from", "overwrite", "print_config",
            "trainer.default_root_dir", "trainer.enable_progress_bar"),
    "Data": ("data",),
    "Model": ("model",),
    "Network": ("model.network",),
    "Optimizer": ("model.optimizer",),
    "Gradient filters": ("model.filters",),
    "Budget, precision and device": (
        "trainer.max_steps", "trainer.precision", "trainer.accelerator", "trainer.devices", "threads", "model.compile"
    ),
    "Evaluation": ("evaluation",),
    "Checkpoints": ("checkpoint",),
    "Measures": ("measures",),
    "Output": ("split", "output"),
}  # fmt: skip
_COMMANDS = {  # what a command does, and an example
    "fit": ("Trains a run.", "--config addition --data.train_fraction 0.4 --seed_everything 1"),
    "validate": (
        "Evaluates a checkpoint on its training and validation rows.",
        "--ckpt_path checkpoints/addition/0/last.ckpt --measures [Fourier]",
    ),
    "test": ("Evaluates a checkpoint on its test rows.", "--ckpt_path checkpoints/addition/0/last.ckpt"),
    "predict": (
        "Writes the answers of a checkpoint to a CSV file.",
        "--ckpt_path checkpoints/addition/0/last.ckpt --split val",
    ),
}


@dataclass(frozen=True)
class Option:
    """One option as the short help shows it.

    Attributes:
        name: Dotted, without dashes.
        value: Its type and default: ``float = 0.5``; the type alone where it has no default of its own.
        text: What it is, in one sentence, with the values it can have.
        group: The heading that it stands under.
    """

    name: str
    value: str
    text: str
    group: str

    @property
    def line(self) -> str:
        """The option in one line."""
        return f"{f'  --{self.name}':<{_NAME}}{self.value:<{_VALUE}}{self.text}".rstrip()


def options_of(parser: ArgumentParser, subcommand: str) -> list[Option]:
    """The options that this project adds to a command, and those of the Trainer that every run needs, in order.

    Args:
        parser: The subcommand's parser.
        subcommand: fit, validate, test or predict; only options that it takes beside a checkpoint are listed of the
            last three.
    """
    found = [_option(argument, subcommand) for argument in _arguments(parser) if _takes(subcommand, argument.name)]
    headings = list(_GROUPS)

    def place(option: Option) -> tuple[int, int]:
        named = _GROUPS[option.group]
        return headings.index(option.group), named.index(option.name) if option.name in named else len(named)

    return sorted(found, key=place)


def _arguments(parser: ArgumentParser) -> Iterator[Argument]:
    """The options of a parser, each option that names a class followed by those of its default class."""
    supplied = {f"model.{name}" for name in LINKED}
    foreign = {"help", "print_shtab", "model", "trainer", *METHOD_OPTIONS, "dataloaders"}
    for argument in arguments_of(parser):
        name = argument.name
        lightnings = name.startswith("trainer.") and name not in _LIGHTNING
        if name in supplied | foreign or name.endswith(".help") or lightnings:
            continue
        yield argument
        if name in CLASS_OPTIONS:
            for own in class_arguments(name, CLASS_OPTIONS[name].default):
                yield own._replace(name=f"{name}.{own.name}")


def _takes(subcommand: str, name: str) -> bool:
    """Whether a subcommand takes an option: beside a checkpoint only what does not change the run."""
    if subcommand == "fit":
        return True
    of_fit = ("trainer.max_steps", "trainer.devices", "model.compile", "checkpoint", "overwrite", "threads")
    free = {*FREE_ON_RESUME, "measures", "ckpt_path", "experiment", "run", "print_config", "config"}
    return _begins(name, free) and not _begins(name, of_fit)


def _begins(name: str, options: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{option}.") for option in options)


def _option(argument: Argument, subcommand: str) -> Option:
    name = argument.name
    fitting = {option: group for group, options in _GROUPS.items() for option in options if _begins(name, [option])}
    group = fitting[max(fitting, key=len)]
    if name in CLASS_OPTIONS:
        return Option(name, f"class = {CLASS_OPTIONS[name].default.rsplit('.', 1)[-1]}", "", group)
    if name in LIST_OPTIONS:
        return Option(name, "class list", first_sentence(argument.help), group)
    if name == "print_config":
        return Option(name, "", _LIGHTNING[name], group)
    if subcommand != "fit" and name in _OF_A_CHECKPOINT:
        return Option(name, "str", _OF_A_CHECKPOINT[name], group)
    kinds, choices = _kinds(argument.hint)
    default = _shown(argument.default)
    if name in _LIGHTNING:
        text, kind = _LIGHTNING[name], kinds[0] if default is None else type(argument.default).__name__
    else:
        text, kind = first_sentence(argument.help), "|".join(kinds) or "str"
        listed = ", ".join(choice for choice in choices if choice not in text)
        joint = "; or " if kinds and get_origin(argument.hint) is not Literal else ": "
        text = f"{text.removesuffix('.')}{joint}{listed}." if listed else text
    value = kind if default is None else f"{kind} = {default}"
    return Option(name, value if len(value) < _VALUE - 1 else f"{default}", text, group)


def first_sentence(text: str) -> str:
    """The first sentence of a docstring's entry, without its marks of code."""
    found = re.match(r".+?[.?](?=\s|$)", " ".join(text.replace("``", "").split()))
    return found[0] if found else text


def _kinds(hint: Any) -> tuple[list[str], list[str]]:
    """The names of an option's types, and the values that it can have where they are listed.

    A list is left out beside a single value: it is for stacks, with one for each run.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ([] if isinstance(inner[0], str) else [type(inner[0]).__name__]), [str(value) for value in inner]
    if origin in (Union, types.UnionType):
        both = [_kinds(kind) for kind in inner if kind not in (type(None), Path)]
        kinds = list(dict.fromkeys(kind for found, _ in both for kind in found))
        return (kinds if len(kinds) == 1 else [kind for kind in kinds if kind != "list"]), [
            choice for _, found in both for choice in found
        ]
    return ["list" if origin is not None else getattr(hint, "__name__", "str")], []


def _shown(default: Any) -> str | None:
    """A default as it is written on a command line; None for none."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    if isinstance(default, tuple | list):
        return f"[{', '.join(map(str, default))}]"
    return None if default is None or str(default).startswith("==") else f"{default}"


def short_help(parser: ArgumentParser, subcommand: str) -> str:
    """The help that ``--help`` prints, at most 100 columns wide.

    Args:
        parser: The subcommand's parser.
        subcommand: fit, validate, test or predict.
    """
    does, example = _COMMANDS[subcommand]
    needed = "[--config NAME|FILE]" if subcommand == "fit" else "--ckpt_path FILE"
    lines = [f"usage: grok-lightning {subcommand} {needed} [--option value ...]", "", does]
    if subcommand != "fit":
        lines.append("The checkpoint holds the other options of its run.")
    group, options = "", options_of(parser, subcommand)
    for option in options:
        if option.group != group:
            group = option.group
            lines += ["", f"{group}:"]
        lines.append(option.line)
        if option.name in (*CLASS_OPTIONS, *LIST_OPTIONS):
            lines += _classes(option.name)
    lines += ["", "Example:", f"  grok-lightning {subcommand} {example}", ""]
    lines.append("--help-all shows every option in full, the Trainer's too.")
    return "\n".join([*lines, *_help_of_classes(options)])


def _help_of_classes(options: Iterable[Option]) -> list[str]:
    """How to see the options of a class, wrapped."""
    named = [option.name for option in options if option.name in (*CLASS_OPTIONS, *LIST_OPTIONS)]
    if not named:
        return []
    first = "model.network" if "model.network" in named else named[0]
    example = CLASS_OPTIONS[first].default.rsplit(".", 1)[-1] if first in CLASS_OPTIONS else class_names(first)[0]
    text = f"--{first}.help {example} shows the options of a class"
    others = ", ".join(f"--{name}.help" for name in named if name != first)
    return textwrap.wrap(f"{text}; likewise {others}." if others else f"{text}.", WIDTH, break_on_hyphens=False)


def _classes(option: str) -> list[str]:
    """The classes that an option takes, wrapped."""
    own, others = [], False
    for name in class_names(option):
        if class_path(option, name).startswith("grok_lightning."):
            own.append(name)
        else:
            others = True
    text = f"CLASS is one of {', '.join(own)}{', or of torch.optim' if others else ''}."
    return textwrap.wrap(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 8)
