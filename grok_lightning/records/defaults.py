"""Frozen defaults of hash version 1, which the hashes of runs are computed against.

A run's hash counts the options that differ from their default. With the defaults of the code, a changed default would
change the hashes of old runs, and new runs would get the hashes of old ones. So ``defaults.json`` keeps the defaults of
hash version 1, and its values never change. A new option gets a row with the value that keeps the results of older
runs. A changed default gets a line under ``notes``. A test checks both.
"""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from grok_lightning.reading import read_json

HASH_VERSION = 1  # version of ``config_hash``; a record without one has version 1
TABLE = Path(__file__).parent / "defaults.json"


@cache
def frozen_table() -> dict[str, Any]:
    """The table: ``options`` by dotted name, ``classes`` by option and class path, ``default_classes``, ``listed``
    (options of measures that older checkpoints lack), ``notes``."""
    found: dict[str, Any] = read_json(TABLE)
    return found


def frozen_defaults(defaults: dict[str, Any]) -> dict[str, Any]:
    """Replace defaults of the code by those of version 1; options that are not in the table stay.

    Args:
        defaults: Nested config of the same classes with all other options at their defaults.

    Returns:
        New defaults, with the default class in place of each class, so that a class counts unless it is the default.
    """
    table, frozen = frozen_table(), copy.deepcopy(defaults)
    for option, value in table["options"].items():
        _replace(frozen, option, value)
    for owner, classes in table["classes"].items():
        own = _group(frozen, owner)
        for option, value in classes.get(own.get("class_path"), {}).items():
            _replace(own, option, value)
        _replace(own, "class_path", table["default_classes"][owner])
    return frozen


def complete_listed(config: dict[str, Any]) -> dict[str, Any]:
    """Add to the measures of a config of an earlier version, in place, the options that it lacks, as they were then."""
    for item in config.get("measures") or ():
        if isinstance(item, dict):
            item |= frozen_table()["listed"].get(item.get("class_path"), {}) | item
    return config


def known_then(options: Mapping[str, Any]) -> dict[str, Any]:
    """The dotted options of a checkpoint or record, with those that its version did not have as they were then."""
    table = frozen_table()
    found: dict[str, Any] = dict(table["options"])
    for owner, classes in table["classes"].items():
        own = classes.get(str(options.get(f"{owner}.class_path")), {})
        found |= {f"{owner}.{name}": value for name, value in own.items()}
    return found | dict(options)


def _replace(nested: dict[str, Any], option: str, value: Any) -> None:
    owner, _, last = option.rpartition(".")
    group = _group(nested, owner) if owner else nested
    if last in group:
        group[last] = copy.deepcopy(value)


def _group(nested: dict[str, Any], option: str) -> dict[str, Any]:
    for part in option.split("."):
        nested = nested.get(part) or {}
    return nested
