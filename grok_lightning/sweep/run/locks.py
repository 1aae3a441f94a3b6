"""Locks on runs, so that only one process trains each of them."""

import os
from importlib.util import find_spec
from pathlib import Path

from grok_lightning.errors import UserError


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


def _place(hashed: str) -> int:
    return int(hashed[:15], 16)
