"""Optimizers and schedulers of other people from the command line: trained, stopped, resumed, refused in one line."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from test_resume import assert_same

from grok_lightning import Experiment
from grok_lightning.records.checkpoint import load
from grok_lightning.records.record import read_metrics

Command = Callable[..., tuple[int, str, str]]
OTHERS = Path(__file__).parents[1] / "optim" / "others.py"
STEPS, STOP = 24, 13


@pytest.fixture(autouse=True)
def others(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their file in the working directory."""
    shutil.copy(OTHERS, "others.py")
    monkeypatch.syspath_prepend(".")


def fit(command: Command, run: str, *options: object, steps: int = STEPS) -> tuple[int, str, str]:
    seldom = ["--evaluation.per_decade", "0"]
    return command("fit", *TINY, *seldom, "--experiment", "e", "--run", run, "--trainer.max_steps", steps, *options)


def state(run: str, name: str = "last") -> dict[str, Any]:
    checkpoint = load(Path(f"checkpoints/e/{run}/{name}.ckpt"))
    return {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}


CHOICES = {
    "Lion": "--model.optimizer others.Lion --model.optimizer.lr 1e-4 --model.optimizer.betas [0.8,0.95]",
    "Everything": "--model.optimizer others.Everything --model.optimizer.noise 0.01 --model.filters [Clip]",
    "Named": "--model.optimizer others.Named --model.optimizer.lr 0.1 --model.schedule cosine",
    "Sharpness": "--model.optimizer others.Sharpness --model.weight_norm initial",
    "NAdam": "--model.optimizer torch.optim.NAdam --model.scheduler others.Wave --model.scheduler.period 3",
    "Muon": "--model.optimizer torch.optim.Muon --model.scheduler ExponentialLR --model.scheduler.gamma 0.9",
    "Adafactor": "--model.optimizer Adafactor --model.scheduler MultiStepLR --model.scheduler.milestones [5,15]",
    "LBFGS": "--model.optimizer LBFGS --model.optimizer.lr 0.1 --model.optimizer.line_search_fn strong_wolfe",
    "warm restarts": "--model.scheduler CosineAnnealingWarmRestarts --model.scheduler.T_0 5 --model.scheduler.T_mult 2",
    "one cycle": "--model.scheduler OneCycleLR --model.scheduler.max_lr 0.01 --model.scheduler.total_steps 24",
    "cycles": "--model.scheduler CyclicLR --model.scheduler.base_lr 1e-4 --model.scheduler.max_lr 0.01 "
    "--model.scheduler.step_size_up 5 --model.optimizer others.Lion --model.scheduler.cycle_momentum true",
    "linear": "--model.scheduler LinearLR --model.scheduler.total_iters 20 --model.optimizer Muon",
    "polynomial": "--model.scheduler PolynomialLR --model.scheduler.total_iters 20 --model.optimizer.update_noise 0.1",
    "parts": "--model.optimizer.embedding_lr 0.01 --model.optimizer.vector_weight_decay 0 --model.schedule cosine",
}
FAST = {"Everything", "Muon", "one cycle"}
every_choice = pytest.mark.parametrize(
    "choice", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CHOICES]
)


@every_choice
def test_a_stopped_run_goes_on_to_the_bit(command: Command, choice: str) -> None:
    options = [*CHOICES[choice].split(), "--checkpoint.steps", f"[{STOP}]"]
    status, printed, err = fit(command, "full", *options)
    assert (status, err) == (0, ""), printed
    whole, rows = state("full"), read_metrics(Path("lightning_logs/e/full"))
    assert rows[-1]["norm/weights"] != rows[0]["norm/weights"] or "weight_norm" in CHOICES[choice]
    Path("checkpoints/e/full/last.ckpt").unlink()  # as if killed after the other
    assert command("fit", "--ckpt_path", f"checkpoints/e/full/step={STOP}.ckpt")[0] == 0
    assert_same(state("full"), whole)
    assert read_metrics(Path("lightning_logs/e/full")) == rows
    if choice == "one cycle":
        assert command("validate", "--ckpt_path", "checkpoints/e/full/last.ckpt")[0] == 0


def test_yaml_python_and_the_command_line_give_the_same_run(command: Command) -> None:
    options = ["--model.optimizer", "others.Lion", "--model.optimizer.lr", "0.002", "--model.scheduler", "StepLR"]
    assert fit(command, "words", *options, "--model.scheduler.step_size", 7)[0] == 0
    Path("mine.yaml").write_text(
        "model:\n  optimizer: {class_path: others.Lion, lr: 2.0e-3}\n"
        "  scheduler: {class_path: torch.optim.lr_scheduler.StepLR, step_size: 7}\n"
    )
    assert fit(command, "yaml", "--config", "mine.yaml")[0] == 0
    assert fit(command, "again", "--config", "lightning_logs/e/words/config.yaml", "--run", "again")[0] == 0
    values = dict(zip([name.removeprefix("--") for name in TINY[::2]], TINY[1::2], strict=True))
    run = Experiment(
        experiment="e", run="python", model__optimizer="others.Lion", model__optimizer__lr=2e-3,
        model__scheduler="StepLR", step_size=7, **{name.replace(".", "__"): value for name, value in values.items()},
        trainer__max_steps=STEPS,
    ).fit()  # fmt: skip
    assert run.config["model"]["scheduler"]["gamma"] == 0.1
    for name in ("yaml", "again", "python"):
        assert_same(state(name), state("words"))


def test_a_new_run_starts_from_the_weights_of_one_with_another_optimizer(command: Command) -> None:
    assert fit(command, "first", steps=5)[0] == 0
    options = ["--model.optimizer", "others.Lion", "--init_from", "checkpoints/e/first/last.ckpt"]
    assert fit(command, "second", *options, steps=5)[0] == 0
    start = read_metrics(Path("lightning_logs/e/second"))[0]
    assert start["val/loss"] == read_metrics(Path("lightning_logs/e/first"))[-1]["val/loss"]


REFUSED = {
    "--model.optimizer others.Lion --model.optimizer.momentum 0.1": "--model.optimizer.momentum is no option of Lion",
    "--model.optimizer others.Lion --model.optimizer.lr fast": "--model.optimizer.lr is 'fast'; expected: a number",
    "--model.optimizer others.Everything --model.optimizer.lr fast": "--model.optimizer.lr is 'fast'; expected:",
    "--model.optimizer others.Lion --model.optimizer.lr -1": "model.optimizer: Invalid learning rate: -1",
    "--model.optimizer others.Named": "--model.optimizer.lr has no default in Named and is not given",
    "--model.optimizer others.Forgetful": "model.optimizer Forgetful cannot be resumed exactly",
    "--model.optimizer others.Curvature": "model.optimizer Curvature differentiates the gradient or the loss itself",
    "--model.optimizer others.Dividing": "model.optimizer Dividing divides by its learning rate, which is 0 at",
    "--model.optimizer others.Everything --model.optimizer.most .nan": "--model.optimizer.most is nan; a finite number",
    "--model.optimizer others.Keeping": "model.optimizer: its state cannot be saved: optimizer.runs.optimizer.state",
    "--model.optimizer SparseAdam": "model.optimizer: SparseAdam does not support dense gradients",
    "--model.optimizer Muon --model.optimizer.head_lr -1": "model.optimizer.head_lr is -1",
    "--model.scheduler LambdaLR": "--model.scheduler is LambdaLR, which is not available: a function",
    "--model.scheduler SequentialLR": "--model.scheduler is SequentialLR, which is not available",
    "--model.scheduler ReduceLROnPlateau": "--model.scheduler is ReduceLROnPlateau, which is not available",
    "--model.scheduler StepLR": "--model.scheduler.step_size has no default in StepLR and is not given",
    "--model.scheduler StepLR --model.scheduler.step_size 0.5": "--model.scheduler.step_size is '0.5'",
    "--model.scheduler.step_size 4": "--model.scheduler.step_size is given, but --model.scheduler names no class",
    "--model.scheduler LinearLR --model.scheduler.start_factor 2": "model.scheduler: Starting multiplicative factor",
    "--model.scheduler LinearLR --model.schedule cosine": "model.schedule is cosine, but model.scheduler replaces it",
    "--model.scheduler LinearLR --model.warmup 20": "model.warmup is 20, but model.scheduler replaces it",
    "--model.scheduler OneCycleLR --model.scheduler.max_lr 1 --model.scheduler.total_steps 9": (
        "model.scheduler OneCycleLR ends at step 9, but trainer.max_steps is 24"
    ),
    "--model.scheduler others.Lion": "model.scheduler names 'others.Lion', which does not extend LRScheduler",
}


@pytest.mark.parametrize("words", REFUSED)
def test_mistakes_are_one_line_before_anything_is_written(command: Command, words: str) -> None:
    status, _, err = fit(command, "refused", *words.split())
    assert status == 2
    assert err.startswith(f"grok-lightning: {REFUSED[words]}")
    assert err.count("\n") == 1
    assert not Path("lightning_logs").exists()
    assert not Path("checkpoints").exists()


def test_a_scheduler_counts_as_an_option_that_changes_results(command: Command) -> None:
    for run, words in (("none", ""), ("linear", "--model.scheduler LinearLR"), ("cosine", "--model.schedule cosine")):
        assert fit(command, run, *words.split(), steps=2)[0] == 0
    hashes = {run: (Path("lightning_logs/e") / run / "result.json").read_text() for run in ("none", "linear", "cosine")}
    found = [text.split('"config_hash": "')[1][:16] for text in hashes.values()]
    assert len(set(found)) == 3
    status, _, err = command("fit", "--ckpt_path", "checkpoints/e/linear/last.ckpt", "--model.scheduler", "ConstantLR")
    assert status == 2
    assert "--model.scheduler.class_path is" in err
