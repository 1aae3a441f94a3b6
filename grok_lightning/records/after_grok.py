"""What becomes of a run after it has memorized and grokked: whether its accuracy holds, and its dips."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from grok_lightning.reading import Malformed
from grok_lightning.records.columns import encode, to_series
from grok_lightning.records.record import DIVERGED, FAILED, Row, read_metrics
from grok_lightning.records.tasks import is_memorized_text

AFTER = "after_grok"
FURTHER = 5  # evaluations after an event from which on it is known that accuracy has held
STABLE, COLLAPSED = 0.95, 0.9
WATCHED = 10  # times the grok step: so long is long enough
KEYS = (
    "evaluations", "watched", "sustained", "stable", "lost_step", "dips", "below", "lowest", "collapsed",
    "collapse_step",
)  # fmt: skip
FIELDS = tuple(f"{AFTER}.{key}" for key in KEYS)
_SINGLE = 1e-7  # more than an accuracy is off in single precision, as archives hold it
_COLUMNS = ("step", "train/acc", "val/acc")
_DATA = "config.data."
_RECORD = ("status", "steps", "threshold", "counts.train", "counts.val", f"{_DATA}class_path", f"{_DATA}val_fraction")


@dataclass(frozen=True)
class Dip:
    """Consecutive evaluations below the threshold after the grok.

    Attributes:
        start, end: Steps of the first and the last of them.
        evaluations: Their number.
        lowest: The lowest validation accuracy; NaN if none is a number.
    """

    start: int
    end: int
    evaluations: int
    lowest: float


def is_at(accuracies: ArrayLike, count: float | None, threshold: float) -> NDArray[np.bool_]:
    """Whether accuracies are at a threshold, as ``reaches`` says it of one.

    Args:
        accuracies: Shares, from 0 to 1; NaN is below every threshold.
        count: The number of equations; None or NaN: not recorded, then the accuracies may be in single precision.
        threshold: The share to reach.
    """
    shares = np.asarray(accuracies, float)
    if count is None or math.isnan(count):
        return np.asarray(shares >= threshold - _SINGLE)
    needed = math.ceil(Fraction(repr(float(threshold))) * int(count))
    with np.errstate(invalid="ignore"):  # NaN among them
        far = np.abs(shares - threshold) > 1e-3
        return np.asarray(np.where(far, shares > threshold, np.rint(shares * count) >= needed))


def find_dips(steps: ArrayLike, accuracies: ArrayLike, at: ArrayLike) -> list[Dip]:
    """Find the dips of a run.

    Args:
        steps: Steps of its evaluations, in order.
        accuracies: Their validation accuracies.
        at: Whether these are at the threshold.

    Returns:
        The dips after the first evaluation at the threshold, in order.
    """
    step, share, there = np.asarray(steps), np.asarray(accuracies, float), np.asarray(at, bool)
    if not there.any():
        return []
    below = ~there
    below[: there.argmax()] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], below, [False]]).astype(int)))
    return [
        Dip(int(step[start]), int(step[end - 1]), int(end - start), _least(share[start:end]))
        for start, end in edges.reshape(-1, 2)
    ]


def after_grok(
    steps: ArrayLike,
    train: ArrayLike,
    val: ArrayLike | None,
    counts: Mapping[str, float | None],
    threshold: float,
    diverged_at: float | None = None,
) -> dict[str, Any]:
    """Describe what became of a run after it had memorized and grokked, from its evaluations.

    A loss of accuracy is known when it is seen. That none happened is known after five further evaluations; of a run
    that ends before, it is not known (None). With a threshold below 95 % (90 %) that takes the place of the 95 %
    (90 %), since a run may stand right at it when it groks (memorizes). A run that diverged has lost its accuracy.

    Source of the definitions: arXiv 2608.07436, whose threshold is 95 %.

    Args:
        steps: Steps of its evaluations, in order.
        train, val: Training and validation accuracies; ``val`` is None where no rows are held out.
        counts: Rows of the ``train`` and ``val`` splits; None or NaN: not recorded.
        threshold: The accuracy that counts as memorized or grokked.
        diverged_at: The step at which its loss stopped being finite, or None.

    Returns:
        ``evaluations``: those after the grok; ``watched``: the last evaluated step over the grok step;
        ``sustained``: whether the next five evaluations are at the threshold; ``stable``: whether no later one is below
        95 %, and ``lost_step``, the first that is; ``dips``, ``below``: the number of dips and of evaluations in them;
        ``lowest``: the lowest validation accuracy after the grok, the depth of the deepest dip if there is any;
        ``collapsed``: whether training accuracy falls below 90 % after memorizing, and ``collapse_step``.
        None where something is not known or did not happen.
    """
    step = np.asarray(steps)
    found: dict[str, Any] = dict.fromkeys(KEYS)
    trained = is_at(train, counts.get("train"), threshold)
    if trained.any():
        held = is_at(train, counts.get("train"), min(COLLAPSED, threshold))
        kept, found["collapse_step"] = _has_held(step, held, int(trained.argmax()) + 1, diverged_at)
        found["collapsed"] = None if kept is None else not kept
    if val is None:
        return found
    at = is_at(val, counts.get("val"), threshold)
    if not at.any():
        return found
    first = int(at.argmax())
    later = np.asarray(val, float)[first + 1 :]
    held = is_at(val, counts.get("val"), min(STABLE, threshold))
    found["evaluations"] = len(later)
    found["stable"], found["lost_step"] = _has_held(step, held, first + 1, diverged_at)
    found["sustained"] = _has_held(step, at, first + 1, diverged_at, FURTHER)[0]
    found["watched"] = float(step[-1] / step[first]) if step[first] else None
    if len(later):
        dips = find_dips(step, val, at)
        found |= {"dips": len(dips), "below": sum(dip.evaluations for dip in dips)}
        found["lowest"] = None if math.isnan(lowest := _least(later)) else lowest
    return found


def _has_held(
    step: NDArray[Any], held: NDArray[np.bool_], start: int, diverged_at: float | None, most: int | None = None
) -> tuple[bool | None, int | None]:
    """Whether accuracy held from an evaluation on, or None if that is not known; and the first step where it did not.

    Args:
        step: Steps of the evaluations.
        held: Whether accuracy held at each.
        start: The first that counts.
        diverged_at: The step at which the loss stopped being finite, or None.
        most: How many count; None for all.
    """
    counted = held[start:] if most is None else held[start : start + most]
    lost = np.flatnonzero(~counted)
    if len(lost):
        return False, int(step[start + lost[0]])
    if diverged_at is not None and len(counted) != most:
        return False, int(diverged_at)
    return (True if len(counted) >= FURTHER else None), None


def _least(shares: NDArray[Any]) -> float:
    known = shares[~np.isnan(shares)]
    return float(known.min()) if len(known) else math.nan


def describe_record(
    record: Mapping[str, Any], curve: Mapping[str, NDArray[Any]] | pd.DataFrame | None
) -> dict[str, Any]:
    """``after_grok`` of a run, from fields of its ``result.json``, nested ones dotted, and its evaluations.

    Args:
        record: ``status``, ``steps``, ``threshold``, ``counts.train``, ``counts.val``, ``config.data.class_path`` and
            ``config.data.val_fraction``; None stands for a missing one.
        curve: Columns of its evaluations; None without any.
    """
    usable = _to_number(record.get("threshold")) is not None and record.get("status") != FAILED
    if not usable or curve is None or any(name not in curve for name in _COLUMNS) or not len(np.asarray(curve["step"])):
        return dict.fromkeys(KEYS)
    counts = {split: _to_number(record.get(f"counts.{split}")) for split in ("train", "val")}
    data = {key: record.get(f"{_DATA}{key}") for key in ("class_path", "val_fraction")}
    text = is_memorized_text(data)
    val = None if counts["val"] == 0 or text else curve["val/acc"]
    diverged_at = _to_number(record.get("steps")) if record.get("status") == DIVERGED else None
    return after_grok(curve["step"], curve["train/acc"], val, counts, float(record["threshold"]), diverged_at)


def _to_number(value: Any) -> float | None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


def describe_file(directory: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """``after_grok`` of a run whose record was written before there was this, from its ``metrics.csv``.

    Args:
        directory: Directory of the run.
        record: As for ``describe_record``.
    """
    with suppress(OSError, Malformed, KeyError):
        return describe_record(record, tabulate(read_metrics(Path(directory))))
    return dict.fromkeys(KEYS)


def tabulate(rows: Sequence[Row]) -> dict[str, NDArray[Any]]:
    """The columns of evaluations that ``after_grok`` takes.

    Raises:
        KeyError: One of them is missing.
    """
    return {name: np.array([row[name] for row in rows], float) for name in _COLUMNS}


def complete(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Complete records that were made before there was ``after_grok``, from their evaluations.

    Args:
        runs: Records, one row each; ``path`` identifies a run.
        curves: Columns ``run`` (that path), ``step`` and metrics.

    Returns:
        The records with the columns of ``FIELDS``; those that have them are as they were.
    """
    known = runs[[name for name in ("path", *_RECORD, *FIELDS) if name in runs]].astype(object)
    records = known.where(known.notna(), None).to_dict("records")
    missing = [all(record.get(field) is None for field in FIELDS) for record in records]
    if not any(missing):
        return runs
    groups = dict(tuple(curves.groupby("run", sort=False))) if len(curves) else {}
    found = []
    for record, absent in zip(records, missing, strict=True):
        if absent:
            values = describe_record({str(key): value for key, value in record.items()}, groups.get(record["path"]))
            found.append([values[key] for key in KEYS])
        else:
            found.append([record.get(field) for field in FIELDS])
    columns = zip(*found, strict=True)
    new = {field: to_series(pa.chunked_array([encode(_plain(column))])).set_axis(runs.index)
           for field, column in zip(FIELDS, columns, strict=True)}  # fmt: skip
    return pd.concat([runs.drop(columns=[field for field in FIELDS if field in runs]), pd.DataFrame(new)], axis=1)


def _plain(column: Sequence[Any]) -> list[Any]:
    """Values as JSON has them: whole numbers that a column with nulls in it made floats of are integers again."""
    return [value.item() if isinstance(value, np.generic) else value for value in column]
