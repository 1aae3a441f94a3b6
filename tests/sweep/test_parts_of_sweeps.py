"""The parts of an array job: together all runs, none twice, the same whatever has been done and by which machine."""

from collections.abc import Callable, Collection
from typing import Any

import pytest
from small_sweeps import results, write
from training_here import train_here

from grok_lightning.sweep.plan.pending import Standing, find_pending
from grok_lightning.sweep.plan.runs import Plan, read_plan

Command = Callable[..., tuple[int, str, str]]
GRID: dict[str, Any] = {"data.batch_size": [16, "full"], "data.train_fraction": [0.4, 0.6], "seed_everything": "0..6"}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("parts"))
        return read_plan(write("e", GRID))


def stacks(plan: Plan, number: int, of: int, size: int = 4, done: Collection[str] = ()) -> list[list[str]]:
    found = Standing(dict.fromkeys(done, "finished"), {})
    pending = find_pending(plan, found, size, (number, of))
    return [[run.hash for run in stack.runs] for stack in pending]


def part(plan: Plan, number: int, of: int, size: int = 4, done: Collection[str] = ()) -> list[str]:
    return sorted(hashed for stack in stacks(plan, number, of, size, done) for hashed in stack)


@pytest.mark.parametrize("of", [1, 2, 3, 5, 28, 40])
def test_together_they_are_all_runs_and_none_twice(plan: Plan, of: int) -> None:
    parts = [part(plan, number, of) for number in range(1, of + 1)]
    assert sorted(hashed for one in parts for hashed in one) == sorted(run.hash for run in plan.runs)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_part_is_the_same_whatever_is_done_and_however_large_the_stacks_are(plan: Plan) -> None:
    done = {run.hash for run in plan.runs[::3]}
    for number in (1, 2, 3):
        whole = part(plan, number, 3)
        assert [part(plan, number, 3, size) for size in (1, 3, 100)] == [whole] * 3
        assert part(plan, number, 3, done=done) == sorted(set(whole) - done)


def test_stacks_are_of_one_shape_and_no_larger_than_asked_for(plan: Plan) -> None:
    shapes = {run.hash: run.shape for run in plan.runs}
    for size in (1, 4, 100):
        found = stacks(plan, 1, 1, size)
        assert all(len({shapes[hashed] for hashed in stack}) == 1 for stack in found)
        assert max(map(len, found)) == min(size, 14)  # of batches of 16; full ones follow from the fraction


def test_each_machine_does_its_own(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)
    path = write("e", {"seed_everything": [0, 1, 2]}, **{"trainer.max_steps": 2})
    for number, count in ((2, 1), (1, 3)):
        status, out, _ = command("sweep", path, "--shard", f"{number}/2", "--events", "off")
        assert (status, len(results("e"))) == (0, count)
        assert ("missing" in out) == (count < 3)
