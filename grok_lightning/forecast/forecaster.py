"""The forecaster: from a run up to a step, the distribution of the steps that it still takes to grok."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from math import exp, inf, isfinite, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from grok_lightning.errors import UserError
from grok_lightning.files import write_durably
from grok_lightning.forecast.features import NAMES, features
from grok_lightning.forecast.history import History
from grok_lightning.forecast.mixture import Waits, fit_mixture
from grok_lightning.reading import Malformed, read_json

Values = NDArray[np.float64]
SHIPPED = Path(__file__).with_name("forecaster.json")
FORM = 1  # version of the file's form
LEVEL = 0.8  # of intervals
LANDMARKS = (1.0, 1.6, 2.5, 4.0, 6.4, 11.0, 24.0)  # multiples of the memorize step at which forecasts are learnt
KEPT_WHEN, KEPT_EVER = 20, 6  # features that are left
DROPPED = 2  # features that go at a time
FOLDS = 5  # of the calibration
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
class Part:
    """A linear part of the forecaster.

    Attributes:
        names: The features it uses.
        means: Their means in the runs it was fitted to, which stand for one that is not known.
        scales: Their standard deviations.
        weights: The constant, then a coefficient for each standardized feature.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]

    def __call__(self, values: Values) -> float:
        """The part's value for features in the order of ``NAMES``."""
        inputs = _standardize(values[None, _places(self.names)], np.array(self.means), np.array(self.scales))
        return float((inputs @ np.array(self.weights))[0])


@dataclass(frozen=True)
class Forecaster:
    """A fitted forecaster.

    Attributes:
        when: ln of the median of the remaining steps.
        ever: Log odds of grokking at all.
        scale: Scale of ln(remaining steps), so that intervals cover 80 % of held-out runs.
        fitted: What it was fitted to: numbers of runs and conditions, and sources.
    """

    when: Part
    ever: Part
    scale: float
    fitted: dict[str, Any] = field(default_factory=dict)

    def __call__(self, history: History, step: float = inf) -> Forecast | None:
        """The forecast for a run at its last evaluation up to a step; None before it memorized and once it grokked."""
        known = history.until(step)
        if known.memorize_step is None or known.grok_step is not None or np.isnan(known.columns["val/acc"][-1]):
            return None
        values = features(known, step)
        return Forecast(known.last, self.when(values), self.scale, float(expit(self.ever(values))))

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        parts = {
            name: {"constant": part.weights[0], "features": _describe(part)}
            for name, part in (("when", self.when), ("ever", self.ever))
        }
        content = {"form": FORM, **parts, "scale": self.scale, "fitted": self.fitted}
        write_durably(path, (json.dumps(content, indent=1) + "\n").encode())


def _describe(part: Part) -> dict[str, dict[str, float]]:
    rows = zip(part.names, part.means, part.scales, part.weights[1:], strict=True)
    return {name: {"mean": mean, "scale": scale, "weight": weight} for name, mean, scale, weight in rows}


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
            raise UserError(f"{str(path)!r}: form {content['form']} of a forecaster, this program reads {FORM}")
        parts = [_read_part(content[name]) for name in ("when", "ever")]
        scale = float(content["scale"])
        if not (scale > 0 and isfinite(scale)):
            raise ValueError("its scale is not above 0")
        return Forecaster(parts[0], parts[1], scale, dict(content.get("fitted") or {}))
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be read ({error.strerror}); give a file that --refit wrote") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UserError) and not isinstance(error, Malformed):
            raise
        reason = getattr(error, "reason", None) or f"{type(error).__name__}: {error}"
        raise UserError(f"{str(path)!r}: no forecaster ({reason}); give a file that --refit wrote") from None


def _read_part(content: dict[str, Any]) -> Part:
    rows = content["features"]
    unknown = [name for name in rows if name not in NAMES]
    if unknown:
        raise ValueError(f"it uses {unknown[0]!r}, which is no feature here")
    columns = [tuple(float(row[key]) for row in rows.values()) for key in ("mean", "scale", "weight")]
    weights = (float(content["constant"]), *columns[2])
    if not np.isfinite([*columns[0], *columns[1], *weights]).all() or any(scale <= 0 for scale in columns[1]):
        raise ValueError("a number in it is not finite, or a scale not above 0")
    return Part(tuple(rows), columns[0], columns[1], weights)


@cache
def shipped_forecaster() -> Forecaster:
    """The forecaster of this package."""
    return read_forecaster(SHIPPED)


def fit_forecaster(histories: Sequence[History], fitted: dict[str, Any] | None = None) -> Forecaster:
    """Fit a forecaster to runs, censored ones included.

    Each run that waits after memorizing gives rows at several steps. Both parts begin with all features that vary;
    the weakest standardized coefficients are dropped until few are left. Last, the scale is set so that intervals of 80 %
    cover 80 % of the runs of conditions left out of the fit.

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
    when, ever = _select(landmarks)
    scale = _fit_parts(landmarks, when, ever).scale * _calibrate(landmarks, when, ever)
    fit = _fit_parts(landmarks, when, ever)
    counts = {"runs": len(set(landmarks.runs)), "conditions": len(set(landmarks.groups))}
    counts["grokked"] = len(
        {run for run, high in zip(landmarks.runs, landmarks.waits.high, strict=True) if isfinite(high)}
    )
    return Forecaster(fit.when, fit.ever, scale, counts | (fitted or {}))


@dataclass(frozen=True)
class _Landmarks:
    """Rows to fit: features, remaining steps, and the run and condition each belongs to."""

    values: Values
    waits: Waits
    runs: NDArray[np.intp]
    groups: NDArray[np.intp]

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
    if history.grok_step is None:
        return log(max(history.last - now, 1e-9)), inf
    before = max(history.grok_after or 0, now) - now
    return (log(before) if before > 0 else -inf), log(history.grok_step - now)


def _places(names: Sequence[str]) -> list[int]:
    return [NAMES.index(name) for name in names]


def _standardize(values: Values, means: Values, scales: Values) -> Values:
    """Standardized features with ones in front; 0 for one that is not known."""
    inputs = np.clip((np.where(np.isfinite(values), values, means) - means) / scales, -FAR, FAR)
    return np.concatenate([np.ones((len(inputs), 1)), inputs], axis=1)


@dataclass(frozen=True)
class _Fit:
    when: Part
    ever: Part
    scale: float


def _fit_parts(landmarks: _Landmarks, when: Sequence[str], ever: Sequence[str]) -> _Fit:
    inputs, moments = [], []
    for names in (when, ever):
        columns = landmarks.values[:, _places(names)]
        kept = np.where(np.isfinite(columns), columns, np.nan)
        means = np.nanmean(kept, axis=0)
        scales = np.maximum(np.nanstd(kept, axis=0), 1e-6)
        moments.append((tuple(map(float, means)), tuple(map(float, scales))))
        inputs.append(_standardize(columns, means, scales))
    found = fit_mixture(inputs[0], inputs[1], landmarks.waits)
    parts = [
        Part(tuple(names), *moment, tuple(map(float, weights)))
        for names, moment, weights in zip((when, ever), moments, (found.when, found.ever), strict=True)
    ]
    return _Fit(parts[0], parts[1], found.scale)


def _select(landmarks: _Landmarks) -> tuple[list[str], list[str]]:
    """The features of both parts: all that vary, the weakest dropped until few are left."""
    varied = []
    for name, column in zip(NAMES, landmarks.values.T, strict=True):
        known = column[np.isfinite(column)]
        if len(known) and known.std() > 1e-6:
            varied.append(name)
    when, ever = list(varied), list(varied)
    while len(when) > KEPT_WHEN or len(ever) > KEPT_EVER:
        fit = _fit_parts(landmarks, when, ever)
        when = _strongest(fit.when, KEPT_WHEN)
        ever = _strongest(fit.ever, KEPT_EVER)
    return when, ever


def _strongest(part: Part, kept: int) -> list[str]:
    """A part's features without the weakest, at most ``DROPPED`` of which go at a time."""
    count = max(len(part.names) - DROPPED, kept)
    order = np.argsort(-np.abs(part.weights[1:]), kind="stable")[:count]
    return [part.names[place] for place in sorted(order)]


def _calibrate(landmarks: _Landmarks, when: Sequence[str], ever: Sequence[str]) -> float:
    """By how much to widen intervals so that they cover ``LEVEL`` of runs of conditions that were left out.

    The residual of a run is that of the middle of the steps between which it grokked, averaged over its rows' ranks by
    giving each run the same weight.
    """
    order = np.random.default_rng(0).permutation(int(landmarks.groups.max()) + 1)
    fold = order[landmarks.groups] % FOLDS
    seen = np.isfinite(landmarks.waits.high)
    found, weights = [], []
    for held in range(FOLDS):
        rest, out = fold != held, (fold == held) & seen
        if not out.any() or not np.isfinite(landmarks.waits.high[rest]).any():
            continue
        fit = _fit_parts(landmarks.select(rest), when, ever)
        means = np.array([fit.when(row) for row in landmarks.values[out]])
        middle = (np.exp(landmarks.waits.low[out]) + np.exp(landmarks.waits.high[out])) / 2
        found.append(np.abs(np.log(middle) - means) / fit.scale)
        runs = landmarks.runs[out]
        weights.append(1 / np.bincount(runs)[runs])
    sizes, shares = np.concatenate(found), np.concatenate(weights)
    order = np.argsort(sizes)
    place = int(np.searchsorted(np.cumsum(shares[order]), LEVEL * shares.sum()))
    return float(sizes[order][min(place, len(sizes) - 1)] / logit((1 + LEVEL) / 2))
