"""What experiments share: a run small enough to be trained in a second, and what it leaves."""

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from processes import Command

TINY = (
    *(
        "--experiment",
        "e",
        "--data.modulus",
        "5",
        "--data.batch_size",
        "8",
        "--threads",
        "1",
        "--trainer.accelerator",
        "cpu",
    ),
    *("--model.network", "MLP", "--model.network.width", "4", "--trainer.enable_progress_bar", "false"),
)
TIMES = ("seconds", "steps_per_second", "compile_seconds", "config", "stack", "config_hash")


@dataclass
class Trial:
    """What an experiment may use, and what it finds.

    Attributes:
        where: An empty directory.
        seconds: About how long it may take.
        random: Of its own seed.
        scale: Its size, 1 for all of it.
        figures: What it did, in a few words each.
        defects: What is wrong.
    """

    where: Path
    seconds: float
    random: random.Random
    scale: float = 1.0
    figures: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.seconds

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() > self.deadline

    def count(self, whole: int, least: int = 1) -> int:
        """A number of repetitions, scaled down with the time there is."""
        return max(least, round(whole * min(1.0, self.scale)))

    def note(self, fault: str) -> bool:
        """Keeps a defect, unless it is empty or known; returns whether there is one."""
        if fault and fault not in self.defects:
            self.defects.append(fault)
        return bool(fault)


def logs(where: Path, run: str) -> Path:
    """The directory of a run's record."""
    return where / "lightning_logs/e" / run


def last(where: Path, run: str) -> Path:
    """The checkpoint that a run is resumed from."""
    return where / "checkpoints/e" / run / "last.ckpt"


def step_of(where: Path, run: str) -> int:
    """The last evaluated step; -1 if there is none."""
    with suppress(OSError, ValueError, IndexError):
        return int((logs(where, run) / "metrics.csv").read_text().splitlines()[-1].split(",")[0])
    return -1


def read_result(where: Path, run: str) -> dict[str, Any] | None:
    """``result.json`` without times and names; None while there is none."""
    try:
        found = json.loads((logs(where, run) / "result.json").read_text())
    except (OSError, ValueError):
        return None
    return {key: value for key, value in found.items() if key not in TIMES}


def state_of(where: Path, run: str) -> str:
    """A hash of a run's record and of its last weights."""
    found = hashlib.sha256((logs(where, run) / "metrics.csv").read_bytes())
    found.update(json.dumps(read_result(where, run), sort_keys=True).encode())
    weights = torch.load(last(where, run), weights_only=True)["state_dict"]
    for name, weight in sorted(weights.items()):
        found.update(name.encode() + weight.numpy().tobytes())
    return found.hexdigest()[:12]


def leftovers(where: Path) -> list[str]:
    """Temporary files."""
    return [
        str(path.relative_to(where))
        for path in where.rglob("*")
        if path.name.startswith(".saving-") or path.suffix == ".new"
    ]


def fit(trial: Trial, run: str, steps: int, *more: object, **options: Any) -> Command:
    """Starts a fit."""
    return Command("fit", *TINY, "--run", run, "--trainer.max_steps", steps, *more, where=trial.where, **options)


def resume(trial: Trial, run: str, *more: object, **options: Any) -> Command:
    """Resumes one."""
    return Command("fit", "--experiment", "e", "--run", run, "--ckpt_path", "last", *more, where=trial.where, **options)


def strike(place: int, after: bool, name: str = "") -> Callable[[], None]:
    """Has a process kill itself at its n-th durable writing, of a file of that name, if one is given."""

    def install() -> None:
        original, left = os.replace, place

        def watched(source: Any, target: Any, **options: Any) -> None:
            nonlocal left
            left -= name in str(target)
            now = left == 0 and name in str(target)
            if now and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            original(source, target, **options)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = watched

    return install


def set_back(calls: int) -> Callable[[], None]:
    """Has the clock, and the times of files written durably, go back by an hour after some looks at it."""

    def install() -> None:
        look, replace, left = time.time, os.replace, calls

        def earlier() -> float:
            nonlocal left
            left -= 1
            return look() - (3600 if left < 0 else 0)

        def replace_earlier(source: Any, target: Any, **options: Any) -> None:
            replace(source, target, **options)
            with suppress(OSError):
                os.utime(target, (earlier(), earlier()))

        time.time, os.replace = earlier, replace_earlier

    return install
