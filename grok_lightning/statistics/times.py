"""Steps of memorizing and grokking, right-censored, from records of runs."""

from typing import Literal

import numpy as np
import pandas as pd


def times(runs: pd.DataFrame, event: Literal["memorize", "grok"]) -> pd.DataFrame:
    """Step of an event of each run, right-censored.

    A run that spent its budget is censored there. So is one that diverged: it would never have reached the threshold,
    and censored at its last step it would count as merely observed for a shorter time. One that is still running, or
    was stopped for another reason, is censored at its last step.

    Args:
        runs: Their records: ``status``, ``steps``, ``budget``, ``<event>_step`` and ``<event>_after``.
        event: ``memorize``, when training accuracy reaches the threshold, or ``grok``, when validation accuracy does.

    Returns:
        One row per run, with the same index: ``step``, ``observed``, and ``after``, the last evaluated step before it:
        the event lies in (after, step]. NaN for censored runs, and where the first evaluation is at the threshold.
    """
    reached = runs[f"{event}_step"].astype(float)
    observed = reached.notna()
    steps, budget = runs["steps"].astype(float), runs["budget"].astype(float)
    censored = steps.where(runs["status"] != "diverged", np.fmax(budget, steps))
    after = runs[f"{event}_after"].astype(float).where(observed)
    return pd.DataFrame({"step": reached.fillna(censored), "observed": observed, "after": after})
