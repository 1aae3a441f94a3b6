"""What a sweep chooses where its user does not say."""

import pytest
from small_sweeps import EASY, write

from grok_lightning.sweep import command as command_module
from grok_lightning.sweep.plan import sizes
from grok_lightning.sweep.run.worker import Tally


@pytest.mark.parametrize(
    ("workers", "allowed", "told"),
    [
        ((), None, "workers    4, 1 thread each"),
        (("--workers", "2"), None, "workers    2, 4 threads each"),
        (("--workers", "2"), "3", "workers    2, 3 threads each"),
        (("--workers", "2"), "99", "workers    2, 4 threads each"),
        (("--workers", "1"), "1", "workers    1, 1 thread each"),
        (("--workers", "1"), "many", "workers    1, 8 threads each"),
    ],
)
def test_cores_are_shared_out(command, monkeypatch, workers, allowed, told):
    write("shared", {"seed_everything": [0, 1, 2, 3]}, **EASY)
    monkeypatch.setattr(sizes, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if allowed is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    status, out, _ = command("sweep", "shared.yaml", "--dry-run", *workers)
    assert status == 0
    assert told in out


def test_the_budget_is_that_of_all_runs(command):
    write("budgets", {"trainer.max_steps": [50, 80], "seed_everything": [0, 1, 2]}, **EASY)
    status, out, _ = command("sweep", "budgets.yaml", "--dry-run")
    assert status == 0
    assert "budget     at most 80 steps a run, 390 run-steps in all" in out


def test_several_files_share_the_workers_that_all_of_their_runs_need(command, monkeypatch):
    monkeypatch.setattr(sizes, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    write("first", {"seed_everything": [0]}, **EASY)
    write("second", {"seed_everything": [1, 2, 3]}, **EASY)
    for workers, told in (("8", "workers    4, 2 threads each"), ("2", "workers    2, 4 threads each")):
        status, out, _ = command("sweep", "first.yaml", "second.yaml", "--dry-run", "--workers", workers)
        assert (status, out.count(told)) == (0, 2), out
    started = []
    monkeypatch.setattr(command_module, "LocalExecutor", lambda workers, *_: started.append(workers) or Idle())
    assert command("sweep", "first.yaml", "second.yaml", "--workers", "3")[0] == 0
    assert started == [3]


class Idle:
    """Trains nothing."""

    def run(self, stacks):
        return Tally()
