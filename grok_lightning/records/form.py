"""Form of records: types and ranges of those fields of ``result.json`` that reports and sweeps compute with."""

from collections.abc import Mapping
from math import inf, isnan
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from grok_lightning.errors import show
from grok_lightning.records.columns import encode, to_series
from grok_lightning.records.record import FAILED

COUNTS = frozenset({
    "steps", "budget", "memorize_step", "memorize_after", "grok_step", "grok_after", "sustained_grok_step", "best.step",
    "stack", *(f"after_grok.{name}" for name in ("evaluations", "lost_step", "dips", "below", "collapse_step")),
})  # fmt: skip
NUMBERS = frozenset({
    "threshold", "seconds", "steps_per_second", "compile_seconds", "best.val/acc", "after_grok.watched",
    "after_grok.lowest",
})  # fmt: skip
FLAGS = frozenset({"after_grok.sustained", "after_grok.stable", "after_grok.collapsed"})
FINAL = "final."  # prefix of the metrics of the last evaluation
TEXTS = frozenset({
    "status", "config_hash", "path", "run",
    *(f"config.{owner}.class_path" for owner in ("data", "model.network", "model.optimizer", "model.scheduler")),
})  # fmt: skip
CONFIGS = tuple(f"config.{name}" for name in ("data", "model", "trainer"))
GROUPS = frozenset({"config", "final", "best", "after_grok", *CONFIGS})
REQUIRED = ("steps", "budget", "threshold")  # of runs that have not failed
LARGEST = 2.0**53


def find_fault(record: Mapping[str, Any], required: tuple[str, ...] = REQUIRED) -> str | None:
    """Find what is wrong with a record.

    Args:
        record: Fields of ``result.json``, nested ones dotted; None stands for a missing one.
        required: Fields that a run that has not failed must have; ``status`` is required of all.

    Returns:
        The first field with a wrong value, in words; None if there is none.
    """
    for field, value in record.items():
        if not _is_null(value) and (expected := _expect(field, value)):
            return f"{field} is {show(value)}; {expected} is expected"
    status = record.get("status")
    needed = ("status",) if status == FAILED else ("status", *required)
    missing = next((field for field in needed if _is_null(record.get(field))), None)
    return missing and f"it has no {missing}"


def find_faults(runs: pd.DataFrame, required: tuple[str, ...] = REQUIRED) -> dict[int, str]:
    """Find what is wrong with many records, as ``find_fault``.

    Args:
        runs: One row per record.
        required: As for ``find_fault``.

    Returns:
        What is wrong, by the number of the row.
    """
    suspects = np.zeros(len(runs), bool)
    for name in runs:
        field = str(name)
        if runs[name].dtype == object or field in TEXTS or field in GROUPS:
            if _is_checked(field):
                suspects |= np.array(
                    [not _is_null(value) and bool(_expect(field, value)) for value in runs[name]], bool
                )
        elif field in FLAGS:
            if not pd.api.types.is_bool_dtype(runs[name]):
                suspects |= runs[name].notna().to_numpy()
        elif field in COUNTS or field in NUMBERS or field.startswith(FINAL):
            if not pd.api.types.is_numeric_dtype(runs[name]) or pd.api.types.is_bool_dtype(runs[name]):
                suspects |= runs[name].notna().to_numpy()
            elif field in COUNTS:
                values = runs[name].astype("Float64").to_numpy(float, na_value=0.0)
                suspects |= (values < 0) | (values > LARGEST)
    failed = (runs["status"] == FAILED).to_numpy(bool, na_value=False) if "status" in runs else suspects & False
    for field in ("status", *required):
        missing = runs[field].isna().to_numpy() if field in runs else np.ones(len(runs), bool)
        suspects |= missing & ~failed
    rows = np.flatnonzero(suspects)
    records = runs.iloc[rows].to_dict("records")
    found = {
        int(row): find_fault({str(name): value for name, value in record.items()}, required)
        for row, record in zip(rows, records, strict=True)
    }
    return {row: fault for row, fault in found.items() if fault is not None}


def drop_rows(runs: pd.DataFrame, rows: Mapping[int, str]) -> pd.DataFrame:
    """Drop records, by row; the types of columns are then those that the others have alone."""
    if not rows:
        return runs
    kept = runs.drop(index=runs.index[list(rows)]).reset_index(drop=True)
    for name in kept:
        if kept[name].dtype == object:
            values = [None if _is_null(value) else value for value in kept[name]]
            kept[name] = to_series(pa.chunked_array([encode(values)]))
    return kept


def _is_checked(field: str) -> bool:
    return field in COUNTS | NUMBERS | FLAGS | TEXTS | GROUPS | {"schema"} or field.startswith(FINAL)


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and isnan(value))


def _expect(field: str, value: Any) -> str:
    """What a field should have; empty if its value, which is not null, is right."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if field in COUNTS:
        return "" if number and 0 <= value <= LARGEST else "a number from 0 to 2^53"
    if field in NUMBERS or field.startswith(FINAL):
        return "" if number and (isinstance(value, float) or abs(value) < inf) else "a number"
    if field in FLAGS:
        return "" if isinstance(value, bool | np.bool_) else "true or false"
    if field in TEXTS:
        return "" if isinstance(value, str) else "text"
    if field == "schema":
        return "a version" if isinstance(value, list | dict) else ""
    return "a mapping of fields" if field in GROUPS and value != {} else ""
