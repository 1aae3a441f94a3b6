"""A run that fails says why in its record, and no other run notices."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import as_the_program, directories, jobs, results, write
from training_here import train_here

from grok_lightning.callbacks import recorder
from grok_lightning.optim import AdamW
from grok_lightning.records.record import read_metrics
from grok_lightning.records.results import read_records
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run.executor import MOST_DEATHS
from grok_lightning.sweep.run.failures import NOTHING_RECORDED
from grok_lightning.sweep.run.local import LocalExecutor
from grok_lightning.sweep.run.worker import run_job

pytestmark = pytest.mark.slow
Command = Callable[..., tuple[int, str, str]]
BROKEN = 0.002
GRID = {"model.optimizer.lr": [0.001, BROKEN, 0.003]}
OPTIONS = ("--events", "off", "--stack-size")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)


@pytest.fixture
def broken() -> Iterator[pytest.MonkeyPatch]:
    """One learning rate with which no optimizer gets past step 15."""
    update = AdamW.update

    def fails(self: AdamW, weights: dict[str, Any], factor: float) -> None:
        steps = [float(self.state[weight].get("step", 0)) for weight in weights.values()]
        if BROKEN in self.lr_R.tolist() and max(steps) >= 15:
            raise ZeroDivisionError("this one\nis broken")
        update(self, weights, factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdamW, "update", fails)
        yield patch


def modified(name: str) -> dict[Path, int]:
    files = [path for path in Path("lightning_logs", name).rglob("*") if path.is_file() and ".sweep" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize("size", [4, 1])
def test_a_failing_run_is_recorded_and_the_others_finish(
    command: Command, broken: pytest.MonkeyPatch, size: int
) -> None:
    path = write("e", GRID, **{"checkpoint.every": 10})
    status, _, err = command("sweep", path, *OPTIONS, size)
    assert status == 1
    assert "1 of 3 runs failed" in err
    assert "--retry-failed" in err
    assert "3/3 runs  0 grokked  1 failed" in err
    (failed,) = (name for name, result in results("e").items() if result["status"] == "failed")
    assert failed.startswith(f"lr={BROKEN}__")
    assert str(Path("lightning_logs/e", failed, "result.json")) in err
    result = results("e")[failed]
    assert result["error"] == "ZeroDivisionError: this one is broken"
    assert "in fails" in result["traceback"]
    assert result["config"]["model"]["optimizer"]["lr"] == BROKEN
    assert result["config_hash"] == failed[-16:]
    others = [result for name, result in results("e").items() if name != failed]
    assert [result["status"] for result in others] == ["finished"] * 2
    assert all(key in others[0] for key in NOTHING_RECORDED)

    before = modified("e")
    status, _, err = command("sweep", path, *OPTIONS, size)
    assert (status, modified("e")) == (1, before)
    assert "1 of 3 runs failed" in err
    assert "3 runs, 2 finished, 1 failed" in command("sweep", "status", path)[1]
    table = read_records("lightning_logs/e").set_index("config.model.optimizer.lr")
    assert table["status"].to_dict() == {
        rate: "failed" if rate == BROKEN else "finished" for rate in (GRID["model.optimizer.lr"])
    }
    assert table.loc[BROKEN, "error"] == result["error"]

    broken.undo()
    status, _, err = command("sweep", path, *OPTIONS, size, "--retry-failed")
    assert (status, "failed" in err) == (0, False)
    assert {path.parent.name for path, time in modified("e").items() if before.get(path) != time} == {failed}
    if size == 1:
        return
    with as_the_program():
        for job in jobs(write("alone", GRID), 1):
            run_job(job)
    for one, two in zip(directories("e"), directories("alone"), strict=True):
        for row, single in zip(read_metrics(one), read_metrics(two), strict=True):
            assert row == pytest.approx(single, rel=1e-5, nan_ok=True)


def test_an_error_of_the_system_is_one_run_s_too(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    append = recorder.append_metrics

    def refused(directory: Path, row: dict[str, float], durably: bool = True) -> None:
        if directory.name.startswith(f"lr={BROKEN}__") and row["step"] == 20:
            raise PermissionError(13, "Permission denied", str(directory))
        append(directory, row, durably)

    monkeypatch.setattr(recorder, "append_metrics", refused)
    assert command("sweep", write("e", GRID), *OPTIONS, 4)[0] == 1
    assert [result["status"] for result in results("e").values()] == ["finished", "failed", "finished"]
    (error,) = (result["error"] for result in results("e").values() if result["status"] == "failed")
    assert error.startswith("PermissionError: [Errno 13] Permission denied")


def test_a_failure_that_cannot_be_recorded_fails_the_sweep_all_the_same(
    command: Command, broken: pytest.MonkeyPatch
) -> None:
    path = write("e", GRID)
    (job,) = jobs(path, 4)
    result = Path("lightning_logs/e", job.configs[1]["run"], "result.json")
    write_json = recorder.write_json

    def obstructed(path: Path, content: dict[str, Any]) -> None:
        result.mkdir(parents=True, exist_ok=True)
        write_json(path, content)

    broken.setattr("grok_lightning.sweep.run.failures.write_json", obstructed)
    status, _, err = command("sweep", path, *OPTIONS, 4)
    assert status == 1
    assert "1 failed" in err
    assert sum(result.is_file() for result in Path("lightning_logs/e").glob("*/result.json")) == 2


@pytest.fixture
def resumed(command: Command) -> Path:
    """The directory of one of two runs, with which a fit has gone on with a larger budget and has not ended."""
    assert command("sweep", write("e", {"seed_everything": [0, 1]}), *OPTIONS, 1)[0] == 0
    longer = directories("e")[0]
    last = Path("checkpoints/e", longer.name, "last.ckpt")
    assert command("fit", "--ckpt_path", last, "--trainer.max_steps", 50)[0] == 0
    (longer / "result.json").unlink()
    return longer


def test_a_run_that_a_fit_resumed_and_left_unfinished_is_trained_anew(command: Command, resumed: Path) -> None:
    before, last = modified("e"), Path("checkpoints/e", resumed.name, "last.ckpt").read_bytes()
    status, _, err = command("sweep", "e.yaml", *OPTIONS, 1)
    assert status == 0, err
    assert "e: 1 runs that a fit resumed with other options begin anew" in err
    assert before.items() <= modified("e").items()
    assert Path("checkpoints/e", resumed.name, "last.ckpt").read_bytes() == last
    assert [result["budget"] for result in results("e").values()] == [40, 40]
    before = modified("e")
    assert command("sweep", "e.yaml", *OPTIONS, 1)[0] == 0
    assert modified("e") == before


def test_a_run_that_a_fit_resumes_after_planning_is_left_alone(
    command: Command, resumed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, last = modified("e"), Path("checkpoints/e", resumed.name, "last.ckpt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("grok_lightning.sweep.plan.pending._is_resumed", lambda *_: False)
        status, _, err = command("sweep", "e.yaml", *OPTIONS, 1)
    assert (status, modified("e")) == (0, before)
    assert Path("checkpoints/e", resumed.name, "last.ckpt").read_bytes() == last
    assert "1 runs were left to another process that has them" in err


ANSWER = {"done": 0, "grokked": 0, "diverged": 0, "failed": 0, "busy": 0, "stopped": 0, "full": ""}


def replace_worker(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Make workers run a shell script, which notes each of its starts in a file."""
    worker = Path("worker").absolute()
    worker.write_text(f"#!/bin/sh\necho started >> '{worker.parent}/starts'\nread job\n{script}\n")
    worker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(worker))


def starts() -> int:
    return Path("starts").read_text().count("\n")


def run_all(stacks: list[Stack], workers: int = 1) -> LocalExecutor:
    executor = LocalExecutor(workers, Path("logs"), lambda tally: None)
    executor.run([lambda stack=stack: stack for stack in stacks])
    return executor


@pytest.mark.parametrize(("death", "reason"), [("kill -9 $$", "signal SIGKILL"), ("exit 7", "exit status 7")])
def test_a_run_whose_process_dies_again_and_again_has_failed(
    command: Command, monkeypatch: pytest.MonkeyPatch, death: str, reason: str
) -> None:
    """What its stack has come to before stays."""
    (stack,) = jobs(write("e", GRID), 4)
    with as_the_program():
        run_job(replace(stack, configs=stack.configs[:1], hashes=stack.hashes[:1]))
    before = results("e")
    replace_worker(monkeypatch, death)
    tally = run_all([stack]).tally
    assert starts() == MOST_DEATHS
    assert (tally.done, tally.failed) == (2, 2)
    found = results("e")
    assert {name: found[name] for name in before} == before
    failed = [result for name, result in found.items() if name not in before]
    assert [result["error"] for result in failed] == [f"its process died {MOST_DEATHS} times, the last by {reason}"] * 2


def test_the_stack_of_a_worker_that_somebody_stopped_is_handed_out_again(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, done = (json.dumps(ANSWER | more) for more in ({"stopped": int(signal.SIGTERM), "done": 1}, {"done": 2}))
    script = f"if [ $(wc -l < starts) = 1 ]; then echo '{stopped}'; exit 143; fi; echo '{done}'; read end"
    replace_worker(monkeypatch, script)
    tally = run_all(jobs(write("e", GRID), 4)).tally
    assert starts() == 2
    assert (tally.done, tally.failed, tally.stopped) == (2, 0, 0)


def test_nothing_more_is_handed_out_when_the_disk_is_full(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    full = json.dumps(ANSWER | {"full": "no room"})
    replace_worker(monkeypatch, f"echo '{full}'; read end")
    tally = run_all(jobs(write("e", GRID), 1)).tally
    assert (tally.full, tally.done, starts()) == ("no room", 0, 1)
