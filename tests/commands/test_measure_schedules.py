"""Measures with a schedule of their own, and expensive ones, in fits, after a stop, in stacks and afterwards."""

import csv
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY
from forked import start
from training_here import train_here

from grok_lightning.callbacks.measures import Measures
from grok_lightning.callbacks.schedule import EvaluationSchedule

Command = Callable[..., tuple[int, str, str]]
EXPENSIVE = (
    "[{class_path: Hessian, every: 8, iterations: 2}, {class_path: Commutator, pairs: 2, every: 3}, "
    "{class_path: LearningCoefficient, init_args: {chains: 2, draws: 2, burn_in: 1}, every: 10}, NoiseScale, Sparsity]"
)


def rows(run: str, experiment: str = "e") -> list[dict[str, str]]:
    with Path(f"lightning_logs/{experiment}/{run}/metrics.csv").open() as file:
        return list(csv.DictReader(file))


def known(table: list[dict[str, str]], key: str) -> list[int]:
    """The steps at which a value is there."""
    return [int(row["step"]) for row in table if not math.isnan(float(row[key]))]


@pytest.mark.parametrize(("per_decade", "every", "last"), [(16, 200, 1000), (0, 7, 100), (3, 0, 999), (0, 0, 50)])
@pytest.mark.parametrize("interval", [1, 5, 14, 400])
def test_a_measure_is_due_at_the_first_evaluation_at_or_after_each_multiple(per_decade, every, last, interval) -> None:
    schedule = EvaluationSchedule(per_decade, every)
    steps = [step for step in range(last + 1) if schedule.is_point(step) or step == last]
    expected, next_multiple = [], 0
    for step in steps:
        if step >= next_multiple:
            expected.append(step)
            next_multiple = (step // interval + 1) * interval
    measures = Measures.__new__(Measures)
    measures.schedule = schedule
    measure = type("Fixed", (), {"interval": interval})()
    assert [step for step in steps if measures._is_due(measure, step)] == expected


def test_values_stand_where_they_are_due_and_are_missing_elsewhere(command: Command) -> None:
    fit = [*TINY, "--evaluation.per_decade", "0", "--evaluation.every", "5", "--trainer.max_steps", "22"]
    status, out, err = command("fit", *fit, "--experiment", "e", "--run", "a", "--measures", EXPENSIVE)
    assert (status, err) == (0, "")
    asked = "Hessian every 8 steps, Commutator every 3 steps, LearningCoefficient every 10 steps"
    assert f"measures: {asked}, the others at each evaluation\n" in out
    table = rows("a")
    assert [int(row["step"]) for row in table] == [0, 5, 10, 15, 20, 22]
    assert known(table, "hessian/largest") == [0, 10, 20]
    assert known(table, "commutator/defect") == [0, 5, 10, 15, 20, 22]
    assert known(table, "learning/coefficient") == [0, 10, 20]
    assert known(table, "noise/trace") == [0, 5, 10, 15, 20, 22]
    assert command("validate", "--ckpt_path", "checkpoints/e/a/last.ckpt")[0] == 0
    assert json.loads(Path("lightning_logs/e/a/validate.json").read_text())["hessian/largest"] is not None


def test_an_expensive_measure_has_a_schedule_and_a_cheap_one_records_none(command: Command) -> None:
    run = ["--experiment", "e", "--run", "a", "--trainer.max_steps", "1"]
    assert command("fit", *TINY, *run, "--measures", "[{class_path: Rank, every: 1}, Hessian, Norms]")[0] == 0
    recorded = yaml.safe_load(Path("lightning_logs/e/a/config.yaml").read_text())["measures"]
    assert [item.get("every") for item in recorded] == [None, 2000, None]
    assert list(recorded[0]) == ["class_path"]
    more = ["--experiment", "e", "--run", "a", "--ckpt_path", "last", "--trainer.max_steps", "2"]
    assert command("fit", *more, "--measures", "[Rank, {class_path: Hessian, every: 1}, Norms]")[0] == 2
    assert command("fit", *more)[0] == 0


def test_nothing_that_is_measured_changes_training_and_a_resumed_run_has_the_same_values(command: Command) -> None:
    fit = ["fit", *TINY, "--experiment", "e", "--trainer.max_steps"]
    asked = ["--measures", EXPENSIVE]
    assert command(*fit, "12", "--run", "plain")[0] == 0
    assert command(*fit, "12", "--run", "whole", *asked)[0] == 0
    assert command(*fit, "7", "--run", "parts", *asked)[0] == 0
    resumed = ["fit", "--experiment", "e", "--run", "parts", "--ckpt_path", "last", "--trainer.max_steps", "12"]
    assert command(*resumed)[::2] == (0, "")
    weights = [torch.load(f"checkpoints/e/{run}/last.ckpt")["state_dict"] for run in ("plain", "whole", "parts")]
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=0, atol=0)
    plain, whole = rows("plain"), rows("whole")
    assert [{key: row[key] for key in plain[0] if key in row} for row in whole] == plain
    assert rows("parts") == whole
    assert len(known(whole, "hessian/largest")) < len(whole)


def test_no_point_of_a_logger_is_nan(command: Command) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit = [*TINY, "--experiment", "e", "--run", "a", "--trainer.max_steps", "20", "--measures"]
    assert command("fit", *fit, "[{class_path: Rank, every: 7}]", "--trainer.logger", "CSVLogger")[0] == 0
    events = EventAccumulator("lightning_logs/e/a")
    events.Reload()
    points = events.Scalars("measures/rank/hidden")
    assert [point.step for point in points] == known(rows("a"), "rank/hidden")
    assert all(math.isfinite(point.value) for point in points)


@pytest.mark.parametrize(
    ("measures", "words"),
    [
        ("[{class_path: Rank, every: 0}]", "measures.Rank.every is 0; it must be at least 1"),
        ("[{class_path: Rank, every: null}]", "measures: Rank.every is null; expected: an integer"),
        ("[{class_path: Rank, every: often}]", "measures: Rank.every is 'often'; expected: an integer"),
        ("[{class_path: Fourier, top: null}]", "measures: Fourier.top is null; expected: an integer"),
        ("[{class_path: Rank, evry: 3}]", "measures: evry is no option of Rank; did you mean every?"),
    ],
)
def test_a_schedule_that_is_none_is_refused(command: Command, measures, words) -> None:
    status, _, err = command("fit", *TINY, "--experiment", "e", "--run", "a", "--measures", measures)
    assert (status, err) == (2, f"grok-lightning: {words}\n")
    assert not Path("lightning_logs").exists()


def test_what_is_not_computed_at_each_evaluation_cannot_be_monitored(command: Command) -> None:
    stopping = ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "rank/hidden"]
    run = [*TINY, "--experiment", "e", "--run", "a", "--trainer.max_steps", "3", *stopping]
    status, _, err = command("fit", *run, "--measures", "[{class_path: Rank, every: 7}]")
    assert status == 2
    assert "EarlyStopping.monitor is 'rank/hidden', which Rank computes every 7 steps only; give it every: 1" in err
    assert command("fit", *run, "--measures", "[Rank]")[0] == 0


def test_measures_of_your_own_take_a_schedule_whatever_their_constructor(command: Command) -> None:
    Path("own_measures.py").write_text(OWN)
    asked = "[{class_path: own_measures.Plain, every: 9}, {class_path: own_measures.Own, every: often}, "
    asked += "{class_path: own_measures.Further, scale: 3, top: 1, every: 9}]"
    fit = [*TINY, "--experiment", "e", "--run", "a", "--evaluation.every", "4", "--trainer.max_steps", "20"]
    fit += ["--measures", asked]
    assert command("fit", *fit)[::2] == (0, "")
    table = rows("a")
    expected = known(table, "plain/one")
    assert expected[0] == 0
    assert 2 < len(expected) < len(table)
    assert known(table, "own/length") == [int(row["step"]) for row in table]
    assert known(table, "fourier/embedding_key_1") == expected


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ('{"val/acc": torch.ones(view.runs)}', "the key 'val/acc', which is recorded already; take another, such as"),
        ('{"step": torch.ones(view.runs)}', "the key 'step', which is recorded already; take another, such as"),
        ('{"mine/a,b": torch.ones(view.runs)}', "the key 'mine/a,b'; expected: text in one line without commas"),
        ("{1: torch.ones(view.runs)}", "the key 1; expected: text in one line without commas and quotes"),
        ('{"mine/a": torch.ones(())}', "a tensor of shape () for 'mine/a'; expected: (1,), one for each run"),
        ('{"mine/a": torch.ones(view.runs, 3)}', "a tensor of shape (1, 3) for 'mine/a'; expected: (1,), one for"),
        ('{"mine/a": torch.ones(view.runs) * 1j}', "complex numbers for 'mine/a'; expected: real ones"),
        ('{"mine/a": 1.0}', "float for 'mine/a'; expected: a tensor of shape (1,)"),
        ("None", "NoneType; expected: a dictionary of tensors"),
    ],
)
def test_what_an_own_measure_returns_is_checked(command: Command, returned: str, words: str) -> None:
    name = f"returns_{abs(hash(returned))}"
    head = "import torch\nfrom grok_lightning.measures import Measure\n\n\nclass Mine(Measure):\n"
    Path(f"{name}.py").write_text(f"{head}    def __call__(self, view):\n        return {returned}\n")
    fit = [*TINY, "--experiment", "e", "--run", "a", "--trainer.max_steps", "2", "--measures", f"[{name}.Mine]"]
    status, _, err = command("fit", *fit)
    assert status == 2
    assert err.startswith(f"grok-lightning: measures: Mine returns {words}")
    assert err.count("\n") == 1


OWN = """
from __future__ import annotations

import torch

from grok_lightning.measures import Fourier, Measure


class Plain(Measure):
    def __call__(self, view):
        return {"plain/one": torch.ones(view.runs, dtype=torch.float64)}


class Own(Measure):
    def __init__(self, every: str = "always") -> None:
        self.every = every

    def __call__(self, view):
        return {"own/length": torch.full((view.runs,), float(len(self.every)), dtype=torch.float64)}


class Further(Fourier):
    def __init__(self, scale: float = 1.0, **others) -> None:
        super().__init__(**others)
        self.scale = scale
"""


@pytest.mark.slow
def test_a_run_of_a_stack_has_the_values_that_it_has_alone(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)
    base = [*TINY, "--trainer.max_steps", "20"]
    for seed in (0, 1):
        assert command("fit", *base, "--experiment", "e", "--run", f"{seed}", "--seed_everything", f"{seed}",
                       "--measures", EXPENSIVE)[0] == 0  # fmt: skip
    fixed = {key[2:]: yaml.safe_load(value) for key, value in zip(base[::2], base[1::2], strict=True)}
    Path("base.yaml").write_text(yaml.safe_dump(fixed | {"measures": yaml.safe_load(EXPENSIVE)}))
    Path("s.yaml").write_text(yaml.safe_dump({"base": "base.yaml", "grid": {"seed_everything": [0, 1]}}))
    status, out, err = command("sweep", "s.yaml", "--stack-size", "2")
    assert status == 0, out + err
    for directory in sorted(Path("lightning_logs/s").glob("*/result.json")):
        result = json.loads(directory.read_text())
        assert result["stack"] == 2
        table, alone = rows(directory.parent.name, "s"), rows(str(result["config"]["seed_everything"]))
        assert list(table[-1]) == list(alone[-1])
        for one, other in zip(table, alone, strict=True):
            for key in one:
                assert float(one[key] or "nan") == pytest.approx(
                    float(other[key] or "nan"), rel=1e-4, abs=1e-5, nan_ok=True
                )


@pytest.mark.slow
def test_a_fit_that_was_killed_goes_on_with_the_same_values(command: Command) -> None:
    asked = "[{class_path: Hessian, every: 23, iterations: 2}, {class_path: Rank, every: 9}]"
    options = [
        *TINY,
        "--trainer.max_steps",
        "150",
        "--checkpoint.every",
        "20",
        "--experiment",
        "e",
        "--measures",
        asked,
    ]
    process = start("fit", *options, "--run", "killed")
    deadline = time.monotonic() + 60
    while not Path("checkpoints/e/killed/last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert command("fit", "--experiment", "e", "--run", "killed", "--ckpt_path", "last")[0] == 0
    assert command("fit", *options, "--run", "whole")[0] == 0
    assert rows("killed") == rows("whole")
