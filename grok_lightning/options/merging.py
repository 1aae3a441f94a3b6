"""Nested options in one short form: merged, completed with defaults, checked by name, expanded for jsonargparse.

Options are written short: ``data.formula``, not ``data.init_args.formula``. A class may be named by its bare name. The
rule that jsonargparse does not keep is kept here: naming a class starts from that class's own defaults, so nothing of
AdamW's reaches Muon; and what was *given* stays apart from what is default.
"""

import copy
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from numbers import Integral, Real
from typing import Any

from grok_lightning.errors import UserError, show
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    LEFT_OUT,
    LIST_OPTIONS,
    LISTS,
    NAMING,
    TRAINER_LISTS,
    Nested,
    class_defaults,
    class_hints,
    class_of,
    class_path,
    find_object,
    listed,
    lookup,
    parsed_path,
    put,
    required_seeds,
    suggestion,
    takes_mapping,
)
from grok_lightning.options.importing import DOTTED, import_if_here
from grok_lightning.records.record import flatten

_BESIDE_OPTIONS = ("class_path", "dict_kwargs")  # keys of a class in a list that are no options of it
_CLASSES_OF_LIGHTNING = ("trainer.plugins", "trainer.profiler", "trainer.strategy")
_INTERVENTIONS = "model.interventions"
INSIDE = ("model.weight_norm.at_most",)  # keys of options that may be mappings
_EXPONENT = re.compile(r"[0-9]{1,15}(\.[0-9]*)?[eE][+-]?[0-9]{1,3}", re.ASCII)
NO_VALUE = "\0"  # stands for a missing value until the option's name has been checked


def normalize(nested: Nested, of_trainer: bool = True, as_given: bool = False) -> Nested:
    """The short form: classes by full path, their options beside it, no ``init_args``.

    Args:
        nested: Options.
        of_trainer: Whether callbacks and loggers are imported and brought into the short form too.
        as_given: Whether null takes out what the options are laid over, as a user means it; a record has none.

    Raises:
        UserError: If an option does not have the form of a class or a list of classes.
    """
    nested = copy.deepcopy(nested)
    for option in NAMING if of_trainer else (*CLASS_OPTIONS, *LIST_OPTIONS):
        *parents, last = option.split(".")
        place: Any = nested
        for parent in parents:
            place = place.get(parent, {})
            if place is not None and not isinstance(place, dict):
                raise UserError(f"{parent} is {show(place)}; a mapping of options is expected")
        if not place or last not in place:
            continue
        if place[last] is None:
            if as_given:
                place[last] = _without(option)
            elif option not in TRAINER_LISTS:
                del place[last]
        elif option in CLASS_OPTIONS:
            place[last] = _short(option, place[last])
        elif option not in TRAINER_LISTS or names_classes(place[last]):
            items = place[last] if isinstance(place[last], list) else [place[last]]
            place[last] = [_item(option, item) for item in items]
    if "model" in nested and nested["model"] is None:
        del nested["model"]
    if (changes := lookup(nested, _INTERVENTIONS)) is not None:
        put(nested, _INTERVENTIONS, _read_numbers(changes))
    return nested


def _without(option: str) -> list[Nested] | None:
    """What null stands for: no classes, no class, or no callbacks and loggers."""
    if option in CLASS_OPTIONS and CLASS_OPTIONS[option].default:
        raise UserError(f"--{option} is null; leave it out, or give the name of a class or a mapping of options")
    return [] if option in LIST_OPTIONS else None


def _read_numbers(value: Any) -> Any:
    """One form of each number within an option that has no types inside: 1e-3, which YAML takes for text, and 1.0."""
    if isinstance(value, dict):
        return {key: _read_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_read_numbers(inner) for inner in value]
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def names_classes(value: Any) -> bool:
    """Whether a value of an option of ``TRAINER_LISTS`` names classes: it may be a boolean, or options alone."""
    return not isinstance(value, bool) and not (isinstance(value, dict) and "class_path" not in value)


def _short(option: str, named: Any) -> Nested:
    """One class with its options: a name, or a mapping in any of the forms that YAML may have."""
    value = {"class_path": named} if isinstance(named, str) else named
    inner = value.get("init_args") or {} if isinstance(value, dict) else None
    if not isinstance(inner, dict):
        raise UserError(f"{option} is {show(named)}; a class name or a mapping of options is expected")
    for key in inner:
        if key in value and key != "class_path":
            raise UserError(f"{option} gives {key} twice, {show(value[key])} and {show(inner[key])}; leave one out")
    value = {key: item for key, item in value.items() if key != "init_args"} | inner
    if "class_path" in value:
        if not isinstance(value["class_path"], str):
            raise UserError(f"{option} names the class {show(value['class_path'])}; a name is expected")
        value["class_path"] = class_path(option, value["class_path"])
    return value


def _item(option: str, named: Any) -> Nested:
    """One class of a list, which must be named."""
    value = _short(option, named)
    if "class_path" not in value:
        raise UserError(f"{option} has {show(named)}, which names no class; write {{class_path: NAME, ...}}, or NAME")
    for key in value:
        if not isinstance(key, str):
            raise UserError(f"{option} has {show(key)} where the name of an option is expected")
    for key, usual in LEFT_OUT.get(option, {}).items():
        if value.get(key) == usual == class_defaults(option, value["class_path"]).get(key):
            del value[key]
    return value


def merge(base: Nested, new: Nested, prefix: str = "") -> Nested:
    """Lays ``new`` over ``base``, in place; naming another class than before drops the old one's options."""
    for key, value in new.items():
        option = f"{prefix}{key}"
        old = base.get(key)
        if (
            isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("class_path", class_of(option, old)) == class_of(option, old)
        ):
            merge(old, value, f"{option}.")
        else:
            base[key] = copy.deepcopy(value)
    return base


def complete(given: Nested) -> Nested:
    """Adds the default classes and every class's own defaults, still in the short form."""
    whole = copy.deepcopy(given)
    for option in CLASS_OPTIONS:
        value = lookup(whole, option) or {}
        name = class_of(option, value)
        if name:
            put(whole, option, {"class_path": name, **class_defaults(option, name), **value})
    for option in LIST_OPTIONS:
        items = lookup(whole, option) or []
        put(whole, option, [{**class_defaults(option, item["class_path"]), **item} for item in items])
    for option in TRAINER_LISTS:
        for item in listed(whole, option):
            item |= class_defaults(option, item["class_path"]) | item
    return whole


def expand(whole: Nested) -> Nested:
    """The form that jsonargparse takes: ``class_path`` and ``init_args``.

    Raises:
        UserError: If a class that is named, at whatever depth, cannot be imported.
    """
    whole = copy.deepcopy(whole)
    _import_named(whole)
    for option in CLASS_OPTIONS:
        value = lookup(whole, option)
        if not value:
            continue
        name = value.pop("class_path")
        supplied = required_seeds(name) if option == "data" else {}
        put(whole, option, {"class_path": parsed_path(option, name), "init_args": supplied | value})
    for option in LISTS:
        for item in listed(whole, option):
            item["init_args"] = {key: item.pop(key) for key in list(item) if key not in _BESIDE_OPTIONS}
    return whole


def _import_named(value: Any, option: str = "") -> None:
    """Imports what options name, for jsonargparse would not say why something cannot be imported."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _import_named(inner, f"{option}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for inner in value:
            _import_named(inner, option)
    elif isinstance(value, str) and DOTTED.fullmatch(value):
        if option.endswith("class_path") or option in _CLASSES_OF_LIGHTNING:
            find_object(option.removesuffix(".class_path"), value)
        else:
            import_if_here(value)  # it may name a function


def check_names(given: Nested, known: Iterable[str], words: Mapping[str, Iterable[str]] | None = None) -> None:
    """Refuses options that do not exist, with the nearest one that does.

    Args:
        given: What the user gave, normalized.
        known: The dotted options that do not belong to a class of ``CLASS_OPTIONS``.
        words: Other words for options, each with those that it may stand for.

    Raises:
        UserError: For the first unknown option, or the first without a value.
    """
    known = set(known)
    known |= {option for option in INSIDE if option.rpartition(".")[0] in known}
    own: set[str] = set()
    mappings: set[str] = set()  # options of classes that are mappings, whose keys are theirs
    for option in LISTS:
        for item in listed(given, option):
            name = str(item["class_path"])
            for key, value in item.items():
                if value == NO_VALUE:
                    raise UserError(f"--{option}.{key} needs a value")
                if key not in (options := class_defaults(option, name)) and key not in _BESIDE_OPTIONS:
                    short = name.rsplit(".", 1)[-1]
                    raise UserError(f"{option}: {key} is no option of {short}{suggestion(key, options)}")
    for option in CLASS_OPTIONS:
        value = lookup(given, option) or {}
        name = class_of(option, value)
        of_class = {f"{option}.{key}" for key in class_defaults(option, name)}
        hints = {f"{option}.{key}": hint for key, hint in class_hints(option, name).items()}
        mappings |= {key for key in of_class if key not in hints or takes_mapping(hints[key])}
        own |= of_class | {f"{option}.class_path", option}
    with_keys = [name for name in known if f"{name}.help" in known and name not in CLASS_OPTIONS] + [*mappings]
    for key, value in flatten(given).items():
        if key in own or key in known or any(key.startswith(f"{name}.") for name in with_keys):
            if value == NO_VALUE:
                raise UserError(f"--{key} needs a value")
            continue
        owner = next((option for option in CLASS_OPTIONS if key.startswith(f"{option}.")), None)
        what = "no option"
        if owner is not None:
            what = f"no option of {class_of(owner, lookup(given, owner) or {}).rsplit('.', 1)[-1]}"
            if not class_of(owner, lookup(given, owner) or {}):
                raise UserError(f"--{key} is given, but --{owner} names no class")
        names = [name for name in own | known | {"config"} if not name.endswith((".help", ".class_path"))]
        meant = {word: option for word, options in (words or {}).items() for option in options if option in names}
        near = suggestion(key, names, "--", meant)
        if not near and owner is not None:
            name = class_of(owner, lookup(given, owner) or {})
            short = name.rsplit(".", 1)[-1] if name.startswith("grok_lightning.") else name
            near = f"; --{owner}.help {short} shows what is"
        raise UserError(f"--{key} is {what}{near}")


def plain(value: Any) -> Any:
    """Values as YAML, JSON and a checkpoint can hold them, in the form that an option takes.

    Tuples and sets become lists, members of an enumeration and objects of a module their names, other numbers and texts
    those of Python, and all else text.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Integral | Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)
