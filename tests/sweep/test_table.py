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
        steps = sorted(rng.sample(range(1, BUDGET), 2)) if status == "stopped" else [rng.choice([7, np.nan]), np.nan]
        row = {"config_hash": run.hash, "memorize_step": steps[0], "grok_step": steps[1]}
        rows.append(row | {"status": status})
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
        for name, column in (("memorized at", "memorize_step"), ("grokked at", "grok_step")):
            assert told[name] == said(valid[column])
        for status in ("diverged", "failed", "missing"):
            assert int(told.get(status, 0)) == (mine["status"] == status).sum()


def said(steps: "pd.Series[float]") -> str:
    """The Kaplan-Meier median: a run without a step is censored at the budget."""
    if not len(steps):
        return "-"
    median = kaplan_meier(steps.fillna(BUDGET), steps.notna()).median
    return f"{median:,.0f}" if np.isfinite(median) else "not reached"


def test_of_many_combinations_the_first_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = read_plan(write("many", {"model.optimizer.lr": [0.001 * place for place in range(1, MOST_LINES + 4)]}))
    lines = format_table(plan, Standing({}, {})).split("\n")
    assert len(lines) == 1 + MOST_LINES + 1
    assert lines[-1] == "... and 3 more combinations"
