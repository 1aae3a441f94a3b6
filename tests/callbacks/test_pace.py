"""Steps between two events are taken in one call; where something looks at each, one by one, with the same result."""

import warnings
from pathlib import Path
from unittest.mock import Mock

import pytest
from conftest import TINY
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler
from lightning.pytorch.utilities.types import STEP_OUTPUT

from grok_lightning.callbacks.pace import PER_STEP_HOOKS, _observes_each_step
from grok_lightning.cli import quiet
from grok_lightning.fit import Fit
from grok_lightning.module import GrokModule
from grok_lightning.options.parsing import resolve
from grok_lightning.records.checkpoint import load
from grok_lightning.records.record import read_metrics

OPTIONS = [*TINY, "--trainer.max_steps", "45", "--checkpoint.every", "20", "--checkpoint.steps", "[7, 33]"]
OPTIONS += ["--model.network.dropout", "0.1", "--model.schedule", "cosine"]


class Watcher(Callback):
    """Looks at each step."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_train_batch_end(self, trainer, pl_module, outputs: STEP_OUTPUT, batch, batch_idx) -> None:
        self.steps.append(trainer.global_step)
        assert batch_idx + 1 == trainer.global_step == trainer.fit_loop.epoch_loop.batch_progress.current.ready


class Ends(Callback):
    """Has no hook of steps."""

    def __init__(self) -> None:
        self.ended = 0

    def on_train_end(self, trainer, pl_module) -> None:
        self.ended += 1


def fitted(tmp_path, monkeypatch, callbacks, name, options=(), **trainer):
    """The steps at which a fit's calls of training_step ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("grok_lightning.training.updates.CALL_SECONDS", 1000.0)  # however slow the machine
    monkeypatch.delenv("GROK_LIGHTNING_RUN", raising=False)
    ends = []
    whole = GrokModule.training_step

    def training_step(self, batch, batch_idx):
        loss = whole(self, batch, batch_idx)
        ends.append(self.trainer.global_step)
        return loss

    with warnings.catch_warnings():
        quiet()
        fit = Fit(resolve(["fit", *OPTIONS, *options, "--experiment", "e", "--run", name]))
        fit.cli.trainer.callbacks += callbacks
        for option, value in trainer.items():
            setattr(fit.cli.trainer, option, value)
        monkeypatch.setattr(GrokModule, "training_step", training_step)
        fit.run()
        monkeypatch.setattr(GrokModule, "training_step", whole)
    return ends


def test_calls_end_at_events_and_leave_what_single_steps_leave(tmp_path, monkeypatch) -> None:
    watcher, quiet = Watcher(), Ends()
    ends = fitted(tmp_path, monkeypatch, [quiet], "fast")
    single = fitted(tmp_path, monkeypatch, [watcher], "slow")
    assert watcher.steps == single == list(range(1, 46))
    assert quiet.ended == 1
    assert ends == sorted(set(ends))
    # evaluations, checkpoints, chosen steps, the budget
    assert {7, 10, 20, 30, 33, 40, 45} <= set(ends)
    assert len(ends) < 30
    records = [Path(f"lightning_logs/e/{run}/metrics.csv").read_text() for run in ("fast", "slow")]
    assert records[0] == records[1]
    for name in ("last.ckpt", "step=7.ckpt", "step=33.ckpt"):
        left, right = (load(Path(f"checkpoints/e/{run}/{name}")) for run in ("fast", "slow"))
        assert left["global_step"] == right["global_step"]
        assert left["lr_schedulers"] == right["lr_schedulers"]
        assert left["loops"] == right["loops"]
        assert all((left["state_dict"][key] == right["state_dict"][key]).all() for key in left["state_dict"])


def test_an_optimizer_that_asks_for_the_gradient_several_times_a_step_gets_it(tmp_path, monkeypatch) -> None:
    options = ["--model.optimizer", "torch.optim.LBFGS", "--model.optimizer.max_iter", "3", "--trainer.max_steps", "12"]
    fitted(tmp_path, monkeypatch, [], "fast", options)
    assert fitted(tmp_path, monkeypatch, [Watcher()], "slow", options) == list(range(1, 13))
    rows, same = (read_metrics(Path(f"lightning_logs/e/{run}")) for run in ("fast", "slow"))
    assert rows == same
    assert rows[-1]["train/loss"] < rows[0]["train/loss"] - 0.5


def test_other_peoples_optimizers_and_schedulers_are_stepped_alike(tmp_path, monkeypatch) -> None:
    options = ["--model.optimizer", "Adafactor", "--model.scheduler", "StepLR", "--model.scheduler.step_size", "4"]
    options += [
        "--model.schedule",
        "constant",
        "--trainer.max_steps",
        "21",
        "--model.filters",
        "[GrokfastEMA]",
        "--model.weight_norm",
        "initial",
    ]
    fitted(tmp_path, monkeypatch, [], "fast", options)
    assert fitted(tmp_path, monkeypatch, [Watcher()], "slow", options) == list(range(1, 22))
    left, right = (load(Path(f"checkpoints/e/{run}/last.ckpt")) for run in ("fast", "slow"))
    assert left["lr_schedulers"] == right["lr_schedulers"]
    assert left["lr_schedulers"][0]["last_epoch"] == 21
    assert all((left["state_dict"][key] == right["state_dict"][key]).all() for key in left["state_dict"])
    groups = [each["optimizer_states"][0]["runs"][0][0]["optimizer"]["param_groups"] for each in (left, right)]
    assert groups[0] == groups[1]
    assert groups[0][0]["lr"] == pytest.approx(0.01 * 0.1**5)


def test_what_a_callback_sets_is_the_learning_rate(tmp_path, monkeypatch) -> None:
    """And what is read is the learning rate."""

    class Sets(Callback):
        def __init__(self) -> None:
            self.seen = []

        def on_validation_end(self, trainer, pl_module) -> None:
            (group,) = trainer.optimizers[0].param_groups
            self.seen.append(group["lr"])
            group["lr"] = 0.004 if trainer.global_step == 20 else group["lr"]

    lr = ["--model.optimizer.lr", "0.002", "--model.warmup", "20", "--model.schedule", "constant"]
    sets = Sets()
    fitted(tmp_path, monkeypatch, [sets], "set", lr)
    fitted(tmp_path, monkeypatch, [], "unset", lr)
    assert sets.seen[0] == 0.0
    assert 0.001 in sets.seen, "in the warmup"
    assert sets.seen[-1] == 0.004
    rows, others = (read_metrics(Path(f"lightning_logs/e/{run}")) for run in ("set", "unset"))
    same = [row == other for row, other in zip(rows, others, strict=True) if row["step"] <= 20]
    assert all(same)
    assert rows[-1]["train/loss"] != others[-1]["train/loss"]


def test_a_profiler_sees_every_step(tmp_path, monkeypatch) -> None:
    ends = fitted(tmp_path, monkeypatch, [], "profiled", profiler=SimpleProfiler())
    assert ends == list(range(1, 46))


@pytest.mark.parametrize("hook", PER_STEP_HOOKS)
def test_every_hook_of_a_step_is_noticed(hook) -> None:
    callback = type("Users", (Callback,), {hook: lambda *_: None})()
    trainer = Mock(world_size=1, precision="32-true", callbacks=[callback])
    lambdas = LambdaCallback(**{hook: lambda *_: None})
    assert _observes_each_step(Mock(world_size=1, callbacks=[lambdas], profiler=PassThroughProfiler()), [])
    trainer.profiler = PassThroughProfiler()
    assert _observes_each_step(trainer, [])
    assert not _observes_each_step(trainer, [callback])
    for other in ({"world_size": 2}, {"precision": "16-mixed"}, {"profiler": SimpleProfiler()}):
        assert _observes_each_step(Mock(**{"world_size": 1, "callbacks": []} | other), [callback])
