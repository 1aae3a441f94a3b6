"""Locks on runs, so that only one process trains each of them."""

import errno
import hashlib
import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from grok_lightning.records.record import run_directories

NOT_SUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # by storage without locks
_known: dict[Path, "Locks"] = {}


def can_lock() -> bool:
    """Whether this system has POSIX record locks: Windows has none."""
    return find_spec("fcntl") is not None


class Locks:
    """Locks on runs that the system releases when their process ends: byte ranges of one file.

    Closing any descriptor of the file would release all locks of the process, so a process has one object per file
    (``locks_of``), which closes it when no lock is left.

    Args:
        path: File.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._held: set[int] = set()

    def take(self, name: str) -> bool:
        """Take a lock.

        Returns:
            False if another process holds it, or this one; True on a system or on storage without locks.

        Raises:
            OSError: The file cannot be opened or locked.
        """
        place = _place(name)
        if place in self._held:
            return False
        if can_lock():
            import fcntl  # not at the top, for Windows has none

            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except OSError as error:
                if error.errno not in NOT_SUPPORTED:
                    self._close_unused()
                    if isinstance(error, BlockingIOError | PermissionError):
                        return False
                    raise
        self._held.add(place)
        return True

    def release(self, name: str) -> None:
        """Release a lock, if it is held."""
        place = _place(name)
        if place in self._held and self._file is not None:
            import fcntl

            with suppress(OSError):  # storage without locks
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
        self._held.discard(place)
        self._close_unused()

    def _close_unused(self) -> None:
        if self._file is not None and not self._held:
            os.close(self._file)
            self._file = None


def locks_of(root: Path, experiment: str) -> Locks:
    """The locks of an experiment's runs, beside their checkpoints."""
    path = (run_directories(root, experiment, "0")[1].parent / ".locks").resolve()
    return _known.setdefault(path, Locks(path))


def lock_name(run: str) -> str:
    """The lock of a run's directories."""
    return f"run {run}"


def _place(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)
