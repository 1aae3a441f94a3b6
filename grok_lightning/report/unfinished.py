"""Records of unfinished runs, from their config and their evaluations so far."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from grok_lightning.reading import read_yaml
from grok_lightning.records.after_grok import AFTER, describe_record
from grok_lightning.records.form import find_fault
from grok_lightning.records.record import METRICS, RESULT, flatten, milestones
from grok_lightning.records.runs import hash_of_name
from grok_lightning.records.tasks import is_held_out

CONFIG = "config.yaml"
UNFINISHED = "unfinished"


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
        config = flatten({"config": read_yaml(f"{directory}/{CONFIG}")})
        threshold = float(config.get("config.evaluation.threshold", 0.99))
        budget = int(config["config.trainer.max_steps"])
    except (OSError, AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
    if budget < 1 or not len(curve) or not {"train/acc", "val/acc"} <= set(curve):
        return None
    record: dict[str, Any] = {"path": directory, "status": UNFINISHED, "threshold": threshold}
    record |= {"steps": int(curve["step"].iloc[-1]), "budget": budget}
    rows = [{str(key): value for key, value in row.items()} for row in curve.to_dict("records")]
    data = {key: config.get(f"config.data.{key}") for key in ("class_path", "val_fraction")}
    validated = is_held_out(data, rows[0])
    if not validated:
        record["counts.val"] = 0
    events = milestones(rows, {"train": None, "val": None}, threshold, 1, validated)
    record |= {name: step for name, step in events.items() if name != "sustained_grok_step"}  # it may still fall
    record |= {f"final.{key}": float(curve[key].iloc[-1]) for key in curve.columns if "/" in key}
    if (accuracy := curve["val/acc"]).notna().any():
        best = int(accuracy.argmax())
        record |= {"best.val/acc": float(accuracy.iloc[best]), "best.step": int(curve["step"].iloc[best])}
    record["config_hash"] = hash_of_name(Path(directory).name)
    record |= config
    record |= {f"{AFTER}.{name}": value for name, value in describe_record(record, curve).items()}
    return None if find_fault(record) else record
