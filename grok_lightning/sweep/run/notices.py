"""Progress notices of workers: small files that the sweep and ``sweep status`` read."""

import json
import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grok_lightning.reading import read_json

FRESH = 30.0  # seconds for which a notice from another machine counts as that of a running worker


@dataclass(frozen=True)
class Notice:
    """Progress notice of a worker, in a file that ``status`` reads.

    Args:
        folder: Directory of notices.
    """

    folder: Path

    @property
    def path(self) -> Path:
        """File of this process."""
        return self.folder / f"{socket.gethostname()}-{os.getpid()}.json"

    def write(self, **content: Any) -> None:
        """Replace the notice."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(content | {"time": time.time()}), encoding="utf-8")
        temporary.replace(self.path)

    def remove(self) -> None:
        """Remove the notice."""
        self.path.unlink(missing_ok=True)


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


def _is_notice(content: Any) -> bool:
    """Whether a file holds what ``Notice.write`` writes; anything else is not shown."""
    if not isinstance(content, dict):
        return False
    counts = [content.get(name) for name in ("budget", "runs", "over", "step", "grokked", "memorized")]
    numbers = [content.get("time"), content.get("rate") or 0]
    return (
        isinstance(content.get("name"), str)
        and all(isinstance(count, int) and 0 <= count < 2**53 for count in counts)
        and content["budget"] > 0
        and all(isinstance(number, int | float) and abs(number) < 2**53 for number in numbers)
        and isinstance(content.get("compiling", False), bool)
        and isinstance(reached := content.get("reached", ""), str)
        and reached.isprintable()
    )


def _is_running(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
