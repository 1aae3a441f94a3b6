"""Help texts of all commands in one look: a line for each option, with its type, default and possible values."""

import re
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from grok_lightning.options.classes import Argument

WIDTH = 100
_VALUE = 16  # columns of an option's type and default


def line(column: int, name: str, value: str, text: str) -> str:
    """An option in one line, its type and default at a given column."""
    left = f"{f'  {name}':<{column - 1}} {value}"  # a long name takes the room of a short type
    return f"{left:<{column + _VALUE}}{text}".rstrip()


def describe(argument: Argument, text: str | None = None) -> tuple[str, str, str]:
    """An option of a parser for a help text.

    Args:
        argument: The option.
        text: Replaces the sentence of its docstring, values included.

    Returns:
        Its name as written (``--data.formula``, or ``FILES...`` for what is given without a name), its type and default
        (``float = 0.5``; the type alone where there is no default), and its meaning with the values it can have.
    """
    kinds, choices = _kinds(argument.hint)
    default = _format_default(argument.default)
    if text is not None:
        kind = kinds[0] if default is None else type(argument.default).__name__
    else:
        text, kind = first_sentence(argument.help), "|".join(kinds) or "str"
        listed = ", ".join(choice for choice in choices if choice not in text)
        joint = "; or " if kinds and get_origin(argument.hint) is not Literal else ": "
        text = f"{text.removesuffix('.')}{joint}{listed}." if listed else text
    if argument.positional:
        return argument.name.upper() + "..." * argument.many, "", text
    kind += " ..." * argument.many
    value = kind if default is None else f"{kind} = {default}"
    return f"--{argument.name}", value if len(value) < _VALUE - 1 else f"{default}", text


def help_text(
    usage: str, description: str, groups: Mapping[str, Iterable[str]], example: str, more: Iterable[str] = ()
) -> str:
    """The text that ``--help`` prints.

    Args:
        usage: The command with what it takes.
        description: What the command does.
        groups: Lines of options by heading.
        example: A command.
        more: Lines at the end.
    """
    lines = [f"usage: grok-lightning {usage}", "", description]
    for heading, options in groups.items():
        lines += ["", f"{heading}:", *options]
    return "\n".join([*lines, "", "Example:", f"  grok-lightning {example}", *more])


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
        choices = [choice for _, found in both for choice in found]
        return (kinds if len(kinds) == 1 else [kind for kind in kinds if kind != "list"]), choices
    return ["list" if origin is not None else getattr(hint, "__name__", "str")], []


def _format_default(default: Any) -> str | None:
    """A default as it is written on a command line; None for none."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    if isinstance(default, tuple | list):
        return f"[{', '.join(map(str, default))}]"
    return None if default is None or str(default).startswith("==") else f"{default}"
