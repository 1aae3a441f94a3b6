"""Progress notices of processes that train: small files that a sweep, ``sweep status`` and ``status`` read."""

import json
import os
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grok_lightning.reading import read_json

WORKERS, FITS = Path(".sweep") / "workers", Path(".sweep") / "fits"  # below lightning_logs/<experiment>
FRESH = 30.0  # seconds for which a notice from another machine counts as that of a running worker


def name_process() -> str:
    """Name of this process among those of all machines."""
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True)
class Notice:
    """Progress notice of this process, in a file that others read.

    Args:
        folder: Directory of notices.
    """

    folder: Path

    @property
    def path(self) -> Path:
        """File of this process."""
        return self.folder / f"{name_process()}.json"

    def write(self, **content: Any) -> None:
        """Replace the notice."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            _remove_dead(self.folder)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(content | {"time": time.time()}), encoding="utf-8")
        temporary.replace(self.path)

    def remove(self) -> None:
        """Remove the notice."""
        self.path.unlink(missing_ok=True)

    def try_write(self, **content: Any) -> None:
        """Replace the notice, unless that is impossible: without one, training goes on."""
        with suppress(OSError):
            self.write(**content)

    def try_remove(self) -> None:
        """Remove the notice, and the directories that it leaves empty."""
        with suppress(OSError):
            self.remove()
            self.folder.rmdir()
            self.folder.parent.rmdir()


def _remove_dead(folder: Path) -> None:
    """Remove the notices of processes of this machine that have been killed."""
    for path in folder.glob(f"{socket.gethostname()}-*.json"):
        _, _, pid = path.stem.rpartition("-")
        if re.fullmatch("[0-9]{1,9}", pid) and not _is_running(int(pid)):
            path.unlink(missing_ok=True)


def read_notices(folder: Path) -> dict[str, dict[str, Any]]:
    """Notices of running workers, by file name; those of processes that have ended are left out."""
    found = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            content = read_json(path)
        except (OSError, ValueError):  # just replaced
            continue
        host, _, pid = path.stem.rpartition("-")
        if not _is_notice(content) or not re.fullmatch("[0-9]{1,9}", pid):
            continue
        here = host == socket.gethostname()
        if _is_running(int(pid)) if here else time.time() - content["time"] < FRESH:
            found[path.name] = content
    return found


def find_left(notice: dict[str, Any]) -> float | None:
    """Seconds that a fit needs for the rest of its budget, from its notice; None if its rate is not steady."""
    age = time.time() - notice["time"]
    if not notice.get("steady", False) or not notice.get("rate") or age > FRESH:  # old: a process that is suspended
        return None
    return max(0.0, (notice["budget"] - notice["step"]) / float(notice["rate"]) - max(0.0, age))


def _is_notice(content: Any) -> bool:
    """Whether a file holds what ``Notice.write`` writes; anything else is not shown."""
    if not isinstance(content, dict):
        return False
    counts = [content.get(name) for name in ("budget", "runs", "over", "step", "grokked", "memorized")]
    ended = content.get("ended", {})
    counts += [content.get("began", 0), *(ended.values() if isinstance(ended, dict) else [None])]
    numbers = [content.get("time"), content.get("rate") or 0]
    return (
        all(isinstance(content.get(name, default), str) for name, default in (("name", None), ("sweep", "")))
        and all(isinstance(count, int) and 0 <= count < 2**53 for count in counts)
        and content["budget"] > 0
        and all(isinstance(number, int | float) and abs(number) < 2**53 for number in numbers)
        and all(isinstance(content.get(name, False), bool) for name in ("compiling", "steady", "at_most"))
        and all(isinstance(name, str) for name in _as_list(content.get("members", [])))
        and isinstance(reached := content.get("reached", ""), str)
        and reached.isprintable()
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_running(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
