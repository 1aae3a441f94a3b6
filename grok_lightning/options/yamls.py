"""Dotted and nested options as one mapping, so that nothing in it is dropped in silence."""

from typing import Any

from grok_lightning.errors import UserError, show
from grok_lightning.options.classes import Nested


def nest(key: str, value: Any) -> Nested:
    """``{"a": {"b": value}}`` for the option ``a.b``."""
    for part in reversed(key.split(".")):
        value = {part: value}
    nested: Nested = value
    return nested


def undotted(content: Nested, where: str) -> Nested:
    """``a.b: 1`` as ``a: {b: 1}``, as on the command line; the order of the keys does not matter.

    Args:
        content: Options, dotted, nested or both.
        where: What holds them, in the words of an error.

    Raises:
        UserError: If the name of an option is no text, or one option has two values.
    """
    nested: Nested = {}
    for key, value in content.items():
        if not isinstance(key, str):
            raise UserError(f"{where} has {show(key)} where the name of an option is expected")
        own = key in ("init_args", "dict_kwargs")
        inner = undotted(value, where) if isinstance(value, dict) and not own else value
        join(nested, nest(key, inner), where)
    return nested


def join(base: Nested, new: Nested, where: str, above: str = "") -> None:
    """Adds to ``base`` what ``new`` has besides it; text beside options is the name of their class."""
    for key, value in new.items():
        if key not in base or base[key] is None:
            base[key] = value
            continue
        old = base[key]
        if isinstance(old, dict) != isinstance(value, dict):
            old, value = ({"class_path": side} if isinstance(side, str) else side for side in (old, value))
        if isinstance(old, dict) and isinstance(value, dict):
            base[key] = old
            join(old, value, where, f"{above}{key}.")
        elif value is not None:
            raise UserError(f"{where} gives {above}{key} twice, {show(old)} and {show(value)}; leave one out")
