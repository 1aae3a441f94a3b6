"""``sweep --max_steps``: another budget than that of the file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small_sweeps import results, write
from training_here import train_here

Command = Callable[..., tuple[int, str, str]]
SEEDS = {"seed_everything": [0, 1]}


def test_the_plan_has_the_budget_of_the_option(command: Command) -> None:
    assert "at most 3 steps a run" in command("sweep", write("e", SEEDS), "--max_steps", 3, "--dry-run")[1]
    assert not Path("lightning_logs").exists()


def test_runs_of_two_budgets_are_runs_of_their_own(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)
    path = write("e", SEEDS)
    for option, count in ((3, 2), (4, 4), (3, 4)):
        status, _, err = command("sweep", path, "--max-steps", option)
        assert (status, len(results("e"))) == (0, count), err
    assert sorted(result["budget"] for result in results("e").values()) == [3, 3, 4, 4]
    assert command("sweep", "status", path, "--max_steps", 4)[1].startswith("e: 2 runs, 2 finished")
    assert "2 finished" not in command("sweep", "status", path)[1]


@pytest.mark.parametrize("value", ["0", "-3", "2.5", "many", "1" * 12])
def test_what_is_no_number_of_steps_is_refused(command: Command, value: str) -> None:
    status, out, err = command("sweep", write("e", SEEDS), f"--max_steps={value}")
    assert (status, out) == (2, "")
    assert "; a whole number of at least 1 is expected" in err
    assert not Path("lightning_logs").exists()


def test_a_file_that_varies_the_budget_keeps_it(command: Command) -> None:
    status, out, err = command("sweep", write("e", {"trainer.max_steps": [2, 4]}), "--max_steps", 3)
    assert (status, out) == (2, "")
    assert err.endswith("varies trainer.max_steps, whose values are in the file\n")
    assert not Path("lightning_logs").exists()


def test_a_file_that_varies_the_budget_within_a_block_keeps_it(command: Command) -> None:
    path = write("e", {"trainer": [{"max_steps": 2}, {"max_steps": 4}]})
    status, out, err = command("sweep", path, "--max_steps", 3, "--dry-run")
    assert (status, out) == (2, "")
    assert err.endswith("varies trainer.max_steps within trainer, whose values are in the file\n")


def test_a_block_without_the_budget_takes_that_of_the_option(command: Command) -> None:
    path = write("e", {"trainer": [{"precision": "32-true"}, {"precision": "64-true"}]})
    assert "at most 3 steps a run" in command("sweep", path, "--max_steps", 3, "--dry-run")[1]
