"""Arguments and YAML files as one nested mapping of given options, before any name or type is checked."""

from pathlib import Path
from typing import Any

import numpy as np

from grok_lightning.errors import UserError, show
from grok_lightning.options.aliases import Names
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    LISTS,
    NAMING,
    TRAINER_LISTS,
    Nested,
    class_of,
    listed,
    lookup,
)
from grok_lightning.options.merging import INSIDE, NO_VALUE, merge, normalize
from grok_lightning.options.shipped import find_config
from grok_lightning.options.yamls import join, nest, undotted
from grok_lightning.reading import Malformed, parse_yaml, read_yaml

_WORDS = {"true": True, "false": False}  # which stand in place of callbacks or loggers
_CONTINUED = {"experiment", "run", "ckpt_path"}  # what names a run that goes on
GROUPS = ("trainer", "model", "evaluation", "checkpoint")  # of options, which a mapping may give together
FLAGS = {"overwrite", "trust", "model.compile"}  # options that may stand without a value, which then is true


def split_arguments(arguments: list[str]) -> tuple[list[tuple[str, str]], list[Path]]:
    """Splits a command line into options.

    Args:
        arguments: Everything after the command: ``--key value``, ``--key=value``, ``--list+=item``; ``--config`` takes
            a YAML file or the name of a shipped config. An option of ``FLAGS`` may stand without a value.

    Returns:
        The options with their values, in order; and the config files.

    Raises:
        UserError: If an argument is no option, or a value is missing where no name needs to be checked first.
    """
    assignments: list[tuple[str, str]] = []
    configs: list[Path] = []
    rest = iter(range(len(arguments)))
    for place in rest:
        name, equals, value = arguments[place].partition("=")
        name = "--config" if name == "-c" else name
        if not name.startswith("--") or name == "--":
            raise UserError(f"unexpected argument {show(arguments[place])}; options are written --name value")
        key = option_name(name[2:])
        follows = arguments[place + 1] if place + 1 < len(arguments) else "--"
        if not equals and not follows.startswith("--"):
            value = arguments[next(rest)]
        elif not equals:
            value = "true" if key in FLAGS else NO_VALUE
        if value == NO_VALUE and (key == "config" or key.endswith("+")):
            raise UserError(f"--{key.removesuffix('+')} needs a value")
        if key == "config":
            configs.append(find_config(value))
        else:
            assignments.append((key, value))
    return assignments, configs


def given_options(
    assignments: list[tuple[str, str]],
    configs: list[Path],
    base: Nested | None = None,
    further: Nested | None = None,
    typed: dict[str, str] | None = None,
) -> Nested:
    """The options given as one mapping: later ones win, the command line over every file, and Python over both.

    Args:
        assignments: The options of the command line, with their values.
        configs: The config files.
        base: Options of a checkpoint: its classes decide which options there are, and ``+=`` adds to its lists of
            classes. None: they are not known yet; what changes a list is left out, and so are names of options of
            classes that are not written whole.
        further: Options from Python, dotted or nested.
        typed: Gets what was written for each option that was written otherwise.

    Returns:
        The options given, nested and short, under their own names.

    Raises:
        UserError: If a file cannot be read, an option contradicts the one above it, or a short name fits several.
    """
    names = Names()
    given = _merge_given(names, assignments, configs, base, further)
    if base is not None:
        both = merge(merge({}, base), given)
        names = Names({owner: [class_of(owner, lookup(both, owner) or {})] for owner in CLASS_OPTIONS})
        given = _merge_given(names, assignments, configs, base, further)
    if typed is not None:
        typed |= names.typed
    return given


def _merge_given(
    names: Names,
    assignments: list[tuple[str, str]],
    configs: list[Path],
    lists: Nested | None,
    further: Nested | None,
) -> Nested:
    given: Nested = {}
    for path in configs:
        merge(given, read_config(path, names))
    found = [(option_name(names.find(key, None if value == NO_VALUE else value)), value) for key, value in assignments]
    _refuse_two_names(assignments, found)
    found = [(key, "true" if value == NO_VALUE and key in FLAGS else value) for key, value in found]
    for key, value in _classes_first(found):
        changed = next((name for name in LISTS if key == f"{name}+" or key.startswith(f"{name}.")), None)
        if changed is not None and lists is None:
            continue
        if changed is not None and lookup(given, changed) is None and listed(lists or {}, changed):
            merge(given, nest(changed, listed(lists or {}, changed)))
        if key in GROUPS:
            merge(given, normalize(names.rename({key: _group_value(key, value)}, f"--{key}"), as_given=True))
        elif key in NAMING:
            merge(given, normalize(names.rename(nest(key, _class_value(key, value)), f"--{key}"), as_given=True))
        else:
            assign(given, key, _inner_value(value) if key in INSIDE or names.is_free(key) else value)
    given = normalize(given, as_given=True)
    merge(given, normalize(_from_python(names, further or {}), as_given=True))
    return given


def _refuse_two_names(assignments: list[tuple[str, str]], found: list[tuple[str, str]]) -> None:
    """Refuses different values of one option under two names; of those under the same name the last one counts."""
    before: dict[str, tuple[str, str]] = {}
    for (written, _), (option, value) in zip(assignments, found, strict=True):
        if option.endswith("+") or option.startswith(tuple(f"{name}." for name in LISTS)):  # of an item each
            continue
        other, old = before.setdefault(option, (written, value))
        if other != written and old != value and NO_VALUE not in (old, value):
            raise UserError(
                f"--{other} is {show(old)} and --{written} is {show(value)}, but both are {option}; leave one out"
            )
        before[option] = written, value


def _from_python(names: Names, further: Nested) -> Nested:
    """Options from Python, dotted or nested, as one mapping under their own names."""
    written = {name: names.find(name, value) for name, value in further.items()}
    if further.keys() >= _CONTINUED:  # an experiment goes on: its first call may have named them otherwise
        written = {name: option for name, option in written.items() if name == option or option not in _CONTINUED}
    joined: Nested = {}
    for name in sorted(written, key=lambda name: written[name].count(".")):  # a class before its options
        one = undotted({written[name]: _without_numpy(further[name])}, name)
        join(joined, names.rename(one, name), "Experiment")
    return joined


def _without_numpy(value: Any) -> Any:
    """A value with numbers of Python in place of those of NumPy."""
    if isinstance(value, dict):
        return {key: _without_numpy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_numpy(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value


def option_name(written: str) -> str:
    """The dotted option that was written with dashes, ``init_args`` or a class's ``class_path``."""
    name = written.replace("-", "_").replace(".init_args", "")
    owner = name.removesuffix(".class_path")
    return owner if owner in CLASS_OPTIONS else name


def _classes_first(assignments: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Sorts options so that their order does not matter: an option comes before those below it.

    Only items added to a list, and the options of those items, keep their order.
    """
    lists = [key.removesuffix("+") for key, _ in assignments if key.endswith("+")]

    def depth(assignment: tuple[str, str]) -> int:
        key = assignment[0].removesuffix("+")
        return next((name for name in lists if key == name or key.startswith(f"{name}.")), key).count(".")

    return sorted(assignments, key=depth)


def _class_value(key: str, value: str) -> Any:
    if value == NO_VALUE:
        raise UserError(f"--{key} needs a value")
    if value == "null":
        return None
    if key in TRAINER_LISTS and value in _WORDS:
        return _WORDS[value]
    if not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return parse_yaml(value)
    except Malformed as error:
        raise UserError(
            f"--{key} is {show(value)}, which cannot be read as a mapping of options or a list: {error.reason}"
        ) from None


def _group_value(key: str, value: str) -> Nested:
    read = _class_value(key, value)
    if not isinstance(read, dict):
        raise UserError(f"--{key} is {show(value)}; a mapping of options is expected, or --{key}.OPTION VALUE")
    return undotted(read, f"--{key}")


def _inner_value(value: str) -> Any:
    """A value within a mapping, where jsonargparse reads no lists."""
    try:
        return parse_yaml(value)
    except Malformed:
        return value  # which is refused


def assign(nested: Nested, key: str, value: Any) -> None:
    """Sets one dotted option; below a class that was named (or last added to a list), one of its init_args."""
    *parents, last = key.removesuffix("+").split(".")
    place: Any = nested
    for depth, parent in enumerate(parents):
        there = place.setdefault(parent, {})
        named = there[-1] if isinstance(there, list) and there else there
        option = ".".join(parents[: depth + 1])
        own = option in CLASS_OPTIONS or option in GROUPS or f"{option}.{last}" in INSIDE
        if not own and (isinstance(named, str) or (isinstance(named, dict) and "class_path" in named)):
            item: Nested = {"class_path": named} if isinstance(named, str) else named
            if isinstance(there, list):
                there[-1] = item
            else:
                place[parent] = item
            named, below = item.setdefault("init_args", {}), [*parents, last][depth + 1]
            if below in item and below != "class_path":
                named.setdefault(below, item.pop(below))
        if not isinstance(named, dict):
            raise UserError(f"--{key} and the value {show(there)} of --{option} contradict each other")
        place = named
    if key.endswith("+"):
        items = place.setdefault(last, [])
        if isinstance(items, str) and items.lstrip().startswith("["):
            items = place[last] = _class_value(last, items)
        if not isinstance(items, list):
            raise UserError(f"--{key}= adds to a list, but --{key.removesuffix('+')} is {show(items)}")
        items.append(value)
    else:
        place[last] = value


def read_config(path: Path, names: Names | None = None) -> Nested:
    """One YAML file as nested options.

    Args:
        path: The file.
        names: Finds the options that names stand for; default: names are taken as they are written.

    Raises:
        UserError: If it cannot be read or is no mapping.
    """
    try:
        content = read_yaml(path)
    except OSError as error:
        raise UserError(f"--config {str(path)!r} cannot be read: {error.strerror}") from None
    except Malformed as error:
        raise UserError(f"--config {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"--config {str(path)!r} is no mapping of options, such as `data: {{formula: x + y}}`")
    where = f"--config {str(path)!r}"
    nested = undotted(content, where)
    return normalize(nested if names is None else names.rename(nested, where), as_given=True)
