"""The defaults that hashes of runs are computed against: those of version 1, whatever the code's defaults become.

A run's hash counts the options that differ from their default. Were that the default in the code, changing one would
give old runs, which have the old value, a new hash, and give new runs the hash of old ones. So the table
``defaults.json`` keeps the defaults of hash version 1. It is never changed. An option that is new gets a row with the
value that leaves the results of older runs as they were. A changed default gets a line under ``notes``; a test asks for
both.
"""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

HASH_VERSION = 1  # of ``config_hash``; a record that does not say has the first
TABLE = Path(__file__).parent / "defaults.json"


@cache
def frozen_table() -> dict[str, Any]:
    """The table: ``options`` by dotted name, ``classes`` by option and class path, ``default_classes``, ``notes``."""
    found: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


def frozen_defaults(defaults: dict[str, Any]) -> dict[str, Any]:
    """The defaults of version 1 in place of the code's; options that the table does not know are left as they are.

    Args:
        defaults: What a config would be, nested, had only its classes been named.

    Returns:
        The same, with the default class in place of each class, so that a class counts unless it is the default one.
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


def _replace(nested: dict[str, Any], option: str, value: Any) -> None:
    owner, _, last = option.rpartition(".")
    group = _group(nested, owner) if owner else nested
    if last in group:
        group[last] = copy.deepcopy(value)


def _group(nested: dict[str, Any], option: str) -> dict[str, Any]:
    for part in option.split("."):
        nested = nested.get(part) or {}
    return nested
