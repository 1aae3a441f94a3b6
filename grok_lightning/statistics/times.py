"""Records of runs as times that may be censored."""

from typing import Literal

import numpy as np
import pandas as pd


def times(runs: pd.DataFrame, event: Literal["memorize", "grok"]) -> pd.DataFrame:
    """When each run got there, or until when it is known not to have.

    A run that spent its budget is censored there. So is one that diverged: it would never have got there, and counted
    only to where it broke it would look as if it had merely been watched for less long. One that is still running, or
    was stopped for another reason, is censored at the last step it took.

    Args:
        runs: Their records: ``status``, ``steps``, ``budget``, ``<event>_step`` and ``<event>_after``.
        event: Which accuracy reached the threshold: that in training or that in validation.

    Returns:
        One row per run, with the same index: ``step``, ``observed``, and ``after``, the last evaluated step before it:
        the true moment lies in (after, step]. It is NaN for runs censored, and for those there at the first evaluation.
    """
    reached = runs[f"{event}_step"].astype(float)
    observed = reached.notna()
    steps, budget = runs["steps"].astype(float), runs["budget"].astype(float)
    censored = steps.where(runs["status"] != "diverged", np.fmax(budget, steps))
    after = runs[f"{event}_after"].astype(float).where(observed)
    return pd.DataFrame({"step": reached.fillna(censored), "observed": observed, "after": after})
