"""Measures of groups in fit, on a saved checkpoint, and after an interruption."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]
TINY = [
    *("--model.network.layers", "1", "--model.network.width", "16", "--model.network.heads", "2"),
    *("--evaluation.every", "10", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"),
    *("--experiment", "e", "--data.batch_size", "8"),
]
S3 = ["--data", "PermutationDataModule", "--data.degree", "3", "--data.formula", "x / y"]
ASKED = [
    "--measures",
    "[{class_path: Irreps, irreps: [2-1, 1-1-1]}, IrrepLosses, {class_path: Cosets, largest_index: 3}]",
]


def rows(run: str) -> list[dict[str, str]]:
    with Path(f"lightning_logs/e/{run}/metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_saved_checkpoint_measures_as_it_did_in_training_and_goes_on(command: Command) -> None:
    for run, steps in (("whole", "30"), ("parts", "20")):
        status, _, error = command("fit", *S3, *TINY, *ASKED, "--run", run, "--trainer.max_steps", steps)
        assert (status, error) == (0, "")
    assert command("validate", "--ckpt_path", "checkpoints/e/parts/last.ckpt")[0] == 0
    afterwards = json.loads(Path("lightning_logs/e/parts/validate.json").read_text())
    during = rows("parts")[-1]
    keys = [key for key in during if key.split("/")[0] in ("irreps", "cosets")]
    assert {"irreps/embedding_2-1", "irreps/excluded_loss_1-1-1", "cosets/x", "cosets/y_3a"} <= set(keys)
    for key in keys:
        assert afterwards[key] == pytest.approx(float(during[key]), rel=1e-6)
    more = ["--experiment", "e", "--run", "parts", "--ckpt_path", "last", "--trainer.max_steps", "30"]
    assert command("fit", *more)[0] == 0
    assert rows("parts") == rows("whole")


def test_division_is_measured_in_the_logarithm_by_default(command: Command) -> None:
    given = ["--data.modulus", "7", "--data.formula", "x / y", *TINY, "--trainer.max_steps", "10"]
    assert command("fit", *given, "--measures", "[Progress, {class_path: Fourier, top: 9}]")[::2] == (0, "")
    last = rows("0")[-1]
    assert float(last["progress/restricted_loss"]) > 0
    assert [key for key in last if key.startswith("fourier/embedding_key")] == [
        f"fourier/embedding_key_{place}" for place in (1, 2, 3)
    ]  # of 6 logarithms
    assert "fourier/neurons_key_3" in last


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--data.formula", "x**2 + x*y", "--measures", "Progress"], "a change of variables makes an addition mod n"),
        (["--data.formula", "x**2 + x*y", "--measures", "Irreps"], "a product in a group"),
        (["--measures", "Cosets", "--data.modulus", "7"], "no subgroup of 2 to 12 cosets"),
        (
            ["--measures", "{class_path: IrrepLosses, irreps: [0]}", "--data.modulus", "7"],
            "expected are some of 1",
        ),
        (["--measures", "{class_path: Irreps, ireps: [1]}"], "irreps"),
        ([*S3, "--measures", "Fourier"], "needs integers mod p"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_nothing_is_written(command: Command, given, told) -> None:
    status, _, error = command("fit", *TINY, *given)
    assert status == 2
    assert told in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("lightning_logs").exists()
