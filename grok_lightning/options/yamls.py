"""YAML of options, read so that nothing in it is dropped in silence."""

from pathlib import Path
from typing import Any

import yaml

from grok_lightning.errors import UserError
from grok_lightning.options.classes import Nested


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice in one mapping; PyYAML keeps the last and drops the others in silence."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if (key.tag, key.value) in lines:
                    first = lines[key.tag, key.value]
                    raise UserError(f"the key {key.value!r} occurs twice in one mapping, in lines {first} and {line}")
                lines[key.tag, key.value] = line
        return node


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        UserError: If it is no YAML, or has a key twice in one mapping.
        OSError: If it cannot be read.
    """
    return parse_yaml(path.read_bytes())


def parse_yaml(text: str | bytes) -> Any:
    """What a text holds as YAML.

    Raises:
        UserError: If it is no YAML, or has a key twice in one mapping.
    """
    try:
        return yaml.load(text, _Loader)
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"it cannot be read as YAML: {' '.join(str(error).split())[:150]}") from None


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
            raise UserError(f"{where} has {key!r} where the name of an option is expected")
        own = key in ("init_args", "dict_kwargs")
        inner = undotted(value, where) if isinstance(value, dict) and not own else value
        _join(nested, nest(key, inner), where)
    return nested


def _join(base: Nested, new: Nested, where: str, above: str = "") -> None:
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
            _join(old, value, where, f"{above}{key}.")
        elif value is not None:
            raise UserError(f"{where} gives {above}{key} twice, {old!r} and {value!r}; leave one out")
