"""Sweeps that train in this process, where no worker has to be started."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from grok_lightning.sweep import command
from grok_lightning.sweep.plan import sizes
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run.worker import Tally, run_job


class InThisProcess:
    """Stands in for the processes that train stacks."""

    def __init__(self, workers: int, logs: Path, look: Callable[[Tally], None]) -> None:
        self.tally = Tally()

    def run(self, stacks: Iterable[Callable[[], Stack]]) -> Tally:
        for work in stacks:
            outcome = run_job(work())
            self.tally.add(outcome)
            self.tally.stopped = outcome["stopped"]
            if self.tally.stopped or self.tally.full:
                break
        return self.tally


def train_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ``sweep`` train in this process, or on one core where it does not."""
    monkeypatch.setattr(command, "LocalExecutor", InThisProcess)
    monkeypatch.setattr(sizes, "cores", lambda: 1)
