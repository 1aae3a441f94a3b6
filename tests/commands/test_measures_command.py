"""Measures on the evaluation schedule, and on a saved checkpoint afterwards."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY

Command = Callable[..., tuple[int, str, str]]
ASKED = ["--measures", "[Symmetry, Collapse, Rank, LogitScale, {class_path: Fourier, top: 2}, Progress]"]
RUN = ["--experiment", "e", "--run", "a"]


def last_row(run: str) -> dict[str, str]:
    with Path(f"lightning_logs/e/{run}/metrics.csv").open() as file:
        return list(csv.DictReader(file))[-1]


def test_a_saved_checkpoint_measures_as_it_did_in_training(command: Command) -> None:
    assert command("fit", *TINY, *RUN, *ASKED, "--trainer.max_steps", "20")[::2] == (0, "")
    during = last_row("a")
    assert {
        "symmetry/mirrored_acc",
        "collapse/zero_loss",
        "rank/embedding",
        "logits/scale",
        "fourier/embedding_gini",
    } <= (during.keys())
    assert {"fourier/embedding_key_2", "progress/excluded_loss"} <= during.keys()
    assert "fourier/embedding_key_3" not in during
    assert command("validate", "--ckpt_path", "checkpoints/e/a/last.ckpt")[0] == 0
    afterwards = json.loads(Path("lightning_logs/e/a/validate.json").read_text())
    assert float(during["val/loss"]) == pytest.approx(afterwards["val/loss"], rel=1e-6)
    for key in (name for name in during if name.split("/")[0] in ("symmetry", "rank", "logits", "fourier", "progress")):
        assert afterwards[key] == pytest.approx(float(during[key]), rel=1e-6)


def test_what_was_not_measured_in_training_can_be_measured_later(command: Command) -> None:
    assert command("fit", *TINY, *RUN, "--trainer.max_steps", "10")[0] == 0
    assert not any(key.startswith("rank/") for key in last_row("a"))
    assert command("validate", "--ckpt_path", "checkpoints/e/a/last.ckpt", "--measures", "Rank")[::2] == (0, "")
    afterwards = json.loads(Path("lightning_logs/e/a/validate.json").read_text())
    assert 1 <= afterwards["rank/embedding"] <= 11


@pytest.mark.slow
def test_a_resumed_run_keeps_its_measures(command: Command) -> None:
    """Its record goes on with the same columns."""
    assert command("fit", *TINY, *RUN, "--measures", "Rank", "--trainer.max_steps", "10")[0] == 0
    more = [*RUN, "--ckpt_path", "last", "--trainer.max_steps", "20"]
    status, _, err = command("fit", *more, "--measures", "[Rank, Collapse]")
    assert status == 2
    assert "--measures is" in err
    assert command("fit", *more)[::2] == (0, "")
    assert float(last_row("a")["rank/embedding"]) >= 1


def test_measures_change_nothing_in_training(command: Command) -> None:
    for run, measures in (("a", ASKED), ("b", [])):
        assert command("fit", *TINY, *RUN[:3], run, *measures, "--trainer.max_steps", "20")[0] == 0
    measured, plain = last_row("a"), last_row("b")
    assert {key: measured[key] for key in plain} == plain
    hashes = [json.loads(Path(f"lightning_logs/e/{run}/result.json").read_text())["config_hash"] for run in "ab"]
    assert hashes[0] == hashes[1]


@pytest.mark.slow
def test_measures_are_added_to_those_of_a_checkpoint(command: Command) -> None:
    assert (
        command("fit", *TINY, *RUN, "--measures", "{class_path: Fourier, top: 2}", "--trainer.max_steps", "5")[0] == 0
    )
    checkpoint = ["--ckpt_path", "checkpoints/e/a/last.ckpt"]
    assert command("validate", *checkpoint, "--measures+=Rank")[0] == 0
    afterwards = json.loads(Path("lightning_logs/e/a/validate.json").read_text())
    assert {"rank/embedding", "fourier/embedding_key_2"} <= afterwards.keys()
    assert command("validate", *checkpoint, "--measures.top", "1")[0] == 0
    afterwards = json.loads(Path("lightning_logs/e/a/validate.json").read_text())
    assert "fourier/embedding_key_2" not in afterwards
    assert command("fit", *RUN, "--ckpt_path", "last", "--trainer.max_steps", "8", "--measures.top", "2")[0] == 0
