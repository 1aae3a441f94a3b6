"""What only real processes show: signals, kill -9, two ranks, TensorBoard."""

import csv
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from forked import Forked, run, start

from grok_lightning.callbacks.events import RESULT, tag_of
from grok_lightning.records.checkpoint import load

pytestmark = pytest.mark.slow
PROGRAM = [sys.executable, "-m", "grok_lightning"]
LONG = ["--experiment", "e", "--run", "a", "--trainer.max_steps", "1000000", "--checkpoint.every", "25"]


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def started(*arguments: str, rows: int = 20, before: Callable[[], object] | None = None) -> Forked:
    """A fit that has trained at least a few dozen steps."""
    process = start("fit", *arguments, first=before)
    wait_for_rows(process, rows)
    return process


def wait_for_rows(process: Forked | subprocess.Popen[Any], rows: int = 20) -> None:
    deadline = time.monotonic() + 120
    metrics = Path("lightning_logs/e/a/metrics.csv")
    while not (metrics.exists() and metrics.read_text().count("\n") > rows):
        assert process.poll() is None, process.err if isinstance(process, Forked) else process.stderr
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def metrics(name: str) -> list[dict[str, str]]:
    with Path(f"lightning_logs/e/{name}/metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_says_how_to_resume_and_exits(signum: int, status: int) -> None:
    process = started(*TINY, *LONG)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    assert "fit --experiment e --run a --ckpt_path last" in err
    step = int(err.split("at step ")[1].split(";")[0].replace(",", ""))
    assert load(Path("checkpoints/e/a/last.ckpt"))["global_step"] == step


def step_of_last() -> int:
    return int(load(Path("checkpoints/e/a/last.ckpt"))["global_step"])


def test_a_closed_terminal_saves(tmp_path: Path) -> None:
    """Also where the progress line finds out first."""
    controller, terminal = os.openpty()
    program = [*PROGRAM, "fit", *TINY[:-2], *LONG, "--checkpoint.every", "1000000"]

    def take_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        program, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, preexec_fn=take_terminal
    )
    os.close(terminal)
    threading.Thread(target=drain, args=(controller, tmp_path / "closing"), daemon=True).start()
    wait_for_rows(process)
    (tmp_path / "closing").touch()
    assert process.wait(60) == 129
    assert step_of_last() > 0


def drain(controller: int, closing: Path) -> None:
    """Reads what is shown in a terminal, and closes it when a file says so."""
    while not closing.exists():
        if select.select([controller], [], [], 0.01)[0]:
            os.read(controller, 1 << 16)
    os.close(controller)


def test_nohup_goes_on() -> None:
    process = started(*TINY, *LONG, before=ignore_hangups)
    process.send_signal(signal.SIGHUP)
    wait_for_rows(process, 30)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def runs_below(experiment: str) -> set[str]:
    """Names of the directories of an experiment, hidden ones aside."""
    return {path.name for path in Path(experiment).iterdir() if path.is_dir() and not path.name.startswith(".")}


@pytest.mark.parametrize("name", [[], ["--run", "a"]], ids=["numbers", "one name"])
def test_fits_started_at_once(name: list[str]) -> None:
    """Each takes a number of its own; of one name, one is trained and the others are refused."""
    options = ["fit", *TINY, "--experiment", "e", *name, "--trainer.max_steps", "60"]
    count = 6
    fits = [start(*options) for _ in range(count)]
    errors = [fit.communicate(timeout=300)[1] for fit in fits]
    names = runs_below("lightning_logs/e")
    assert names == runs_below("checkpoints/e")
    assert all([int(row["step"]) for row in metrics(name)][-1] == 60 for name in names)
    statuses = sorted(fit.returncode for fit in fits)
    if not name:
        assert (statuses, errors) == ([0] * count, [""] * count)
        assert names == {str(number) for number in range(count)}
        return
    assert (statuses, names) == ([0] + [2] * (count - 1), {"a"})
    refused = ("is being trained by another process", "has just been taken", "exists already")
    assert all(any(words in error for words in refused) and error.count("\n") == 1 for error in errors if error)


def test_a_run_is_resumed_by_one_process_at_a_time() -> None:
    process = started(*TINY, *LONG)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    resume = ["fit", "--experiment", "e", "--run", "a", "--ckpt_path", "last"]
    first, other = started(*resume[1:], rows=40), run(*resume)
    assert other.returncode == 2
    assert "--run 'a' of experiment 'e' is being trained by another process" in other.err
    assert run("fit", *TINY, *LONG, "--overwrite", "true").returncode == 2
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    steps = [int(row["step"]) for row in metrics("a")]
    assert steps == sorted(set(steps))
    assert run(*resume, "--trainer.max_steps", step_of_last() + 5).returncode == 0


def test_killed_and_resumed_equals_undisturbed() -> None:
    process = started(*TINY, *LONG, "--model.network.dropout", "0.1")
    process.kill()
    process.communicate()
    before = load(Path("checkpoints/e/a/last.ckpt"))["global_step"]
    budget = before + 60
    resumed = run("fit", "--experiment", "e", "--ckpt_path", "last", "--trainer.max_steps", budget)
    assert resumed.returncode == 0, resumed.err
    options = [
        *TINY,
        "--experiment",
        "e",
        "--run",
        "b",
        "--trainer.max_steps",
        budget,
        "--model.network.dropout",
        "0.1",
    ]
    assert run("fit", *options, "--checkpoint.every", "25").returncode == 0
    assert metrics("a") == metrics("b")


def test_two_processes_share_each_batch_and_follow_one() -> None:
    options = [*TINY, "--experiment", "e", "--trainer.max_steps", 40, "--trainer.precision", "64-true"]
    options += ["--data.batch_size", "15", "--model.network.dropout", "0.1", "--trainer.strategy", "ddp"]
    for devices in (1, 2):
        program = [*PROGRAM, "fit", *map(str, options), "--run", str(devices), "--trainer.devices", str(devices)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr
    assert runs_below("lightning_logs/e") == {"1", "2"}
    one, two = metrics("1"), metrics("2")
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for left, right in zip(one, two, strict=True):
        for key in left:
            if left[key]:
                assert float(left[key]) == pytest.approx(float(right[key]), rel=1e-9)


def test_tensorboard_serves_what_metrics_csv_says() -> None:
    """Also after a resume: events beyond the checkpoint's step are dropped."""
    short = [*TINY, "--experiment", "e", "--run", "a", "--trainer.max_steps", 40, "--checkpoint.steps", "[20]"]
    assert run("fit", *short).returncode == 0
    Path("lightning_logs/e/a/result.json").unlink()
    os.replace("checkpoints/e/a/step=20.ckpt", "checkpoints/e/a/last.ckpt")
    assert run("fit", "--experiment", "e", "--ckpt_path", "last", "--trainer.max_steps", 60).returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tensorboard.main",
            "--logdir",
            "lightning_logs",
            "--port",
            str(port),
            "--host",
            "127.0.0.1",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}/data/plugin/scalars"
        tags = fetch(f"{address}/tags", lambda found: found.get("e/a"))["e/a"]
        rows = metrics("a")
        keys = {tag_of(key): key for key in rows[0] if key != "step"}
        assert {tag for tag in tags if not tag.startswith(RESULT)} == set(keys)
        for tag, key in keys.items():
            wanted = [(int(row["step"]), float(row[key])) for row in rows if row[key]]
            served = fetch(
                f"{address}/scalars?run=e/a&tag={tag}", lambda found, last=wanted[-1][0]: found and found[-1][1] == last
            )
            assert [step for _, step, _ in served] == [step for step, _ in wanted]
            assert [value for _, _, value in served] == pytest.approx([value for _, value in wanted], rel=1e-6)
        experiments = f"http://127.0.0.1:{port}/data/plugin/hparams/session_groups"
        request = {
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
            "colParams": [],
            "sliceSize": 10,
        }
        groups = fetch(experiments, lambda found: found.get("sessionGroups"), json.dumps(request).encode())[
            "sessionGroups"
        ]
        assert groups[0]["hparams"]["data.modulus"] == 11
        finals = {metric["name"]["tag"]: metric["value"] for metric in groups[0]["metricValues"]}
        assert finals[tag_of("val/acc")] == pytest.approx(float(rows[-1]["val/acc"]))
    finally:
        server.terminate()
        server.wait()


def fetch(address: str, ready: object, body: bytes | None = None) -> object:
    """What an address answers, once it is ready."""
    deadline = time.monotonic() + 60
    while True:
        try:
            request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=5) as answer:
                found = json.load(answer)
            if ready(found):  # type: ignore[operator]
                return found
        except OSError:
            pass
        assert time.monotonic() < deadline, address
        time.sleep(0.3)
