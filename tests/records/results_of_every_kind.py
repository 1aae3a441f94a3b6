"""Results with fields of every kind, and tables that say the same."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pandas as pd

from grok_lightning.records.record import RESULT, flatten
from grok_lightning.records.results import refresh

INDEX = Path(".sweep") / "index.parquet"

WORDS = [
    "",
    "a",
    "é ☃ 𝄞",
    "5",
    "1.0",
    "null",
    "NaN",
    "[1]",
    'quo"te\n\t\\',
    "nul\0",
    "\udc80 half of a pair",
    "x" * 300,
]
SCALARS = {
    "null": lambda rng: None,
    "truth": lambda rng: rng.random() < 0.5,
    "integer": lambda rng: rng.choice([0, 1, -5, 2**31, 2**53, 2**63 - 1, -(2**63)]),
    "huge": lambda rng: rng.choice([2**63, -(2**63) - 1, 2**64, 10**40]),
    "number": lambda rng: rng.choice([0.0, -0.0, 1.0, 0.1, 5e-324, 1.7976931348623157e308, math.inf, rng.random()]),
    "text": lambda rng: rng.choice(WORDS),
    "list": lambda rng: rng.choice([[], [0.9, 0.98], [1], [1.0], [None, True, "x"], [{"a": [1]}], [[]]]),
    "empty": lambda rng: {},
}
KEYS = ["steps", "final.val/acc", "config.model.ü", ".run", ".", "", "a b", "run ", "size", "mtime_ns", "fields"]
MIXTURES = [
    *([kind] for kind in SCALARS),
    *([kind, "null"] for kind in SCALARS),
    ["integer", "number"],
    ["truth", "integer"],
    ["integer", "huge"],
    ["integer", "text"],
    ["number", "null", "text"],
    list(SCALARS),
]


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Some mapping that flattens to this one."""
    content: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, last = key.split(".")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return content


def any_result(rng: random.Random, missing: float = 0.2) -> dict[str, Any]:
    """A result with a field for each mixture of types and for each strange name, some left out."""
    fields = [(f"{place}.of {' '.join(kinds)}", kinds) for place, kinds in enumerate(MIXTURES)]
    fields += [(f"config.{key}", ["integer"]) for key in KEYS] + [(key, ["number", "null"]) for key in KEYS]
    return nested({name: SCALARS[rng.choice(kinds)](rng) for name, kinds in fields if rng.random() >= missing})


def write(directory: Path, content: dict[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / RESULT).write_text(json.dumps(content))


def same(found: Any, expected: Any, dtype: Any) -> bool:
    if expected is None:
        return found is None or found is pd.NA or (isinstance(found, float) and math.isnan(found))
    if isinstance(found, float) and isinstance(expected, int) and dtype == "float64":
        return found == expected
    return type(found) is type(expected) and repr(found) == repr(expected)


def assert_says(table: pd.DataFrame, contents: dict[str, dict[str, Any]]) -> None:
    """A table of ``refresh`` has these runs' fields as they are, and no others."""
    flat = {run: flatten(contents[run]) for run in sorted(contents)}
    names = list(dict.fromkeys(name for fields in flat.values() for name in fields))
    assert list(table.columns) == [*names, "run"]
    assert table["run"].tolist() == list(flat)
    for name in names:
        column = table[name]
        for found, (run, fields) in zip(column.tolist(), flat.items(), strict=True):
            assert same(found, fields.get(name), column.dtype), (run, name, found, fields.get(name), column.dtype)


def assert_same_table(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert one.attrs == other.attrs


def experiment(directory: Path, runs: int = 6) -> dict[str, dict[str, Any]]:
    contents = {str(run): {"status": "finished", "steps": run, "final": {"val/acc": run / 7}} for run in range(runs)}
    for run, content in contents.items():
        write(directory / run, content)
    return contents


def from_nothing(directory: Path) -> pd.DataFrame:
    """The table, read without an index."""
    (directory / INDEX).unlink(missing_ok=True)
    return refresh(directory)
