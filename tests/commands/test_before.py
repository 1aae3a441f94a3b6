"""Runs made by an earlier state of this project (commit 86984ce): their records and checkpoints are still good."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from grok_lightning import load_run
from grok_lightning.options.parsing import recorded_run, resolve
from grok_lightning.records.record import read_metrics
from grok_lightning.records.results import read_records

Command = Callable[..., tuple[int, str, str]]
BEFORE = Path(__file__).parent / "before"
RUNS = ["gru", "mlp", "transformer"]


def logs(run: str) -> Path:
    return Path("lightning_logs/before") / run


@pytest.fixture(autouse=True)
def runs_from_before(command: Command) -> None:
    shutil.copytree(BEFORE, ".", dirs_exist_ok=True)


def test_their_records_are_read() -> None:
    table = read_records("lightning_logs/before")
    assert sorted(table["config.run"]) == RUNS
    assert set(table["status"]) == {"finished"}
    assert set(table["steps"]) == {60}


@pytest.mark.parametrize("run", RUNS)
def test_their_options_still_mean_the_same_run(run: str) -> None:
    config = resolve(["fit", "--config", str(logs(run) / "config.yaml"), "--run", "again"])
    before = read_records("lightning_logs/before").set_index("config.run").loc[run]
    assert recorded_run(config).hash == before["config_hash"]


@pytest.mark.parametrize("run", RUNS)
def test_their_checkpoints_load_and_training_goes_on_as_it_did(command: Command, run: str) -> None:
    loaded = load_run(f"checkpoints/before/{run}/step=30.ckpt")
    assert loaded.step == 30
    rows = read_metrics(logs(run))
    assert command("fit", "--ckpt_path", f"checkpoints/before/{run}/step=30.ckpt")[0] == 0
    again = read_metrics(logs(run))
    assert [row["step"] for row in again] == [row["step"] for row in rows]
    # to the bit on one machine; other processors add up in another order
    for row, wanted in zip(again, rows, strict=True):
        assert row == pytest.approx(wanted, rel=1e-4, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("run", RUNS)
def test_a_fresh_run_of_their_options_leaves_the_same_numbers(command: Command, run: str) -> None:
    assert command("fit", "--config", logs(run) / "config.yaml", "--run", "again")[0] == 0
    with (logs("again") / "metrics.csv").open() as file, (logs(run) / "metrics.csv").open() as wanted:
        assert next(csv.reader(file)) == next(csv.reader(wanted))
    for row, wanted_row in zip(read_metrics(logs("again")), read_metrics(logs(run)), strict=True):
        assert row == pytest.approx(wanted_row, rel=1e-4, abs=1e-6, nan_ok=True)
