"""The page "Your coursework in ten commands", run in order in an empty directory with small budgets."""

import json
import re
import shlex
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
import yaml
from forked import start

from grok_lightning.options.shipped import find_sweep

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "ten-commands.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^## (\d+)\. .*?^```bash\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
SHORT = {
    "fit": "--trainer.max_steps 8 --evaluation.every 4 --trainer.precision 32-true --threads 1",
    "sweep coursework-table": "--max_steps 2 --workers 1 --events off",
    "sweep report-batch-size": "--max_steps 2 --workers 1 --shard 1/7",  # five runs
}


def run(command: str) -> str:
    """Runs a line of the page with a small budget, each command in a process of its own; what is printed."""
    return "".join(map(run_one, command.split(" && ")))


def run_one(command: str) -> str:
    words = shlex.split(command)
    if words[0] == "grok-lightning":
        more = SHORT.get(words[1], SHORT.get(" ".join(words[1:3]), "")).split()
        process = start(*words[1:], *more)
        out, err = process.communicate(timeout=600)
    else:
        command = command.replace("python ", f"{shlex.quote(sys.executable)} ", 1)
        process = subprocess.Popen(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = process.communicate()
    assert process.returncode == 0, f"{command}\n{out}\n{err}"
    return out


def look_at_tensorboard(command: str) -> list[str]:
    """Runs TensorBoard until it serves runs, and returns their names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = shlex.split(command)
    assert words[0] == "tensorboard"
    where = ["--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *words[1:], *where], stderr=subprocess.DEVNULL)
    try:
        until, served = time.monotonic() + 100, {}
        while not any(name.startswith("report-batch-size/") for name in served):
            assert time.monotonic() < until, served
            time.sleep(0.3)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/plugin/scalars/tags", timeout=5) as answer:
                    served = json.load(answer)
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
        return list(served)
    finally:
        server.kill()
        server.wait()


def test_there_are_ten_each_with_two_or_three_sentences() -> None:
    assert [int(number) for number, _ in COMMANDS] == list(range(1, 11))
    assert all("\n" not in command for _, command in COMMANDS)
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        said = section.split("```")[2]
        assert 2 <= len(re.findall(r"[.:)](?=\s)", said)) <= 6, section
    assert PAGE.count("```bash") == 10


def test_the_table_is_the_assignments() -> None:
    sweep = yaml.safe_load(find_sweep("coursework-table").read_text(encoding="utf-8"))
    base = yaml.safe_load((PROJECT / "configs" / f"{sweep['base']}.yaml").read_text(encoding="utf-8"))
    assert base["trainer"]["max_steps"] == 100_000
    assert "trainer.max_steps" not in sweep["set"]
    assert (base["data"]["batch_size"], base["data"]["train_fraction"], base["data"]["val_fraction"]) == (64, 0.7, 0.15)
    assert list(sweep["grid"].values()) == [["x + y", "x - y"], [97, 113], [1, 2], [42, 123, 456]]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_ten_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = {}
    for number, command in COMMANDS:
        printed[number] = look_at_tensorboard(command) if number == "9" else run(command)
    assert {"train.csv", "val.csv", "test.csv"} <= {path.name for path in Path("splits").iterdir()}
    assert len(Path("splits/test.csv").read_text().splitlines()) == 1 + 1_412
    assert len(list(Path("lightning_logs/coursework-table").glob("*/result.json"))) == 24
    assert len(list(Path("lightning_logs/report-batch-size").glob("*/result.json"))) == 5
    assert len(pd.read_csv("reports/coursework-table/runs.csv")) == 24
    assert str(printed["7"]).startswith("91/7= ")
    assert len(pd.read_csv("answers.csv")) == 1_398
    with tarfile.open("hand-in.tar.gz") as archive:
        packed = [Path(name) for name in archive.getnames()]
    names = {path.name for path in packed}
    assert {
        "report.html",
        "runs.csv",
        "result.json",
        "config.yaml",
        "metrics.csv",
        "curves.png",
        "answers.csv",
    } <= names
    assert "torch==" in Path("versions.txt").read_text()
    assert not any("tfevents" in path.name or path.suffix == ".ckpt" for path in packed)
    assert sum(path.name == "result.json" for path in packed) == 24 + 5 + 2
