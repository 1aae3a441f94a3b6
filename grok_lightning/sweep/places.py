"""Directories and files of a sweep."""

import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from grok_lightning.files import write_durably
from grok_lightning.reading import read_json
from grok_lightning.records.checkpoint import LAST
from grok_lightning.records.notices import WORKERS
from grok_lightning.records.record import run_directories
from grok_lightning.records.runs import hash_of_name

MEMBERS = "members.json"
OWNER = "sweep.json"  # names the file of the sweep; tasks of a Ray cluster look for it


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
    def notices(self) -> Path:
        """Directory of the workers' progress notices."""
        return self.logs / WORKERS

    @property
    def stacks(self) -> Path:
        """Directory of checkpoints of stacks of several runs."""
        return run_directories(self.root, self.experiment, "0")[1].parent / ".stacks"

    def of_run(self, name: str) -> tuple[Path, Path]:
        """Directories of a run's record and of its checkpoints."""
        return run_directories(self.root, self.experiment, name)

    def find_runs(self, without: Collection[str] = ()) -> dict[str, str]:
        """Find the names of all runs that have a directory, by hash; those in ``without`` are left out."""
        runs = self.list_runs()
        return {hashed: name for name, hashed in runs if hashed is not None and name not in without}

    def list_runs(self) -> list[tuple[str, str | None]]:
        """Name of each directory of the experiment, and the hash with which it ends, if it is a run's."""
        if not self.logs.is_dir():
            return []
        with os.scandir(self.logs) as entries:
            return [(entry.name, hash_of_name(entry.name)) for entry in entries]

    def read_members(self) -> dict[str, list[str]]:
        """Read the hashes of the runs of each stack that has a checkpoint, by the name of the stack."""
        return {name: members for name, members in self._list_members() if (self.stacks / name / LAST).exists()}

    def _list_members(self) -> Iterator[tuple[str, list[str]]]:
        for path in sorted(self.stacks.glob(f"*/{MEMBERS}")) if self.stacks.is_dir() else ():
            with suppress(OSError, ValueError):  # cut short, or just removed
                members = read_json(path)
                if isinstance(members, list) and all(isinstance(hashed, str) for hashed in members):
                    yield path.parent.name, members

    def note_members(self, stack: str, hashes: list[str]) -> None:
        """Write the hashes of a stack's runs, before its first checkpoint."""
        write_durably(self.stacks / stack / MEMBERS, json.dumps(hashes).encode())

    def remove_stacks(self, over: Collection[str], damaged: bool) -> None:
        """Remove the checkpoints of the stacks whose runs are all over; those of other options, which may go on, stay.

        Args:
            over: Hashes of the runs that are over.
            damaged: Whether to remove those of which it is not known any more what runs they have.
        """
        members = dict(self._list_members())
        for path in list(self.stacks.glob("*/*")):
            name = path.parent.name
            if set(members[name]) <= set(over) if name in members else damaged:
                shutil.rmtree(path.parent, ignore_errors=True)
        with suppress(OSError):  # not empty, or none
            self.stacks.rmdir()
