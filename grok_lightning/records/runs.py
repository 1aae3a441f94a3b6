"""Names of runs, new run numbers, and the checkpoint to resume."""

import re
from pathlib import Path
from typing import Any

from grok_lightning.errors import UserError, show
from grok_lightning.records.checkpoint import LAST
from grok_lightning.records.record import RESULT, run_directories

SEPARATOR = "__"  # between the options in the name of a sweep's run, and before its hash
_HASHED = re.compile(r".*(?:__|-)([0-9a-f]{16})")  # a - in sweeps of earlier versions
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,99}")
_STEP = re.compile(r"step=([0-9]{1,15})\.ckpt")


def check_name(option: str, name: Any) -> str:
    """Refuse names that could lead out of their directory.

    Raises:
        UserError: The name is no text, has characters other than letters, digits and ``. _ = + -``, does not begin with
            a letter or digit, or is longer than 100 characters.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        named = option if option.isupper() else f"--{option}"  # a variable of the environment
        raise UserError(
            f"{named} is {show(name)}; at most 100 letters, digits and . _ = + - are accepted, a letter or digit first"
        )
    return name


def hash_of_name(name: str) -> str | None:
    """Hash with which the name of a sweep's run ends; None for other names."""
    found = _HASHED.fullmatch(name)
    return found and found[1]


def fresh_number(root: Path, experiment: str) -> str:
    """Smallest number above those of all runs of an experiment."""
    taken = [
        int(entry.name)
        for directory in run_directories(root, experiment, "0")
        for entry in (directory.parent.iterdir() if directory.parent.is_dir() else [])
        if entry.name.isascii() and entry.name.isdigit() and len(entry.name) < 100
    ]
    return str(max(taken, default=-1) + 1)


def last_checkpoint(root: Path, experiment: str, run: str | None, command: str = "fit") -> Path:
    """Path of ``last.ckpt`` of the given run, else the newest of the experiment; for a fit, of its unfinished runs.

    Raises:
        UserError: The run has no checkpoint, or the experiment has no such run.
    """
    if run is not None:
        path = run_directories(root, experiment, run)[1] / LAST
        if not path.exists():
            raise UserError(
                f"--ckpt_path last: run {run!r} of experiment {experiment!r} has no checkpoint {str(path)!r}"
            )
        return path
    folder = run_directories(root, experiment, "0")[1].parent
    found = [
        path
        for path in folder.glob(f"[!.]*/{LAST}")
        if command != "fit" or not (run_directories(root, experiment, path.parent.name)[0] / RESULT).exists()
    ]
    if not found and command != "fit":
        raise UserError(
            f"--ckpt_path last: experiment {experiment!r} has no run with a checkpoint {LAST} in {str(folder)!r}; "
            "name another with --experiment, or a checkpoint file"
        )
    if not found:
        raise UserError(
            f"--ckpt_path last: experiment {experiment!r} has no unfinished run in {str(folder)!r}; "
            "name a finished one with --run to continue it with a larger --trainer.max_steps"
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def trajectory_name(step: int) -> str:
    """Name of the checkpoint of a step on the way; up to 10 million steps, names sort as their steps do."""
    return f"step={step:07}.ckpt"


def find_steps(directory: Path) -> list[Path]:
    """Checkpoints ``step=N.ckpt`` of a run, one for each step, sorted by step."""
    found = {int(match[1]): path for path in directory.glob("step=*.ckpt") if (match := _STEP.fullmatch(path.name))}
    return [found[step] for step in sorted(found)]


def drop_later_steps(directory: Path, step: int) -> None:
    """Remove what ``trajectory_name`` names beyond a step: a resumed run saves it again."""
    for path in find_steps(directory):
        later = int(path.stem.removeprefix("step="))
        if later > step and path.name == trajectory_name(later):
            path.unlink(missing_ok=True)
