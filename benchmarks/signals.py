"""Early-warning signals: when each raises its alarm. A signal is an entry of ``SIGNALS``."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from grok_lightning.forecast.history import History, Values


class Signal(NamedTuple):
    """A signal.

    Attributes:
        name: For the table.
        rule: The alarm, in words.
        columns: Columns of ``metrics.csv`` it is computed from; the first that a run has is taken.
        alarm: From the column's values since memorization, the first of them included, whether each raises the alarm;
            it must not look ahead.
    """

    name: str
    rule: str
    columns: tuple[str, ...]
    alarm: Callable[[Values], np.ndarray]


def _fallen(share: float) -> Callable[[Values], np.ndarray]:
    return lambda values: values < (1 - share) * np.fmax.accumulate(values)


def _grown(factor: float) -> Callable[[Values], np.ndarray]:
    return lambda values: values > factor * values[0]


def _risen_from_least(factor: float) -> Callable[[Values], np.ndarray]:
    return lambda values: values > factor * np.fmin.accumulate(values)


def _defect(values: Values) -> np.ndarray:
    """10 times the median of the first three, and above 20 (arXiv 2602.16746)."""
    return (values > 10 * np.nanmedian(values[:3])) & (values > 20)


SIGNALS = (
    Signal("norm slope", "the weight norm is 5 % below its highest value", ("norm/weights",), _fallen(0.05)),
    Signal("validation loss turn", "the validation loss is 10 % below its highest value", ("val/loss",), _fallen(0.1)),
    Signal("Fourier Gini", "1.5 times its value at memorization", ("fourier/embedding_gini",), _grown(1.5)),
    Signal("excluded loss", "10 times its least value", ("progress/excluded_loss",), _risen_from_least(10.0)),
    Signal("logit margin", "1.5 times its value at memorization",
           ("logits/margin", "margin/train_q50"), _grown(1.5)),
    Signal("commutator defect", "10 times the median of its first three values, and above 20",
           ("commutator/defect", "commutator"), _defect),
)  # fmt: skip


def column_of(signal: Signal, history: History) -> str | None:
    """The column of a run that a signal is computed from: named as the signal says, or beginning so."""
    for name in signal.columns:
        for column in history.columns:
            if column == name or column.startswith(f"{name}/") or column.startswith(f"{name}_"):
                return column
    return None


def alarm_step(signal: Signal, history: History) -> int | None:
    """The first evaluation after memorization at which a signal raises its alarm; None: never.

    Evaluations without a value, of a measure with a schedule of its own, are skipped.
    """
    values = history.columns[column_of(signal, history) or ""]
    kept = np.isfinite(values) & (history.steps >= (history.memorize_step or 0))
    if not kept.any():
        return None
    raised = signal.alarm(values[kept])
    return int(history.steps[kept][raised][0]) if raised.any() else None
