"""From a command line, or options given in Python, to one resolved config."""

import copy
import os
import sys
from functools import cache
from pathlib import Path

import yaml
from jsonargparse import Namespace

from grok_lightning.errors import UserError, count_from_environment, show
from grok_lightning.files import refuse_unwritable
from grok_lightning.hardware.products import FULL
from grok_lightning.options.aliases import OF_WORD, naming
from grok_lightning.options.arguments import given_options, split_arguments
from grok_lightning.options.choices import AUTO, COMPILE, PRECISION, THREADS, choose, is_auto
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    TRAINER_LISTS,
    Nested,
    arguments_of,
    class_of,
    lookup,
    put,
    required_options,
    required_seeds,
)
from grok_lightning.options.config import Config, RecordedRun, SavedRun
from grok_lightning.options.formulas import read_formulas
from grok_lightning.options.help import HELP, print_help
from grok_lightning.options.merging import NO_VALUE, check_names, complete, merge, normalize, plain
from grok_lightning.options.parser import LINKED, MEASURED, METHOD_OPTIONS, command_parser
from grok_lightning.options.refusals import (
    refuse_at_once,
    refuse_changes,
    refuse_end,
    refuse_float64_on_mps,
    refuse_shorter,
    refuse_trainer_options,
)
from grok_lightning.options.shipped import experiment_of
from grok_lightning.options.trust import find_names
from grok_lightning.options.values import parse_values, refuse_null, refuse_unfit
from grok_lightning.records.checkpoint import LAST
from grok_lightning.records.claims import settle_all
from grok_lightning.records.defaults import frozen_defaults
from grok_lightning.records.record import NOT_RESULTS, RESULT, config_hash, counted_options, run_directories
from grok_lightning.records.runs import check_name, fresh_number, last_checkpoint

RUN_FROM_PARENT = "GROK_LIGHTNING_RUN"


def resolve(arguments: list[str], further: Nested | None = None) -> Config:
    """Resolves a command line: defaults, then a checkpoint's config, then YAML files, then options.

    Args:
        arguments: The command line after the program's name: a command and its options.
        further: Further options, nested, with values of Python; they take precedence.

    Raises:
        UserError: If an option does not exist, has a value of the wrong type, or contradicts another or the checkpoint.
        SystemExit: With 0, if only help or the config was asked for; it has been printed then.
    """
    written: dict[str, str] = {}
    with naming(written):
        return _resolve(arguments, further, written)


def _resolve(arguments: list[str], further: Nested | None, written: dict[str, str]) -> Config:
    command, *rest = arguments
    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE"):  # Lightning reads them too
        count_from_environment(name, 0)
    if any(HELP.fullmatch(argument) for argument in rest):
        print_help(command, rest)
    assignments, configs = split_arguments([argument for argument in rest if argument != "--print_config"])
    given = given_options(assignments, configs, further=further)  # enough to find the checkpoint
    root = Path(str(lookup(given, "trainer.default_root_dir") or "."))
    refuse_unwritable("trainer.default_root_dir", root)
    names = _names(given, configs)
    if command == "fit":
        settle_all(root, names["experiment"])
    saved = _find_saved(command, given, root, names)
    base = _base(command, saved, root, names)
    given = given_options(assignments, configs, base, further, written)
    wanted = _checked(command, base, given, written)
    auto_precision = saved is None and is_auto(wanted, PRECISION)
    if is_auto(wanted, PRECISION):  # for a checkpoint, auto is the precision that it was trained in
        put(wanted, PRECISION, FULL if saved is None else lookup(saved.config, PRECISION))
    typed = parse_values(command_parser(command), {k: v for k, v in wanted.items() if _takes(command, k)})
    options = _recorded(typed)
    overwrite, trust = options.pop("overwrite", False), options.pop("trust", False)
    chosen: Nested = {}
    notes: list[str] = []
    if command == "fit":
        chosen, notes = choose(options, given, 0 if saved is None else saved.step, saved is None, auto_precision)
    elif saved is not None and str(given.get("ckpt_path")) == "last":
        notes = [f"checkpoint: {saved.path} (step {saved.step:,})"]
    if "--print_config" in rest:
        print(yaml.safe_dump(options, sort_keys=False), end="")
        sys.exit(0)
    refuse_trainer_options(given.get("trainer") or {}, options["trainer"], command)
    refuse_float64_on_mps(options)
    if saved is not None:
        logs, _ = run_directories(root, options["experiment"], options["run"])
        ended = (logs / RESULT).exists()
        refuse_changes(command, saved, options, ended)
        if ended and command == "fit":
            refuse_end(saved, options, logs / RESULT)
        if command == "fit":
            refuse_shorter(saved, options["trainer"]["max_steps"], logs)
    method = {key: typed[key] for key in METHOD_OPTIONS if key in typed}
    numbered = saved is None and "run" not in names and RUN_FROM_PARENT not in os.environ
    return Config(command, options, root, saved, overwrite, numbered, trust, method, tuple(notes), chosen, written)


def resolve_data(arguments: list[str], typed: dict[str, str]) -> tuple[Nested, str, bool]:
    """Resolves the command line of ``data``, which takes all options of a new run.

    Args:
        arguments: What follows the command.
        typed: Gets what was written for each option that was written otherwise.

    Returns:
        The options, of which only the data's and the seed count; the folder to write to; whether files there are
        replaced.

    Raises:
        UserError: As ``resolve``.
        SystemExit: With 0, if only help was asked for; it has been printed then.
    """
    if any(HELP.fullmatch(argument) for argument in arguments):
        print_help("data", arguments)
    with naming(typed):
        wanted = _checked("data", {}, given_options(*split_arguments(arguments), {}, typed=typed), typed)
        if is_auto(wanted, PRECISION):
            put(wanted, PRECISION, FULL)
        options = _recorded(parse_values(command_parser("data"), wanted))
    return options, options["output"], options["overwrite"]


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
    wanted = _checked("fit", {}, normalize(given))
    if lookup(wanted, PRECISION) in (None, AUTO):
        put(wanted, PRECISION, precision)
    options = _recorded(parse_values(command_parser("fit"), wanted))
    if is_auto(options, COMPILE):  # the sweep decides, when it knows how many runs there are
        put(options, COMPILE, False)
    for option in ("overwrite", "trust", THREADS):
        options.pop(option, None)
    refuse_trainer_options(given.get("trainer") or {}, options["trainer"], "fit")
    refuse_float64_on_mps(options)
    return options, defaults_of(options)


def defaults_of(options: Nested) -> Nested:
    """The options that a fit with the same classes would have without any other option, by the defaults of hashes."""
    classes = tuple((option, value["class_path"]) for option in CLASS_OPTIONS if (value := lookup(options, option)))
    needed = {
        f"{option}.{key}": lookup(options, f"{option}.{key}")
        for option in CLASS_OPTIONS
        for key in required_options(option, class_of(option, lookup(options, option) or {}))
    }
    defaults = _parse_classes(classes, needed) if needed else copy.deepcopy(_defaults_of_classes(classes))
    for option in needed:
        owner, _, last = option.rpartition(".")
        lookup(defaults, owner).pop(last)
    return frozen_defaults(defaults)


@cache  # parsing takes a tenth of a second, and a sweep asks for each of its runs
def _defaults_of_classes(classes: tuple[tuple[str, str], ...]) -> Nested:
    return _parse_classes(classes, {})


def _parse_classes(classes: tuple[tuple[str, str], ...], needed: Nested) -> Nested:
    """The options of a fit of these classes, with values for what has no default."""
    alone: Nested = {}
    for option, path in classes:
        put(alone, option, {"class_path": path})
    wanted = complete(alone)
    for option, value in needed.items():
        put(wanted, option, value)
    return _recorded(parse_values(command_parser("fit"), wanted))


def recorded_run(config: Config) -> RecordedRun:
    """The record of a config's own run."""
    compared = config.options, defaults_of(config.options), NOT_RESULTS
    directories = run_directories(config.root, config.options["experiment"], config.options["run"])
    return RecordedRun(config.options, config_hash(*compared), *directories, counted_options(*compared))


def _names(given: Nested, configs: list[Path]) -> dict[str, str]:
    """The experiment, and the run where it is given."""
    names = {key: str(given[key]) for key in ("experiment", "run") if given.get(key) is not None}
    for key, name in names.items():
        check_name(key, name)
    if not configs or "experiment" in names:
        return {"experiment": "default"} | names
    stem = experiment_of(configs[-1])
    if str(given.get("ckpt_path") or "last") == "last":
        try:
            check_name("experiment", stem)
        except UserError as error:
            reason = str(error).partition("; ")[2]
            raise UserError(
                f"--config {str(configs[-1])!r} names the experiment {show(stem)}; {reason}; rename it, or add "
                "--experiment NAME"
            ) from None
    return {"experiment": stem} | names


def _find_saved(command: str, given: Nested, root: Path, names: dict[str, str]) -> SavedRun | None:
    """The checkpoint that was asked for."""
    path = given.get("ckpt_path")
    if path == NO_VALUE:
        raise UserError("--ckpt_path needs a value: a checkpoint file, or last")
    if path is None:
        if command != "fit":
            raise UserError(f"{command} needs --ckpt_path: a checkpoint file, or last")
        return None
    if given.get("overwrite") in (True, "true"):
        raise UserError("--overwrite is true, but --ckpt_path continues a run; give one of the two")
    if str(path) == "last":
        path = last_checkpoint(root, names["experiment"], names.get("run"), command)
    elif os.path.isdir(str(path)):
        path = Path(str(path), LAST)
        if not path.exists():
            raise UserError(f"--ckpt_path {str(path.parent)!r} is a folder without {LAST}; name a checkpoint file")
    trust = given.get("trust") in (True, "true")
    saved = SavedRun.read(Path(str(path)), root, find_names(given), trust)
    if None in (saved.config.get("experiment"), saved.config.get("run")):
        raise UserError(f"--ckpt_path {str(path)!r} names no run; load_run and --init_from take it")
    if command == "fit" and not saved.trains:
        raise UserError(
            f"--ckpt_path {str(path)!r} holds weights only, from which no run can continue; "
            "start a new run from them with --init_from"
        )
    return saved


def _base(command: str, saved: SavedRun | None, root: Path, names: dict[str, str]) -> Nested:
    """What the given options are laid over: the checkpoint's config, or the names of a new run."""
    if saved is not None:
        base = copy.deepcopy(saved.config)
        if command != "fit":  # a checkpoint is evaluated wherever one likes, on one device
            base["trainer"] = {"precision": base["trainer"]["precision"]}
        return normalize(base)
    run = names.get("run") or os.environ.get(RUN_FROM_PARENT)
    if run is not None:
        check_name("run" if "run" in names else RUN_FROM_PARENT, run)
    if run is None and count_from_environment("WORLD_SIZE", 1) > 1:
        raise UserError("--run is not given; several processes need one name to agree on")
    return {**names, "run": run or fresh_number(root, names["experiment"])}


def _takes(command: str, key: str) -> bool:
    """Whether a command takes an option that a checkpoint's config may hold for another command."""
    of_fit = key in ("init_from", "init_parts", THREADS) and command != "fit"
    return key != "ckpt_path" and not of_fit and (key != "measures" or command in MEASURED)


def _checked(command: str, base: Nested, given: Nested, written: dict[str, str] | None = None) -> Nested:
    """Lays the given options over others, after checks of names and nulls, and adds all defaults of classes.

    Formulas get the form that records hold; ``written``, if given, gets what was written for them.
    """
    parser = command_parser(command)
    known = {argument.name for argument in arguments_of(parser)} - {"config", "help", "print_config"}
    known -= {f"model.{name}" for name in LINKED}
    groups = {name for name in known if any(other.startswith(f"{name}.") for other in known)}
    named = merge(_classes_alone(base), given)
    check_names(named, known - {group for group in groups if f"{group}.help" not in known}, OF_WORD)
    refuse_null(given, named, parser)
    wanted = complete(merge(base, given))
    for option in TRAINER_LISTS:
        if isinstance(value := lookup(wanted, option), dict):
            raise UserError(f"{option} has {show(value)}, which names no class; add class_path: NAME")
    refuse_at_once(wanted)
    replaced = read_formulas(wanted)
    if written is not None:
        written |= replaced
    refuse_unfit(wanted)
    return wanted


def _classes_alone(options: Nested) -> Nested:
    """Only the classes of a config: enough to know which options exist."""
    found: Nested = {}
    for option in CLASS_OPTIONS:
        if value := lookup(options, option):
            put(found, option, {"class_path": value["class_path"]})
    return found


def _recorded(typed: Namespace) -> Nested:
    """The options as written in records, checkpoints and config.yaml."""
    whole = plain(typed.as_dict())
    for key in ("config", "ckpt_path", "dataloaders", *METHOD_OPTIONS):
        whole.pop(key, None)
    whole = normalize(whole)
    for key in ("seeds", *required_seeds(whole["data"]["class_path"])):
        whole["data"].pop(key, None)
    for key in LINKED:
        whole["model"].pop(key, None)
    if whole["model"].get("interventions") == []:  # as by default
        whole["model"]["interventions"] = None
    return whole
