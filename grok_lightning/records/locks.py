"""Locks on runs, so that only one process trains each of them."""

import errno
import hashlib
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
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

    def find_taken(self, names: Iterable[str]) -> set[str] | None:
        """Those locks of several that any process holds; asks the system and takes none.

        Returns:
            None on a system or on storage that does not tell.
        """
        places = {name: _place(name) for name in names}
        taken = {name for name, place in places.items() if place in self._held}
        with self._asking() as ask:
            held = {name: ask(place, 1) for name, place in places.items()}
        return None if None in held.values() else taken | {name for name, is_held in held.items() if is_held}

    def is_any_taken(self) -> bool | None:
        """Whether any process holds any of these locks; None on a system or on storage that does not tell."""
        with self._asking() as ask:
            return bool(self._held) or ask(0, 0)

    @contextmanager
    def _asking(self) -> Iterator[Callable[[int, int], bool | None]]:
        """Opens the file to ask who has locked bytes of it: from a place on, so many of them or 0 for all."""
        descriptor, opened = self._file, False
        if descriptor is None and can_lock():
            try:
                descriptor, opened = os.open(self.path, os.O_RDONLY), True  # closed while this process has no lock
            except (FileNotFoundError, NotADirectoryError):
                yield lambda place, count: False
                return
            except OSError:
                pass
        try:
            yield lambda place, count: None if descriptor is None else _ask(descriptor, place, count)
        finally:
            if opened and descriptor is not None:
                os.close(descriptor)

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


def _ask(descriptor: int, place: int, count: int) -> bool | None:
    """Whether another process has locked bytes of a file (F_GETLK); None where the system does not tell."""
    import fcntl

    # struct flock of 64-bit Linux, and of macOS
    form = {"linux": "hhqqi", "darwin": "qqihh"}.get(sys.platform)
    if form is None or sys.maxsize < 2**32:
        return None
    first = form.startswith("h")
    kind, start = (fcntl.F_WRLCK, os.SEEK_SET), (place, count)
    asked = struct.pack(form, *kind, *start, 0) if first else struct.pack(form, *start, 0, *kind)
    try:
        answer = struct.unpack(form, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    except OSError:
        return None
    return bool(answer[0 if first else 3] != fcntl.F_UNLCK)


def _place(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)
