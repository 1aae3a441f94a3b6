"""Records of unfinished runs, from their config and their evaluations so far."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from grok_lightning.records.record import METRICS, RESULT, flatten, reaches

CONFIG = "config.yaml"
UNFINISHED = "unfinished"
HASHED = re.compile(r".*-([0-9a-f]{16})")  # names of a sweep's runs
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def unfinished_runs(top: Path) -> list[str]:
    """The run directories at or below one that have evaluations and no ``result.json``."""
    return sorted(_walk(str(top)))


def _walk(directory: str) -> Iterator[str]:
    if os.path.exists(f"{directory}/{RESULT}"):
        return
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    names = {entry.name for entry in entries}
    if METRICS in names and CONFIG in names:
        yield directory
        return
    for entry in entries:
        if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)


def unfinished_record(directory: str, curve: pd.DataFrame) -> dict[str, Any] | None:
    """Fields that ``result.json`` would have by now, as far as known, nested fields dotted.

    Args:
        directory: Directory of the run.
        curve: Its evaluations.

    Returns:
        The fields; None if there is no evaluation yet, or its config cannot be read.
    """
    try:
        with open(f"{directory}/{CONFIG}", encoding="utf-8") as file:
            config = flatten({"config": yaml.load(file, LOADER)})
        threshold = float(config.get("config.evaluation.threshold", 0.99))
        budget = int(config["config.trainer.max_steps"])
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        return None
    if budget < 1 or not len(curve) or not {"train/acc", "val/acc"} <= set(curve):
        return None
    hashed = HASHED.fullmatch(Path(directory).name)
    record: dict[str, Any] = {"path": directory, "status": UNFINISHED, "threshold": threshold}
    record |= {"steps": int(curve["step"].iloc[-1]), "budget": budget}
    for event, split in (("memorize", "train"), ("grok", "val")):
        reached = [at for at, accuracy in enumerate(curve[f"{split}/acc"]) if reaches(accuracy, None, threshold)]
        first = reached[0] if reached else None
        record[f"{event}_step"] = None if first is None else int(curve["step"].iloc[first])
        record[f"{event}_after"] = int(curve["step"].iloc[first - 1]) if first else None
    record |= {f"final.{key}": float(curve[key].iloc[-1]) for key in curve.columns if "/" in key}
    best = curve["val/acc"].to_numpy()
    if not np.isnan(best).all():
        record |= {
            "best.val/acc": float(np.nanmax(best)),
            "best.step": int(curve["step"].iloc[int(np.nanargmax(best))]),
        }
    record["config_hash"] = hashed and hashed[1]
    return record | config
