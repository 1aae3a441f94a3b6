"""What a run leaves on disk is never lost, never invented, and can always be finished."""

import errno
import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from tensorboard.summary.writer.record_writer import RecordWriter

from grok_lightning import Experiment, UserError, fit
from grok_lightning.callbacks import checkpoints, measures, recorder
from grok_lightning.records import checkpoint as checkpoint_files
from grok_lightning.records.checkpoint import EVALUATIONS_KEY, load, save
from grok_lightning.records.locks import locks_of
from grok_lightning.records.record import read_metrics

Command = Callable[..., tuple[int, str, str]]
Fit = Callable[..., None]
LOGS, SAVED = Path("lightning_logs/e/a"), Path("checkpoints/e/a")
LAST = ["--experiment", "e", "--run", "a", "--ckpt_path", "last"]
EASY = ["--data.formula", "0 * x + 0 * y", "--evaluation.stop_after", "2", "--model.optimizer.lr", "0.01"]


@pytest.fixture
def trained(fitted: Fit) -> Fit:
    return partial(fitted, *TINY, "--experiment", "e", "--run", "a", "--trainer.max_steps", "40")


def files(*leave_out: str) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in Path().rglob("*")
        if path.is_file() and path.name not in (".locks", *leave_out)
    }


def record() -> dict[str, Any]:
    result = json.loads((LOGS / "result.json").read_text())
    return {key: value for key, value in result.items() if key not in ("seconds", "steps_per_second")}


@contextmanager
def held(name: str) -> Iterator[None]:
    """A run is being trained, as a lock of another fit tells."""
    locks = locks_of(Path(), "e")
    assert locks.take(name)
    yield
    locks.release(name)


def take_after_check(monkeypatch: pytest.MonkeyPatch, run: str) -> None:
    """Has another process make a run when this one has just seen that there is none."""
    check = fit._refuse_claim

    def checked(*arguments: Any) -> None:
        check(*arguments)
        for directory in (Path("lightning_logs/e", run), Path("checkpoints/e", run)):
            directory.mkdir(parents=True)
            (directory / "theirs").touch()

    monkeypatch.setattr(fit, "_refuse_claim", checked)


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_run_made_after_the_check_is_not_touched(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    take_after_check(monkeypatch, "a")
    status, _, err = command("fit", *TINY, "--experiment", "e", "--run", "a")
    assert (status, err.count("\n")) == (2, 1)
    assert "--run 'a' of experiment 'e' has just been taken" in err
    assert files().keys() == {str(LOGS / "theirs"), str(SAVED / "theirs")}


def test_a_number_taken_after_the_check_is_raised(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everywhere: in the record, the checkpoint and the command to resume it with."""
    with monkeypatch.context() as patch:
        take_after_check(patch, "0")
        patch.setattr(measures.Measures, "take", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        status, _, err = command("fit", *TINY, "--experiment", "e", "--trainer.max_steps", 5)
    assert status == 143
    assert "fit --experiment e --run 1 --ckpt_path last" in err
    assert command("fit", "--experiment", "e", "--run", "1", "--ckpt_path", "last")[::2] == (0, "")
    logs = Path("lightning_logs/e/1")
    assert json.loads((logs / "result.json").read_text())["config"]["run"] == "1"
    assert load(Path("checkpoints/e/1/last.ckpt"))["global_step"] == 5
    assert [path.name for path in Path("lightning_logs/e/0").iterdir()] == ["theirs"]


def test_a_number_that_another_process_locks_is_raised(command: Command) -> None:
    with held("run 0"), held("run 1"):
        assert command("fit", *TINY, "--experiment", "e", "--trainer.max_steps", 5)[::2] == (0, "")
    assert [path.name for path in Path("lightning_logs/e").iterdir()] == ["2"]


def test_an_overwriting_fit_killed_before_it_began_loses_nothing(
    command: Command, trained: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained()
    before = files()

    def killed(*_: object) -> None:
        raise SystemExit

    overwrite = ["--experiment", "e", "--run", "a", "--trainer.max_steps", 5]
    with monkeypatch.context() as patch:
        patch.setattr(fit, "_save_config", killed)
        with pytest.raises(SystemExit):
            command("fit", *TINY, *overwrite, "--overwrite", "true")
    assert files() != before
    assert "is already at step 40" in command("fit", *LAST)[2]
    assert files() == before
    assert command("fit", *TINY, *overwrite, "--overwrite", "true")[0] == 0
    assert record()["steps"] == 5
    assert not list(Path().rglob(".replaced*"))


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_run_in_training_is_left_alone(command: Command, trained: Fit) -> None:
    trained()
    before = files()
    for options in ([*LAST, "--trainer.max_steps", 80], [*TINY, *LAST[:4], "--overwrite", "true"]):
        with held("run a"):
            status, _, err = command("fit", *options)
        assert (status, err.count("\n")) == (2, 1)
        assert "--run 'a' of experiment 'e' is being trained by another process" in err
        assert files() == before
    assert command("fit", *LAST, "--trainer.max_steps", 80)[0] == 0  # and the lock is free again


def test_a_checkpoint_that_has_changed_since_it_was_read_is_refused(
    command: Command, trained: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained()
    monkeypatch.setattr(fit, "load", lambda path: load(path) | {"global_step": 60})
    status, _, err = command("fit", *LAST, "--trainer.max_steps", 80)
    assert (status, err.count("\n")) == (2, 1)
    assert "has just been changed by another process" in err


def test_experiments_one_after_the_other_lock_and_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"experiment": "e", "modulus": 7, "max_steps": 3, "accelerator": "cpu", "network": "MLP"}
    first, second = Experiment(run="a", **options), Experiment(run="a", overwrite=True, **options)
    first.fit()
    with held("run a"), pytest.raises(UserError, match="is being trained by another process"):
        second.fit()
    assert second.run is None
    assert second.fit().step == 3


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], EASY], ids=["budget", "early"])
def test_a_run_killed_before_its_record_is_finished(command: Command, trained: Fit, options: list[str]) -> None:
    trained(*options)
    wanted, before = record(), files("result.json")
    assert wanted["status"] == ("stopped" if options else "finished")
    for name in ("result.json", "curves.png"):
        (LOGS / name).unlink()
    status, out, err = command("fit", "--experiment", "e", "--ckpt_path", "last")
    assert (status, err) == (0, "")
    assert "memorized" in out
    assert record() == wanted
    assert (LOGS / "metrics.csv").read_bytes() == before[str(LOGS / "metrics.csv")]
    assert (LOGS / "curves.png").exists()
    if not options:
        assert command("fit", *LAST)[0] == 2  # now there is nothing to do


def test_an_experiment_is_finished_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"experiment": "e", "modulus": 7, "max_steps": 3, "accelerator": "cpu", "network": "MLP"}
    Experiment(run="a", **options).fit()
    wanted = record()
    (LOGS / "result.json").unlink()
    assert Experiment(ckpt_path=str(SAVED / "last.ckpt"), experiment="e").fit().step == 3
    assert record() == wanted


PLACES: dict[str, tuple[object, str, int]] = {  # what is done when the signal comes, and how often it was done before
    "starting": (checkpoints.Checkpoints, "on_fit_start", 0),
    "evaluating at the start": (measures.Measures, "take", 0),
    "recording": (recorder.Recorder, "append", 2),
    "evaluating": (measures.Measures, "take", 3),
    "saving": (checkpoint_files, "write_durably", 0),
    "finishing": (recorder.Recorder, "write", 0),
}


@pytest.mark.parametrize(
    ("place", "signum"),
    [*((place, signal.SIGTERM) for place in PLACES), ("saving", signal.SIGHUP), ("evaluating", signal.SIGINT)],
)
def test_a_signal_is_honored_whatever_is_being_done(
    command: Command, trained: Fit, monkeypatch: pytest.MonkeyPatch, place: str, signum: signal.Signals
) -> None:
    options = [*TINY, "--experiment", "e", "--run", "a", "--trainer.max_steps", "40"]
    owner, name, left = PLACES[place]
    done = getattr(owner, name)

    def signaled(*arguments: Any, **others: Any) -> Any:
        nonlocal left
        left -= 1
        if left == -1:
            os.kill(os.getpid(), signum)
        return done(*arguments, **others)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, signaled)
        status, _, err = command("fit", *options)
    assert left < 0
    if place == "finishing":
        assert (status, err) == (0, "")
    else:
        assert status == 128 + signum
        assert err.startswith(f"stopped by {signum.name} at step ")
        assert command("fit", *LAST)[::2] == (0, "")
    found, metrics = record(), (LOGS / "metrics.csv").read_bytes()
    shutil.rmtree("lightning_logs")
    trained()
    assert (found, metrics) == (record(), (LOGS / "metrics.csv").read_bytes())


# --- the record -------------------------------------------------------------------------------------------------------


def remove_record() -> None:
    (LOGS / "metrics.csv").unlink()


def remove_rows() -> None:
    rows = (LOGS / "metrics.csv").read_text().splitlines(keepends=True)
    (LOGS / "metrics.csv").write_text("".join(rows[:3] + rows[5:]))


def remove_logs() -> None:
    shutil.rmtree("lightning_logs")


@pytest.mark.parametrize("damage", [remove_record, remove_rows, remove_logs])
def test_a_record_is_rebuilt_from_the_checkpoint(
    command: Command, trained: Fit, damage: Callable[[], None], tmp_path: Path
) -> None:
    trained("--checkpoint.steps", "[25]")
    metrics, wanted = (LOGS / "metrics.csv").read_bytes(), record()
    os.replace(SAVED / "step=25.ckpt", SAVED / "last.ckpt")
    (LOGS / "result.json").unlink()
    damage()
    assert command("fit", *LAST)[::2] == (0, "")
    assert (LOGS / "metrics.csv").read_bytes() == metrics
    assert record() == wanted


def test_a_lone_checkpoint_goes_on_in_another_place(
    command: Command, trained: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained("--checkpoint.steps", "[25]")
    metrics = (LOGS / "metrics.csv").read_bytes()
    Path("other").mkdir()
    shutil.copy(SAVED / "step=25.ckpt", "other/alone.ckpt")
    monkeypatch.chdir("other")
    assert command("validate", "--ckpt_path", "alone.ckpt")[0] == 0
    assert files().keys() == {*("alone.ckpt", "evaluations/e/a/config-validate.yaml", "evaluations/e/a/validate.json")}
    assert command("fit", "--ckpt_path", "alone.ckpt")[::2] == (0, "")
    assert (LOGS / "metrics.csv").read_bytes() == metrics
    assert record()["status"] == "finished"
    assert command("validate", "--ckpt_path", "alone.ckpt")[0] == 0
    assert (LOGS / "validate.json").exists()


def test_a_checkpoint_does_not_go_on_in_the_record_of_another_run(command: Command, trained: Fit) -> None:
    trained()
    shutil.copy(SAVED / "last.ckpt", "alone.ckpt")
    assert (
        command("fit", *TINY, *LAST[:4], "--overwrite", "true", "--seed_everything", 7, "--trainer.max_steps", 9)[0]
        == 0
    )
    before = files()
    status, _, err = command("fit", "--ckpt_path", "alone.ckpt", "--trainer.max_steps", 80)
    assert (status, err.count("\n")) == (2, 1)
    assert "holds another run, with seed_everything 7 instead of 0" in err
    assert files() == before
    assert command("validate", "--ckpt_path", "alone.ckpt")[0] == 0
    assert not (LOGS / "validate.json").exists()


def older(path: Path) -> None:
    """A checkpoint as it was before it held evaluations."""
    checkpoint = load(path)
    del checkpoint[EVALUATIONS_KEY]
    save(checkpoint, path)


def test_an_older_checkpoint_needs_its_record(command: Command, trained: Fit) -> None:
    trained("--checkpoint.steps", "[25]")
    metrics = (LOGS / "metrics.csv").read_bytes()
    os.replace(SAVED / "step=25.ckpt", SAVED / "last.ckpt")
    older(SAVED / "last.ckpt")
    (LOGS / "result.json").unlink()
    for damage, words in ((remove_rows, "lacks the evaluation at step 2"), (remove_record, "cannot be read (No such")):
        damage()
        before = files()
        status, _, err = command("fit", *LAST)
        assert (status, err.count("\n")) == (2, 1)
        assert words in err
        assert files() == before
    (LOGS / "metrics.csv").write_bytes(metrics)
    assert command("fit", *LAST)[::2] == (0, "")
    assert (LOGS / "metrics.csv").read_bytes() == metrics


COLUMNS = ["step", "train/acc", "train/loss", "val/acc", "val/loss"]


def table(columns: list[Any], *steps: float) -> dict[str, Any]:
    return {"columns": columns, "values": torch.tensor([[step] * len(columns) for step in steps])}


@pytest.mark.parametrize(
    "evaluations",
    [
        *(None, 3, [], [None], [{}], [{"columns": ["step"], "values": 3}]),
        *(
            [table(["step"], 1)],
            [table([*COLUMNS, "a,b"], 1)],
            [table([*COLUMNS, "step"], 1)],
            [table([*COLUMNS, 3], 1)],
        ),
        *([table(COLUMNS, 1), table(COLUMNS, 2)], [table(COLUMNS, 2, 1)], [table(COLUMNS, math.nan)]),
        [{"columns": COLUMNS, "values": torch.ones(2, 2, 5)}],
    ],
    ids=lambda found: repr(found)[:40],
)
def test_odd_evaluations_of_a_checkpoint_are_refused(command: Command, trained: Fit, evaluations: object) -> None:
    trained()
    save(load(SAVED / "last.ckpt") | {EVALUATIONS_KEY: evaluations}, SAVED / "last.ckpt")
    status, _, err = command("fit", *LAST, "--trainer.max_steps", 80)
    assert (status, err.count("\n")) == (2, 1)
    assert "its evaluations cannot be read" in err


def test_logs_removed_during_a_fit_are_written_again(
    command: Command, trained: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained()
    metrics = (LOGS / "metrics.csv").read_bytes()
    append = recorder.Recorder.append

    def appended(self: recorder.Recorder, trainer: Any) -> None:
        if trainer.global_step == 25:
            shutil.rmtree("lightning_logs")
        append(self, trainer)

    monkeypatch.setattr(recorder.Recorder, "append", appended)
    status, _, err = command(
        "fit", *TINY, *LAST[:4], "--overwrite", "true", "--trainer.max_steps", 40, "--trainer.logger", "false"
    )
    assert (status, err) == (0, "")
    assert (LOGS / "metrics.csv").read_bytes() == metrics


def test_a_source_tree_that_is_not_installed_records_its_runs(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(package: str) -> str:
        if package == "grok_lightning":
            raise metadata.PackageNotFoundError(package)
        return metadata.version(package)

    monkeypatch.setattr(recorder, "version", version)
    assert command("fit", *TINY, *LAST[:4], "--trainer.max_steps", 3)[0] == 0
    assert record()["versions"]["grok_lightning"] == "unknown"
    assert read_metrics(LOGS)[-1]["step"] == 3


def test_a_full_disk_in_tensorboards_thread_is_told_once(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    status, _, err = command("fit", *TINY, *LAST[:4], "--trainer.max_steps", 30)
    assert (status, err) == (
        1,
        "grok-lightning: not enough disk space on this machine; what was saved before is whole\n",
    )
