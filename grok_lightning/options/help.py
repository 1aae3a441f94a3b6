"""The help of fit, validate, test and predict: this project's own options, one line each."""

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator

from jsonargparse import ArgumentError, ArgumentParser

from grok_lightning.errors import UserError
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    LIST_OPTIONS,
    NAMING,
    Argument,
    arguments_of,
    class_arguments,
    class_names,
    class_path,
    parsed_path,
)
from grok_lightning.options.lines import WIDTH, describe, first_sentence, help_text, line
from grok_lightning.options.parser import DATA, LINKED, METHOD_OPTIONS, command_parser
from grok_lightning.options.refusals import FREE_ON_RESUME

HELP = re.compile(r"-h|--help|--help[-_]all|--[\w.]+\.help(=.*)?")  # what asks for help on a command line
_COLUMN = 34  # where the type and default of an option begin
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
    "run": "Run, for last; default: the newest.",
    "ckpt_path": "Checkpoint file, or last.",
    "trainer.precision": "Precision; default: the checkpoint's.",
}
_GROUPS = {  # heading: options, or the names that they begin with; the longest that fits counts
    "Run": ("config", "experiment", "run", "seed_everything", "ckpt_path", "init_from", "init_parts", "trust",
            "overwrite", "print_config", "trainer.default_root_dir", "trainer.enable_progress_bar"),
    "Data": ("data",),
    "Model": ("model",),
    "Network": ("model.network",),
    "Optimizer": ("model.optimizer",),
    "Gradient filters": ("model.filters",),
    "Constraints": ("model.constraints",),
    "Budget, precision and device": (
        "trainer.max_steps", "trainer.precision", "trainer.accelerator", "trainer.devices", "threads", "model.compile"
    ),
    "Evaluation": ("evaluation",),
    "Checkpoints": ("checkpoint",),
    "Measures": ("measures",),
    "Output": ("split", "output"),
}  # fmt: skip
_COMMANDS = {  # what a command does, and what an example adds to its name
    "fit": ("Trains a run.", "--config addition --data.train_fraction 0.4 --seed_everything 1"),
    "validate": (
        "Evaluates a checkpoint on its training and validation rows.",
        "--ckpt_path checkpoints/addition/0/last.ckpt --measures [Fourier]",
    ),
    "test": (
        "Evaluates a checkpoint on its test rows, where the run has some.",
        "--ckpt_path checkpoints/coursework-addition/0/last.ckpt",
    ),
    "data": (
        "Writes the splits of a run as CSV files, without training. Other options of fit are accepted and not used.",
        "--config addition --data.train_fraction 0.4 --output splits",
    ),
    "predict": (
        "Writes the answers of a checkpoint to a CSV file.",
        "--ckpt_path checkpoints/addition/0/last.ckpt --split val",
    ),
}


def print_help(command: str, arguments: list[str]) -> None:
    """Prints the help that a command line asks for, whatever else stands in it.

    Args:
        command: fit, validate, test, predict or data.
        arguments: What follows it, with one argument that ``HELP`` matches.

    Raises:
        UserError: If a class of that name does not exist.
        SystemExit: With 0, when it is printed.
    """
    place = next(i for i, argument in enumerate(arguments) if HELP.fullmatch(argument))
    if arguments[place] in ("-h", "--help"):
        print(short_help(command))
        sys.exit(0)
    asked = arguments[place : place + (2 if arguments[place].endswith(".help") else 1)]
    option, _, name = arguments[place].removeprefix("--").partition(".help")
    name = name.removeprefix("=") or (asked[1] if len(asked) == 2 else "")
    if option in NAMING:
        if not name:
            print(f"--{option}.help CLASS, where CLASS is one of: {', '.join(class_names(option))}")
            sys.exit(0)
        asked = [f"--{option}.help", parsed_path(option, class_path(option, name))]
    elif option in ("help-all", "help_all"):
        asked = ["--help"]
    try:
        command_parser(command).parse_args(asked)
    except (ArgumentError, ValueError) as error:
        raise UserError(f"{asked[0]}: {' '.join(str(error).split())[:200]}") from None
    sys.exit(0)


def short_help(command: str) -> str:
    """The text of ``--help``, at most 100 columns wide.

    Args:
        command: fit, validate, test, predict or data; of those that take a checkpoint, the options beside it.
    """
    description, example = _COMMANDS[command]
    needed = "[--config NAME|FILE]" if command in ("fit", DATA) else "--ckpt_path FILE"
    if command not in ("fit", DATA):
        description += "\nThe checkpoint holds the other options of its run."
    takes = {"fit": lambda _: True, DATA: _is_of_data}.get(command, _is_of_evaluation)
    listed = [one for one in _arguments(command_parser(command)) if takes(one.name)]
    groups: dict[str, list[str]] = {}
    for group, names in _GROUPS.items():
        members = [argument for argument in listed if _group(argument.name) == group]
        # the options that are named in the table come in its order, before those below them
        members.sort(key=lambda one: names.index(one.name) if one.name in names else len(names))
        lines = [each for argument in members for each in _lines(argument, command)]
        if lines:
            groups[group] = lines
    usage = f"{command} {needed} [--option value ...]"
    all_options = "--help-all shows every option in full, the Trainer's too."
    return help_text(usage, description, groups, f"{command} {example}", ["", all_options, *_help_of_classes(listed)])


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
        if name in CLASS_OPTIONS and CLASS_OPTIONS[name].default:
            for own in class_arguments(name, CLASS_OPTIONS[name].default):
                yield own._replace(name=f"{name}.{own.name}")


def _is_of_evaluation(name: str) -> bool:
    """Whether an option may stand beside a checkpoint that is evaluated: it does not change the run."""
    of_fit = ("trainer.max_steps", "trainer.devices", "model.compile", "checkpoint", "overwrite", "threads")
    free = (*FREE_ON_RESUME, "trust", "measures", "ckpt_path", "experiment", "run", "print_config", "config")
    return _is_below(name, free) and not _is_below(name, of_fit)


def _is_of_data(name: str) -> bool:
    """Whether an option has an effect on the splits that ``data`` writes."""
    return _is_below(name, ("config", "seed_everything", "data", "output", "overwrite"))


def _is_below(name: str, options: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{option}.") for option in options)


def _group(name: str) -> str:
    fitting = {option: group for group, options in _GROUPS.items() for option in options if _is_below(name, [option])}
    return fitting[max(fitting, key=len)]


def _lines(argument: Argument, command: str) -> list[str]:
    """The line of an option; below an option that names classes, also their names."""
    name = argument.name
    value, text = describe(argument, _LIGHTNING.get(name))[1:]
    if name in CLASS_OPTIONS and not CLASS_OPTIONS[name].default:
        value, text = "class", first_sentence(argument.help)
    elif name in CLASS_OPTIONS:
        value, text = f"class = {CLASS_OPTIONS[name].default.rsplit('.', 1)[-1]}", ""
    elif name in LIST_OPTIONS:
        value, text = "class list", first_sentence(argument.help)
    elif name == "print_config":
        value = ""
    elif command not in ("fit", DATA) and name in _OF_A_CHECKPOINT:
        value, text = "str", _OF_A_CHECKPOINT[name]
    return [line(_COLUMN, f"--{name}", value, text), *(_list_classes(name) if name in NAMING else ())]


def _help_of_classes(listed: Iterable[Argument]) -> list[str]:
    """Lines that say how to list the options of a class."""
    names = {argument.name for argument in listed}
    named = [name for name in NAMING if name in names]
    if not named:
        return []
    first = "model.network" if "model.network" in named else named[0]
    example = CLASS_OPTIONS[first].default.rsplit(".", 1)[-1] if first in CLASS_OPTIONS else class_names(first)[0]
    text = f"--{first}.help {example} shows the options of a class"
    others = ", ".join(f"--{name}.help" for name in named if name != first)
    return textwrap.wrap(f"{text}; likewise {others}." if others else f"{text}.", WIDTH, break_on_hyphens=False)


def _list_classes(option: str) -> list[str]:
    """The classes that an option takes, wrapped."""
    own, others = [], False
    for name in class_names(option):
        if class_path(option, name).startswith("grok_lightning."):
            own.append(name)
        else:
            others = True
    known = [*own, *(["or of torch.optim"] if others and own else [room for room in NAMING[option].rooms if others])]
    text = f"CLASS is one of {', '.join(known)}."
    return textwrap.wrap(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 8)
