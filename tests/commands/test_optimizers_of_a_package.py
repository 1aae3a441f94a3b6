"""Optimizers of pytorch_optimizer: in a stack each run is trained as alone, at a rate of its own, and is resumed."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY
from forked import start
from test_resume import assert_same
from training_here import train_here

from grok_lightning.records.checkpoint import load
from grok_lightning.records.record import read_metrics

pytest.importorskip("pytorch_optimizer", reason="pip install -e '.[optimizers]'")
pytestmark = pytest.mark.slow

Command = Callable[..., tuple[int, str, str]]
CHOICES = {
    "Lion": ["--model.optimizer.betas", "[0.9,0.95]", "--model.optimizer.weight_decay", "0.1"],
    "SignSGD": ["--model.optimizer.momentum", "0.8", "--model.schedule", "cosine"],
    "SOAP": ["--model.optimizer.precondition_frequency", "3"],
}
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "own-optimizer.md"
SHORT = ["--evaluation.per_decade", "0", "--trainer.precision", "32-true"]


def options(name: str) -> list[str]:
    return [*TINY, *SHORT, "--experiment", "e", "--model.optimizer", f"pytorch_optimizer.{name}", *CHOICES[name]]


def saved(run: str) -> dict[str, Any]:
    checkpoint = load(Path(f"checkpoints/e/{run}/last.ckpt"))
    return {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}


@pytest.mark.parametrize("name", CHOICES)
def test_a_stopped_run_goes_on_to_the_bit(command: Command, name: str) -> None:
    steps = ["--trainer.max_steps", "24", "--checkpoint.steps", "[13]"]
    assert command("fit", *options(name), "--run", "full", *steps)[0] == 0
    whole, rows = saved("full"), read_metrics(Path("lightning_logs/e/full"))
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    Path("checkpoints/e/full/last.ckpt").unlink()  # as if killed after the other
    assert command("fit", "--ckpt_path", "checkpoints/e/full/step=13.ckpt")[0] == 0
    assert_same(saved("full"), whole)
    assert read_metrics(Path("lightning_logs/e/full")) == rows


def test_a_killed_run_goes_on_to_the_bit(command: Command) -> None:
    asked = [*options("SOAP"), "--trainer.max_steps", "200", "--checkpoint.every", "20"]
    process = start("fit", *asked, "--run", "killed")
    while not Path("checkpoints/e/killed/last.ckpt").exists():
        assert process.poll() is None, process.err
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert command("fit", "--experiment", "e", "--run", "killed", "--ckpt_path", "last")[0] == 0
    assert command("fit", *asked, "--run", "whole")[0] == 0
    assert_same(saved("killed"), saved("whole"))


@pytest.mark.parametrize("name", CHOICES)
def test_runs_of_a_sweep_with_rates_of_their_own_are_their_single_runs(
    command: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    train_here(monkeypatch)
    words = [*options(name), "--trainer.max_steps", "20"]
    fixed = {key[2:]: yaml.safe_load(value) for key, value in zip(words[::2], words[1::2], strict=True)}
    del fixed["experiment"]
    varied = {"seed_everything": [0, 1, 2, 3], "model.optimizer.lr": [0.001, 0.001, 0.004, 0.004]}
    Path("s.yaml").write_text(yaml.safe_dump({"set": fixed, "zip": varied}))
    status, out, err = command("sweep", "s.yaml", "--stack-size", "4")
    assert status == 0, out + err
    results = [json.loads(path.read_text()) for path in Path("lightning_logs/s").glob("*/result.json")]
    assert [result["stack"] for result in results] == [2, 2, 2, 2]
    for seed, rate in zip(*varied.values(), strict=True):
        more = ["--seed_everything", seed, "--model.optimizer.lr", rate, "--run", seed]
        assert command("fit", *words, *more)[0] == 0
        (directory,) = Path("lightning_logs/s").glob(f"*seed={seed}__*")
        rows, alone = read_metrics(directory), read_metrics(Path(f"lightning_logs/e/{seed}"))
        assert [row["step"] for row in rows] == [0, 10, 20]
        for row, single in zip(rows, alone, strict=True):
            assert row["train/loss"] == pytest.approx(single["train/loss"], rel=1e-3)
            assert row["norm/weights"] == pytest.approx(single["norm/weights"], rel=1e-4)


def test_the_commands_of_the_page_train(command: Command) -> None:
    found = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("python -m")]
    lines = [line.split() for line in found if "pytorch_optimizer." in line]
    assert [words[words.index("--model.optimizer") + 1].rpartition(".")[2] for words in lines] == list(CHOICES)
    for words in lines:
        tiny = [*TINY[:4], "--model.network.width", 8, "--trainer.max_steps", 2, *SHORT]
        assert command("fit", *words[4:], *tiny)[0] == 0


@pytest.mark.parametrize("name", ["SophiaH", "AdaHessian"])
def test_those_that_ask_for_curvature_are_refused_in_one_line(command: Command, name: str) -> None:
    status, _, err = command("fit", *TINY, "--model.optimizer", f"pytorch_optimizer.{name}")
    assert status == 2
    assert err.startswith(f"grok-lightning: model.optimizer {name} differentiates the gradient")
    assert err.count("\n") == 1
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("A2Grad", "model.optimizer A2Grad has no learning rate in its parameter groups"),
        ("ADOPT", "--model.optimizer pytorch_optimizer.ADOPT has a default that no config can hold: clip_lambda"),
    ],
)
def test_those_that_cannot_be_served_are_refused_in_one_line(name: str, words: str, command: Command) -> None:
    status, _, err = command("fit", *TINY, "--model.optimizer", f"pytorch_optimizer.{name}")
    assert status == 2
    assert err.startswith(f"grok-lightning: {words}")
    assert err.count("\n") == 1
    assert not Path("lightning_logs").exists()


def test_a_default_of_infinity_is_taken(command: Command) -> None:
    choice = ["--model.optimizer", "pytorch_optimizer.Prodigy", "--trainer.max_steps", "3"]
    assert command("fit", *TINY, *SHORT, *choice)[0] == 0
