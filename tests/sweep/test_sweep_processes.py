"""What only real processes show of a sweep: workers and whole sweeps that are killed, two at once, signals."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Forked, start
from small_sweeps import EASY, directories, outcomes, results, tables, write
from training_here import train_here

from grok_lightning.records.notices import read_notices
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan import sizes
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run import failures
from grok_lightning.sweep.run.training import train

pytestmark = pytest.mark.slow
Command = Callable[..., tuple[int, str, str]]
LONG = {"trainer.max_steps": 240, "checkpoint.every": 40}
PATIENCE = 100.0


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many threads as the tests have, for the order of additions."""
    monkeypatch.setattr(sizes, "cores", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def undisturbed(command: Command, monkeypatch: pytest.MonkeyPatch, path: Path, *options: object) -> tuple[Any, Any]:
    """What the same sweep comes to in one go."""
    with monkeypatch.context() as patch:
        train_here(patch)
        Path("whole").mkdir()
        assert command("sweep", path, *options, "--root", "whole")[0] == 0
    with monkeypatch.context() as patch:
        patch.chdir("whole")
        return tables("e"), outcomes("e")


def finished_here(command: Command, monkeypatch: pytest.MonkeyPatch, path: Path, *options: object) -> tuple[Any, Any]:
    """What it comes to when it is started again."""
    with monkeypatch.context() as patch:
        train_here(patch)
        assert command("sweep", path, *options)[0] == 0
    return tables("e"), outcomes("e")


def workers() -> dict[int, dict[str, Any]]:
    """What the workers that train say, by their process."""
    notices = read_notices(Places(Path(), "e").notices)
    return {int(name.removesuffix(".json").rpartition("-")[2]): said for name, said in notices.items()}


def evaluations(name: str) -> int:
    """How many evaluations the runs have had whose names begin so."""
    return sum(path.read_text().count("\n") for path in Path("lightning_logs/e").glob(f"{name}*/metrics.csv"))


def until(happens: Callable[[], Any], process: Forked | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def meanwhile() -> Iterator[Callable[..., None]]:
    """Does one thing after the other in a thread, each as soon as something has happened."""
    threads, errors = [], []

    def begin(*steps: tuple[Callable[[], Any], Callable[[], Any]]) -> None:
        def work() -> None:
            try:
                for happens, act in steps:
                    until(happens)
                    act()
            except BaseException as error:
                errors.append(error)
                raise

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join(PATIENCE)
    assert not errors


def started(path: Path, *options: object) -> Forked:
    """A real sweep, on one core."""
    return start("sweep", path, *options, first=stay_on_one_core)


def stay_on_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def test_a_killed_worker_is_replaced_and_nothing_is_different(
    command: Command, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[..., None]
) -> None:
    """Once in a stack of four that has been closed up, once in a stack of one."""
    rates = {"model.optimizer.lr": [1e-6, 2e-6, 0.01, 0.02, 1e-6], "model.warmup": [10, 10, 10, 10, 5]}
    path = write("e", zipped=rates, **EASY | LONG | {"evaluation.stop_after": 9})
    options = ("--stack-size", 4, "--events", "off", "--workers", 1)
    wanted = undisturbed(command, monkeypatch, path, *options)
    killed: list[int] = []

    def kill() -> None:
        killed.extend(workers())
        os.kill(killed[-1], signal.SIGKILL)

    stack, single = "lr=1e-06__warmup=10", "lr=1e-06__warmup=5"
    meanwhile((lambda: evaluations(stack) > 20, kill), (lambda: evaluations(single) > 8, kill))
    status, _, err = command("sweep", path, *options)
    assert status == 0
    assert len(set(killed)) == 2
    assert "5/5 runs" in err
    assert (tables("e"), outcomes("e")) == wanted
    assert sorted(result["stack"] for result in results("e").values()) == [1, 4, 4, 4, 4]
    assert workers() == {}


def test_a_killed_sweep_leaves_nothing_running_and_nothing_lost(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed together with the sweep, the other one finds itself alone: it saves and ends."""
    path = write("e", {"seed_everything": [0, 1]}, **LONG)
    options = ("--events", "off", "--workers", 2)
    sweep = started(path, *options)
    until(lambda: evaluations("seed=0") > 8 and evaluations("seed=1") > 8, sweep)
    pids = list(workers())
    assert len(pids) == 2
    sweep.kill()
    os.kill(pids[0], signal.SIGKILL)
    sweep.communicate()
    until(lambda: all(map(is_gone, pids)))
    assert not results("e")
    assert "the same command goes on" not in command("sweep", "status", path)[1]
    assert finished_here(command, monkeypatch, path, *options) == undisturbed(command, monkeypatch, path, *options)


def test_two_sweeps_of_one_file_do_nothing_twice(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """And ``status`` tells, meanwhile and afterwards."""
    path = write("e", {"seed_everything": "0..4"}, **{"trainer.max_steps": 200})
    assert "5 runs, 5 not done" in command("sweep", "status", path)[1]
    other = started(path, "--workers", 1)
    until(lambda: evaluations("seed=0") > 2, other)
    status, out, err = command("sweep", "status", path)
    assert (status, err) == (0, "")
    assert "1 workers are training 1 runs" in out
    assert "of 200" in out

    mine: list[str] = []

    def train_fresh(stack: Stack, tell: Callable[..., None]) -> None:
        mine.append(stack.configs[0]["run"])
        assert not Path("lightning_logs/e", mine[-1]).exists()
        train(stack, tell)

    train_here(monkeypatch)
    monkeypatch.setattr(failures, "train", train_fresh)
    status, _, err = command("sweep", path)
    _, printed = other.communicate(timeout=PATIENCE)
    assert (status, other.returncode) == (0, 0)
    assert "were left to another process that has them" in err + printed
    assert len(results("e")) == 5
    # the name of a file of events tells the process
    assert set(mine) == {path.name for path in directories("e") if list(path.glob(f"events.*.{os.getpid()}.*"))}
    assert 0 < len(mine) < 5
    assert "5 runs, 5 finished" in command("sweep", "status", path)[1]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_ends_the_workers_and_nothing_is_lost(
    command: Command, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[..., None], signum: signal.Signals
) -> None:
    """A second Ctrl-C does not wait for what is being saved."""
    path = write("e", {"seed_everything": [0]}, **LONG | {"trainer.max_steps": 960})
    pids: list[int] = []

    def stop() -> None:
        pids.extend(workers())
        if signum == signal.SIGINT:
            os.kill(pids[0], signal.SIGSTOP)  # it could not even begin to save
            os.kill(os.getpid(), signum)
            time.sleep(1)
        os.kill(os.getpid(), signum)

    meanwhile((lambda: evaluations("seed=0") > 8, stop))
    status, _, err = command("sweep", path, "--events", "off", "--workers", 1)
    assert status == 128 + signum
    assert "the same command goes on" in err
    assert len(pids) == 1
    assert is_gone(pids[0])
    assert not results("e")
    options = ("--events", "off")
    assert finished_here(command, monkeypatch, path, *options) == undisturbed(command, monkeypatch, path, *options)
