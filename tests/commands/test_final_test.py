"""Test rows are evaluated once, when a run is over, and recorded; counts of splits; what a fit says first and last."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TINY
from forked import Forked, run_code

from grok_lightning import Experiment
from grok_lightning.callbacks.final_test import FinalTest
from grok_lightning.callbacks.guards import StopSignals
from grok_lightning.records.results import read_records

Command = Callable[..., tuple[int, str, str]]
TESTED = [*TINY, "--model.network.layers", "1", "--data.val_fraction", "0.3", "--experiment", "e", "--run", "a"]
LAST = ["--experiment", "e", "--run", "a", "--ckpt_path", "last"]


def record(run: str = "e/a") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"lightning_logs/{run}/result.json").read_text())
    return found


def recorded(run: str = "e/a") -> dict[str, float]:
    return {key: value for key, value in record(run)["final"].items() if key.startswith("test/")}


def check_command(command: Command, run: str = "e/a") -> None:
    """The command ``test`` finds in the last checkpoint what the record says."""
    assert recorded(run).keys() == {"test/acc", "test/loss"}
    assert command("test", "--ckpt_path", f"checkpoints/{run}/last.ckpt")[0] == 0
    found = json.loads(Path(f"lightning_logs/{run}/test.json").read_text())
    assert found["step"] == record(run)["steps"]
    assert {key: found[key] for key in ("test/acc", "test/loss")} == pytest.approx(recorded(run), rel=1e-6)


AVERAGED = ["--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.9"]
KINDS = {
    "plain": [],
    "bf16": ["--trainer.precision", "bf16-mixed"],
    "float64": ["--trainer.precision", "64-true", "--model.loss_precision", "64"],
    "averaged": AVERAGED,
    "dropout": ["--model.network.dropout", "0.3", "--model.weight_noise", "0.1"],
    "characters": ["--data.tokenizer", "characters", "--model.loss_on", "equation"],
    "sample": ["--data.rows", "60", "--data.train_fraction", "0.5"],
    "stopped": ["--data.formula", "0 * x + 0 * y", "--evaluation.stop_after", "1", "--model.optimizer.lr", "0.01"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_says_what_the_command_test_finds(command: Command, kind: str) -> None:
    assert command("fit", *TESTED, "--trainer.max_steps", 30, *KINDS[kind])[0] == 0
    assert record()["status"] == ("stopped" if kind == "stopped" else "finished")
    check_command(command)


@pytest.mark.parametrize("name", ["BatchNorm", "Dropout", "Recurrent"])
def test_permutations_and_an_ordinary_module(
    command: Command, write_yaml: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "models"))
    trainer = {"max_steps": 8, "accelerator": "cpu", "enable_progress_bar": False}
    fixed = {"trainer": trainer, "evaluation": {"every": 4}, "experiment": "e", "run": "a"}
    small = {"network": {"class_path": f"ordinary_modules.{name}"}}
    perm = {"class_path": "PermutationDataModule", "degree": 3, "val_fraction": 0.25}
    assert command("fit", "--config", write_yaml({"data": perm, "model": small} | fixed))[0] == 0
    check_command(command)


def test_a_plain_module_of_data(command: Command, write_yaml: Callable[..., Path]) -> None:
    Path("plain.py").write_text(PLAIN)
    data = {"class_path": "plain.Plain"}
    trainer = {"max_steps": 8, "accelerator": "cpu", "enable_progress_bar": False}
    small = {"network": {"width": 8, "heads": 2, "layers": 1}}
    fixed = {"model": small, "trainer": trainer, "evaluation": {"every": 4}, "experiment": "e"}
    status, out, _ = command("fit", "--config", write_yaml({"data": data, "run": "a"} | fixed))
    assert (status, out.splitlines()[0]) == (0, "Plain val=True: 24 rows, 12 train, 8 val, 4 test")
    check_command(command)
    data |= {"val": False}
    status, out, _ = command("fit", "--config", write_yaml({"data": data, "run": "b"} | fixed))
    assert (status, out.splitlines()[0]) == (0, "Plain val=False: 16 rows, 12 train, 0 val, 4 test")
    assert record("e/b")["grok_step"] is None
    assert "grokked" not in out


PLAIN = """
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

class Plain(LightningDataModule):
    def __init__(self, val: bool = True):
        super().__init__()
        x = torch.arange(24)[:, None].expand(-1, 2).clone() % 6
        self.parts = [TensorDataset(x[a:b], x[a:b, 0]) for a, b in ((0, 12), (12, 20), (20, 24))]
        if val:
            self.val_dataloader = lambda: DataLoader(self.parts[1], batch_size=4)
    def train_dataloader(self):
        return DataLoader(self.parts[0], batch_size=4)
    def test_dataloader(self):
        return DataLoader(self.parts[2], batch_size=4)
"""


# --- stop and resume --------------------------------------------------------------------------------------------------


def test_a_larger_budget_gives_new_values_and_an_interrupted_run_has_none(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("fit", *TESTED, "--trainer.max_steps", 30)[0] == 0
    before = recorded()
    with monkeypatch.context() as patch:
        patch.setattr(StopSignals, "received", signal.SIGTERM, raising=False)
        patch.setattr(StopSignals, "__init__", _already_stopped)
        assert command("fit", *LAST, "--trainer.max_steps", 60)[0] == 143
    assert not Path("lightning_logs/e/a/result.json").exists()
    assert command("fit", *LAST, "--trainer.max_steps", 60)[0] == 0
    assert recorded() != before
    check_command(command)
    resumed = record()["final"]
    assert command("fit", *TESTED[:-1], "b", "--trainer.max_steps", 60)[0] == 0
    assert record("e/b")["final"] == resumed


def _already_stopped(signals: StopSignals) -> None:
    signals.received, signals._interrupted, signals._previous = signal.SIGTERM, False, {}


@pytest.mark.parametrize("options", [[], AVERAGED, KINDS["stopped"]], ids=["budget", "averaged", "stopped"])
def test_a_run_killed_before_its_test_rows_are_evaluated_has_them_when_resumed(
    command: Command, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    assert command("fit", *TESTED[:-1], "whole", "--trainer.max_steps", 30, *options)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(FinalTest, "take", kill)
        with pytest.raises(Killed):
            command("fit", *TESTED, "--trainer.max_steps", 30, *options)
    assert not Path("lightning_logs/e/a/result.json").exists()
    assert command("fit", *LAST)[0] == 0
    assert record()["final"] == record("e/whole")["final"]
    check_command(command)


@pytest.mark.slow
def test_a_process_killed_there_has_them_when_resumed(command: Command) -> None:
    code = (
        "import os, signal; from grok_lightning.__main__ import main; "
        "from grok_lightning.callbacks.final_test import FinalTest; "
        "FinalTest.take = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
        f"main(['fit', *{TESTED!r}, '--trainer.max_steps', '30'])"
    )
    assert Forked(run_code, code).wait() == -signal.SIGKILL
    assert not Path("lightning_logs/e/a/result.json").exists()
    assert command("fit", *LAST)[0] == 0
    check_command(command)


# --- nothing else changes ---------------------------------------------------------------------------------------------


def test_the_module_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    passes: list[tuple[int, bool]] = []
    evaluate = FinalTest._evaluate

    def watched(self: FinalTest, trainer: Any, module: Any, weights: Any) -> Any:
        before = {name: part.clone() for name, part in module.state_dict().items()}
        modes = [part.training for part in module.modules()]
        other = {name: part + 1 for name, part in weights.items()}
        found, moved = evaluate(self, trainer, module, weights), evaluate(self, trainer, module, other)
        assert not torch.equal(found["test/loss"], moved["test/loss"])
        assert all(torch.equal(before[name], part) for name, part in module.state_dict().items())
        assert modes == [part.training for part in module.modules()]
        assert not any(key.startswith("test/") for key in module.evaluation)
        passes.append((trainer.global_step, module.training))
        return found

    monkeypatch.setattr(FinalTest, "_evaluate", watched)
    options = {"modulus": 7, "val_fraction": 0.2, "max_steps": 5, "accelerator": "cpu", "network": "MLP"}
    run = Experiment(experiment="e", run="a", enable_progress_bar=False, dropout=0.1, **options).fit()
    assert [step for step, _ in passes] == [5]  # once, and when the run is over
    assert run.result["counts"] == {"train": 24, "val": 9, "test": 16}
    assert run.result["final"].keys() >= {"test/acc", "test/loss"}
    assert not any(key.startswith("test/") for key in run.metrics)
    table = read_records("lightning_logs")
    assert table["final.test/acc"].tolist() == [run.result["final"]["test/acc"]]
    assert table["counts.test"].tolist() == [16]


def test_tensorboard_has_them(command: Command) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert command("fit", *TESTED, "--trainer.max_steps", 20)[0] == 0
    events = EventAccumulator("lightning_logs/e/a").Reload()
    for key, name in (("acc", "accuracy"), ("loss", "loss")):
        (point,) = events.Scalars(f"learning (result)/test {name}")
        assert point.value == pytest.approx(recorded()[f"test/{key}"])


# --- what a fit says --------------------------------------------------------------------------------------------------

FIRST = {
    "x / y mod 11: 110 equations, 55 train, 55 val, 0 test": ["--data.formula", "x / y"],
    "x + y mod 11: 121 equations, 60 train, 36 val, 25 test": ["--data.val_fraction", "0.3"],
    "x + y mod 11: 121 equations, 33 train, 33 val, 0 test, 55 in no split": ["--data.pairing", "half"],
    "x + y + z mod 11, rows 100: 100 equations, 50 train, 50 val, 0 test": [
        *("--data.formula", "x + y + z", "--data.rows", "100")
    ],
}


@pytest.mark.parametrize("first", FIRST)
def test_the_first_and_the_last_line(command: Command, first: str) -> None:
    options = [*TINY, "--model.network.layers", "1", "--trainer.max_steps", "10", *FIRST[first]]
    status, out, _ = command("fit", *options, "--experiment", "e", "--run", "a")
    assert (status, out.splitlines()[0]) == (0, first)
    final, last = record()["final"], out.splitlines()[-1]
    for split in ("train", "val", "test"):
        if f"{split}/acc" in final:
            wanted = f"{split} {int(1000 * final[f'{split}/acc'] + 1e-9) / 10}% (loss {final[f'{split}/loss']:.3g})"
            assert wanted in last
        else:
            assert (split, "test" in last) == ("test", False)
    counts = record()["counts"]
    assert [f"{count} {split}" in first for split, count in counts.items()] == [True] * 3


def test_splits_from_files_are_counted(command: Command) -> None:
    assert command("data", "--data.modulus", 11, "--data.val_fraction", "0.2", "--output", "splits")[0] == 0
    options = [*TINY, "--trainer.max_steps", 2, "--data.splits", "splits", "--experiment", "e", "--run", "a"]
    assert command("fit", *options)[1].splitlines()[0] == "x + y mod 11: 121 equations, 60 train, 24 val, 37 test"
    assert record()["counts"] == {"train": 60, "val": 24, "test": 37}


def test_text_is_memorized_and_never_grokked(command: Command, write_yaml: Callable[..., Path]) -> None:
    network = {"layers": 1, "width": 16, "heads": 2}
    config = {
        "data": {"class_path": "TextDataModule", "strings": ["ab", "cb"], "batch_size": 8},
        "model": {"network": network, "optimizer": {"lr": 0.01}},
        "trainer": {"max_steps": 60, "accelerator": "cpu"},
        "evaluation": {"every": 10, "threshold": 0.5},
    }
    path = write_yaml(config, "words.yaml")
    status, out, _ = command("fit", "--config", path, "--run", "a")
    lines = out.splitlines()
    assert (status, lines[0]) == (0, "text: 2 strings, 2 train, 0 val, 0 test")
    result = record("words/a")
    assert lines[-1].startswith(f"memorized at step {result['memorize_step']}: train ")
    assert f"(loss {result['final']['train/loss']:.3g})" in lines[-1]
    assert "grok" not in out.replace("grok-lightning", "")
    assert " val " not in out.split("\n", 1)[1]
    assert re.search(r"step [1-9]\d*/60  train [ \d]\d+\.\d%  loss \S+(  \S+ steps/s)?$", out, re.MULTILINE)
    checkpoint = ("--ckpt_path", "checkpoints/words/a/last.ckpt")
    (evaluated,) = command("validate", *checkpoint)[1].splitlines()
    assert re.fullmatch(rf"train accuracy .* of 2\), loss {result['final']['train/loss']:.4g}", evaluated)
    assert "no test rows (2 train, 0 val); use validate on the same checkpoint" in command("test", *checkpoint)[2]
    steps = [result[name] for name in ("grok_step", "grok_after", "sustained_grok_step")]
    assert (steps, result["counts"]["val"]) == ([None] * 3, 0)
    path.write_text(yaml.safe_dump(config | {"evaluation": {"every": 10, "threshold": 1.0, "stop_after": 1}}))
    assert "not memorized" in command("fit", "--config", path, "--run", "b")[1] or record("words/b")["memorize_step"]
    held = config | {"data": config["data"] | {"val_fraction": 0.5}}
    path.write_text(yaml.safe_dump(held))
    assert command("fit", "--config", path, "--run", "c")[1].startswith("text: 2 strings, 1 train, 1 val, 0 test\n")
