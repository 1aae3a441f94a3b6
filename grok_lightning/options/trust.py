"""What a checkpoint's config may bring along: names of classes are checked before anything of that name is imported."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from grok_lightning.errors import UserError
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    LIST_OPTIONS,
    NAMING,
    Nested,
    class_hints,
    lookup,
)
from grok_lightning.options.importing import NotImported, import_object
from grok_lightning.options.merging import normalize
from grok_lightning.options.parser import command_parser
from grok_lightning.options.values import collect_hints, describe_type, find_mistake, refuse_null
from grok_lightning.reading import Malformed, read_yaml
from grok_lightning.records.record import flatten, run_directories
from grok_lightning.records.runs import check_name

# options of the Trainer that say what is run and written beside the run itself: only the record in its own place counts
OF_ITS_PLACE = ("callbacks", "logger", "plugins", "profiler", "strategy", "default_root_dir")
OF_ONE_COMMAND = ("overwrite", "split", "output", "trust")  # never taken from a checkpoint
_ROOTS = tuple(sorted({f"{room}." for option in (*CLASS_OPTIONS, *LIST_OPTIONS) for room in NAMING[option].rooms}))
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LONGEST = 200  # characters of a name


def find_names(options: Nested) -> set[str]:
    """All names of classes in options, in any of the forms that a config file may have."""
    return {name for _, name in _classes_in(options) if isinstance(name, str)}


def take_config(path: Path, found: Nested, root: Path, named: Collection[str], trust: bool) -> Nested:
    """What is taken of the config in a checkpoint, in the short form; nothing that it names has been imported before.

    Classes are taken from this package and torch.optim; others if ``trust`` is true, if ``named`` holds them, or if the
    checkpoint lies in its own place below ``root`` and the ``config.yaml`` of its record names them too. What belongs
    to that place (callbacks, loggers and the like) is read from there, and left out elsewhere.

    Args:
        path: The checkpoint.
        found: Its config, plain data.
        root: The directory below which runs are.
        named: Names of classes that the user has given.
        trust: Whether all classes are taken.

    Raises:
        UserError: A class is not taken, a name could lead out of its directory, or a value has the wrong type.
    """
    config = {key: value for key, value in found.items() if key not in OF_ONE_COMMAND}
    for key in ("experiment", "run"):
        if config.get(key) is not None:
            check_name(key, config[key])
    recorded = _read_own_record(path, config, root)
    trainer = {key: value for key, value in _mapping(config, "trainer").items() if key not in OF_ITS_PLACE}
    own = _mapping(recorded, "trainer")
    config["trainer"] = trainer | {key: own[key] for key in OF_ITS_PLACE if key in own}
    if not trust:
        _refuse_classes(config, path, {*named, *find_names(recorded)})
    config = normalize(config, of_trainer=False)  # which a fit alone needs
    if not trust:
        _refuse_text(config)
    return config


def refuse_types(config: Nested) -> None:
    """Refuses a config of a single run in which a value has the wrong type.

    Raises:
        UserError: For the first such value.
    """
    trainer = {key: value for key, value in config["trainer"].items() if key not in OF_ITS_PLACE}  # which nobody needs
    config, parser = {**config, "trainer": trainer}, command_parser("fit")
    for option in CLASS_OPTIONS:
        if CLASS_OPTIONS[option].default and not isinstance(lookup(config, option), dict):
            raise UserError(f"{option} is missing")
    if not {"max_steps", "precision"} <= trainer.keys():
        raise UserError("trainer.max_steps or trainer.precision is missing")
    refuse_null(config, config, parser)
    mistake = find_mistake(config, parser)
    if mistake:
        raise UserError(mistake)


def _mapping(options: Nested, key: str) -> Nested:
    value = options.get(key) or {}
    if not isinstance(value, dict):
        raise UserError(f"{key} is {str(value)[:50]!r}; a mapping of options is expected")
    return value


def _read_own_record(path: Path, config: Nested, root: Path) -> Nested:
    """The ``config.yaml`` beside a checkpoint that lies where a fit puts it; else, or if it cannot be read, nothing."""
    names = config.get("experiment"), config.get("run")
    if None in names:
        return {}
    logs, checkpoints = run_directories(root, *map(str, names))
    try:
        recorded = read_yaml(logs / "config.yaml") if path.parent.resolve() == checkpoints.resolve() else {}
    except (OSError, Malformed):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def _classes_in(value: Any, option: str = "") -> Iterator[tuple[str, Any]]:
    """Every name of a class with its option: below ``class_path``, and alone where a class is expected."""
    above, _, last = option.rpartition(".")
    alone = option in NAMING or (above == "trainer" and last in OF_ITS_PLACE[:-1])
    if last == "class_path":
        yield above, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _classes_in(inner, f"{option}.{key}" if option else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _classes_in(inner, option)
    elif alone and isinstance(value, str):
        yield option, value


def _refuse_classes(config: Nested, path: Path, named: Collection[str]) -> None:
    for option, name in _classes_in(config):
        shown = repr(name) if len(str(name)) <= _LONGEST else f"{str(name)[:40]!r}... ({len(str(name))} characters)"
        if not isinstance(name, str) or len(name) > _LONGEST or not _NAME.fullmatch(name):
            raise UserError(f"{option} names the class {shown}, which is no name of a class")
        # a bare name is looked up in this package and torch.optim only
        if name not in named and "." in name and not _is_own(name):
            raise UserError(
                f"{option} names the class {shown}, which is neither of grok_lightning nor of torch.optim and would be "
                "run; if you trust the file, add --trust"
            )


def _is_own(name: str) -> bool:
    if not name.startswith(_ROOTS):
        return False
    try:
        found = import_object(name)
    except NotImported:
        return False
    return isinstance(found, type) and f"{found.__module__}.".startswith(_ROOTS)


def _refuse_text(config: Nested) -> None:
    """Refuses text where a class of ours takes none: jsonargparse would take it for the name of a class or a file."""
    hints = collect_hints(config, command_parser("fit"))
    for option, value in flatten(config).items():
        owner = next((owner for owner in CLASS_OPTIONS if option.startswith(f"{owner}.")), None)
        if option in hints and (owner is None or _of_ours(lookup(config, owner) or {})):
            _refuse_text_in(f"--{option}", hints[option], value)
    for owner in LIST_OPTIONS:
        for item in lookup(config, owner) or []:
            for key, hint in class_hints(owner, item["class_path"]).items() if _of_ours(item) else ():
                _refuse_text_in(f"{owner}: {key}", hint, item.get(key))


def _of_ours(chosen: Nested) -> bool:
    return str(chosen.get("class_path", _ROOTS[0])).startswith(_ROOTS)


def _refuse_text_in(option: str, hint: Any, value: Any) -> None:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _refuse_text_in(option, hint, inner)
    elif isinstance(value, str) and not _takes_text(hint, value):
        raise UserError(f"{option} is {value[:_LONGEST]!r}; expected: {describe_type(hint)}")


def _takes_text(hint: Any, text: str) -> bool:
    """Whether a text is a value of a type by itself, and not the name of a class or of a file with the value."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return text in inner
    if origin in (Union, UnionType):
        plain = all(get_origin(kind) or kind in (str, int, float, bool, NoneType, Path) for kind in inner)
        return any(_takes_text(kind, text) for kind in inner) and (plain or text.isidentifier())
    return hint is str or any(_takes_text(kind, text) for kind in inner)
