"""Interventions in fits and sweeps: what they change, when, per run, and after a stop."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY

sys.path.insert(0, str(Path(__file__).parents[1] / "sweep"))
from small_sweeps import as_the_program, directories, jobs, results, write

from grok_lightning.records.checkpoint import load, save
from grok_lightning.records.record import read_metrics
from grok_lightning.sweep.plan.runs import read_plan
from grok_lightning.sweep.run.worker import run_job

Command = Callable[..., tuple[int, str, str]]
# learnt within some tens of steps, and the next step after it is not the last
EASY = ["--data.formula", "0 * x + 0 * y", "--model.optimizer.lr", "0.01", "--evaluation.per_decade", "0"]


def fit(command: Command, run: str, interventions: Any, *more: object, steps: int = 60) -> None:
    options = ("--experiment", "e", "--run", run, "--trainer.max_steps", steps, *more)
    given = () if interventions is None else ("--model.interventions", json.dumps(interventions))
    status, _, err = command("fit", *TINY, *options, *given)
    assert (status, err) == (0, "")


def weights(run: str, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load(Path(f"checkpoints/e/{run}/{name}"))["state_dict"]
    return state


def result(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"lightning_logs/e/{run}/result.json").read_text())
    return found


def metrics(run: str) -> list[dict[str, float]]:
    return read_metrics(Path("lightning_logs/e", run))


def test_a_setting_changes_the_step_that_it_names_and_none_before(command: Command) -> None:
    """A run whose rate is 0 from step 30 on ends with the weights that a run of 30 steps has."""
    fit(command, "stopped", [{"at": 30, "set": {"model.optimizer.lr": 0, "weight_decay": 0}}])
    fit(command, "short", None, steps=30)
    short = weights("short")
    assert all(torch.equal(weight, short[name]) for name, weight in weights("stopped").items())
    fit(command, "later", [{"at": 31, "set": {"lr": 0}}])
    assert not all(torch.equal(weight, short[name]) for name, weight in weights("later").items())
    assert result("stopped")["intervention_steps"] == [30]
    assert "intervention_steps" not in result("short")


def test_decay_without_rate_of_its_own(command: Command) -> None:
    """Without decay from the first step on, a run equals one that never had any."""
    fit(command, "set", [{"at": 0, "set": {"weight_decay": 0}}], steps=20)
    fit(command, "never", None, "--model.optimizer.weight_decay", 0, steps=20)
    never = weights("never")
    assert all(torch.equal(weight, never[name]) for name, weight in weights("set").items())


@pytest.mark.parametrize("parts", ["embeddings", ["embeddings", "head"], "layers.0.attention", "all"])
def test_frozen_parts_stay_and_the_others_go_on(command: Command, parts: str | list[str]) -> None:
    fit(command, "frozen", [{"at": 25, "freeze": parts}], "--checkpoint.steps", "[25]", steps=50)
    before, after = weights("frozen", "step=25.ckpt"), weights("frozen")
    named = [parts] if isinstance(parts, str) else parts
    for name in before:
        inside = parts == "all" or any(f".{part}." in f".{name}." for part in named)
        assert torch.equal(before[name], after[name]) == inside, name


def test_frozen_parts_are_freed_again(command: Command) -> None:
    fit(
        command,
        "freed",
        [{"at": 10, "freeze": "all"}, {"at": 20, "freeze": []}],
        "--checkpoint.steps",
        "[10, 20]",
        steps=30,
    )
    at = [weights("freed", f"step={step}.ckpt") for step in (10, 20)] + [weights("freed")]
    assert all(torch.equal(at[0][name], at[1][name]) for name in at[0])
    assert not any(torch.equal(at[1][name], at[2][name]) for name in at[1])


def test_the_norm_is_kept_and_freed(command: Command) -> None:
    changes = [{"at": 20, "weight_norm": "keep"}, {"at": 40, "weight_norm": "free"}, {"at": 50, "weight_norm": 3.5}]
    fit(command, "kept", changes)
    norms = {int(row["step"]): row["norm/weights"] for row in metrics("kept")}
    assert norms[30] == pytest.approx(norms[20], rel=1e-6)
    assert norms[40] == pytest.approx(norms[20], rel=1e-6)
    assert abs(norms[20] - norms[10]) > 1e-3
    assert abs(norms[50] - norms[40]) > 1e-3
    assert norms[60] == pytest.approx(3.5, rel=1e-6)


def test_a_norm_is_capped_then_kept_then_freed(command: Command) -> None:
    """Without decay the norm only grows: up to a cap, beyond which it stays, and one that is far away does nothing."""
    changes = [
        {"at": 10, "weight_norm": {"at_most": 1e9}},
        {"at": 20, "weight_norm": {"at_most": "keep"}},
        {"at": 40, "weight_norm": {"at_most": 4}},
        {"at": 50, "weight_norm": "free"},
    ]
    growing = ("--model.optimizer.weight_decay", 0, "--model.optimizer.lr", 0.01)
    fit(command, "capped", changes, *growing)
    fit(command, "free", None, *growing)
    norms, free = ({int(row["step"]): row["norm/weights"] for row in metrics(run)} for run in ("capped", "free"))
    assert [norms[step] for step in (0, 10, 20)] == [free[step] for step in (0, 10, 20)]
    assert free[40] > free[30] > free[20] > free[10]
    assert [norms[30], norms[40]] == pytest.approx([norms[20]] * 2, rel=1e-6)
    assert norms[50] == pytest.approx(4, rel=1e-6)
    assert norms[60] > 4.01


def test_filters_act_only_while_they_are_on(command: Command) -> None:
    """A filter that makes every gradient tiny, so that plain SGD stands still: on, off and on again."""
    sgd = ("--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", 0.1, "--model.warmup", 0)
    clip = ("--model.filters", '[{"class_path": "Clip", "norm": 1e-30}]', "--checkpoint.steps", "[10, 20]")
    fit(command, "f", [{"at": 10, "filters": "on"}, {"at": 20, "filters": False}], *sgd, *clip, steps=30)
    start, *at = [weights("f", f"step={step}.ckpt") for step in (10, 20)] + [weights("f")]
    assert all(torch.equal(start[name], at[0][name]) for name in start)
    assert not all(torch.equal(at[0][name], at[1][name]) for name in start)
    fit(command, "plain", None, *sgd, steps=10)
    plain = weights("plain")
    assert all(torch.equal(weight, plain[name]) for name, weight in start.items())


def test_moments_are_those_of_the_record(command: Command) -> None:
    changes = [{"at": "grokked", "set": {"lr": 0, "weight_decay": 0}}, {"at": "memorized", "set": {"weight_decay": 0}}]
    fit(command, "m", changes, *EASY)
    found = result("m")
    assert found["intervention_steps"] == [found["grok_step"], found["memorize_step"]]
    rows = {int(row["step"]): row["norm/weights"] for row in metrics("m")}
    assert found["grok_step"] < 60
    assert rows[60] == rows[found["grok_step"]]


ALL = [
    {"at": 7, "set": {"lr": 0.004}},
    {"at": "memorized", "set": {"weight_decay": 0.1}, "filters": "on", "weight_norm": {"at_most": 12}},
    {"at": "grokked", "weight_norm": "keep"},
]
FROZEN = [{"at": "memorized", "freeze": "embeddings"}, {"at": 45, "freeze": [], "set": {"weight_decay": 0}}]
FILTER = ("--model.filters", '["GrokfastEMA"]')
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "AdamW": (),
    "Muon": ("--model.optimizer", "Muon", "--model.optimizer.lr", "0.02"),
    "torch's": ("--model.optimizer", "torch.optim.NAdam", "--model.optimizer.lr", "0.01"),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("changes", [ALL, FROZEN], ids=["numbers", "frozen"])
def test_a_stopped_run_goes_on_to_the_bit(command: Command, kind: str, changes: list[Any]) -> None:
    options = [*EASY, *OPTIMIZERS[kind], *(FILTER if changes is ALL else ())]
    fit(command, "whole", changes, *options)
    whole = result("whole")
    reached = whole["memorize_step"], whole["grok_step"]
    assert whole["intervention_steps"] == ([7, *reached] if changes is ALL else [reached[0], 45])
    before = None
    for budget in (3, 7, 20, 21, 43, 60):
        given: tuple[object, ...] = ("--ckpt_path", "last") if before else (*TINY, *options)
        given += () if before else ("--model.interventions", json.dumps(changes))
        status, _, err = command("fit", *given, "--experiment", "e", "--run", "parts", "--trainer.max_steps", budget)
        assert (status, err) == (0, "")
        before = budget
    parts = weights("parts")
    assert all(torch.equal(weight, parts[name]) for name, weight in weights("whole").items())
    rows = {row["step"]: row for row in metrics("parts")}
    assert all(rows[row["step"]] == row for row in metrics("whole"))
    assert result("parts")["intervention_steps"] == whole["intervention_steps"]


def test_what_a_scheduler_makes_of_a_number_that_was_set_is_resumed(command: Command) -> None:
    """The cycle moves the momentum on from the step after the intervention."""
    cycle = {"class_path": "OneCycleLR", "max_lr": 0.05, "total_steps": 40}
    options = (*TINY, "--model.optimizer", "torch.optim.SGD", "--model.optimizer.momentum", 0.9)
    options = (*options, "--model.optimizer.lr", 0.05, "--model.scheduler", json.dumps(cycle), "--experiment", "e")
    options = (*options, "--model.interventions", json.dumps([{"at": 20, "set": {"momentum": 0.5}}]))
    assert command("fit", *options, "--run", "whole", "--trainer.max_steps", 40)[0] == 0
    assert command("fit", *options, "--run", "parts", "--trainer.max_steps", 25)[0] == 0
    assert (
        command("fit", "--experiment", "e", "--run", "parts", "--ckpt_path", "last", "--trainer.max_steps", 40)[0] == 0
    )
    parts = weights("parts")
    assert all(torch.equal(weight, parts[name]) for name, weight in weights("whole").items())


@pytest.mark.parametrize("changes", [ALL[1:], FROZEN], ids=["numbers", "frozen"])
@pytest.mark.parametrize("kind", ["AdamW", pytest.param("torch.optim.SGD", marks=pytest.mark.slow)])
def test_each_run_of_a_stack_has_its_own_moments(command: Command, kind: str, changes: list[Any]) -> None:
    more = {
        "data.formula": "0 * x + 0 * y", "model.interventions": changes, "model.filters": ["GrokfastEMA"],
        "model.optimizer": kind, "evaluation.every": 2,
    }  # fmt: skip
    if changes is FROZEN:
        del more["model.filters"]
    rates = {"AdamW": [0.002, 0.01, 0.03], "torch.optim.SGD": [0.02, 0.1, 0.5]}[kind]
    if kind == "AdamW":
        zipped = {"seed_everything": [1, 2, 3], "model.optimizer.lr": rates}
    else:
        zipped, more["model.optimizer.lr"] = {"seed_everything": [1, 2, 3]}, 0.3
    (stack,) = jobs(write("stacked", zipped=zipped, **more), 3)
    singles = jobs(write("single", zipped=zipped, **more), 1)
    with as_the_program():
        for job in (stack, *singles):
            run_job(job)
    together, alone = results("stacked"), results("single")
    moments = [found["intervention_steps"] for found in together.values()]
    assert len(moments) == 3
    assert any(step > 0 for steps in moments for step in steps)
    if kind == "AdamW":
        assert len({tuple(steps) for steps in moments}) > 1
    by_hash = {found["config_hash"]: found for found in alone.values()}
    for found in together.values():
        assert found["intervention_steps"] == by_hash[found["config_hash"]]["intervention_steps"]
    for directory in directories("single"):
        rows, wanted = read_metrics(Path("lightning_logs/stacked", directory.name)), read_metrics(directory)
        for row, single in zip(rows, wanted, strict=True):
            for key in ("train/loss", "val/loss", "norm/weights"):
                assert row[key] == pytest.approx(single[key], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([{"at": "memorised", "freeze": "head"}], "model.interventions[0].at is 'memorised'; it must be a step"),
        ([{"at": -1, "freeze": "head"}], "[0].at is -1"),
        ([{"at": True, "freeze": "head"}], "[0].at is True"),
        ([{"at": 3}], "[0] changes nothing; give it one of set, freeze, weight_norm, filters"),
        ([{"when": 3, "freeze": "head"}], "[0] has the key 'when'; there are at, set"),
        ([{"at": 3, "freeze": "embedding"}], "[0].freeze names 'embedding', which is no part of this network"),
        ([{"at": 3, "set": {"momentum": 0.5}}], "sets momentum, which model.optimizer AdamW has not been given"),
        ([{"at": 3, "set": {"lr": -1}}], "[0].set.lr is -1; it must be a number of at least 0"),
        ([{"at": 3, "set": {"model.network.width": 4}}], "only options of model.optimizer can be set"),
        ([{"at": 3, "weight_norm": "kept"}], "[0].weight_norm is 'kept'; it must be keep, free or a number above 0"),
        (
            [{"at": 3, "weight_norm": {"at_most": "free"}}],
            "[0].weight_norm is {'at_most': 'free'}; it must be keep, free",
        ),
        ([{"at": 3, "weight_norm": {"most": 3}}], "[0].weight_norm is {'most': 3}; it must be keep, free"),
        ([{"at": 3, "filters": "on"}], "[0] switches the filters, but there are none"),
        ([{"at": 3, "filters": "maybe"}], "[0].filters is 'maybe'; it must be on or off"),
        ([{"at": 3, "filters": ["on"]}], "[0].filters is ['on']; it must be on or off"),
        ([{"at": 3, "set": {}}], "[0] changes nothing; give it one of set, freeze, weight_norm, filters"),
        ({"at": 3, "freeze": "head"}, "expected: a list of mappings or null"),
        ([{"at": 3, "weight_norm": "keep"}, {"at": 9, "freeze": "head"}], "use one of the two"),
    ],
)
def test_what_is_refused(command: Command, tmp_path: Path, changes: list[Any], told: str) -> None:
    status, _, err = command("fit", *TINY, "--model.interventions", json.dumps(changes))
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert told in err
    assert not list(tmp_path.iterdir())


def test_none_count_as_none(command: Command) -> None:
    fit(command, "none", [], steps=3)
    fit(command, "absent", None, steps=3)
    assert result("none")["config_hash"] == result("absent")["config_hash"]
    fit(command, "some", [{"at": 2, "set": {"lr": 0}}], steps=3)
    assert result("some")["config_hash"] != result("absent")["config_hash"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("interventions", None), ("interventions", [[5, 30]]), ("interventions", [[5]]), ("kept_norms", [])],
)
def test_a_checkpoint_that_forgot_what_was_made_is_not_resumed(command: Command, key: str, value: Any) -> None:
    fit(command, "a", [{"at": 5, "set": {"lr": 0.004}}, {"at": 7, "weight_norm": "keep"}], steps=10)
    path = Path("checkpoints/e/a/last.ckpt")
    checkpoint = load(path) | {key: value}
    save({name: kept for name, kept in checkpoint.items() if kept is not None}, path)
    status, _, err = command("fit", "--ckpt_path", path, "--trainer.max_steps", 20)
    assert (status, err.count("\n")) == (2, 1)
    assert f"its {key} is " in err


def test_names_of_runs_keep_the_parts_of_an_intervention_apart(command: Command) -> None:
    changes = [[], [{"at": 10, "set": {"lr": 0.1, "weight_decay": 0}, "weight_norm": 3}, {"at": 20, "freeze": []}]]
    plan = read_plan(write("named", {"model.interventions": changes}))
    assert [plan.fresh_name(run).rpartition("__")[0] for run in plan.runs] == [
        "interventions=none",
        "interventions=_at=10_set=lr=0.1_weight_decay=0_weight_norm=3_at=20_f",
    ]


def test_numbers_that_yaml_takes_for_text(command: Command) -> None:
    fit(command, "json", [{"at": 2, "set": {"lr": 0.001}, "weight_norm": 20}], steps=3)
    Path("changes.yaml").write_text("model: {interventions: [{at: 2, set: {lr: 1e-3}, weight_norm: 2E1}]}")
    fit(command, "yaml", None, "--config", "changes.yaml", steps=3)
    assert result("yaml")["config_hash"] == result("json")["config_hash"]
    plan = read_plan(write("swept", {"model.interventions": [[{"at": 2, "set": {"lr": "1e-3"}}]]}))
    assert plan.config(plan.runs[0], "a")["model"]["interventions"] == [{"at": 2, "set": {"lr": 0.001}}]


def test_running_means_of_a_frozen_part_stay_too(command: Command) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
    own = [*TINY[:4], *TINY[-4:], "--model.network", "ordinary_modules.BatchNorm", "--evaluation.per_decade", 0]
    own += ["--evaluation.every", 5, "--experiment", "e", "--trainer.max_steps", 60]
    freeze = ["--model.interventions", "[{at: 20, freeze: all}]"]
    for run, more in (("frozen", freeze), ("trained", [])):
        assert command("fit", *own, "--run", run, *more)[::2] == (0, "")
    losses = {row["step"]: row["val/loss"] for row in metrics("frozen")}
    assert len({loss for step, loss in losses.items() if step >= 20}) == 1
    assert len({loss for step, loss in losses.items() if step <= 20}) > 3
    assert metrics("trained")[-1]["val/loss"] != metrics("frozen")[-1]["val/loss"]
