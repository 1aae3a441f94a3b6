"""Values of options: given their types, or refused in one line that says what is expected."""

import os
from collections.abc import Callable, Iterator, Mapping
from math import isfinite, isnan
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from grok_lightning.errors import UserError, show
from grok_lightning.options import modules
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    LIST_OPTIONS,
    LISTS,
    Nested,
    arguments_of,
    class_arguments,
    class_hints,
    class_of,
    listed,
    lookup,
    required_options,
)
from grok_lightning.options.merging import expand
from grok_lightning.reading import Excessive, Malformed, check_yaml, read_yaml
from grok_lightning.records.record import flatten

NOT_ACCEPTED = (ArgumentError, TypeError, ValueError, KeyError, OverflowError)  # what jsonargparse raises
LARGEST = 2**63 - 1  # of integers
_OURS = ("grok_lightning.", "torch.")


def parse_values(parser: ArgumentParser, wanted: Nested) -> Namespace:
    """The options with the types that a parser gives them.

    Args:
        parser: The parser.
        wanted: All options, in the short form.

    Raises:
        UserError: If a value has the wrong type, is a number out of all ranges, or text that jsonargparse, which reads
            all text as YAML, would not be done with.
    """
    for option, value in _leaves(wanted):
        if isinstance(value, str):
            _refuse_text(option, value)
    try:
        typed = parser.parse_object(expand(wanted))
    except NOT_ACCEPTED as error:
        reason = find_mistake(wanted, parser) or f"options: {' '.join(str(error).split())[:300]}"
        raise UserError(reason) from None
    for option, value in _leaves(typed.as_dict()):
        _refuse_number(option, value)
    return typed


def _leaves(value: Any, option: str = "") -> Iterator[tuple[str, Any]]:
    """All values with their dotted options; in lists too, under the list's option."""
    if isinstance(value, dict):
        path = str(value.get("class_path", _OURS[0]))
        foreign = not path.startswith(_OURS) or path.startswith(f"{modules.__name__}.")
        for key, inner in value.items():
            if key == "init_args" and isinstance(inner, dict):
                yield from _leaves({"class_path": path} | inner, option)
                continue
            here = f"{option}.{key}".removeprefix(".")
            if not foreign or not (isinstance(inner, float) and not isnan(inner)):  # infinity may be one of its values
                yield from _leaves(inner, here)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, option)
    else:
        yield option, value


def _refuse_text(option: str, text: str) -> None:
    if not text.isascii() and text.strip().lstrip("+-").isnumeric():
        raise UserError(f"--{option} is {show(text)}; numbers are written with the digits 0 to 9")
    if option.startswith("trainer.") and option != "trainer.default_root_dir" and _names_file(text):
        try:  # which jsonargparse would read, whatever it is
            read_yaml(text)
        except (OSError, Malformed) as error:
            raise UserError(f"--{option} is {show(text)}: {getattr(error, 'reason', error)}") from None
    if any(mark in text for mark in "[{&*"):
        try:
            check_yaml(text)
        except Excessive as error:
            raise UserError(f"--{option} is {show(text)}, which is not read: {error.reason}") from None
        except Malformed:
            pass  # text that is no YAML


def _names_file(text: str) -> bool:
    try:
        return os.path.exists(text) and not os.path.isdir(text)
    except ValueError:  # no name of a file
        return False


def _refuse_number(option: str, value: Any) -> None:
    if isinstance(value, float) and not isfinite(value):
        raise UserError(f"--{option} is {value}; a finite number is expected")
    if isinstance(value, int) and abs(value) > LARGEST and "seed" not in option:  # a seed may be any integer
        raise UserError(f"--{option} is {show(value)}; an integer from -2^63 to 2^63 is expected")


def refuse_null(given: Nested, named: Nested, parser: ArgumentParser) -> None:
    """Refuses null where it means nothing: jsonargparse lets it through for every option.

    Args:
        given: What was given, in the short form.
        named: The same over the classes of a checkpoint, so that options of a class are found.
        parser: The command's parser.

    Raises:
        UserError: For the first such option, or a group of options that is no mapping.
    """
    hints = collect_hints(named, parser)
    for option, value in flatten(given).items():
        if value is None and option in hints and "null" not in (expected := describe_type(hints[option])):
            raise UserError(f"--{option} is null; expected: {expected}")
    for owner in LIST_OPTIONS:
        for item in listed(given, owner):
            for key, hint in class_hints(owner, item["class_path"]).items():
                if item.get(key, 0) is None and hint and "null" not in (expected := describe_type(hint)):
                    name = item["class_path"].rpartition(".")[2]
                    raise UserError(f"{owner}: {name}.{key} is null; expected: {expected}")
    for group in ("trainer", "evaluation", "checkpoint", "data", "model"):
        if group in given and not isinstance(given[group], dict):
            raise UserError(f"--{group} is {show(given[group])}; a mapping of options is expected")


def refuse_unfit(wanted: Nested) -> None:
    """Refuses options without a default that are not given, and text for one without a type whose default is a number.

    Args:
        wanted: All options, in the short form.

    Raises:
        UserError: For the first such option.
    """
    chosen = [(owner, f"--{owner}.", lookup(wanted, owner) or {}) for owner in CLASS_OPTIONS]
    chosen += [(owner, f"{owner}: ", item) for owner in LISTS for item in listed(wanted, owner)]
    for owner, before, own in chosen:
        name = class_of(owner, own)
        needed = required_options(owner, name)
        for key, hint, default, *_ in class_arguments(owner, name):
            value, expected = own.get(key), describe_type(hint)
            untyped = "Untyped" in str(hint)
            if key in needed and value is None and ("null" not in expected or untyped):
                given = "" if untyped else f"; expected: {expected}"
                raise UserError(f"{before}{key} has no default in {name.rsplit('.', 1)[-1]} and is not given{given}")
            number = untyped and type(default) in (int, float) and isinstance(value, str)
            if number and not _accepts(float, value):
                raise UserError(f"{before}{key} is {show(value)}; expected: a number")


def find_mistake(wanted: Nested, parser: ArgumentParser) -> str | None:
    """The first option of a config in the short form whose value has the wrong type, with what is expected."""
    for owner in LISTS:
        for item in listed(wanted, owner):
            name = item["class_path"]
            for key, hint in class_hints(owner, name).items():
                wrong_null = item.get(key, 0) is None and "null" not in describe_type(hint)
                if wrong_null or (key in item and not _accepts(hint, item[key])):
                    option = f"{owner}: {name.rsplit('.', 1)[-1]}.{key}"
                    return f"{option} is {show(item[key])}; expected: {describe_type(hint)}"
    hints = collect_hints(wanted, parser)
    for option, value in flatten(wanted).items():
        if option in hints and not _accepts(hints[option], value):
            return f"--{option} is {show(value)}; expected: {describe_type(hints[option])}"
        if option not in hints and (mistake := _find_inner(wanted, hints, option)):
            return mistake
    for option, value in flatten(wanted).items():  # without a default, and not given
        if value is None and option in hints and "null" not in (expected := describe_type(hints[option])):
            return f"--{option} is missing; expected: {expected}"
    return None


def _find_inner(wanted: Nested, hints: dict[str, Any], option: str) -> str | None:
    """What is wrong with a value within an option that is a mapping, whose own type tells what is expected."""
    owner = option.rpartition(".")[0]
    while owner and owner not in hints:
        owner = owner.rpartition(".")[0]
    if not owner or owner in CLASS_OPTIONS or _accepts(hints[owner], lookup(wanted, owner)):
        return None
    mappings = [kind for kind in (hints[owner], *get_args(hints[owner])) if get_origin(kind) in (dict, Mapping)]
    if mappings and option.rpartition(".")[0] == owner and len(of := get_args(mappings[0])) == 2:
        if _accepts(of[1], lookup(wanted, option)):
            return None
        return f"--{option} is {show(lookup(wanted, option))}; expected: {describe_type(of[1])}"
    return f"--{owner} is {show(lookup(wanted, owner))}; expected: {describe_type(hints[owner])}"


def collect_hints(named: Nested, parser: ArgumentParser) -> dict[str, Any]:
    """The types of a parser's options and of those of the classes named, by dotted name."""
    hints = {argument.name: argument.hint for argument in arguments_of(parser)}
    for owner in CLASS_OPTIONS:
        own = class_hints(owner, class_of(owner, lookup(named, owner) or {}))
        hints |= {f"{owner}.{key}": hint for key, hint in own.items()}
    return {option: hint for option, hint in hints.items() if hint is not None and option not in LISTS}


def _accepts(hint: Any, value: Any) -> bool:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        parser.parse_object({"value": value})
    except NOT_ACCEPTED:
        return False
    return True


def describe_type(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " or ".join(describe_type(kind) for kind in inner)
    if origin is Callable:
        return "a function"
    if origin in (dict, Mapping):
        return "a mapping"
    if inner:
        count = f"{len(inner)} " if origin is tuple else ""
        of = describe_type(inner[0]).removeprefix("an ").removeprefix("a ")
        return f"a list of {count}{of}{'' if get_origin(inner[0]) is Literal else 's'}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))
