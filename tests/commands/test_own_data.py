"""Data of the user's own: an ordinary LightningDataModule and splits as files, through the commands and from Python."""

import csv
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from grok_lightning import Experiment, load_run
from grok_lightning.cli import quiet
from grok_lightning.errors import UserError
from grok_lightning.export import export
from grok_lightning.records.checkpoint import ROWS_KEY, load
from grok_lightning.records.results import read_records
from grok_lightning.report.pooling import identify_tasks
from grok_lightning.sweep.plan.runs import read_plan
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run.worker import run_job

Command = Callable[..., tuple[int, str, str]]
HOWTO = Path(__file__).parents[2] / "docs" / "howto"
SMALL: dict[str, Any] = {
    "model": {"network": {"width": 8, "heads": 2, "layers": 1}},
    "trainer": {"max_steps": 20, "precision": "32-true", "accelerator": "cpu", "enable_progress_bar": False},
    "evaluation": {"every": 10, "per_decade": 0},
}
PARITY = {"data": {"class_path": "parity.ParityData", "bits": 6, "rows": 60}, "seed_everything": 3}
SEVEN = {"data": {"modulus": 7, "batch_size": 16}}


@pytest.fixture(autouse=True)
def own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HOWTO))


def weights(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load(path)["state_dict"]
    return found


def metrics(run: str) -> str:
    return Path(f"lightning_logs/{run}/metrics.csv").read_text()


def test_an_ordinary_module_trains_and_resumes_to_the_bit(
    command: Command, write_yaml: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_yaml(PARITY | SMALL, "own.yaml")
    assert command("fit", "--config", config, "--run", "whole")[0] == 0
    assert command("fit", "--config", config, "--run", "part", "--trainer.max_steps", 10)[0] == 0
    state = torch.get_rng_state()
    assert (
        command("fit", "--experiment", "own", "--run", "part", "--ckpt_path", "last", "--trainer.max_steps", 20)[0] == 0
    )
    assert torch.equal(state, torch.get_rng_state())
    assert metrics("own/part") == metrics("own/whole")
    whole, part = (weights(Path(f"checkpoints/own/{run}/last.ckpt")) for run in ("whole", "part"))
    assert all(torch.equal(whole[name], part[name]) for name in whole)

    import parity

    result = json.loads(Path("lightning_logs/own/whole/result.json").read_text())
    assert result["algebra"] == "parity of 3 of 6 bits"
    assert result["algebra_identity"].startswith("ParityData(rows=")
    monkeypatch.setattr(parity.ParityData, "val_dataloader", parity.ParityData.train_dataloader)
    before = sorted(Path().rglob("*"))
    for ask in ("validate", "predict", "fit"):
        status, _, error = command(ask, "--ckpt_path", "checkpoints/own/part/last.ckpt", *(
            ("--trainer.max_steps", 30) if ask == "fit" else ()
        ))  # fmt: skip
        assert status == 2
        assert "part/last.ckpt' was trained on other rows than ParityData gives now" in error
    assert sorted(Path().rglob("*")) == before


def test_what_a_run_of_an_ordinary_module_is_asked(command: Command, tmp_path: Path) -> None:
    run = Experiment(**PARITY | SMALL, experiment="asked").fit()
    assert run.title == "parity of 3 of 6 bits, seed 3"
    assert run.figure("curves").axes
    for ask in (lambda: run.figure("split"), lambda: run.operands_NK):
        with pytest.raises(UserError, match=r"figure is 'split'|ParityData has no table"):
            ask()
    checkpoint = "checkpoints/asked/0/last.ckpt"
    status, out, _ = command("generate", checkpoint, "0 1 1 0 0 1", "1 1 1 1 1 1 =", "--trust")
    assert status == 0
    assert [line[:14] for line in out.splitlines()] == ["0 1 1 0 0 1 = ", "1 1 1 1 1 1 = "]
    status, _, error = command("generate", checkpoint, "0 1 2", "--trust")
    assert status == 2
    assert "prompt '0 1 2' has '2'" in error
    assert command("predict", "--ckpt_path", checkpoint, "--output", "p.csv")[0] == 0
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert [len(rows), *rows[0]] == [60, "inputs", "answer", "prediction", "probability", "correct", "split"]
    for row in rows:
        assert row["answer"] == str(sum(map(int, row["inputs"].split()[:3])) % 2)
        assert row["correct"] == str(row["prediction"] == row["answer"])
    status, _, error = command("validate", "--ckpt_path", checkpoint, "--measures", "[Fourier]")
    assert (status, "Fourier" in error) == (2, True)
    export(load_run(checkpoint), "torch", tmp_path / "network.pt")
    assert torch.load(tmp_path / "network.pt", weights_only=True)["vocabulary"] == ["0", "1"]
    status, _, error = command("test", "--ckpt_path", checkpoint)
    assert status == 2
    with pytest.raises(UserError, match=r"--data.bitz is no option of ParityData; did you mean --data.bits"):
        Experiment(data={"class_path": "parity.ParityData", "bitz": 3}, **SMALL).fit()


def stack_of(path: Path) -> Stack:
    plan = read_plan(path)
    assert len({run.shape for run in plan.runs}) == 1, "they can be trained as one stack"
    configs = [plan.config(run, plan.fresh_name(run)) for run in plan.runs]
    return Stack(".", plan.name, configs, [run.hash for run in plan.runs], events=False)


def train(stack: Stack) -> None:
    with warnings.catch_warnings():
        quiet()
        outcome = run_job(stack)
    assert (outcome["done"], outcome["failed"]) == (2, 0)


def test_runs_of_a_sweep_have_their_own_rows_and_one_task(command: Command, write_yaml: Callable[..., Path]) -> None:
    sweep = {"set": {"data": PARITY["data"], **SMALL}, "grid": {"seed_everything": [3, 4]}}
    stack = stack_of(write_yaml(sweep, "seeds.yaml"))
    train(stack)
    single = write_yaml(PARITY | SMALL, "single.yaml")
    assert command("fit", "--config", single)[0] == 0
    own = load(Path("checkpoints/single/0/last.ckpt"))
    stacked = load(Path("checkpoints/seeds") / stack.configs[0]["run"] / "last.ckpt")
    assert own[ROWS_KEY] == stacked[ROWS_KEY]
    for name, weight in own["state_dict"].items():
        torch.testing.assert_close(stacked["state_dict"][name], weight)
    runs = read_records("lightning_logs")
    titles, tasks = identify_tasks(runs)
    assert set(titles) == {"parity of 3 of 6 bits"}
    assert tasks.nunique() == 1
    assert runs["algebra_identity"].nunique() == 1
    assert command("report", "seeds", "--by", "data.bits", "--out", "rep")[0] == 0


def test_data_writes_what_fit_trains_on(command: Command, write_yaml: Callable[..., Path]) -> None:
    config = write_yaml(
        {"data": SEVEN["data"] | {"train_fraction": 0.4, "val_fraction": 0.3}, "seed_everything": 5} | SMALL
    )
    status, out, _ = command("data", "--config", config, "--output", "splits")
    assert status == 0
    wanted = ["x + y mod 7: 49 equations, 19 train, 14 val, 16 test", "files: splits", "picture: splits/split.png"]
    assert out.splitlines() == wanted
    assert Path("splits/split.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads(Path("splits/splits.json").read_text())
    assert summary["counts"] == {"train": 19, "val": 14, "test": 16}
    assert summary["data"]["modulus"] == 7
    assert not Path("lightning_logs").exists()
    assert command("fit", "--config", config, "--experiment", "e", "--run", "drawn")[0] == 0
    assert command("fit", "--config", config, "--experiment", "e", "--run", "read", "--data.splits", "splits",
                   "--trainer.max_steps", 10)[0] == 0  # fmt: skip
    assert (
        command("fit", "--ckpt_path", "last", "--experiment", "e", "--run", "read", "--trainer.max_steps", 20)[0] == 0
    )
    assert metrics("e/drawn") == metrics("e/read")
    status, _, error = command("data", "--config", config, "--output", "splits")
    assert status == 2
    assert "--output is 'splits', where train.csv exists already; name another folder, or add --overwrite" in error
    assert (
        command("data", "--config", config, "--data.train_fraction", 0.3, "--output", "splits", "--overwrite")[0] == 0
    )
    status, _, error = command(
        "fit", "--ckpt_path", "last", "--experiment", "e", "--run", "read", "--trainer.max_steps", 30
    )
    assert status == 2
    assert "was trained on other rows than ModularArithmeticDataModule gives now" in error
    shutil.rmtree("splits")
    status, _, error = command("predict", "--ckpt_path", "checkpoints/e/read/last.ckpt")
    assert status == 2
    assert "train.csv' does not exist" in error


def test_the_command_data_is_told_like_the_others(command: Command) -> None:
    assert "write its splits" in command("--help")[1]
    with pytest.raises(SystemExit):
        command("data", "--help")
    for arguments, words in (
        (["--data.modulu", 7], "did you mean --data.modulus"),
        (["--data.modulus", "x"], "--data.modulus is 'x'; expected: an integer"),
        (["--ckpt_path", "last"], "--ckpt_path is no option"),
        (["--output"], "--output needs a value"),
    ):
        status, _, error = command("data", *arguments)
        assert (status, words in error) == (2, True), error
    assert command("data", "--data", "parity.ParityData", "--data.bits", 3, "--output", "own")[0] == 0
    assert Path("own/train.csv").read_text().startswith("inputs,answer\n")
    assert not Path("splits").exists()


def test_runs_of_a_sweep_have_their_own_files(command: Command, write_yaml: Callable[..., Path]) -> None:
    for seed in (1, 2):
        assert command("data", "--data.modulus", 7, "--seed_everything", seed, "--output", f"s{seed}")[0] == 0
    sweep = {"set": SEVEN | SMALL, "grid": {"data.splits": ["s1", "s2"]}}
    stack = stack_of(write_yaml(sweep, "files.yaml"))
    train(stack)
    whole = yaml.safe_load((Path("lightning_logs/files") / stack.configs[1]["run"] / "config.yaml").read_text())
    assert whole["data"]["splits"] == "s2"
    for number, config in enumerate(stack.configs):
        single = SEVEN["data"] | {"splits": f"s{number + 1}"}
        assert command("fit", "--config", write_yaml({"data": single} | SMALL, "one.yaml"), "--run", number)[0] == 0
        own, stacked = (
            load(path / "last.ckpt")
            for path in (Path(f"checkpoints/one/{number}"), Path("checkpoints/files") / config["run"])
        )
        assert own[ROWS_KEY] == stacked[ROWS_KEY]
        for name, weight in own["state_dict"].items():
            torch.testing.assert_close(stacked["state_dict"][name], weight)
    titles, tasks = identify_tasks(read_records("lightning_logs"))
    assert (set(titles), tasks.nunique()) == ({"x + y mod 7"}, 1), "a split is no task"
