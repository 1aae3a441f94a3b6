"""Directories and files of a sweep: locks on runs, members of stacks, progress notices of workers."""

import json
import os
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from grok_lightning.errors import UserError
from grok_lightning.files import write_durably
from grok_lightning.records.checkpoint import LAST
from grok_lightning.records.record import run_directories

MEMBERS = "members.json"
FRESH = 30.0


def refuse_without_posix() -> None:
    """Refuse to sweep on a system without POSIX file locks, such as Windows.

    Raises:
        UserError: The system has no POSIX file locks.
    """
    if find_spec("fcntl") is None:
        raise UserError(
            "sweep needs Linux or macOS, for its workers use POSIX file locks; "
            "on Windows run it in WSL, or train single runs with fit"
        )


@dataclass(frozen=True)
class Places:
    """Directories of an experiment.

    Args:
        root: Directory of ``lightning_logs`` and ``checkpoints``.
        experiment: Name of the experiment.
    """

    root: Path
    experiment: str

    @property
    def logs(self) -> Path:
        """Directory of the runs' records."""
        return run_directories(self.root, self.experiment, "0")[0].parent

    @property
    def own(self) -> Path:
        """Directory of the sweep's own files."""
        return self.logs / ".sweep"

    @property
    def stacks(self) -> Path:
        """Directory of checkpoints of stacks of several runs."""
        return run_directories(self.root, self.experiment, "0")[1].parent / ".stacks"

    def of_run(self, name: str) -> tuple[Path, Path]:
        """Directories of a run's record and of its checkpoints."""
        return run_directories(self.root, self.experiment, name)

    def existing(self, without: Collection[str] = ()) -> dict[str, str]:
        """Names of all runs that have a directory, by hash; those in ``without`` are left out."""
        if not self.logs.is_dir():
            return {}
        with os.scandir(self.logs) as entries:
            names = [entry.name for entry in entries if entry.name[-17:-16] == "-"]
        return {name[-16:]: name for name in names if name not in without}

    def members(self) -> dict[str, list[str]]:
        """Hashes of the runs of each stack that has a checkpoint, by the name of the stack."""
        found = {}
        for path in sorted(self.stacks.glob(f"*/{MEMBERS}")) if self.stacks.is_dir() else ():
            with suppress(OSError, ValueError, TypeError):  # cut short, or just removed
                if (path.parent / LAST).exists():
                    found[path.parent.name] = list(json.loads(path.read_text(encoding="utf-8")))
        return found

    def note_members(self, stack: str, hashes: list[str]) -> None:
        """Write the hashes of a stack's runs, before its first checkpoint."""
        write_durably(self.stacks / stack / MEMBERS, json.dumps(hashes).encode())


class Locks:
    """Locks on runs that the system releases when their process ends: byte ranges of one file.

    A process must use only one object per file: closing a second one would release the locks of the first.

    Args:
        path: File.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def take(self, hashed: str) -> bool:
        """Take the lock of a run; False if another process holds it."""
        import fcntl  # not at the top, for Windows has none

        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(hashed))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def release(self, hashed: str) -> None:
        """Release the lock of a run."""
        import fcntl

        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(hashed))

    def close(self) -> None:
        """Release all locks."""
        os.close(self._file)


def _place(hashed: str) -> int:
    return int(hashed[:15], 16)


@dataclass
class Notice:
    """Progress notice of a worker, in a file that ``status`` reads.

    Args:
        folder: Directory of notices.
    """

    folder: Path
    content: dict[str, Any] = field(default_factory=dict)
    written: float = 0.0

    @property
    def path(self) -> Path:
        """File of this process."""
        return self.folder / f"{socket.gethostname()}-{os.getpid()}.json"

    def write(self, every: float = 0.0, **content: Any) -> None:
        """Replace the notice, unless it was replaced less than ``every`` seconds ago."""
        now = time.time()
        if now - self.written < every:
            return
        self.written, self.content = now, content
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(content | {"time": now}), encoding="utf-8")
        temporary.replace(self.path)

    def remove(self) -> None:
        """Remove the notice."""
        self.path.unlink(missing_ok=True)


def read_notices(folder: Path) -> dict[str, dict[str, Any]]:
    """Notices of running workers, by file name; those of processes that have ended are left out."""
    found = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # just replaced
            continue
        host, _, pid = path.stem.rpartition("-")
        here = host == socket.gethostname()
        if _is_running(int(pid)) if here else time.time() - content["time"] < FRESH:
            found[path.name] = content
    return found


def _is_running(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
