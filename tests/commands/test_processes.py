"""What only real processes show: signals, kill -9, two ranks, TensorBoard."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import TINY

from grok_lightning.records.checkpoint import load

pytestmark = pytest.mark.slow
PROGRAM = [sys.executable, "-m", "grok_lightning"]
LONG = ["--experiment", "e", "--run", "a", "--trainer.max_steps", "1000000", "--checkpoint.every", "25"]


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def started(*arguments: str) -> subprocess.Popen[str]:
    """A fit that has trained at least a few dozen steps."""
    process = subprocess.Popen(
        [*PROGRAM, "fit", *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 120
    metrics = Path("lightning_logs/e/a/metrics.csv")
    while not (metrics.exists() and metrics.read_text().count("\n") > 20):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def metrics(name: str) -> list[dict[str, str]]:
    with Path(f"lightning_logs/e/{name}/metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_says_how_to_resume_and_exits(signum: int, status: int) -> None:
    process = started(*TINY, *LONG)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    assert "fit --experiment e --run a --ckpt_path last" in err
    step = int(err.split("at step ")[1].split(";")[0].replace(",", ""))
    assert load(Path("checkpoints/e/a/last.ckpt"))["global_step"] == step


def test_killed_and_resumed_equals_undisturbed() -> None:
    process = started(*TINY, *LONG, "--model.network.dropout", "0.1")
    process.kill()
    process.communicate()
    before = load(Path("checkpoints/e/a/last.ckpt"))["global_step"]
    budget = before + 60
    resumed = run("fit", "--experiment", "e", "--ckpt_path", "last", "--trainer.max_steps", budget)
    assert resumed.returncode == 0, resumed.stderr
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
        done = run("fit", *options, "--run", devices, "--trainer.devices", devices)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in Path("lightning_logs/e").iterdir()) == ["1", "2"]
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
        assert set(tags) == set(rows[0]) - {"step"}
        for tag in tags:
            wanted = [(int(row["step"]), float(row[tag])) for row in rows if row[tag]]
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
        assert finals["val/acc"] == pytest.approx(float(rows[-1]["val/acc"]))
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
