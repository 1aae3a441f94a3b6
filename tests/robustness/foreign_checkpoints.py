"""Checkpoints as strangers may write them: their config or state changed, their checksum right."""

import copy
from pathlib import Path
from typing import Any

from grok_lightning.records.checkpoint import CONFIG_KEY, load, save

TRAINED = [
    *("--data.modulus", "7", "--data.batch_size", "16", "--data.val_fraction", "0.25", "--experiment", "own"),
    *("--model.network.layers", "1", "--model.network.width", "8", "--model.network.heads", "2"),
    *("--model.filters", "[GrokfastEMA, GrokfastMean]", "--trainer.accelerator", "cpu", "--evaluation.every", "2"),
    *("--trainer.max_steps", "6", "--checkpoint.steps", "[4]", "--trainer.enable_progress_bar", "false"),
]
REMOVE = object()


def put(nested: Any, key: str, value: Any) -> None:
    """Sets, or removes, what stands under a dotted key; Lightning's own keys with a dot are written with a slash."""
    *parents, last = [int(part) if part.isdigit() else part.replace("/", ".") for part in key.split(".")]
    for parent in parents:
        nested = nested[parent]
    if value is REMOVE:
        del nested[last]
    else:
        nested[last] = value(nested[last]) if callable(value) else value


def reseal(source: Path, target: Path, changes: dict[str, Any], inner: str = "") -> Path:
    """Writes a copy of a checkpoint in which some keys have other values, with a right checksum."""
    checkpoint = copy.deepcopy(load(source))
    for key, value in changes.items():
        put(checkpoint, f"{inner}{key}", value)
    save(checkpoint, target)
    return target


def reseal_config(source: Path, target: Path, changes: dict[str, Any]) -> Path:
    """The same for keys of the config."""
    return reseal(source, target, changes, f"{CONFIG_KEY}.")


def listing(directory: Path) -> dict[str, bytes]:
    """Every file below a directory with its content, but the index of records, which can always be rebuilt."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != "index.parquet"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}
