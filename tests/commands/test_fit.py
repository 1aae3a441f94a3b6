"""``fit`` through the real command: what a run leaves, and how it ends."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY

from grok_lightning.records.checkpoint import CONFIG_KEY, load
from grok_lightning.records.results import read_records
from grok_lightning.run import load_run

Command = Callable[..., tuple[int, str, str]]
RESULT_FIELDS = [
    *("status", "steps", "budget", "threshold", "memorize_step", "memorize_after", "grok_step", "grok_after"),
    *("sustained_grok_step", "final", "best", "commutative_fraction", "seconds", "steps_per_second", "device"),
    *("precision", "versions", "config", "config_hash"),
]


def fit(command: Command, *options: object, run: str = "a", steps: int = 30) -> tuple[int, str, str]:
    return command("fit", *TINY, "--experiment", "e", "--run", run, "--trainer.max_steps", steps, *options)


def result(run: str = "a") -> dict:
    return json.loads(Path(f"lightning_logs/e/{run}/result.json").read_text())


def metrics(run: str = "a") -> list[dict[str, str]]:
    with Path(f"lightning_logs/e/{run}/metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_its_record(command: Command, tmp_path: Path) -> None:
    status, out, err = fit(command, "--checkpoint.steps", "[7, 20]")
    assert (status, err) == (0, "")
    assert "within 30 steps" in out
    names = {path.name for path in Path("lightning_logs/e/a").iterdir() if "tfevents" not in path.name}
    assert names == {"config.yaml", "metrics.csv", "result.json", "curves.png"}
    assert {path.name for path in Path("checkpoints/e/a").iterdir()} == {"last.ckpt", "step=7.ckpt", "step=20.ckpt"}
    assert [load(Path(f"checkpoints/e/a/step={n}.ckpt"))["global_step"] for n in (7, 20)] == [7, 20]
    found = result()
    assert [key for key in found if key in RESULT_FIELDS] == RESULT_FIELDS
    assert (found["status"], found["steps"], found["budget"], found["grok_step"]) == ("finished", 30, 30, None)
    rows = metrics()
    assert [rows[0]["step"], rows[-1]["step"]] == ["0", "30"]
    assert {key: float(value) for key, value in rows[-1].items() if key != "step"} == found["final"]
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "norm/weights", "norm/gradient"} < set(rows[0])
    assert found["config"] == yaml.safe_load(Path("lightning_logs/e/a/config.yaml").read_text())
    assert found["config"] == load(Path("checkpoints/e/a/last.ckpt"))[CONFIG_KEY]
    assert found["config"]["data"]["modulus"] == 11
    assert (found["algebra"], found["algebra_identity"]) == ("mod 11", "IntegersMod(modulus=11)")
    assert [path.name for path in tmp_path.rglob("*") if path.name.startswith(".")] == [".locks"]


def test_runs_are_numbered_and_never_overwritten_unasked(command: Command) -> None:
    for _ in range(2):
        assert command("fit", *TINY, "--experiment", "e", "--trainer.max_steps", "2")[0] == 0
    assert sorted(path.name for path in Path("lightning_logs/e").iterdir()) == ["0", "1"]
    before = Path("lightning_logs/e/0/metrics.csv").read_bytes()
    status, _, err = fit(command, run="0")
    assert status == 2
    assert "exists already" in err
    assert Path("lightning_logs/e/0/metrics.csv").read_bytes() == before
    assert fit(command, "--overwrite", run="0")[0] == 0
    assert result("0")["steps"] == 30


def test_the_saved_config_repeats_the_run(command: Command) -> None:
    fit(command, "--data.formula", "x * y", "--model.optimizer.lr", "0.01", "--seed_everything", "5")
    status, _, err = command("fit", "--config", "lightning_logs/e/a/config.yaml", "--run", "b")
    assert (status, err) == (0, "")
    assert metrics("a") == metrics("b")
    assert result("a")["config_hash"] == result("b")["config_hash"]
    fit(command, "--data.formula", "x * y", "--model.optimizer.lr", "0.02", "--seed_everything", "5", run="c")
    assert result("c")["config_hash"] != result("a")["config_hash"]


def test_stops_some_evaluations_after_grokking_and_keeps_grok_checkpoint(command: Command) -> None:
    options = ["--data.formula", "0 * x + 0 * y", "--evaluation.stop_after", "2", "--evaluation.per_decade", "0"]
    status, out, _ = fit(command, *options, "--model.optimizer.lr", "0.01", steps=500)
    assert status == 0
    assert "grokked at step" in out
    found = result()
    assert found["status"] == "stopped"
    assert found["grok_step"] == found["sustained_grok_step"] == found["steps"] - 10
    assert load(Path("checkpoints/e/a/grok.ckpt"))["global_step"] == found["grok_step"]
    assert found["grok_after"] == found["grok_step"] - 10 or found["grok_step"] == 0
    assert load_run("checkpoints/e/a/grok.ckpt").after_grok == found["after_grok"]
    assert found["after_grok"]["evaluations"] == 1


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        pytest.param("none", set(), marks=pytest.mark.slow),
        ("grok", {"grok.ckpt"}),
        pytest.param("last", {"grok.ckpt", "last.ckpt"}, marks=pytest.mark.slow),
    ],
)
def test_keep_says_which_checkpoints_are_left(command: Command, keep: str, left: set[str]) -> None:
    fit(command, "--checkpoint.keep", keep, "--evaluation.threshold", "0.0001", steps=20)
    assert {path.name for path in Path("checkpoints/e/a").iterdir()} == left


def test_a_diverged_run_says_so(command: Command) -> None:
    status, _, err = fit(command, "--model.optimizer.lr", "1e30", "--model.warmup", "0")
    assert status == 3
    assert "diverged" in err
    assert err.count("\n") == 1
    found = result()
    assert found["status"] == "diverged"
    assert 0 < found["steps"] < 30
    assert found["grok_step"] is None


@pytest.mark.slow
def test_a_run_that_diverges_at_its_last_step_says_so(command: Command) -> None:
    options = ["--model.optimizer", "SGD", "--model.optimizer.lr", "1e30", "--model.warmup", "0"]
    assert fit(command, *options, steps=1)[0] == 3
    assert (result()["status"], result()["steps"]) == ("diverged", 1)


def test_print_config_shows_the_resolved_config_and_leaves_nothing(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command("fit", "--config", "addition", "--data.modulus", "13", "--print_config")
    assert ended.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["modulus"] == 13
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["fit", "--help"], ["fit", "--config", "x", "--data.help", "PermutationDataModule"]])
def test_help_ends_well(command: Command, tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command(*words)
    assert ended.value.code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_users_logger_and_callbacks_stand_beside_ours(command: Command) -> None:
    status, _, err = fit(
        command, "--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", "theirs",
        "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping", "--trainer.callbacks.monitor=val/loss",
        "--trainer.callbacks.patience=1", "--trainer.callbacks.mode=max", steps=300,
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert list(Path("theirs").rglob("metrics.csv"))
    assert [path for path in Path("lightning_logs/e/a").iterdir() if "tfevents" in path.name]
    assert result()["status"] == "stopped"


@pytest.mark.parametrize(
    "precision",
    ["bf16-mixed", *(pytest.param(name, marks=pytest.mark.slow) for name in ("32-true", "64-true", "bf16-true"))],
)
def test_precisions(command: Command, precision: str) -> None:
    assert fit(command, "--trainer.precision", precision)[0] == 0
    weights = load(Path("checkpoints/e/a/last.ckpt"))["state_dict"]["network.head.weight"]
    assert weights.dtype == {"64-true": torch.float64, "bf16-true": torch.bfloat16}.get(precision, torch.float32)
    assert result()["precision"] == precision


@pytest.mark.slow
def test_all_data_and_optimizer_classes_train(command: Command) -> None:
    plain = [option for pair in zip(TINY[::2], TINY[1::2], strict=True) if "modulus" not in pair[0] for option in pair]
    permutations = ["--data", "PermutationDataModule", "--data.degree", "3", "--data.formula", "x * y * x**-1"]
    status, _, err = command("fit", *plain, *permutations, "--experiment", "e", "--run", "s3", "--trainer.max_steps", 5)
    assert (status, err) == (0, "")
    status, _, err = fit(command, "--model.optimizer", "SGD", "--model.optimizer.momentum", "0.9")
    assert (status, err) == (0, "")
    assert result()["config"]["model"]["optimizer"]["weight_decay"] == 0


@pytest.mark.slow
def test_no_option_of_one_class_reaches_another(command: Command, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("model:\n  optimizer: {class_path: AdamW, lr: 0.5, weight_decay: 7}\n")
    status, _, err = fit(command, "--config", "base.yaml", "--model.optimizer", "SGD")
    assert (status, err) == (0, "")
    optimizer = result()["config"]["model"]["optimizer"]
    assert (optimizer["class_path"], optimizer["lr"], optimizer["weight_decay"]) == ("torch.optim.SGD", 1e-3, 0)


def test_read_records_and_load_run(command: Command) -> None:
    for seed in (0, 1):
        fit(command, "--seed_everything", seed, run=str(seed), steps=5)
    table = read_records("lightning_logs")
    assert sorted(table["config.seed_everything"]) == [0, 1]
    assert set(table["steps"]) == {5}
    run = load_run("checkpoints/e/0")
    tokens = run.data.tokens(run.operands_NK[:6])
    assert run.step == 5
    assert run.model(tokens, 1).shape == (1, 6, 1, 13)
    assert run.model.activations(tokens)["layers.0.attention.pattern"].shape == (1, 6, 2, 4, 4)


def test_dotted_keys_in_a_file_are_options(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("model.network.dropout: 0.3\ndata: {rows: 50, split_seed: 4}\ndata.train_rows: 20")
    with pytest.raises(SystemExit):
        command("fit", *TINY, "--config", "c.yaml", "--print_config")
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["network"]["dropout"] == 0.3
    assert [config["data"][name] for name in ("rows", "split_seed", "train_rows")] == [50, 4, 20]


@pytest.mark.slow
def test_leave_to_overwrite_is_not_inherited(command: Command) -> None:
    fit(command, "--overwrite")
    status, _, err = command("fit", "--config", "lightning_logs/e/a/config.yaml")
    assert status == 2
    assert "exists already" in err


@pytest.mark.parametrize(
    ("option", "name"), [("model.optimizer", "Muon"), ("model.filters", "Clip"), ("measures", "Rank")]
)
def test_the_help_of_a_class_is_asked_by_its_bare_name(
    command: Command, capsys: pytest.CaptureFixture[str], option: str, name: str
) -> None:
    for words in ([f"--{option}.help", name], [f"--{option}.help"]):
        with pytest.raises(SystemExit) as ended:
            command("fit", *words)
        assert ended.value.code == 0
        assert name in capsys.readouterr().out
