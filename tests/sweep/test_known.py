"""Runs that an archive holds are done; those of it that failed, or are not over, are trained."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import leave_out_images
from small_sweeps import EASY, as_the_program, results, tables, write
from training_here import train_here

from grok_lightning.__main__ import main
from grok_lightning.records.archive import read_archive, write_archive
from grok_lightning.report import making
from grok_lightning.sweep.plan.pending import find_standing
from grok_lightning.sweep.plan.runs import read_plan


@pytest.fixture
def sweep(command, monkeypatch):
    train_here(monkeypatch)
    monkeypatch.setattr(making, "list_drawings", lambda *_: iter(()))
    return lambda *arguments: command("sweep", *arguments, *(("--events", "off") if arguments[0] != "status" else ()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A directory with two of three runs in ``trained``, and their report in ``known``."""
    directory = tmp_path_factory.mktemp("known")
    with pytest.MonkeyPatch.context() as patch, as_the_program():
        patch.chdir(directory)
        leave_out_images(patch)
        train_here(patch)
        patch.setattr(making, "list_drawings", lambda *_: iter(()))
        write("known", {"seed_everything": [0, 1]}, **EASY)
        assert main(["sweep", "known.yaml", "--events", "off"]) == 0
        assert main(["report", "known", "--out", "known"]) == 0
        Path("lightning_logs/known").rename("trained")
        write("known", {"seed_everything": [0, 1, 2]}, **EASY)
    return directory


@pytest.fixture
def known(trained, sweep, tmp_path) -> pd.DataFrame:
    """The archive of two of three runs, and in the working directory nothing else of them."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return read_archive(Path("known/runs.parquet"))[0]


def test_known_runs_are_done_and_others_are_trained(known, sweep):
    _, told, _ = sweep("known.yaml", "--known", "known/runs.parquet", "--dry_run")
    assert "2 over, 1 to do" in told
    status, told, _ = sweep("known.yaml", "--known", "known/runs.parquet")
    assert status == 0
    (trained,) = results("known").values()
    assert trained["config"]["seed_everything"] == 2
    assert trained["config_hash"] not in set(known["config_hash"])
    _, told, _ = sweep("status", "known.yaml", "--known", "known/runs.parquet")
    assert "3 runs, 3 " in told
    _, told, _ = sweep("status", "known.yaml")
    assert "2 not done" in told


@pytest.mark.slow
def test_a_report_of_the_rest_and_the_archive_is_that_of_all(command, known, sweep):
    sweep("known.yaml", "--known", "known/runs.parquet")
    assert command("report", "known", "known/runs.parquet", "--out", "both")[0] == 0
    assert len(tables("known")) == 1
    sweep("known.yaml")
    assert command("report", "known", "--out", "whole")[0] == 0
    both, whole = (pd.read_csv(f"{out}/conditions.csv") for out in ("both", "whole"))
    pd.testing.assert_frame_equal(both, whole)
    assert whole[["n", "missing"]].to_numpy().tolist() == [[3, 0]]


@pytest.mark.parametrize("state", ["failed", pytest.param("unfinished", marks=pytest.mark.slow)])
def test_runs_of_an_archive_that_are_not_over_are_trained(known, sweep, state):
    known.loc[0, "status"] = state
    write_archive(Path("changed.parquet"), known, read_archive(Path("known/runs.parquet"))[1])
    assert sweep("known.yaml", "--known", "changed.parquet")[0] == 0
    assert sorted(result["config"]["seed_everything"] for result in results("known").values()) == [0, 2]


def test_how_many_runs_an_archive_has_is_told(known, sweep):
    _, _, err = sweep("known.yaml", "--known", "known/runs.parquet", "--dry_run")
    assert err == "known: --known has 2 of 3 planned runs\n"


def test_runs_of_an_archive_that_fit_but_for_their_precision_are_named(known, sweep):
    write("known", {"seed_everything": [0, 1, 2]}, **EASY, **{"trainer.precision": "bf16-mixed"})
    _, told, err = sweep("known.yaml", "--known", "known/runs.parquet", "--dry_run")
    assert "0 over, 3 to do" in told
    only = "2 more only with trainer.precision 32-true: write that into the file to count them"
    assert f"known: --known has 0 of 3 planned runs; {only}\n" in err


def test_the_hash_in_another_precision_is_that_of_the_run_with_it(known):
    plans = {}
    for precision in ("32-true", "bf16-mixed"):
        path = write("known", {"model.optimizer.lr": [0.01, 0.02]}, **{"trainer.precision": precision})
        plans[precision] = read_plan(path)
    for precision, plan in plans.items():
        for other in plans.values():
            found = [other.blocks[run.block].hash_in(precision, run.leaves) for run in other.runs]
            assert found == [run.hash for run in plan.runs]


def fail(path: Path) -> None:
    """Makes a record that of a failed run."""
    path.mkdir(exist_ok=True)
    (result,) = results("known").values()
    text = json.dumps(result | {"status": "failed", "error": "it broke", "traceback": ""})
    (path / "result.json").write_text(text)


def test_a_finished_run_of_an_archive_outranks_an_own_failed_one(known, sweep):
    write("known", {"seed_everything": [0]}, **EASY)
    assert sweep("known.yaml")[0] == 0
    fail(next(Path("lightning_logs/known").glob("seed=0*")))
    assert sweep("known.yaml")[0] == 1
    assert "1 runs, 1 failed" in sweep("status", "known.yaml")[1]
    status, _, err = sweep("known.yaml", "--known", "known/runs.parquet")
    assert (status, "failed" in err) == (0, False)


def test_a_finished_run_of_the_same_hash_outranks_a_failed_one_that_sorts_first(known, sweep):
    write("known", {"seed_everything": [0]}, **EASY)
    assert sweep("known.yaml")[0] == 0
    (own,) = Path("lightning_logs/known").glob("seed=0*")
    fitted = own.rename(own.with_name("t"))
    fail(own)
    assert sweep("known.yaml")[0] == 0
    assert find_standing(read_plan("known.yaml")).names == {own.name[-16:]: fitted.name}


@pytest.mark.slow
def test_an_archive_of_unfinished_runs_alone_knows_none(command, known, sweep):
    for path in Path("trained").glob("*/result.json"):
        path.unlink()
    assert command("report", "trained", "--out", "open")[0] == 0
    assert sweep("known.yaml", "--known", "open/runs.parquet")[0] == 0
    assert len(results("known")) == 3


def test_what_is_no_archive_is_refused(command, sweep):
    write("known", {"seed_everything": [0]}, **EASY)
    Path("text.parquet").write_text("no parquet")
    for name in ("text.parquet", "nothing.parquet"):
        status, _, error = sweep("known.yaml", "--known", name)
        assert (status, error.count("\n")) == (2, 1)
        assert name in error
    assert error.startswith("grok-lightning: --known is 'nothing.parquet', and there is no such file")
    assert not Path("lightning_logs").exists()
