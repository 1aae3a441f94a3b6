"""Records as censored times."""

import numpy as np
import pandas as pd
import pytest

from grok_lightning.statistics import times


def one(**changes):
    record = {"status": "stopped", "steps": 900, "budget": 5000, "grok_step": 700.0, "grok_after": 600.0}
    return times(pd.DataFrame([record | changes]), "grok").iloc[0]


def test_a_run_that_grokked():
    found = one()
    assert (found["step"], found["observed"], found["after"]) == (700, True, 600)


@pytest.mark.parametrize(
    ("status", "steps", "censored_at"),
    [("finished", 5000, 5000), ("diverged", 900, 5000), ("running", 900, 900), ("stopped", 900, 900)],
)
def test_runs_that_did_not(status, steps, censored_at):
    found = one(status=status, steps=steps, grok_step=np.nan)
    assert (found["step"], found["observed"]) == (censored_at, False)
    assert np.isnan(found["after"])


def test_a_run_that_grokked_and_diverged_later_grokked():
    assert one(status="diverged")["step"] == 700


def test_nullable_columns_and_none_at_all():
    runs = pd.DataFrame(
        {"status": ["finished"], "steps": [10], "budget": [10], "grok_step": [None], "grok_after": [None]}
    )
    for kind in (object, "Int64", float):
        typed = runs.astype({"grok_step": kind, "grok_after": kind})
        assert not times(typed, "grok")["observed"].any()
    assert times(runs.iloc[:0], "grok").empty
