"""While a stack is in training, the runs of it that are over count in the sweep's line and in the worker's."""

import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import EASY, as_the_program, jobs, write

from grok_lightning.callbacks.progress import Heartbeat
from grok_lightning.records.notices import Notice, name_process, read_notices
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan import stack as stacks
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run.worker import Ended, Tally, run_job
from grok_lightning.sweep.show.display import Display

LEAVING = EASY | {"evaluation.every": 2, "evaluation.stop_after": 2, "trainer.max_steps": 20}
RATES = [
    0.0001,
    0.003,
    1e30,
    0.03,
]  # grokked at the end; grokked and stopped at 6; diverged at 1; grokked and stopped at 4


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stacks, "Heartbeat", partial(Heartbeat, every=0.0))
    (found,) = jobs(write("e", {"model.optimizer.lr": RATES}, **LEAVING), 4)
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the worker's notices said."""
    found: list[dict[str, Any]] = []
    original: Callable[..., None] = Notice.write

    def write_and_note(notice: Notice, **content: Any) -> None:
        original(notice, **content)
        found.append(content)
        (read,) = read_notices(notice.folder).values()  # so it is in the form that readers accept
        assert read["ended"] == content["ended"]

    monkeypatch.setattr(Notice, "write", write_and_note)
    return found


def test_runs_that_left_a_stack_are_counted_until_it_is_over(job: Stack, told: list[dict[str, Any]]) -> None:
    with as_the_program():
        outcome = run_job(job)
    assert (outcome["done"], outcome["grokked"], outcome["diverged"]) == (4, 3, 1)
    assert {notice["sweep"] for notice in told} == {name_process()}
    counts = [tuple(notice["ended"][name] for name in ("done", "grokked", "diverged")) for notice in told]
    assert counts == sorted(counts)  # also when the stack is closed up to two runs, and to one
    assert set(counts) == {(0, 0, 0), (1, 0, 1), (2, 1, 1), (3, 2, 1)}
    for notice in told:
        assert (notice["runs"], notice["over"]) == (4, notice["ended"]["done"])
        assert notice["grokked"] >= notice["ended"]["grokked"]
    assert told[-1]["over"] == 3


def test_a_worker_that_goes_on_counts_what_was_over_before_it(job: Stack) -> None:
    with as_the_program():
        run_job(job)
    ended = Ended(job, range(4))
    assert ended.count(0) == {"done": 4, "grokked": 3, "memorized": 0, "diverged": 1, "failed": 0}
    assert Ended(replace(job, over=job.hashes[1:]), range(4)).count(0)["done"] == 1  # of this sweep
    assert Ended(job, [0, 3]).count(0)["done"] == 2  # another process has the others
    path = job.record(0) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "failed"}))
    assert Ended(job, range(4)).count(0)["failed"] == 1
    assert Ended(replace(job, retry=True), range(4)).count(0)["done"] == 3  # that failure is of the last time


def test_the_line_counts_them_and_never_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places, stream = Places(Path(), "e"), io.StringIO()
    display = Display([places], 9, stream)
    ended = {"done": 3, "grokked": 2, "memorized": 0, "diverged": 1, "failed": 0}
    content = {"budget": 20, "runs": 4, "over": 3, "step": 5, "grokked": 2, "memorized": 0, "time": 2e10, "name": "a"}
    places.notices.mkdir(parents=True)
    for number, sweep in enumerate((name_process(), name_process(), "elsewhere-7")):
        notice = json.dumps(content | {"ended": ended, "sweep": sweep})
        (places.notices / f"elsewhere-{number}.json").write_text(notice)
    (places.notices / "elsewhere-9.json").write_text(json.dumps(content))  # of an earlier version

    def line(tally: Tally, last: bool = False) -> str:
        display._shown = -1e9
        display.show(tally, last)
        return stream.getvalue().splitlines()[-1].rpartition("  ")[0]

    assert line(Tally(done=1, grokked=1)) == "7/9 runs  5 grokked  2 diverged"
    for path in places.notices.iterdir():
        path.unlink()
    assert line(Tally(done=5, grokked=3)) == "7/9 runs  5 grokked  2 diverged"
    assert line(Tally(done=9, grokked=6, diverged=2)) == "9/9 runs  6 grokked  2 diverged"
    assert line(Tally(done=8, grokked=4), last=True) == "8/9 runs  4 grokked"


def test_runs_that_ended_early_promise_no_short_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 runs that took a twentieth of their budgets each in 1,000 s, five more may take 5,000 s, not 250."""
    monkeypatch.chdir(tmp_path)
    display = Display([Places(Path(), "e")], 25, io.StringIO(), began=time.monotonic() - 1000)
    tally = Tally()
    for _ in range(20):
        tally.count({"status": "stopped", "grok_step": 4, "steps": 5, "budget": 100})
    assert tally.trained == pytest.approx(1)
    assert display._find_left(tally, []) == pytest.approx(5000, rel=0.01)
    whole = Tally()
    whole.add(asdict(tally))
    assert whole.trained == tally.trained
