"""Median grok step of runs, as a row of a figure's table."""

import pandas as pd

from grok_lightning.statistics import kaplan_meier


def median_row(runs: pd.DataFrame) -> dict[object, object]:
    """Kaplan-Meier median of the grok step with its interval.

    Args:
        runs: ``step`` and ``observed`` of each, ``budget`` and ``threshold``.

    Returns:
        ``kind``, ``step`` (infinity: not reached), its 95 % interval ``low`` and ``high``, ``n``, ``grokked``, and the
        largest ``budget`` and ``threshold``.
    """
    estimate = kaplan_meier(runs["step"], runs["observed"])
    low, high = estimate.median_interval
    counts: dict[object, object] = {"n": len(runs), "grokked": int(runs["observed"].sum())}
    limits = {"budget": runs["budget"].max(), "threshold": runs["threshold"].max()}
    return {"kind": "median", "step": estimate.median, "low": low, "high": high} | counts | limits
