"""What a sweep chooses where its user does not say."""

import pytest
from small_sweeps import EASY, write

from grok_lightning.sweep import command as command_module
from grok_lightning.sweep.plan import sizes
from grok_lightning.sweep.plan.runs import read_plan
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


@pytest.mark.parametrize("turn", [1, -1])
def test_sizes_are_those_of_the_largest_runs_in_whatever_order(command, turn):
    """2 and 81 checkpoints of single steps for each width, which count with the largest size."""
    grid = {"model.network.width": [8, 256][::turn], "trainer.max_steps": [10, 800][::turn], "data.modulus": [11, 7]}
    more = {"model.network.class_path": "MLP", "checkpoint.interval": 10}
    write("e", grid, **{"model.network": None, "data.modulus": None, **more})
    plan = read_plan("e.yaml")
    (size,) = sizes.try_runs(plan, plan.runs).values()
    alone = read_plan(
        write(
            "alone",
            {"seed_everything": [0]},
            **{"model.network": {"class_path": "MLP", "width": 256}, "data.modulus": 11},
        )
    )
    (single,) = sizes.try_runs(alone, alone.runs).values()
    assert (size.weights, size.budget) == (single.weights, 800)
    assert "at most 332 checkpoints" in command("sweep", "e.yaml", "--dry-run")[1]


def test_the_largest_run_is_tried_for_each_word_of_the_network(command):
    varied = {"width": [64, 8], "activation": ["relu", "gelu"], "layers": [1, 3]}
    network = {"model.network": None, "model.network.class_path": "Transformer"}
    write("e", {f"model.network.{name}": values for name, values in varied.items()}, **network)
    plan = read_plan("e.yaml")
    tried = [plan.describe(run.varied) for run in sizes._choose_trials(plan, plan.runs)]
    assert sum("width 64" in each and "layers 3" in each for each in tried) == 2


def test_the_size_of_a_sweep_has_the_largest_of_each_number():
    assert sizes.Size(1, 20, 300).join(sizes.Size(10, 2, 30)) == sizes.Size(10, 20, 300)


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
