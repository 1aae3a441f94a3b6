"""validate, test, predict and generate need only a checkpoint."""

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import TINY

from grok_lightning.module import GrokModule
from grok_lightning.records.checkpoint import CONFIG_KEY, load, save

Command = Callable[..., tuple[int, str, str]]
Fit = Callable[..., None]
CHECKPOINT = "checkpoints/e/a/last.ckpt"


@pytest.fixture
def trained(fitted: Fit) -> Fit:
    common = ["--experiment", "e", "--run", "a", "--trainer.max_steps", "40", "--data.train_fraction", "0.6"]
    return partial(fitted, *TINY, *common)


def test_validate_repeats_the_last_evaluation(command: Command, trained: Fit) -> None:
    trained()
    status, out, err = command("validate", "--ckpt_path", CHECKPOINT, "--trainer.accelerator", "cpu")
    assert (status, err) == (0, "")
    found = json.loads(Path("lightning_logs/e/a/validate.json").read_text())
    final = json.loads(Path("lightning_logs/e/a/result.json").read_text())["final"]
    assert found["val/acc"] == final["val/acc"]
    assert found["val/loss"] == pytest.approx(final["val/loss"])
    assert f"val   accuracy {final['val/acc']:.2%}" in out
    assert Path("lightning_logs/e/a/config-validate.yaml").exists()


@pytest.mark.parametrize(("name", "more"), [("validate", []), ("predict", ["--output", "p.csv"])])
def test_last_is_the_newest_checkpoint_of_finished_runs_too(
    command: Command, trained: Fit, name: str, more: list[str]
) -> None:
    trained()
    crashed = Path("checkpoints/e/b/last.ckpt")
    crashed.parent.mkdir()
    shutil.copy(CHECKPOINT, crashed)  # of a run that crashed, and is the older one
    os.utime(crashed, (1, 1))
    status, out, err = command(name, "--experiment", "e", "--ckpt_path", "last", *more)
    assert (status, err) == (0, "")
    assert f"checkpoint: {CHECKPOINT} (step 40)\n" in out
    status, _, err = command(name, "--experiment", "other", "--ckpt_path", "last", *more)
    assert (status, err.count("\n")) == (2, 1)
    assert "experiment 'other' has no run with a checkpoint last.ckpt in 'checkpoints/other'" in err


def test_test_covers_the_test_rows_of_the_run_not_of_the_defaults(command: Command, trained: Fit) -> None:
    trained("--data.val_fraction", "0.2", "--data.formula", "x * y")
    status, out, err = command("test", "--ckpt_path", CHECKPOINT, "--trainer.accelerator", "cpu")
    assert (status, err) == (0, "")
    assert "of 25)" in out
    command("predict", "--ckpt_path", CHECKPOINT, "--split", "test", "--output", "p.csv")
    with Path("p.csv").open() as file:
        rows = list(csv.DictReader(file))
    accuracy = json.loads(Path("lightning_logs/e/a/test.json").read_text())["test/acc"]
    assert sum(row["correct"] == "True" for row in rows) == round(accuracy * 25)


def test_test_without_test_rows_is_refused(command: Command, trained: Fit) -> None:
    trained()
    status, _, err = command("test", "--ckpt_path", CHECKPOINT)
    assert (status, err.count("\n")) == (2, 1)
    assert "has no test rows" in err
    assert not Path("lightning_logs/e/a/config-test.yaml").exists()


def test_predict_writes_every_equation_once(command: Command, trained: Fit) -> None:
    trained("--data.val_fraction", "0.2", "--data.formula", "x * y")
    status, _, err = command("predict", "--ckpt_path", CHECKPOINT, "--output", "out/all.csv")
    assert (status, err) == (0, "")
    with Path("out/all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["x", "y", "answer", "prediction", "probability", "correct", "split"]
    assert len({(row["x"], row["y"]) for row in rows}) == len(rows) == 121
    assert all(int(row["answer"]) == int(row["x"]) * int(row["y"]) % 11 for row in rows)
    assert all((row["answer"] == row["prediction"]) == (row["correct"] == "True") for row in rows)
    assert [sum(row["split"] == name for row in rows) for name in ("train", "val", "test")] == [72, 24, 25]
    assert all(0 < float(row["probability"]) <= 1 for row in rows)


def test_a_checkpoint_alone_in_another_place_is_enough(command: Command, trained: Fit, tmp_path: Path) -> None:
    trained()
    shutil.copy(CHECKPOINT, tmp_path / "alone.ckpt")
    shutil.rmtree("checkpoints")
    shutil.rmtree("lightning_logs")
    status, out, _ = command("generate", "alone.ckpt", "9+7=", "3 5")
    assert status == 0
    assert [line.rsplit(" ", 1)[0] for line in out.splitlines()] == ["9+7=", "3 5 ="]
    assert command("validate", "--ckpt_path", "alone.ckpt")[0] == 0


def test_generate_agrees_with_predict_and_samples_by_temperature(command: Command, trained: Fit) -> None:
    trained()
    command("predict", "--ckpt_path", CHECKPOINT, "--output", "p.csv")
    with Path("p.csv").open() as file:
        rows = list(csv.DictReader(file))[:5]
    prompts = [f"{row['x']}+{row['y']}=" for row in rows]
    _, out, _ = command("generate", CHECKPOINT, *prompts)
    assert [line.rsplit(" ", 1)[1] for line in out.splitlines()] == [row["prediction"] for row in rows]
    _, cold, _ = command("generate", CHECKPOINT, *prompts, "--temperature", "5", "--top-k", "1")
    assert cold == out
    hot = {command("generate", CHECKPOINT, prompts[0], "--temperature=50", "--seed", seed)[1] for seed in range(8)}
    assert len(hot) > 1


NO_PROMPTS = [
    (("11+1=",), "'11'"),
    (("1+2+3=",), "3 operands"),
    (("1*2=",), "'*'"),
    (("1+1=", "--temperature", "-1"), "--temperature is -1"),
    (("1+1=", "--top-k", "0"), "--top_k is 0"),
    (("1+1=", "--max-new-tokens", "0"), "--max_new_tokens is 0"),
    (("1+1=", "--max-new-tokens", "x"), "max_new_tokens"),
]


def test_generate_refuses_in_one_line(command: Command, trained: Fit) -> None:
    trained()
    for words, said in NO_PROMPTS:
        status, out, err = command("generate", CHECKPOINT, *words)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert said in err


def test_an_output_that_cannot_be_written_is_refused_at_once(command: Command, trained: Fit) -> None:
    trained()
    for output in ("/etc/passwd/x.csv", "checkpoints", "."):
        status, out, err = command("predict", "--ckpt_path", CHECKPOINT, "--output", output)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "--output" in err
        assert not Path("lightning_logs/e/a/config-predict.yaml").exists()


def test_a_checkpoint_of_odd_content_is_refused(command: Command, trained: Fit) -> None:
    trained()
    for change in ({"state_dict": {}}, {CONFIG_KEY: {}}, {CONFIG_KEY: None}):
        save(load(Path(CHECKPOINT)) | change, Path("odd.ckpt"))
        for words in (["validate", "--ckpt_path", "odd.ckpt"], ["generate", "odd.ckpt", "1+1="]):
            status, out, err = command(*words)
            assert (status, out, err.count("\n")) == (2, "", 1), err


def test_options_that_contradict_the_checkpoint_are_refused(command: Command, trained: Fit) -> None:
    trained()
    for option, value in (("data.modulus", "13"), ("data.train_fraction", "0.5"), ("model.network.width", "32")):
        status, _, err = command("validate", "--ckpt_path", CHECKPOINT, f"--{option}", value)
        assert (status, err.count("\n")) == (2, 1)
        assert option in err
        assert value in err


@pytest.mark.parametrize("name", ["validate", "predict"])
def test_an_interrupted_evaluation_says_so(
    command: Command, trained: Fit, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    trained()
    monkeypatch.setattr(GrokModule, "predict_step" if name == "predict" else "validation_step", interrupt)
    before = signal.getsignal(signal.SIGINT)
    status, out, err = command(name, "--ckpt_path", CHECKPOINT)
    assert (status, out, err.strip().count("\n")) == (130, "", 0)
    assert "grok-lightning: interrupted; " in err
    assert "not written" in err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_folder_stands_for_its_last_checkpoint(fitted: Callable[..., None], command: Command) -> None:
    fitted(*TINY, "--trainer.max_steps", "4", "--run", "1")
    folder = Path("checkpoints/default/1")
    assert command("validate", "--ckpt_path", folder) == command("validate", "--ckpt_path", folder / "last.ckpt")
    status, _, err = command("validate", "--ckpt_path", "lightning_logs")
    assert (status, err) == (
        2,
        "grok-lightning: --ckpt_path 'lightning_logs' is a folder without last.ckpt; name a checkpoint file\n",
    )
