"""Claims on the directories of runs: one process makes them, and a run that is replaced is set aside first."""

import shutil
from pathlib import Path

from grok_lightning.files import sweep
from grok_lightning.records.locks import lock_name, locks_of
from grok_lightning.records.record import CONFIG, run_directories

ASIDE = ".replaced-"


def claim(logs: Path, checkpoints: Path, replace: bool = False) -> bool:
    """Make the directories of a new run. The caller holds the lock of the run's name.

    Args:
        logs: Directory of the run's record.
        checkpoints: Directory of its checkpoints.
        replace: Whether a run that is there is set aside; ``settle`` removes it when the new one has its config.

    Returns:
        Whether they were made; False if one of them exists. Then nothing has changed.
    """
    settle(logs, checkpoints)
    made: list[Path] = []
    for directory in (logs, checkpoints):
        directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        for directory in (logs, checkpoints) if replace else ():  # in this order: see settle
            if directory.exists():
                directory.rename(_aside(directory))
        for directory in (logs, checkpoints):
            directory.mkdir()
            made.append(directory)
    except OSError as error:
        for directory in made:
            directory.rmdir()
        settle(logs, checkpoints)
        if isinstance(error, FileExistsError):
            return False
        raise
    return True


def settle(logs: Path, checkpoints: Path) -> None:
    """Remove a run that was set aside if the one that replaces it has its config; else put it back.

    The caller holds the lock of the run's name. So a process that is killed in between loses no run.
    """
    begun = (logs / CONFIG).exists()
    for directory in (checkpoints, logs):  # the record last: while it is aside, nothing has begun in its place
        aside = _aside(directory)
        if not aside.exists():
            continue
        if begun:
            shutil.rmtree(aside)
        else:
            if directory.exists():
                sweep(directory)
                directory.rmdir()
            aside.rename(directory)


def settle_all(root: Path, experiment: str) -> None:
    """Settle what killed processes have set aside in an experiment, unless another process is about to."""
    locks = locks_of(root, experiment)
    for name in {
        path.name.removeprefix(ASIDE)
        for directory in run_directories(root, experiment, "0")
        for path in directory.parent.glob(f"{ASIDE}*")
    }:
        if locks.take(lock_name(name)):
            try:
                settle(*run_directories(root, experiment, name))
            finally:
                locks.release(lock_name(name))


def _aside(directory: Path) -> Path:
    return directory.with_name(f"{ASIDE}{directory.name}")
