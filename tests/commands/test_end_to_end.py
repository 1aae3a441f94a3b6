"""One network from nothing to generalization through the real command: trained, resumed, tested, asked."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., tuple[int, str, str]]
RUN = ["--experiment", "e", "--run", "a"]
SPEEDRUN = ["--config", "speedrun", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
CHECKPOINT = "checkpoints/e/a/last.ckpt"


def test_a_network_groks_and_answers_what_it_was_never_shown(command: Command) -> None:
    status, out, err = command("fit", *SPEEDRUN, *RUN, "--data.val_fraction", "0.3", "--trainer.max_steps", 1)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith("neither memorized nor grokked within 1 steps: train ")
    status, out, err = command("fit", *RUN, "--ckpt_path", "last", "--trainer.max_steps", 100)
    assert (status, err) == (0, "")
    assert "grokked at step" in out
    found = json.loads(Path("lightning_logs/e/a/result.json").read_text())
    assert found["status"] == "stopped"
    assert 1 < found["grok_step"] < found["steps"] < 100

    assert command("test", "--ckpt_path", CHECKPOINT)[::2] == (0, "")
    accuracy = json.loads(Path("lightning_logs/e/a/test.json").read_text())["test/acc"]
    assert accuracy > 0.99

    assert command("predict", "--ckpt_path", CHECKPOINT, "--split", "test", "--output", "p.csv")[::2] == (0, "")
    with Path("p.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = [row for row in rows if int(row["prediction"]) == (int(row["x"]) + int(row["y"])) % 97]
    assert len(right) / len(rows) == accuracy

    status, out, err = command("generate", CHECKPOINT, *(f"{row['x']} {row['y']}" for row in right[:20]))
    assert (status, err) == (0, "")
    assert [line.split()[-1] for line in out.splitlines()] == [row["answer"] for row in right[:20]]
