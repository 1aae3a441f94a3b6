"""The closing table of a sweep counts and takes medians as reports do, run by run."""

import random
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_sweeps import write

from grok_lightning.statistics import kaplan_meier
from grok_lightning.sweep.plan.pending import Standing
from grok_lightning.sweep.plan.runs import Plan, read_plan
from grok_lightning.sweep.show.table import MOST_LINES, format_table

BUDGET = 400
RATES = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(tmp_path)
    return read_plan(write("small", {"model.optimizer.lr": RATES, "seed_everything": [0, 1, 2, 3, 4]}))


def outcomes(plan: Plan, seed: int) -> pd.DataFrame:
    """What each planned run came to, drawn at random; some are missing."""
    rng = random.Random(seed)
    rows = []
    for run in plan.runs:
        status = rng.choice(["stopped", "stopped", "finished", "diverged", "failed", "missing"])
        steps: list[float] = sorted(rng.sample(range(1, BUDGET), 2))
        if status != "stopped" or rng.random() < 0.2:  # by a callback, before it grokked
            steps = [rng.choice([7, np.nan]), np.nan]
        row = {"config_hash": run.hash, "memorize_step": steps[0], "grok_step": steps[1]}
        taken = 300 if status == "stopped" else 90 if status == "diverged" else BUDGET
        rows.append(row | {"status": status, "steps": taken, "budget": BUDGET})
    return pd.DataFrame(rows)


def standing(rows: pd.DataFrame) -> Standing:
    there = rows[rows["status"] != "missing"]
    return Standing(dict(zip(there["config_hash"], there["status"], strict=True)), {}, there)


@pytest.mark.parametrize("seed", range(8))
def test_counts_and_medians_are_those_of_the_runs(plan: Plan, seed: int) -> None:
    rows = outcomes(plan, seed)
    head, *lines = (re.split(r"\s{2,}", line.strip()) for line in format_table(plan, standing(rows)).split("\n"))
    assert head[:5] == ["lr", "runs", "grokked", "memorized at", "grokked at"]
    assert len(lines) == len(RATES)
    for place, line in enumerate(lines):
        mine = rows.iloc[5 * place : 5 * place + 5]
        told = dict(zip(head, line, strict=True))
        assert float(told["lr"]) == RATES[place]
        valid = mine[~mine["status"].isin(["failed", "missing"])]
        assert told["grokked"] == f"{valid['grok_step'].notna().sum()} of {len(valid)}"
        for name, event in (("memorized at", "memorize"), ("grokked at", "grok")):
            assert told[name] == said(valid, event)
        for status in ("diverged", "failed", "missing"):
            assert int(told.get(status, 0)) == (mine["status"] == status).sum()


def said(runs: pd.DataFrame, event: str) -> str:
    """The Kaplan-Meier median, and the steps of few runs: one without is censored at its last, or the budget."""
    if not len(runs):
        return "-"
    seen = runs[f"{event}_step"].notna()
    steps = runs[f"{event}_step"].fillna(runs["steps"].where(runs["status"] != "diverged", BUDGET))
    median = kaplan_meier(steps, seen).median
    words = f"{median:,.1f}".removesuffix(".0") if np.isfinite(median) else "not reached"
    each = [f"{'' if known else '> '}{step:.0f}" for step, known in sorted(zip(steps, seen, strict=True), key=_by_step)]
    return f"{words}: {'; '.join(each)}" if len(runs) < 5 and len(set(each)) > 1 else words


def _by_step(run: tuple[float, bool]) -> tuple[float, bool]:
    return run[0], not run[1]


def test_two_runs_have_the_middle_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = read_plan(write("two", {"model.optimizer.lr": [0.01, 0.02, 0.03], "seed_everything": [0, 1]}))
    grokked = [4600, 9700, 1400, np.nan, np.nan, np.nan]
    rows = [
        {"config_hash": run.hash, "status": "finished", "steps": 20_000, "budget": 20_000, "memorize_step": 300}
        | {"grok_step": step}
        for run, step in zip(plan.runs, grokked, strict=True)
    ]
    lines = format_table(plan, standing(pd.DataFrame(rows))).split("\n")
    at = lines[0].index("memorized at")
    assert [re.sub(r"\s{2,}", " | ", line[at:].strip()) for line in lines[1:]] == [
        "300 | 7,150: 4,600; 9,700", "300 | 1,400: 1,400; > 20,000", "300 | not reached",
    ]  # fmt: skip
    rows[0] |= {"steps": None, "budget": None, "grok_step": None}  # of an early version
    assert "9,700: 9,700; > 20,000" in format_table(plan, standing(pd.DataFrame(rows)))


def test_of_many_combinations_the_first_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = read_plan(write("many", {"model.optimizer.lr": [0.001 * place for place in range(1, MOST_LINES + 4)]}))
    lines = format_table(plan, Standing({}, {})).split("\n")
    assert len(lines) == 1 + MOST_LINES + 1
    assert lines[-1] == "... and 3 more combinations"
