"""Experiments from Python: options in every form, what a run holds, interruption."""

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from grok_lightning import Experiment, UserError, load_run
from grok_lightning.callbacks.measures import Measures
from grok_lightning.callbacks.progress import ProgressLine
from grok_lightning.records.record import flatten

SMALL: dict[str, Any] = {
    "modulus": 11,
    "batch_size": 16,
    "model__network__width": 16,
    "heads": 2,
    "max_steps": 60,
    "accelerator": "cpu",
    "precision": "32-true",
    "evaluation__every": 10,
}


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_finished_run_has_its_metrics_figures_and_model() -> None:
    run = Experiment("addition", train_fraction=0.4, seed_everything=1, **SMALL).fit()
    assert run.step == 60
    assert run.result["status"] == "finished"
    assert run.result["config"]["data"]["train_fraction"] == 0.4
    assert run.result["config"]["seed_everything"] == 1
    assert list(run.metrics["step"])[-1] == 60
    assert (run.memorize_step, run.grok_step) == (run.result["memorize_step"], run.result["grok_step"])
    assert len(run.figure("curves").axes) == len(run.figure().axes) > 0
    assert run.figure("predictions").axes
    assert vars(run.figure())["_repr_png_"]().startswith(b"\x89PNG")  # what a notebook shows
    tokens = run.data.tokens(run.operands_NK[:5])
    logits = run.model(tokens)
    assert logits.shape == (1, 5, 1, run.data.vocabulary_size)
    again = load_run(f"checkpoints/addition/{run.config['run']}/last.ckpt")
    assert torch.equal(again.model(tokens), logits)
    assert again.metrics.equals(run.metrics)
    with pytest.raises(UserError, match="did you mean curves"):
        run.figure("curve")


def test_options_are_nested_dotted_underscored_or_bare() -> None:
    forms: list[dict[str, Any]] = [
        {"train_fraction": 0.4, "network": "MLP", "hidden": [8]},
        {"data.train_fraction": 0.4, "model.network.hidden": [8], "model.network": "MLP"},
        {"data__train_fraction": 0.4, "model__network": {"class_path": "MLP", "hidden": [8]}},
        {"data": {"train_fraction": 0.4}, "model": {"network": {"class_path": "MLP", "init_args": {"hidden": [8]}}}},
    ]
    found = [Experiment(**form).config for form in forms]
    assert all(config == found[0] for config in found)
    assert found[0]["model"]["network"]["hidden"] == [8]
    optimizer = Experiment(optimizer=torch.optim.SGD, lr=0.5).config["model"]["optimizer"]
    assert (optimizer["class_path"], optimizer["lr"]) == ("torch.optim.SGD", 0.5)
    assert repr(Experiment("addition", lr=0.5)) == "Experiment('addition', lr=0.5)"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modulu": 3}, "--modulu is no option; did you mean --data.modulus?"),
        ({"every": 3}, "checkpoint.every or evaluation.every"),
        ({"layers": "x"}, "--layers (model.network.layers) is 'x'; expected: an integer"),
        ({"network": "MLPP"}, "did you mean MLP?"),
        ({"config": "additon"}, "additon"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        Experiment(**options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(Path().iterdir()) == []


def test_a_notebook_shows_one_line_of_a_mistake_and_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cell(io.StringIO):
        """What a cell prints to; IPython's kernel has it under this name."""

        __module__ = "ipykernel.iostream"

    cell = Cell()
    monkeypatch.setattr(sys, "stdout", cell)
    Experiment(run="r", **SMALL).fit()
    first, shown = cell.getvalue().split("\n", 1)
    assert first == "x + y mod 11: 121 equations, 60 train, 61 val, 0 test"
    assert shown.count("\n") == 1
    assert shown.endswith("\n")
    frames = shown.strip().split("\r")
    assert len(frames) > 3
    assert all(frame.startswith("default/r") for frame in frames)
    assert "60/60" in frames[-1]
    with pytest.raises(UserError) as caught:
        Experiment(modulu=3)
    assert caught.value._render_traceback_() == [f"UserError: {caught.value}"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_run_continues_to_the_bit(overwrite: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SMALL | {"max_steps": 400, "evaluation__every": 50}
    whole = Experiment(run="whole", **options).fit()
    experiment = Experiment(run="parted", overwrite=overwrite, **options)
    ready = threading.Event()
    monkeypatch.setattr(ProgressLine, "on_train_start", lambda *_: ready.set())

    def interrupt() -> None:
        ready.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt, match=r"saved. Call fit\(\) again"):
        experiment.fit()
    thread.join()
    assert experiment.run is not None
    assert experiment.run.step < 400
    run = experiment.fit()
    assert run.step == 400
    assert run.metrics.equals(whole.metrics)
    weights, wanted = run.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    assert flatten(run.config)["run"] == "parted"


def test_it_may_be_called_again() -> None:
    experiment = Experiment(**SMALL | {"max_steps": 10})
    runs = [experiment.fit(), experiment.fit()]
    assert [run.config["run"] for run in runs] == ["0", "1"]
    assert runs[0].metrics.equals(runs[1].metrics)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, grok_lightning; print([m for m in ('torch', 'lightning', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    help_code = (
        "import sys; from grok_lightning.__main__ import main; main(['--help']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", help_code], capture_output=True, check=True)


def test_a_second_interrupt_leaves_a_notebook_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt_twice(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Measures, "take", interrupt_twice)
    experiment = Experiment(run="r", **SMALL)
    with pytest.raises(KeyboardInterrupt):
        experiment.fit()
    assert experiment.run is not None
    assert signal.getsignal(signal.SIGINT) is before


def test_a_default_type_that_a_script_has_set_changes_no_run() -> None:
    expected = Experiment("addition", run="plain", **SMALL).fit()
    torch.set_default_dtype(torch.float64)
    try:
        run = Experiment("addition", run="double", **SMALL).fit()
        again = load_run("checkpoints/addition/double/last.ckpt")
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert run.metrics.equals(expected.metrics)
    for found in (run, again):
        for name, weight in expected.model.state_dict().items():
            assert found.model.state_dict()[name].dtype == torch.float32
            assert torch.equal(found.model.state_dict()[name], weight)
