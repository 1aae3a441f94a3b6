"""Stopping anywhere and continuing equals never having stopped, to the bit."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY

from grok_lightning.callbacks.guards import StopSignals
from grok_lightning.module import GrokModule
from grok_lightning.records.checkpoint import load

Command = Callable[..., tuple[int, str, str]]
FULL = 40
DROPOUT = ["--model.network.dropout", "0.2", "--experiment", "e"]


def state(run: str) -> dict:
    checkpoint = load(Path(f"checkpoints/e/{run}/last.ckpt"))
    return {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}


def assert_same(one: object, two: object) -> None:
    if isinstance(one, dict) and isinstance(two, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, list | tuple) and isinstance(two, list | tuple):
        assert len(one) == len(two)
        for left, right in zip(one, two, strict=True):
            assert_same(left, right)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    else:
        assert one == two


def assert_as_if_never_stopped(run: str) -> None:
    metrics = [Path(f"lightning_logs/e/{name}/metrics.csv").read_bytes() for name in ("full", run)]
    assert metrics[0] == metrics[1]
    assert_same(state("full"), state(run))


@pytest.fixture
def full(command: Command, fitted: Callable[..., None]) -> Command:
    fitted(*TINY, *DROPOUT, "--run", "full", "--trainer.max_steps", FULL)
    return command


def test_budget_raised_again_and_again(full: Command) -> None:
    """From the first step, from one with an evaluation (10), from one without (11), and from the last but one."""
    options: list[object] = [*TINY, *DROPOUT, "--run", "part"]
    for budget in (1, 10, 11, 39, FULL):
        status, _, err = full("fit", *options, "--trainer.max_steps", budget)
        assert (status, err) == (0, "")
        options = ["--experiment", "e", "--run", "part", "--ckpt_path", "last"]
    assert_as_if_never_stopped("part")


@pytest.mark.parametrize("folder", ["elsewhere", "a b", "it's/one"])
def test_a_run_below_a_directory_of_its_own_is_resumed_there(command: Command, folder: str) -> None:
    options = ["--experiment", "e", "--run", "r", "--trainer.default_root_dir", folder]
    assert command("fit", *TINY, *options, "--trainer.max_steps", 4)[0] == 0
    status, _, err = command("fit", *options, "--ckpt_path", "last", "--trainer.max_steps", 8)
    assert (status, err) == (0, "")
    assert load(Path(folder, "checkpoints/e/r/last.ckpt"))["global_step"] == 8


def slowly(value: str) -> object:
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_every_precision_resumes_to_the_bit(command: Command, precision: str) -> None:
    options = [*TINY, *DROPOUT, "--trainer.precision", precision]
    assert command("fit", *options, "--run", "full", "--trainer.max_steps", FULL)[0] == 0
    assert command("fit", *options, "--run", "part", "--trainer.max_steps", 13)[0] == 0
    resume = ["--experiment", "e", "--run", "part", "--ckpt_path", "last", "--trainer.max_steps", FULL]
    assert command("fit", *resume)[0] == 0
    assert_as_if_never_stopped("part")


def test_another_precision_is_refused_on_resume(command: Command) -> None:
    assert command("fit", *TINY, *DROPOUT, "--run", "a", "--trainer.max_steps", 4)[0] == 0
    resume = ["--experiment", "e", "--run", "a", "--ckpt_path", "last", "--trainer.max_steps", 8]
    status, _, err = command("fit", *resume, "--trainer.precision", "64-true")
    assert status == 2
    assert err.startswith("grok-lightning: --trainer.precision is '64-true', but the checkpoint ")
    assert err.endswith(" was trained with '32-true'; leave the option out or start a fresh run\n")
    assert load(Path("checkpoints/e/a/last.ckpt"))["global_step"] == 4
    other = ["--ckpt_path", "checkpoints/e/a/last.ckpt", "--trainer.precision", "64-true"]
    assert command("validate", *other)[::2] == (0, "")
    assert command("fit", *resume, "--trainer.precision", "32-true")[::2] == (0, "")


@pytest.mark.slow
def test_signaled_again_and_again(full: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pending = [(10, 2), (20, 15), (30, 2)]  # a stop waits for the end of the steps between two evaluations

    def received(self: StopSignals) -> int:
        return pending[0][1] if pending and self.step >= pending[0][0] else 0

    monkeypatch.setattr(StopSignals, "received", property(received, lambda self, value: None), raising=False)
    monkeypatch.setattr(StopSignals, "step", 0, raising=False)
    count_steps(monkeypatch)
    options = [*TINY, *DROPOUT, "--run", "part", "--trainer.max_steps", FULL]
    while pending:
        stop, signum = pending[0]
        status, _, err = full("fit", *options)
        assert status == 128 + signum
        assert f"at step {stop}" in err
        assert "fit --experiment e --run part --ckpt_path last" in err
        assert not Path("lightning_logs/e/part/result.json").exists()
        pending.pop(0)
        options = ["--experiment", "e", "--ckpt_path", "last"]
    assert full("fit", *options)[0] == 0
    assert_as_if_never_stopped("part")


def count_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from grok_lightning.callbacks.checkpoints import Checkpoints

    original = Checkpoints._save_at_boundary

    def counted(self: Checkpoints, trainer: object) -> None:
        self.signals.step = trainer.global_step  # type: ignore[attr-defined]
        original(self, trainer)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoints, "_save_at_boundary", counted)


def test_killed_between_checkpoints(full: Command) -> None:
    """A killed run has rows and events beyond its checkpoint; they are dropped, and so is an unfinished line."""
    assert (
        full("fit", *TINY, *DROPOUT, "--run", "part", "--trainer.max_steps", FULL, "--checkpoint.steps", "[20]")[0] == 0
    )
    run = Path("lightning_logs/e/part")
    (run / "result.json").unlink()
    Path("checkpoints/e/part/step=20.ckpt").replace("checkpoints/e/part/last.ckpt")
    Path("checkpoints/e/part/.saving-123-last.ckpt").write_text("left by a kill")
    with (run / "metrics.csv").open("a") as file:
        file.write("41,0.5")
    status, _, err = full("fit", "--experiment", "e", "--ckpt_path", "last")
    assert (status, err) == (0, "")
    assert_as_if_never_stopped("part")
    assert not list(Path("checkpoints/e/part").glob(".saving*"))


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_interval_starts_over(full: Command) -> None:
    full("fit", *TINY, *DROPOUT, "--run", "part", "--trainer.max_steps", 1)
    full("fit", *TINY, *DROPOUT, "--run", "first", "--trainer.max_steps", FULL, "--checkpoint.every", FULL + 1)
    checkpoint = load(Path("checkpoints/e/part/last.ckpt"))
    assert checkpoint["global_step"] == 1


CONTRADICTIONS = [
    ("data.modulus", "13", "11"),
    ("data.formula", "x - y", "'x + y'"),
    ("model.optimizer.lr", "0.5", "0.001"),
    ("model.network.width", "32", "16"),
    ("seed_everything", "3", "0"),
    ("evaluation.every", "7", "10"),
    ("run", "other", "'full'"),
]


def test_what_contradicts_the_checkpoint_is_refused(full: Command) -> None:
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    checkpoint = "checkpoints/e/full/last.ckpt"
    for option, value, old in CONTRADICTIONS:
        status, _, err = full("fit", "--ckpt_path", checkpoint, "--trainer.max_steps", 100, f"--{option}", value)
        assert (status, err.count("\n")) == (2, 1)
        assert f"--{option}" in err
        assert value in err
        assert old in err
        assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_finished_run_needs_a_larger_budget(full: Command) -> None:
    status, _, err = full("fit", "--ckpt_path", "checkpoints/e/full/last.ckpt")
    assert status == 2
    assert "is already at step 40" in err


def test_the_same_config_again_is_no_contradiction(full: Command) -> None:
    checkpoint = "checkpoints/e/full/last.ckpt"
    status, _, err = full("fit", *TINY, *DROPOUT, "--run", "full", "--ckpt_path", checkpoint, "--trainer.max_steps", 45)
    assert (status, err) == (0, "")


FILTERS = [
    *("--model.filters", "[{class_path: GrokfastMean, window: 5}, GrokfastEMA, GradientNoise, OrthogonalGradient]"),
    *("--model.filters+=L2", "--model.filters+=Egalitarian", "--model.filters+=NormalizeColumns"),
    *("--model.filters+=Clip", "--model.filters.norm", "0.1"),
    *("--model.constraints", "[{class_path: ClipRows, max_norm: 0.5, initial_norm: 1}]"),
    *("--model.weight_norm", "{at_most: initial}"),
]
TRICKS = {  # many at once: each has a state or draws of its own that would show
    "transformer": [
        *(*TINY[4:10], *FILTERS, "--data.answer_noise", "0.2", "--model.loss_on", "equation"),
        *("--model.optimizer.decay", "jiggle", "--model.optimizer.update_noise", "0.1"),
    ],
    "LSTM": [
        *("--model.network", "LSTM", "--model.network.width", "8", "--data.tokenizer", "characters"),
        *("--model.optimizer.decay", "initial", "--model.weight_norm", "initial", "--model.loss", "stablemax"),
    ],
    "MLP": [
        *("--model.network", "MLP", "--model.network.width", "8"),
        *("--model.optimizer", "Muon", "--model.weight_noise", "0.01"),
    ],
    "GRU": ["--model.network", "GRU", "--model.network.width", "8"],
}


@pytest.mark.parametrize("name", ["transformer", slowly("LSTM"), slowly("MLP"), slowly("GRU")])
def test_every_model_and_trick_continues_where_it_stopped(command: Command, name: str) -> None:
    common = [*TINY[:4], *TINY[10:], *DROPOUT, *TRICKS[name]]
    assert command("fit", *common, "--run", "full", "--trainer.max_steps", "30")[0] == 0
    assert command("fit", *common, "--run", "part", "--trainer.max_steps", "17")[0] == 0
    resume = ["--experiment", "e", "--run", "part", "--ckpt_path", "last", "--trainer.max_steps", "30"]
    assert command("fit", *resume)[::2] == (0, "")
    assert_as_if_never_stopped("part")
    filters = [load(Path(f"checkpoints/e/{run}/last.ckpt"))["gradient_filters"] for run in ("full", "part")]
    assert_same(*filters)


EASILY = ["--experiment", "e", "--evaluation.threshold", "0.02", "--evaluation.per_decade", 0, "--evaluation.every", 5]


def test_a_run_that_its_grok_has_ended_goes_on_to_a_later_end(command: Command) -> None:
    assert command("fit", *TINY, *EASILY, "--run", "full", "--trainer.max_steps", FULL)[0] == 0
    stopped = ["--run", "stopped", "--evaluation.stop_after", 2]
    assert command("fit", *TINY, *EASILY, *stopped, "--trainer.max_steps", FULL)[0] == 0
    checkpoint = ["--ckpt_path", "checkpoints/e/stopped/last.ckpt"]
    step = load(Path(checkpoint[1]))["global_step"]
    assert step < FULL - 10
    status, _, err = command("fit", *checkpoint)
    assert (status, err.count("\n")) == (2, 1)
    assert f"ended at step {step} by evaluation.stop_after 2; --evaluation.stop_after 0 trains it" in err
    assert "was trained with 2" in command("fit", *checkpoint, "--evaluation.stop_after", 1)[2]
    assert command("fit", *checkpoint, "--evaluation.stop_after", 3)[0] == 0
    assert load(Path(checkpoint[1]))["global_step"] == step + 5
    assert command("fit", *checkpoint, "--evaluation.stop_after", 0)[0] == 0
    assert_as_if_never_stopped("stopped")


def test_a_run_that_a_callback_has_stopped_goes_on_without_it(command: Command) -> None:
    """Whatever its ``stop_after``: it has not stood at the threshold."""
    early = ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss"]
    early += ["--trainer.callbacks.patience", 1, "--trainer.callbacks.mode", "max", "--evaluation.stop_after", 5]
    own = ["--experiment", "e", "--run", "a", "--evaluation.every", 5, "--evaluation.per_decade", 0]
    assert command("fit", *TINY, *own, *early, "--trainer.max_steps", FULL)[0] == 0
    checkpoint = ["--ckpt_path", "checkpoints/e/a/last.ckpt"]
    assert load(Path(checkpoint[1]))["global_step"] < FULL
    assert command("fit", *checkpoint, "--trainer.callbacks", "null")[0] == 0
    assert load(Path(checkpoint[1]))["global_step"] == FULL


def test_going_back_for_less_than_there_is_is_refused(command: Command) -> None:
    own = ["--experiment", "e", "--run", "a", "--checkpoint.steps", "[5]"]
    assert command("fit", *TINY, *own, "--trainer.max_steps", FULL)[0] == 0
    before = {path: path.read_bytes() for path in Path().glob("*/e/a/*") if path.is_file()}
    back = ["fit", "--ckpt_path", "checkpoints/e/a/step=5.ckpt"]
    status, _, err = command(*back, "--trainer.max_steps", 10)
    assert (status, err.count("\n")) == (2, 1)
    assert f"has evaluations up to step {FULL}, which would be lost; give {FULL} or more, or another" in err
    assert {path: path.read_bytes() for path in Path().glob("*/e/a/*") if path.is_file()} == before
    assert command(*back, "--trainer.max_steps", 10, "--trainer.default_root_dir", "elsewhere")[0] == 0
    assert command(*back)[0] == 0
    assert load(Path("checkpoints/e/a/last.ckpt"))["global_step"] == FULL


def test_splits_may_have_moved(command: Command) -> None:
    assert command("data", "--data.modulus", 11, "--output", "splits")[0] == 0
    given = [*TINY, "--data.splits", "splits", "--experiment", "e", "--run", "a"]
    assert command("fit", *given, "--trainer.max_steps", 10)[0] == 0
    shutil.move("splits", "moved")
    back = ["--ckpt_path", "checkpoints/e/a/last.ckpt", "--data.splits", "moved"]
    assert command("validate", *back)[0] == 0
    assert command("fit", *back, "--trainer.max_steps", 20)[0] == 0
    train = Path("moved/train.csv")
    train.write_text("".join(train.read_text().splitlines(keepends=True)[:-1]))
    status, _, err = command("fit", *back, "--trainer.max_steps", 30)
    assert (status, "on other rows than" in err) == (2, True)


@pytest.mark.parametrize("norm", ["initial", "{at_most: initial}"])
def test_a_checkpoint_of_step_0_is_evaluated_whatever_keeps_its_norm(
    command: Command, monkeypatch: pytest.MonkeyPatch, norm: str
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("before the first update")

    own = ["--model.weight_norm", norm, "--experiment", "e", "--run", "a", "--trainer.max_steps", 5]
    with monkeypatch.context() as patch:
        patch.setattr(GrokModule, "training_step", broken)
        with pytest.raises(RuntimeError, match="before the first"):
            command("fit", *TINY, *own)
    first = "checkpoints/e/a/last.ckpt"
    assert (load(Path(first))["global_step"], load(Path(first))["kept_norms"]) == (0, [])
    for name in ("validate", "predict"):
        more = ["--output", "p.csv"] if name == "predict" else []
        assert command(name, "--ckpt_path", first, *more)[::2] == (0, "")
