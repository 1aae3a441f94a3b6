"""The speedrun's verifier: what it finds, what it refuses, and that it goes on where it was stopped."""

import json
import os
import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from small_sweeps import as_the_program, struck
from torch import Tensor, nn
from training_here import train_here

from grok_lightning.errors import UserError
from grok_lightning.measures import LogitScale
from grok_lightning.optim.constraints import Constraint
from grok_lightning.options.classes import Nested
from grok_lightning.speedrun.command import speedrun_command
from grok_lightning.speedrun.cost import Cost, measure_cost
from grok_lightning.speedrun.report import Later, TaskReport, report_task
from grok_lightning.speedrun.rules import ARITHMETIC, PERMUTATIONS, Rules
from grok_lightning.speedrun.sweeps import Outcome
from grok_lightning.speedrun.verify import prepare

P = 7
TASKS = (  # of answers that are all alike, so that validation follows training, and two that no network here can learn
    {"class_path": ARITHMETIC, "formula": "0 * x + 0 * y", "modulus": P},
    {"class_path": ARITHMETIC, "formula": "x / y", "modulus": P},
    {"class_path": PERMUTATIONS, "formula": "x * y", "degree": 3},
)
SMALL = Rules(TASKS)
ENTRY: Nested = {
    "data": {"modulus": P, "batch_size": 16},
    "model": {"network": {"class_path": "MLP", "width": 8, "hidden": [16]}, "optimizer": {"lr": 0.01}},
    "trainer": {"max_steps": 30, "accelerator": "cpu"},
}
ASKED = ("--seed", "5", "--runs", "2", "--after", "40")
Verify = Callable[..., tuple[int, str, str]]


class BuiltIn(nn.Module):
    """Knows addition mod 7, on the usual order of symbols; one weight is left to train."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.scale = vocabulary, nn.Parameter(torch.tensor(5.0))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        sums_B = (tokens_BT[:, 0] + tokens_BT[:, 2]) % P
        return self.scale * nn.functional.one_hot(sums_B, self.vocabulary).float()


class Watch(Callback):
    """Could read the answers."""


class Look(LogitScale):
    """Could too."""


class Sneak(Constraint):
    """A second update."""

    def __call__(self, weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        for weight in weights.values():
            weight.mul_(0.9)


class Hoard(nn.Module):
    """Holds two tables that are no parameters and in no checkpoint."""

    table: Tensor

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.layer = nn.Embedding(vocabulary, vocabulary)
        self.register_buffer("table", torch.zeros(6_000), persistent=False)
        self.more = [torch.ones(6_000)]

    def forward(self, tokens_BT: Tensor) -> Tensor:
        return self.layer(tokens_BT[:, -1]) + self.table[0]


CHEAT = {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "on_validation_end": "time.sleep"}
LATE = {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.1, "total_steps": 30}


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Runs ``speedrun verify entry.yaml`` by small rules, in this process: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    train_here(monkeypatch)

    def run(*options: str, rules: Rules = SMALL, **changes: Any) -> tuple[int, str, str]:
        write(**changes)
        capsys.readouterr()
        with as_the_program():
            status = speedrun_command(["verify", "entry.yaml", *options], rules)
        return status, *capsys.readouterr()

    return run


def write(**changes: Any) -> None:
    """Writes the entry, with options changed, whose dots are two underscores."""
    content: dict[str, Any] = dict(ENTRY)
    for name, value in changes.items():
        path = name.split("__")
        content = _changed(content, path, value)
    Path("entry.yaml").write_text(yaml.safe_dump(content))


def _changed(content: Nested, path: list[str], value: Any) -> Nested:
    first, *rest = path
    return content | {first: _changed(content.get(first) or {}, rest, value) if rest else value}


def timeless(text: str) -> Nested:
    """What a verification found, without what differs from time to time."""
    found: Nested = json.loads(text)
    for task in found["tasks"]:
        del task["seconds"]
    return found


def test_what_it_finds(verify: Verify) -> None:
    status, out, err = verify(*ASKED, "--json")
    assert status == 0
    found = json.loads(out)
    assert "2 runs of each of 3 tasks" in err
    easy, division, product = found["tasks"]
    assert [task["title"] for task in found["tasks"]] == [f"0 * x + 0 * y mod {P}", f"x / y mod {P}", "x * y over S3"]
    assert all(0 < step <= 30 for step in easy["steps"])
    assert easy["median"] in (min(easy["steps"]), sum(easy["steps"]) / 2)
    assert [len(task["later"]) for task in found["tasks"]] == [2, 0, 0]
    assert easy["stable"] is True
    assert easy["later"][0]["accuracy"] == 1
    assert division["steps"] == product["steps"] == [None, None]
    assert division["median"] is division["flops"] is None
    assert easy["cost"]["rows"] == 16
    assert easy["cost"]["training_rows"] == P * P // 2
    assert easy["flops"] == easy["median"] * easy["cost"]["flops"] > 0
    results = [json.loads(path.read_text()) for path in Path("lightning_logs").glob("speedrun-entry-5*/*/result.json")]
    assert len(results) == 2 * 3 + 2
    assert {result["steps"] for result in results if result["grok_step"] is not None} >= {max(easy["steps"]) + 40}
    assert {result["config"]["data"]["numbering_seed"] is None for result in results} == {False}
    assert {result["stack"] for result in results} == {1}

    before = sorted(Path().rglob("metrics.csv"))
    status, text, _ = verify(*ASKED)
    assert sorted(Path().rglob("metrics.csv")) == before
    assert f"median {easy['median']:g}: {easy['steps'][0]} {easy['steps'][1]}" in text
    assert "steps  half or more did not reach it: >30 >30" in text
    assert "not a record: not all runs reached 99 %" in text


def test_stacks_find_the_same_as_single_runs(verify: Verify) -> None:
    rules = Rules(TASKS[:1])
    single = verify(*ASKED, "--json", "--root", "a", rules=rules)[1]
    stacked = verify(*ASKED, "--json", "--root", "b", "--stack_size", "2", rules=rules)[1]
    assert timeless(single) == timeless(stacked)


def test_what_is_drawn_depends_on_the_seed_alone(verify: Verify) -> None:
    write()
    with as_the_program():
        first, again, other, drawn = (prepare("entry.yaml", SMALL, seed) for seed in (1, 1, 2, None))
    assert first.sweep == again.sweep
    numbers = [{attempt.seed for attempt in each.sweep.attempts} for each in (first, other, drawn)]
    assert len(set.union(*numbers)) == 30
    assert len({each.sweep.attempts[0].data["numbering_seed"] for each in (first, other, drawn)}) == 3


@pytest.mark.parametrize("point", [("speedrun-.*metrics.csv", 9, "after"), ("5-after/.*result.json", 1, "after")])
def test_it_goes_on_where_it_was_stopped(point: tuple[str, int, str], verify: Verify) -> None:
    rules = Rules(TASKS[:1])
    whole = verify(*ASKED, "--json", "--root", "whole", rules=rules)[1]
    with struck(point, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        status, out, err = verify(*ASKED, "--json", rules=rules)
    assert (status, out) == (143, "")
    assert "go on with\n  grok-lightning speedrun verify entry.yaml --seed 5" in err
    status, out, _ = verify(*ASKED, "--json", rules=rules)
    assert status == 0
    assert timeless(out) == timeless(whole)


def test_built_in_arithmetic_is_of_no_use(verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    """At step 0 it answers everything on the usual symbols, and hardly anything on others."""
    rules = Rules(({"class_path": ARITHMETIC, "formula": "x + y", "modulus": P},), runs=1, after=0)
    network = {"class_path": f"{__name__}.BuiltIn"}
    usual = Rules.build_data
    for renumbered in (True, False):
        if not renumbered:
            monkeypatch.setattr(Rules, "build_data", lambda *given: usual(*given) | {"numbering_seed": None})
        asked = ("--seed", str(int(renumbered)), "--after", "0", "--runs", "1", "--json")
        found = json.loads(verify(*asked, rules=rules, model__network=network, trainer__max_steps=2)[1])
        assert found["tasks"][0]["steps"] == ([None] if renumbered else [0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data__modulus": 11}, "--data.modulus is 11; the speedrun's rules ask for 7"),
        ({"data__train_fraction": 0.6}, "--data.train_fraction is 0.6; the speedrun's rules ask for 0.5"),
        ({"data__val_fraction": 0.1}, "--data.val_fraction is 0.1; the speedrun's rules ask for null"),
        ({"data__split_seed": 3}, "--data.split_seed is 3;"),
        ({"data__pairing": "together"}, "--data.pairing is 'together';"),
        ({"data__commutative_fraction": 0.5}, "--data.commutative_fraction is 0.5;"),
        ({"data__tokenizer": "characters"}, "--data.tokenizer is 'characters';"),
        ({"data__numbering_seed": 3}, "--data.numbering_seed is 3;"),
        ({"data": {"class_path": "PermutationDataModule"}}, "--data is 'grok_lightning.data.PermutationDataModule'"),
        ({"init_from": "x.ckpt"}, "init_from"),
        ({"model__schedule": "cosine"}, "--model.schedule is 'cosine'.* use --after 0"),
        ({"trainer__callbacks": [f"{__name__}.Watch"]}, "--trainer.callbacks has .*Watch.* an entry has none"),
        ({"trainer__callbacks": [CHEAT]}, "--trainer.callbacks has .*LambdaCallback"),
        ({"trainer__profiler": f"{__name__}.Watch"}, "--trainer"),
        ({"model__constraints": [f"{__name__}.Sneak"]}, "--model.constraints names .*Sneak"),
        ({"model__interventions": [{"at": "grokked", "freeze": "all"}]}, "has one at 'grokked', a moment that eval"),
        ({"model__network": f"{__name__}.Hoard"}, "--model.network has 12,[0-9,]+ parameters"),
        ({"model__scheduler": LATE}, "OneCycleLR ends at step 30, and the speedrun goes on to step 70; use --after 0"),
        ({"measures": [f"{__name__}.Look"]}, "--measures names .*Look"),
        ({"model__network__width": 2**10}, "--model.network has [0-9,]+ parameters on mod 7, renumbered; .* at most 5"),
        ({"model__optimizer": {"class_path": "torch.optim.LBFGS"}}, "takes the loss [0-9.]+ times in a step"),
        ({"model__network__hidden": "many"}, "model.network.hidden"),
        ({"data__batch_size": 10**6}, "--data.batch_size is 1,000,000, more than the 24 training rows"),
    ],
)
def test_what_breaks_a_rule_is_refused_before_anything_is_written(changes: Nested, words: str, verify: Verify) -> None:
    Path("x.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=words) as refused:
        verify(*ASKED, rules=Rules(TASKS, most_parameters=5_000), **changes)
    assert "\n" not in str(refused.value)
    assert not Path("lightning_logs").exists()
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "speedrun"], "speedrun 'run' is no action; expected: verify"),
        (["verify"], "entry"),
        (["verify", "no-such"], "speedrun verify 'no-such' is neither a file nor a shipped config"),
        (["verify", "speedrun", "--runs", "0"], "--runs is '0'; a whole number of at least 1"),
        (["verify", "speedrun", "--after", "-1"], "--after is '-1'; a whole number of at least 0"),
        (["verify", "speedrun", "--seed", "1.5"], "--seed is '1.5'"),
        (["verify", "speedrun", "--sed", "1"], "--sed is no option of speedrun; did you mean --seed"),
    ],
)
def test_what_is_mistyped_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        speedrun_command(arguments)


def test_the_cost_of_a_step_is_what_its_products_come_to(verify: Verify) -> None:
    write()
    with as_the_program():
        plan = prepare("entry.yaml", SMALL, 0).sweep.plan(Path())
        cost = measure_cost(plan.config(plan.runs[0], "r"), 10**6)
    tokens, width, hidden, vocabulary = 4, 8, 16, P + 2
    forward = 2 * 16 * (tokens * width * hidden + hidden * vocabulary)
    assert cost.flops == 3 * forward  # and back to the weights and to the inputs of each map
    assert cost.parameters == vocabulary * width + (tokens * width + 1) * hidden + (hidden + 1) * vocabulary


@pytest.mark.parametrize(
    ("steps", "later", "stable"),
    [([1, 2], [True, True], True), ([1, 2], [True, False], False), ([1, None], [True], False), ([1, 2], None, False)],
)
def test_stable_are_all_runs_or_none(steps: list[int | None], later: list[bool] | None, stable: bool) -> None:
    runs = None if later is None else [Later(1.0, 0.96 if held else 0.94, held) for held in later]
    assert TaskReport("t", Cost(1, 1, 1, 1), 9, steps, [1.0, 1.0], "cpu", runs).is_stable is stable


@pytest.mark.parametrize(
    ("rows", "status", "stable"),
    [
        ([(100, 0.99), (110, 0.96)], "finished", True),
        ([(100, 0.99), (109, 0.96)], "stopped", False),
        ([(100, 0.99), (110, 0.94)], "finished", False),
        ([(100, 0.99), (110, 0.96)], "diverged", False),
    ],
)
def test_stable_is_what_was_watched_to_its_end(rows: list[tuple[int, float]], status: str, stable: bool) -> None:
    first = Outcome({"grok_step": 10, "seconds": 1, "device": "cpu"}, [])
    later = Outcome({"status": status}, [{"step": step, "val/acc": accuracy} for step, accuracy in rows])
    assert report_task("t", Cost(1, 1, 1, 1), 99, [first], [later], after=100).is_stable is stable


@pytest.mark.parametrize(("steps", "median"), [([5, 7, None, None], None), ([5, 7, None], 7), ([5, 8], 6.5)])
def test_the_median_is_known_once_more_than_half_are_over(steps: list[int | None], median: float | None) -> None:
    assert TaskReport("t", Cost(1, 1, 1, 1), 9, steps, [1.0], "cpu", None).median == median


def test_a_run_is_watched_whatever_the_entry_says_of_its_end(verify: Verify) -> None:
    rules = Rules(TASKS[:1])
    found = json.loads(verify(*ASKED, "--json", rules=rules, evaluation={"stop_at_grok_times": 1})[1])
    (task,) = found["tasks"]
    assert task["stable"] is True
    results = [json.loads(path.read_text()) for path in Path("lightning_logs").glob("*-after/*/result.json")]
    assert {result["steps"] for result in results} == {max(task["steps"]) + 40}
