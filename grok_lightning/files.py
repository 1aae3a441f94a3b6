"""Files that a crash leaves whole: the old content or the new, never a part."""

import errno
import os
import shutil
import time
from pathlib import Path

from grok_lightning.errors import UserError

TEMPORARY = ".saving-"
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
_PAUSES = (0.01, 0.04, 0.16, 0.64)  # seconds


def write_durably(path: Path, content: bytes) -> None:
    """Writes a file by way of a temporary one in the same directory: fsync, rename, fsync of the directory.

    On an error (a full disk) the temporary file is removed and the previous content stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{path.name}"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_directory(path.parent)


def _replace(source: Path, target: Path) -> None:
    """``os.replace``, retried for about a second on Windows, where it fails while the target is open elsewhere."""
    for pause in _PAUSES if os.name == "nt" else ():
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(source, target)


def _flush_directory(directory: Path) -> None:
    """Flushes a directory where that is supported: Windows cannot open one, some file systems cannot flush one."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def sweep(directory: Path) -> None:
    """Removes the temporary files that a killed process left in a directory."""
    for leftover in directory.glob(f"{TEMPORARY}*"):
        leftover.unlink(missing_ok=True)


def refuse_unwritable(option: str, directory: Path) -> None:
    """Refuses a directory that cannot be made or written to.

    Raises:
        UserError: If no file can be written there.
    """
    try:
        existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        fine = existing.is_dir() and os.access(existing, os.W_OK)
    except (OSError, ValueError):
        fine = False
    if not fine:
        raise UserError(f"--{option} leads to {str(directory)!r}, where no file can be written; name another place")


def find_free_bytes(directory: Path) -> int:
    """Room on the disk of a directory that may not be there yet."""
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def show_bytes(count: float) -> str:
    """A number of bytes with three digits, ``1.8 MB``, in units of thousands."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:,.0f} {unit}" if size >= 99.5 or unit == "B" else f"{size:.2g} {unit}"
