"""Sweeps on a real Ray of 2 CPUs, which is started here, with a token, and ended: ``make test-slow``."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grok_lightning.records.checkpoint import load

pytestmark = pytest.mark.slow
SWEEP = [sys.executable, "-m", "grok_lightning", "sweep", "small.yaml"]
BASE = {
    "data": {"modulus": 11, "batch_size": 16},
    "model": {"network": {"layers": 2, "width": 16, "heads": 2}},
    "trainer": {"accelerator": "cpu", "precision": "32-true"},  # not measured: what is printed is compared
    "evaluation": {"every": 50},
    "checkpoint": {"every": 50},
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """What a process must have in its environment to use this Ray, on an address that only this machine has."""
    home = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # the paths of Ray's sockets must be short
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"HOME": str(home), "RAY_AUTH_MODE": "token", "OMP_NUM_THREADS": "1"}
    program = str(Path(sys.executable).with_name("ray"))
    subprocess.run([program, "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    port, said = free_port(), home / "said"
    options = ["--node-ip-address=127.0.0.2", f"--port={port}", f"--ray-client-server-port={free_port()}"]
    options += ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0", "--num-cpus=2"]
    options += [f"--temp-dir={home / 'tmp'}", "--include-dashboard=false", "--disable-usage-stats"]
    command = [program, "start", "--head", "--block", *options]
    with said.open("w") as file:
        ray = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        until(lambda: "Ray runtime started" in said.read_text() or ray.poll() is not None, said.read_text)
        assert ray.poll() is None, said.read_text()
        yield environment | {"RAY_ADDRESS": f"127.0.0.2:{port}"}
    finally:
        ray.terminate()  # it ends what it has started
        try:
            ray.wait(40)
        finally:
            if of_session(ray.pid):
                os.killpg(ray.pid, signal.SIGKILL)
    until(lambda: not of_session(ray.pid), lambda: str(of_session(ray.pid)))
    shutil.rmtree(home)


def of_session(leader: int) -> list[str]:
    """The processes of a session."""
    listed = subprocess.run(["ps", "-eo", "sid=,pid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in listed.splitlines()]
    return [row[3] for row in rows if int(row[0]) == leader and not row[2].startswith("Z")]


def until(true: Callable[[], Any], said: Callable[[], object] = str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, said()
        time.sleep(0.05)
    return found


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_sweep(steps: int, seeds: int) -> None:
    Path("base.yaml").write_text(yaml.safe_dump(BASE))
    sweep = {"base": "base.yaml", "set": {"trainer.max_steps": steps}, "grid": {"seed_everything": list(range(seeds))}}
    Path("small.yaml").write_text(yaml.safe_dump(sweep))


def started(*options: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SWEEP, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def at_work(root: str) -> dict[str, int]:
    """The runs that have a few dozen evaluations behind them and are in training: the process of each."""
    found = {}
    for path in Path(root, "lightning_logs/small/.sweep/workers").glob("*.json"):
        name = json.loads(path.read_text())["name"]
        directory = Path(root, "lightning_logs/small", name)
        rows = (directory / "metrics.csv").read_text().count("\n") if (directory / "metrics.csv").exists() else 0
        if rows > 30 and not (directory / "result.json").exists():
            found[name] = int(path.stem.rpartition("-")[2])
    return found


def test_a_killed_worker_changes_nothing(cluster: dict[str, str]) -> None:
    write_sweep(steps=400, seeds=2)
    local = subprocess.run([*SWEEP, "--root", "local"], env=cluster, capture_output=True, text=True, check=True)
    sweep = started("--root", "ray", "--executor", "ray", environment=cluster)
    found = until(lambda: at_work("ray") or sweep.poll() is not None)
    assert sweep.poll() is None, sweep.communicate()
    (killed, worker), *_ = found.items()
    os.kill(worker, signal.SIGKILL)
    out, errors = sweep.communicate(timeout=180)
    assert sweep.returncode == 0, errors
    assert "Traceback" not in errors
    assert out == local.stdout
    records = sorted(Path("local/lightning_logs/small").glob("*/metrics.csv"))
    assert len(records) == 2
    assert killed in [record.parent.name for record in records]
    for record in records:
        assert (Path("ray") / record.relative_to("local")).read_text() == record.read_text()


def test_a_signal_saves_where_it_meets_a_run(cluster: dict[str, str]) -> None:
    write_sweep(steps=1_000_000, seeds=1)
    sweep = started("--root", "ray", "--executor", "ray", environment=cluster)
    until(lambda: at_work("ray") or sweep.poll() is not None)
    assert sweep.poll() is None, sweep.communicate()
    (path,) = Path("ray/checkpoints/small").glob("*/last.ckpt")
    before = load(path)["global_step"]
    sweep.send_signal(signal.SIGTERM)
    _, errors = sweep.communicate(timeout=120)
    assert sweep.returncode == 143, errors
    assert "Traceback" not in errors
    assert load(path)["global_step"] > before
    assert not list(Path("ray/lightning_logs/small/.sweep/workers").iterdir()), "a worker is still at work"


def test_a_cluster_that_cannot_be_used_is_refused_before_anything_is_written(
    cluster: dict[str, str], command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sweep(steps=400, seeds=1)
    nobody = f"127.0.0.2:{free_port()}"
    for address, words in ((nobody, "ray start --head"), (cluster["RAY_ADDRESS"], "RAY_AUTH_MODE=token")):
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        status, out, errors = command("sweep", "small.yaml", "--root", "refused", "--executor", "ray")
        assert (status, out) == (2, "")
        assert words in errors
        assert len(errors.splitlines()) == 1, errors
        assert not Path("refused").exists()
