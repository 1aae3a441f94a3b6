"""Sweeps of networks so small that a run takes less than a second, trained in this process."""

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from grok_lightning.cli import quiet
from grok_lightning.sweep.plan.pending import Schedule, find_pending, find_standing
from grok_lightning.sweep.plan.runs import Plan, read_plan
from grok_lightning.sweep.plan.sizes import Choice, Size
from grok_lightning.sweep.plan.stack import Stack

NETWORKS: dict[str, dict[str, Any]] = {
    "Transformer": {"model.network": {"class_path": "Transformer", "layers": 1, "width": 16, "heads": 2}},
    "MLP": {"model.network": {"class_path": "MLP", "width": 8}},
    "LSTM": {"model.network": {"class_path": "LSTM", "width": 8}},
    "GRU": {"model.network": {"class_path": "GRU", "width": 8}},
}
SMALL: dict[str, Any] = {
    **{"data.modulus": 7, "data.batch_size": 16, "model.compile": False, "model.optimizer.lr": 0.01},
    **{"trainer.precision": "32-true"},
    **{"trainer.accelerator": "cpu", "trainer.max_steps": 40, "evaluation.every": 10, "evaluation.per_decade": 0},
    **NETWORKS["MLP"],
}
Point = tuple[str, int, str]
EASY = {"data.formula": "0 * x + 0 * y"}  # grokked as soon as it is memorized


@contextmanager
def as_the_program() -> Iterator[None]:
    """Silences what libraries warn of themselves, for a while."""
    with warnings.catch_warnings():
        quiet()
        yield


def write(name: str, grid: dict[str, Any] | None = None, zipped: dict[str, Any] | None = None, **more: Any) -> Path:
    """Writes ``name.yaml`` here: small settings with others over them, and what varies."""
    path = Path(f"{name}.yaml")
    varied = tuple(f"{option}." for option in (grid or {}) | (zipped or {}))
    fixed = {option: value for option, value in SMALL.items() if not f"{option}.".startswith(varied)} | more
    content: dict[str, Any] = {"set": {option: value for option, value in fixed.items() if value is not None}}
    content |= ({"grid": grid} if grid else {}) | ({"zip": zipped} if zipped else {})
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@contextmanager
def struck(point: Point, blow: Callable[[], None]) -> Iterator[None]:
    """Strikes before or after the n-th durable writing of a file that matches."""
    file, left, at = point
    replace = os.replace

    def watched(source: Any, target: Any) -> None:
        nonlocal left
        left -= bool(re.search(file, str(target)))
        now = left == 0 and bool(re.search(file, str(target)))
        if now and at == "before":
            blow()
        replace(source, target)
        if now and at == "after":
            blow()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", watched)
        yield


def directories(name: str) -> list[Path]:
    """The directories of an experiment's runs, by name."""
    return sorted(path for path in Path("lightning_logs", name).glob("*") if not path.name.startswith("."))


def results(name: str) -> dict[str, dict[str, Any]]:
    """``result.json`` of each run that is over, by the name of its directory."""
    return {
        path.name: json.loads((path / "result.json").read_text())
        for path in directories(name)
        if (path / "result.json").exists()
    }


def tables(name: str) -> dict[str, bytes]:
    """``metrics.csv`` of each run, by its hash."""
    found = {}
    for path in directories(name):
        with suppress(FileNotFoundError):
            found[path.name[-16:]] = (path / "metrics.csv").read_bytes()
    return found


def outcomes(name: str) -> dict[str, dict[str, Any]]:
    """What must be the same however a run was trained, by its hash: its result without times and names."""
    own = ("seconds", "steps_per_second", "compile_seconds", "config", "stack")
    return {
        result["config_hash"]: {key: value for key, value in result.items() if key not in own}
        for result in results(name).values()
    }


@cache
def _plan(path: Path, text: str) -> Plan:
    return read_plan(path)


def jobs(path: Path, stack_size: int, **options: Any) -> list[Stack]:
    """What a worker would be handed for the runs of a file that are not over."""
    plan = _plan(path, path.read_text())
    found = find_standing(plan)
    choice = Choice(1, 1, stack_size, None, False, False, False, Size(1, 1, 1))
    schedule = Schedule(plan, found, choice, find_pending(plan, found, stack_size))
    return [replace(schedule.make(stack), **options) for stack in schedule.stacks]
