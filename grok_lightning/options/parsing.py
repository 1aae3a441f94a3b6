"""From a command line, or options given in Python, to one resolved config."""

import copy
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, Namespace
from torch import Tensor

from grok_lightning.errors import UserError
from grok_lightning.files import refuse_unwritable
from grok_lightning.hardware.products import FULL, HALF
from grok_lightning.options.arguments import given_options
from grok_lightning.options.choices import (
    AUTO,
    COMPILE,
    PRECISION,
    THREADS,
    choose_compile,
    choose_precision,
    choose_threads,
    compiles_unasked,
    is_auto,
    slowness_of_half,
)
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    Nested,
    lookup,
    place_of,
)
from grok_lightning.options.help import HELP, print_help
from grok_lightning.options.merging import NO_VALUE, check_names, complete, expand, merge, normalize, plain
from grok_lightning.options.parser import LINKED, MEASURED, METHOD_OPTIONS, command_parser
from grok_lightning.options.refusals import (
    refuse_at_once,
    refuse_changed_schedule,
    refuse_changes,
    refuse_float64_on_mps,
    refuse_spent_budget,
    refuse_trainer_options,
)
from grok_lightning.options.shipped import experiment_of
from grok_lightning.options.wording import in_one_line, refuse_null
from grok_lightning.records.checkpoint import CONFIG_KEY, load
from grok_lightning.records.defaults import frozen_defaults
from grok_lightning.records.record import flatten
from grok_lightning.records.runs import check_name, fresh_number, last_checkpoint

FLAGS = {"overwrite", "model.compile"}
RUN_FROM_PARENT = "GROK_LIGHTNING_RUN"
CHOSEN_BY_PARENT = "GROK_LIGHTNING_CHOSEN"  # what auto came to, for the other processes of a fit


@dataclass(frozen=True)
class SavedRun:
    """The checkpoint that a command begins with.

    Attributes:
        path: Its file.
        step: The optimizer step at which it was saved.
        config: The options it was trained with, in the short form.
        weights: The module's state dict.
        trains: Whether it holds the state of the optimizer, so that training can continue.
    """

    path: Path
    step: int
    config: Nested
    weights: dict[str, Tensor]
    trains: bool = True

    @classmethod
    def read(cls, path: Path) -> "SavedRun":
        """Reads a checkpoint.

        Raises:
            UserError: If there is no whole checkpoint of ours.
        """
        loaded = load(path)
        if not loaded["state_dict"] or not {"data", "model", "trainer", "seed_everything"} <= set(
            loaded[CONFIG_KEY] or ()
        ):
            raise UserError(f"ckpt_path {str(path)!r} holds no run: weights or config are missing")
        config = normalize(loaded[CONFIG_KEY])
        return cls(path, int(loaded["global_step"]), config, loaded["state_dict"], "optimizer_states" in loaded)


@dataclass(frozen=True)
class Config:
    """What a command does, resolved: nothing in it is left to be chosen or looked up.

    Attributes:
        command: fit, validate, test or predict.
        options: Every option with its type, in the short form, as records, checkpoints and config.yaml hold it. For a
            stack of several runs ``seed_everything`` is a list of their seeds.
        root: The directory below which runs are.
        saved: The checkpoint that is evaluated, or that training continues from.
        overwrite: Whether an existing run of that name is replaced. Applies to this invocation only; not recorded.
        method: Options of the Trainer's method, such as ``verbose``. Not recorded.
        notes: What ``auto`` was resolved to, a line each.
        chosen: The same by option.
    """

    command: str
    options: Nested
    root: Path = Path()
    saved: SavedRun | None = None
    overwrite: bool = False
    method: Nested = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    chosen: Nested = field(default_factory=dict)


def resolve(arguments: list[str], given: Nested | None = None) -> Config:
    """Resolves a command line: defaults, then a checkpoint's config, then YAML files, then options.

    Args:
        arguments: The command line after the program's name: a command and its options.
        given: Further options, nested, with values of Python; they take precedence.

    Raises:
        UserError: If an option does not exist, has a value of the wrong type, or contradicts another or the checkpoint.
        SystemExit: With 0, if only help or the config was asked for; it has been printed then.
    """
    return _CommandLine(arguments, given or {}).resolve()


def resolve_fit(given: Nested, precision: str = FULL) -> tuple[Nested, Nested]:
    """Resolves the options of one fit of a sweep.

    Args:
        given: Those that were given, in the short form.
        precision: What ``trainer.precision`` is if it is not given or ``auto``.

    Returns:
        All options, typed; and what they would be had only the classes been named. ``experiment`` and ``run`` are
        None unless given.

    Raises:
        UserError: If an option does not exist, has a value of the wrong type, or is decided by the workbench.
    """
    wanted = _checked("fit", {}, given)
    if lookup(wanted, PRECISION) in (None, AUTO):
        place, last = place_of(wanted, PRECISION)
        place[last] = precision
    options = _recorded(_typed("fit", wanted))
    if is_auto(options, COMPILE):  # the sweep decides, when it knows how many runs there are
        _set(options, COMPILE, False)
    for option in ("overwrite", THREADS):
        options.pop(option, None)
    refuse_trainer_options(given.get("trainer") or {}, options["trainer"], "fit")
    refuse_float64_on_mps(options)
    return options, defaults_of(options)


def defaults_of(options: Nested) -> Nested:
    """The options that a fit with the same classes would have without any other option, by the defaults of hashes."""
    classes: Nested = {}
    for option in CLASS_OPTIONS:
        place, last = place_of(classes, option)
        place[last] = {"class_path": lookup(options, option)["class_path"]}
    return frozen_defaults(_recorded(_typed("fit", complete(classes))))


def _set(options: Nested, option: str, value: Any) -> None:
    place, last = place_of(options, option)
    place[last] = value


def _checked(command: str, base: Nested, given: Nested) -> Nested:
    """Lays the given options over others, after checks of names and nulls, and adds all defaults of classes."""
    parser = command_parser(command)
    known = {action.dest for action in parser._actions} - {"config", "help", "print_config"}
    known -= {f"model.{name}" for name in LINKED}
    known_leaves = {name for name in known if not any(other.startswith(f"{name}.") for other in known)}
    known_leaves |= {name for name in known if f"{name}.help" in known} | {n for n in known if n.endswith(".help")}
    check_names(merge(_skeleton(base), given), known_leaves)
    refuse_null(given, merge(_skeleton(base), given), parser)
    wanted = complete(merge(base, given))
    refuse_at_once(wanted)
    return wanted


def _typed(command: str, wanted: Nested) -> Namespace:
    """The options with the types that the parser gives them."""
    parser = command_parser(command)
    try:
        return parser.parse_object(expand(wanted))
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        raise in_one_line(error, wanted, parser) from None


def _recorded(typed: Namespace) -> Nested:
    """The options as written in records, checkpoints and config.yaml."""
    whole = plain(typed.as_dict())
    for key in ("config", "ckpt_path", "dataloaders", *METHOD_OPTIONS):
        whole.pop(key, None)
    whole = normalize(whole)
    whole["data"].pop("seeds", None)
    for key in LINKED:
        whole["model"].pop(key, None)
    return whole


class _CommandLine:
    """A command line on its way to a config."""

    def __init__(self, arguments: list[str], further: Nested) -> None:
        self.command, *self.arguments = arguments
        self.further = further
        self.given: Nested = {}
        self.saved: SavedRun | None = None
        self.root = Path()
        self.notes: list[str] = []
        self.chosen: Nested = {}

    def resolve(self) -> Config:
        rest = self.arguments
        if any(HELP.fullmatch(argument) for argument in rest):
            print_help(self.command, rest)
        print_config = "--print_config" in rest
        rest = [argument for argument in rest if argument != "--print_config"]
        self.given, configs = given_options(rest, FLAGS)  # enough to find the checkpoint
        merge(self.given, normalize(self.further))
        base = self._base(configs)
        self.given, _ = given_options(rest, FLAGS, {**base})
        merge(self.given, normalize(self.further))
        wanted = _checked(self.command, base, self.given)
        auto_precision = self.saved is None and is_auto(wanted, PRECISION)
        if is_auto(wanted, PRECISION):  # for a checkpoint, auto is the precision that it was trained in
            wanted["trainer"]["precision"] = FULL if self.saved is None else lookup(self.saved.config, PRECISION)
        typed = _typed(self.command, {key: wanted[key] for key in wanted if self._is_taken(key)})
        options = _recorded(typed)
        overwrite = options.pop("overwrite", False)
        if self.command == "fit":
            self._choose(options, auto_precision)
        if print_config:
            print(yaml.safe_dump(options, sort_keys=False), end="")
            sys.exit(0)
        self._refuse(options)
        method = {key: typed[key] for key in METHOD_OPTIONS if key in typed}
        return Config(self.command, options, self.root, self.saved, overwrite, method, tuple(self.notes), self.chosen)

    def _refuse(self, options: Nested) -> None:
        refuse_trainer_options(self.given.get("trainer") or {}, options["trainer"], self.command)
        refuse_float64_on_mps(options)
        if self.saved is not None:
            if self.given.get("overwrite") in (True, "true"):
                raise UserError("--overwrite is true, but --ckpt_path continues a run; give one of the two")
            before, after = flatten(self.saved.config), flatten(options)
            refuse_changes(self.command, self.saved.path, before, after)
            if self.command == "fit":
                refuse_changed_schedule(self.saved.path, before, after)
                refuse_spent_budget(self.saved.path, self.saved.step, options["trainer"]["max_steps"])

    def _is_taken(self, key: str) -> bool:
        """Whether the command takes an option that a checkpoint's config may hold for another command."""
        of_fit = key in ("init_from", THREADS) and self.command != "fit"
        return key != "ckpt_path" and not of_fit and (key != "measures" or self.command in MEASURED)

    def _choose(self, options: Nested, auto_precision: bool) -> None:
        """Puts what ``auto`` is resolved to into the options, before anything is built."""
        chosen = json.loads(os.environ.get(CHOSEN_BY_PARENT, "{}"))
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        if auto_precision:
            if PRECISION not in chosen:
                if several:
                    raise UserError(
                        f"--{PRECISION} is {AUTO}; several processes need one to agree on: write {FULL} or {HALF}"
                    )
                precision = choose_precision(options)
                chosen[PRECISION] = precision.name
                self.notes.append(f"precision: {precision}")
            _set(options, PRECISION, chosen[PRECISION])
        elif lookup(self.given, PRECISION) == HALF and int(os.environ.get("LOCAL_RANK", "0")) == 0:
            slow = slowness_of_half(options)
            if slow is not None:
                print(f"grok-lightning: {slow}", file=sys.stderr)
        if is_auto(options, THREADS):
            threads, speed = choose_threads(options)
            _set(options, THREADS, threads)
            if speed > 1:
                self.notes.append(f"threads: {threads} (auto: {speed:.1f} times as fast as 1 here)")
        unasked = self.saved is None and lookup(self.given, COMPILE) is None and compiles_unasked(options)
        if unasked or is_auto(options, COMPILE):
            steps = int(options["trainer"]["max_steps"]) - (self.saved.step if self.saved else 0)
            if COMPILE not in chosen:
                chosen[COMPILE] = not several and choose_compile(options, steps)
                self.notes += ["compile: true (auto: it pays within the steps to come)"] if chosen[COMPILE] else []
            _set(options, COMPILE, chosen[COMPILE])
        self.chosen = chosen

    def _base(self, configs: list[Path]) -> Nested:
        """What the given options are laid over: the checkpoint's config where there is one, and the run's names."""
        trainer = self.given.get("trainer") or {}
        self.root = Path(str(trainer.get("default_root_dir") or "."))
        refuse_unwritable("trainer.default_root_dir", self.root)
        names = {key: str(self.given[key]) for key in ("experiment", "run") if self.given.get(key) is not None}
        for key, name in names.items():
            check_name(key, name)
        experiment = names.get("experiment", experiment_of(configs[-1]) if configs else "default")
        path = self.given.get("ckpt_path")
        if path == NO_VALUE:
            raise UserError("--ckpt_path needs a value: a checkpoint file, or last")
        if path is None:
            if self.command != "fit":
                raise UserError(f"{self.command} needs --ckpt_path: a checkpoint file, or last")
            run = names.get("run") or os.environ.get(RUN_FROM_PARENT) or self._fresh_run(experiment)
            return {"experiment": experiment, "run": run}
        if str(path) == "last":
            path = last_checkpoint(self.root, experiment, names.get("run"))
        self.saved = SavedRun.read(Path(str(path)))
        if self.command == "fit" and not self.saved.trains:
            raise UserError(
                f"--ckpt_path {str(path)!r} holds weights only, from which no run can go on; "
                "start one from them with --init_from"
            )
        config = copy.deepcopy(self.saved.config)
        if self.command != "fit":  # a checkpoint is evaluated wherever one likes, on one device
            config["trainer"] = {"precision": config["trainer"]["precision"]}
        return {key: value for key, value in config.items() if key not in ("overwrite", "split", "output")}

    def _fresh_run(self, experiment: str) -> str:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("--run is not given; several processes need one name to agree on")
        return fresh_number(self.root, experiment)


def _skeleton(base: Nested) -> Nested:
    """Only the classes of a config: enough to know which options exist."""
    found: Nested = {}
    for option in CLASS_OPTIONS:
        value = lookup(base, option)
        if value is not None:
            place, last = place_of(found, option)
            place[last] = {"class_path": value["class_path"]}
    return found
