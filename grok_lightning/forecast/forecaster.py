"""The forecaster: from a run up to a step, the distribution of the steps that it still takes to grok."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import exp, inf, isfinite, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from grok_lightning.errors import UserError, show
from grok_lightning.files import write_durably
from grok_lightning.forecast.features import NAMES, features
from grok_lightning.forecast.history import History
from grok_lightning.forecast.mixture import Waits, fit_mixture
from grok_lightning.reading import Malformed, read_json
from grok_lightning.records.record import DIVERGED

Values = NDArray[np.float64]
SHIPPED = Path(__file__).with_name("forecaster.json")
FORM = 1  # version of the file's form
COLUMNS = ("mean", "scale", "when", "ever")  # of a feature in it
LEVEL = 0.8  # of intervals
LANDMARKS = (1.0, 1.6, 2.5, 4.0, 6.4, 11.0, 24.0)  # multiples of the memorize step at which forecasts are learnt
RIDGE = 10.0  # weight of the squared coefficients of standardized features
FOLDS = 5  # of the calibration
SMALLEST = 1e-6  # standard deviation of a feature that varies
FAR = 3.0  # standard deviations beyond which a feature counts as no farther


@dataclass(frozen=True)
class Forecast:
    """A forecast made at a step: remaining steps are log-logistic, if the run groks at all.

    Attributes:
        step: The step at which it was made.
        location: ln of the median of the remaining steps.
        scale: Scale of that logarithm's logistic distribution.
        ever: Probability that the run groks, however long it is trained.
    """

    step: int
    location: float
    scale: float
    ever: float = 1.0

    def quantile(self, share: float) -> float:
        """The step by which the run groks with a probability, given that it does; never at or before ``step``."""
        exponent = self.location + self.scale * float(logit(share))
        return self.step + (exp(exponent) if exponent < 700 else inf)

    @property
    def median(self) -> float:
        """The grok step to expect, if there is one."""
        return self.quantile(0.5)

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of 80 % of the grok step, if there is one."""
        return self.quantile((1 - LEVEL) / 2), self.quantile((1 + LEVEL) / 2)

    def by(self, step: float) -> float:
        """Probability that the run groks after ``self.step`` and up to a step; 0 for an earlier one."""
        if step <= self.step:
            return 0.0
        if not isfinite(self.location):
            return 0.0 if self.location > 0 else self.ever
        return self.ever * float(expit((log(step - self.step) - self.location) / self.scale))


@dataclass(frozen=True)
class Forecaster:
    """A fitted forecaster: two linear functions of standardized features.

    Attributes:
        names: The features it uses, F.
        means: Their means in the runs it was fitted to, which stand for one that is not known.
        scales: Their standard deviations.
        when: Weights of ln of the median of the remaining steps: a constant, then one per feature, 1 + F.
        ever: Weights of the log odds of grokking at all, likewise.
        scale: Scale of ln(remaining steps), such that intervals cover 80 % of held-out runs.
        fitted: What it was fitted to: numbers of runs and conditions, and sources.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    when: tuple[float, ...]
    ever: tuple[float, ...]
    scale: float
    fitted: dict[str, Any] = field(default_factory=dict)

    def __call__(self, history: History, step: float = inf) -> Forecast | None:
        """The forecast for a run at its last evaluation up to a step; None before it memorized, once it grokked, and
        where no rows are held out for validation."""
        known = history.until(step)
        if (
            not known.validated
            or known.memorize_step is None
            or known.grok_step is not None
            or np.isnan(known.columns["val/acc"][-1])
        ):
            return None
        values = features(known, step)[None, [NAMES.index(name) for name in self.names]]
        location, odds = (float(each[0]) for each in self.evaluate(values))
        return Forecast(known.last, location, self.scale, float(expit(odds)))

    def evaluate(self, values: Values) -> tuple[Values, Values]:
        """Both linear functions, N each, of the values of its features, shape (N, F)."""
        inputs = _standardize(values, np.array(self.means), np.array(self.scales))
        return inputs @ np.array(self.when), inputs @ np.array(self.ever)

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        columns = (self.names, self.means, self.scales, self.when[1:], self.ever[1:])
        rows = {name: dict(zip(COLUMNS, numbers, strict=True)) for name, *numbers in zip(*columns, strict=True)}
        content = {"form": FORM, "fitted": self.fitted, "scale": self.scale, "when": self.when[0], "ever": self.ever[0]}
        write_durably(path, (json.dumps(content | {"features": rows}, indent=1) + "\n").encode())


def describe(forecast: Forecast, budget: int) -> str:
    """A forecast in a few words: the step and its interval, or that the budget is probably too small."""
    chance = forecast.by(budget)
    if chance < 0.5:
        return f"grok by step {budget:,} unlikely ({chance:.0%})"
    low, high = forecast.interval
    return f"grok expected at {forecast.median:,.0f} ({low:,.0f} to {high:,.0f})"


def read_forecaster(path: Path) -> Forecaster:
    """Reads what ``Forecaster.save`` wrote.

    Raises:
        UserError: The file cannot be read, is none of that form, or names features that this version does not have.
    """
    try:
        content = read_json(path)
        if content["form"] != FORM:
            raise UserError(f"{str(path)!r}: form {show(content['form'])} of a forecaster, this program reads {FORM}")
        return _parse(content)
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read ({error.strerror}); give a file that --refit wrote") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UserError) and not isinstance(error, Malformed):
            raise
        reason = getattr(error, "reason", None) or f"{type(error).__name__}: {error}"
        raise UserError(f"{str(path)!r}: no forecaster ({reason}); give a file that --refit wrote") from None


def _parse(content: dict[str, Any]) -> Forecaster:
    rows = content["features"]
    unknown = [name for name in rows if name not in NAMES]
    if unknown:
        raise ValueError(f"it uses {show(unknown[0])}, which is no feature here")
    means, scales, when, ever = (tuple(float(row[key]) for row in rows.values()) for key in COLUMNS)
    when, ever = (float(content["when"]), *when), (float(content["ever"]), *ever)
    scale = float(content["scale"])
    if not np.isfinite([*means, *scales, *when, *ever, scale]).all() or min(scale, *scales, inf) <= 0:
        raise ValueError("a number in it is not finite, or a scale not above 0")
    return Forecaster(tuple(rows), means, scales, when, ever, scale, dict(content.get("fitted") or {}))


@cache
def shipped_forecaster() -> Forecaster:
    """The forecaster of this package."""
    return read_forecaster(SHIPPED)


def fit_forecaster(histories: Sequence[History], fitted: dict[str, Any] | None = None) -> Forecaster:
    """Fit a forecaster to runs, censored ones included.

    Each run that waits after memorizing gives rows at several steps. The scale is then set so that intervals of 80 %
    cover 80 % of the runs of conditions that were left out of the fit.

    Args:
        histories: The runs.
        fitted: What to note of where they come from.

    Raises:
        UserError: Fewer than 5 conditions have a run that grokked after memorizing.
    """
    landmarks = _tabulate([history for history in histories if history.waits])
    reached = {group for group, high in zip(landmarks.groups, landmarks.waits.high, strict=True) if isfinite(high)}
    if len(reached) < FOLDS:
        raise UserError(
            f"a forecaster needs {FOLDS} conditions or more with a run that grokked after it memorized; "
            f"there are {len(reached)}"
        )
    fit = _fit(landmarks)
    counts = {
        "runs": len(set(landmarks.runs)),
        "conditions": len(set(landmarks.groups)),
        "grokked": len(landmarks.seen),
    }
    return replace(fit, scale=fit.scale * _calibrate(landmarks), fitted=counts | (fitted or {}))


@dataclass(frozen=True)
class _Landmarks:
    """Rows to fit: features, remaining steps, and the run and condition each belongs to."""

    values: Values
    waits: Waits
    runs: NDArray[np.intp]
    groups: NDArray[np.intp]

    @property
    def seen(self) -> set[int]:
        """The runs that grokked."""
        return set(self.runs[np.isfinite(self.waits.high)].tolist())

    def select(self, kept: NDArray[np.bool_]) -> "_Landmarks":
        waits = Waits(self.waits.low[kept], self.waits.high[kept])
        return _Landmarks(self.values[kept], waits, self.runs[kept], self.groups[kept])


def _tabulate(histories: Sequence[History]) -> _Landmarks:
    numbers: dict[Any, int] = {}
    rows = []
    for run, history in enumerate(histories):
        group = numbers.setdefault(history.condition(), len(numbers))
        for now in landmark_steps(history):
            low, high = remaining(history, now)
            rows.append((features(history, now), low, high, run, group))
    columns = [np.array(column) for column in zip(*rows, strict=True)] or [
        np.empty((0, len(NAMES))),
        *[np.empty(0)] * 4,
    ]
    return _Landmarks(columns[0], Waits(columns[1], columns[2]), columns[3], columns[4])


def landmark_steps(history: History) -> list[int]:
    """The evaluations of a run at which forecasts are learnt: after memorizing, before grokking."""
    assert history.memorize_step is not None
    end = history.grok_step if history.grok_step is not None else history.last
    found = []
    for multiple in LANDMARKS:
        place = int(np.searchsorted(history.steps, multiple * history.memorize_step, side="right")) - 1
        now = int(history.steps[place]) if place >= 0 else -1
        if history.memorize_step <= now < end and now not in found:
            found.append(now)
    return found


def remaining(history: History, now: int) -> tuple[float, float]:
    """Natural logarithms of the fewest and most steps from an evaluation to the grok, as ``Waits`` has them."""
    if history.grok_step is None:  # one that diverged would never have grokked
        last = history.budget if history.record.get("status") == DIVERGED else history.last
        return log(max(last - now, 1e-9)), inf
    before = max(history.grok_after or 0, now) - now
    return (log(before) if before > 0 else -inf), log(history.grok_step - now)


def _standardize(values: Values, means: Values, scales: Values) -> Values:
    """Standardized features with ones in front; 0 for one that is not known."""
    inputs = np.clip((np.where(np.isfinite(values), values, means) - means) / scales, -FAR, FAR)
    return np.concatenate([np.ones((len(inputs), 1)), inputs], axis=1)


def _fit(landmarks: _Landmarks) -> Forecaster:
    """Fit to all features that vary, without the calibration of the scale."""
    known = np.where(np.isfinite(landmarks.values), landmarks.values, np.nan)
    varies = [len(set(column[np.isfinite(column)])) > 1 and np.nanstd(column) > SMALLEST for column in known.T]
    columns = known[:, varies]
    means, scales = np.nanmean(columns, axis=0), np.nanstd(columns, axis=0)
    found = fit_mixture(_standardize(columns, means, scales), landmarks.waits, RIDGE)
    names = tuple(name for name, kept in zip(NAMES, varies, strict=True) if kept)
    moments = tuple(means.tolist()), tuple(scales.tolist())
    return Forecaster(names, *moments, tuple(found.when.tolist()), tuple(found.ever.tolist()), found.scale)


def _calibrate(landmarks: _Landmarks) -> float:
    """By how much to widen intervals so that they cover ``LEVEL`` of runs of conditions that were left out.

    Each run has the same weight, shared by its rows. The residual is that of the middle of the steps between which it
    grokked.
    """
    order = np.random.default_rng(0).permutation(int(landmarks.groups.max()) + 1)
    fold = order[landmarks.groups] % FOLDS
    seen = np.isfinite(landmarks.waits.high)
    found, weights = [], []
    for held in range(FOLDS):
        rest, out = fold != held, (fold == held) & seen
        if not out.any() or not seen[rest].any():
            continue
        fit = _fit(landmarks.select(rest))
        columns = [NAMES.index(name) for name in fit.names]
        means, _ = fit.evaluate(landmarks.values[out][:, columns])
        middle = (np.exp(landmarks.waits.low[out]) + np.exp(landmarks.waits.high[out])) / 2
        found.append(np.abs(np.log(middle) - means) / fit.scale)
        runs = landmarks.runs[out]
        weights.append(1 / np.bincount(runs)[runs])
    sizes, shares = np.concatenate(found), np.concatenate(weights)
    order = np.argsort(sizes)
    place = int(np.searchsorted(np.cumsum(shares[order]), LEVEL * shares.sum()))
    return float(sizes[order][min(place, len(sizes) - 1)] / logit((1 + LEVEL) / 2))
