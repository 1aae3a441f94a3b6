"""Files that a crash leaves whole: the old content or the new, never a part."""

import os
from pathlib import Path

from grok_lightning.errors import UserError

TEMPORARY = ".saving-"


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
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def sweep(directory: Path) -> None:
    """Removes the temporary files that a killed process left in a directory."""
    for leftover in directory.glob(f"{TEMPORARY}*"):
        leftover.unlink(missing_ok=True)


def refuse_unwritable(option: str, directory: Path) -> None:
    """A directory that is not there and cannot be made, or cannot be written to.

    Raises:
        UserError: If so.
    """
    try:
        existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        fine = existing.is_dir() and os.access(existing, os.W_OK)
    except (OSError, ValueError):
        fine = False
    if not fine:
        raise UserError(f"--{option} leads to {str(directory)!r}, where no file can be written; name another place")
