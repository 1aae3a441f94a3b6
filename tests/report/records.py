"""Records of runs that nobody trained, written as the program writes them."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from grok_lightning.records.columns import encode
from grok_lightning.records.parquet import save
from grok_lightning.records.planned import HASH, PLANNED
from grok_lightning.records.record import RESULT, Row, hash_of, milestones, write_json, write_metrics
from grok_lightning.report import command as report_command
from grok_lightning.report import making

Report = Callable[..., tuple[int, str, str]]
THRESHOLD, SUSTAIN, ROWS = 0.99, 1, 1000
STEPS = (0, 10, 20, 40, 80, 160)
NETWORK = {"class_path": "grok_lightning.models.Transformer", "layers": 2, "width": 16, "dropout": 0.0}
MLP = {"class_path": "grok_lightning.models.MLP", "width": 16, "activation": "relu"}
CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "trainer": {"max_steps": 200, "precision": "32-true", "callbacks": None},
    "model": {
        "network": NETWORK,
        "optimizer": {"class_path": "grok_lightning.optim.AdamW", "lr": 0.001, "betas": [0.9, 0.98], "decay": "zero"},
        "filters": [],
        "compile": False,
    },
    "data": {
        "class_path": "grok_lightning.data.ModularArithmeticDataModule",
        "formula": "x + y",
        "modulus": 7,
        "operands": None,
        "train_fraction": 0.5,
        "split_seed": None,
        "batch_size": 16,
    },
    "experiment": "e",
    "run": "0",
    "evaluation": {"threshold": THRESHOLD},
    "measures": [],
}


def reporting(command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> Report:
    """``grok-lightning report ... --out out`` without figures, which are other tests' and take most of the time."""
    monkeypatch.setattr(making, "list_drawings", lambda *_: iter(()))
    monkeypatch.setattr(report_command, "draw_run", lambda *_: ([], []))

    def run(*arguments: Any, out: str = "out") -> tuple[int, str, str]:
        return command("report", *arguments, "--out", out)

    return run


def options(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run that differs in some options, dotted; a whole block replaces the other."""
    config = copy.deepcopy(CONFIG)
    for option, value in changes.items():
        *groups, last = option.split(".")
        place = config
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return config


def curve(memorized: int | None, grokked: int | None, steps: Sequence[int] = STEPS) -> list[Row]:
    """Evaluations at these steps of a run that memorizes and groks at two of them."""

    def accuracy(step: int, since: int | None) -> float:
        return 1.0 if since is not None and step >= since else 0.1 + step / 2000

    return [
        {
            "step": step,
            "train/loss": 1 / (1 + step),
            "train/acc": accuracy(step, memorized),
            "val/loss": 2 / (1 + step),
            "val/acc": accuracy(step, grokked),
            "norm/weights": 3.0,
        }
        for step in steps
    ]


def result(rows: list[Row], config: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """What ``result.json`` says of a run with these evaluations."""
    best = max(rows, key=lambda row: row["val/acc"])
    counted = {key: value for key, value in config.items() if key not in ("experiment", "run")}
    return {
        "schema": 1,
        "status": "finished",
        "steps": int(rows[-1]["step"]),
        "budget": config["trainer"]["max_steps"],
        "threshold": THRESHOLD,
        **milestones(rows, {"train": ROWS, "val": ROWS}, THRESHOLD, SUSTAIN),
        "final": {key: value for key, value in rows[-1].items() if key != "step"},
        "best": {"val/acc": best["val/acc"], "step": int(best["step"])},
        "stack": 1,
        "seconds": 1.5,
        "config": dict(config),
        "config_hash": hash_of(counted),
    } | changes


def write_run(
    name: str,
    memorized: int | None = 20,
    grokked: int | None = 80,
    changes: Mapping[str, Any] | None = None,
    experiment: str = "e",
    over: bool = True,
    evaluated: Sequence[int] = STEPS,
    **fields: Any,
) -> str:
    """Writes a run below ``lightning_logs`` here; returns its hash, at which its directory's name ends.

    Args:
        name: What its directory's name begins with.
        memorized: The evaluated step at which it memorizes; None for never.
        grokked: The same of validation.
        changes: Options that differ, dotted.
        experiment: Its experiment.
        over: Whether it has a ``result.json``.
        evaluated: At which steps.
        fields: Of ``result.json`` that differ.
    """
    config = options(changes or {}) | {"experiment": experiment}
    rows = curve(memorized, grokked, evaluated)
    content = result(rows, config, **fields)
    hashed = str(content["config_hash"])
    directory = Path("lightning_logs", experiment, f"{name}-{hashed}")
    directory.mkdir(parents=True)
    config["run"] = directory.name
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    write_metrics(directory, rows)
    if over:
        write_json(directory / RESULT, content | {"config": config})
    return hashed


def directory_of(hashed: str) -> Path:
    """The directory of the run with a hash."""
    (found,) = Path("lightning_logs").glob(f"*/*-{hashed}")
    return found


def sweep(
    grokked: Mapping[float, Sequence[int | None]],
    option: str = "data.train_fraction",
    experiment: str = "e",
    **more: Any,
) -> list[str]:
    """Writes runs of the values of an option, a seed for each of their grok steps; returns their hashes."""
    return [
        write_run(
            f"{value}+{seed}",
            grokked=step,
            changes={option: value, "seed_everything": seed},
            experiment=experiment,
            **more,
        )
        for value, steps in grokked.items()
        for seed, step in enumerate(steps)
    ]


def plan(hashes: Sequence[str], words: Mapping[str, Sequence[str]], experiment: str = "e") -> None:
    """Writes down what a sweep asks for, as sweeps did before their values were typed."""
    path = Path("lightning_logs", experiment, PLANNED)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {HASH: hashes} | {option: list(values) for option, values in words.items()}
    save(path, pa.table({name: encode(list(values)) for name, values in columns.items()}))


def conditions(out: Path | str = "out") -> pd.DataFrame:
    """The table that a report wrote, by condition."""
    return pd.read_csv(Path(out) / "conditions.csv", index_col="condition")


def change_result(hashed: str, **fields: Any) -> None:
    """Writes other fields into a run's ``result.json``."""
    path = directory_of(hashed) / RESULT
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
