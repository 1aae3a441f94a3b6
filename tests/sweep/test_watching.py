"""Runs of a stack are each watched to a multiple of their own grok step, whatever happens on the way."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small_sweeps import EASY, as_the_program, jobs, outcomes, results, struck, tables, write
from training_here import train_here

from grok_lightning.records.results import read_records
from grok_lightning.sweep.run.worker import run_job

Command = Callable[..., tuple[int, str, str]]
RATES = [0.0001, 0.003, 0.03]  # grokked late or never; grokked at 4; grokked at 2
WATCHED = EASY | {
    "evaluation.every": 2, "evaluation.stop_after": 1, "evaluation.stop_at_grok_times": 4, "trainer.max_steps": 20,
    "checkpoint.every": 3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)


def test_each_run_ends_at_its_own_step_alone_in_a_stack_and_resumed(
    command: Command, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(size: int) -> None:
        for job in jobs(write("e", {"model.optimizer.lr": RATES}, **WATCHED), size):
            run_job(job)

    found = []
    for size, kills in ((3, ()), (3, ((r"/\.stacks/[^/]+/last.ckpt", 3), (r"/lr=[^/]+/result.json", 1))), (1, ())):
        monkeypatch.chdir(tmp_path_factory.mktemp("sweep"))
        for file, count in kills:
            with as_the_program(), struck((file, count, "before"), kill), pytest.raises(Killed):
                train(size)
        with as_the_program():
            train(size)
        found.append((tables("e"), outcomes("e")))
    assert found[0] == found[1], "killed and resumed"
    ends = [
        sorted((result["steps"], result["status"], result["grok_step"]) for result in each.values())
        for _, each in (found[0], found[2])
    ]
    assert ends[0] == ends[1]
    assert ends[0][:2] == [(8, "stopped", 2), (16, "stopped", 4)]
    assert ends[0][2][:2] == (20, "finished"), "the budget is the most"
    for result in results("e").values():
        after, grokked = result["after_grok"], result["grok_step"]
        watched = (result["steps"] / grokked, (result["steps"] - grokked) // 2) if grokked else (None, None)
        assert (after["watched"], after["evaluations"]) == watched
    table = read_records(Path("lightning_logs/e")).set_index("grok_step")
    assert table.loc[4, "after_grok.stable"] == results("e")[Path(table.loc[4, "path"]).name]["after_grok"]["stable"]


class Killed(BaseException):
    """Ends everything, as if the process were no more."""


def kill() -> None:
    raise Killed
