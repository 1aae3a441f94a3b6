"""Reads ``metrics.csv`` of many runs into one table."""

import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from grok_lightning.reading import Malformed
from grok_lightning.records.record import METRICS, read_metrics, split_metrics


def read_curves(directories: Sequence[str]) -> pd.DataFrame:
    """The evaluations of runs, in their order.

    Files with the same columns are concatenated as text and parsed at once: parsing thousands of small files takes ten
    times as long.

    Args:
        directories: Directories of runs. One without ``metrics.csv``, or with a damaged line in it, has no rows.

    Returns:
        ``run`` (the directory), ``step`` and every metric of any run; NaN where a run does not have it.
    """
    bodies: dict[tuple[str, ...], list[tuple[int, bytes]]] = {}
    for place, directory in enumerate(directories):
        with suppress(OSError, ValueError):
            names, body = split_metrics(f"{directory}/{METRICS}")
            if body:
                bodies.setdefault(tuple(names), []).append((place, body))
    parts = [part for names, group in bodies.items() for part in _parse(names, group, directories)]
    if not parts:
        return pd.DataFrame({"run": pd.Series(dtype=object), "step": pd.Series(dtype=int)})
    table = pd.concat(parts, ignore_index=True)
    if len(parts) > 1:
        table = table.sort_values(".place", kind="stable", ignore_index=True)
    table.insert(0, "run", np.array(directories, object)[table.pop(".place").to_numpy()])
    return table


def _parse(names: Sequence[str], group: list[tuple[int, bytes]], directories: Sequence[str]) -> list[pd.DataFrame]:
    """Parse lines of several files with the same columns at once, or file by file if one is damaged."""
    types = {name: pa.int64() if name == "step" else pa.float64() for name in names}
    options = csv.ConvertOptions(column_types=types, null_values=["", "nan"])
    counts = [body.count(b"\n") for _, body in group]
    with suppress(pa.ArrowInvalid):
        text = io.BytesIO(b"".join(body for _, body in group))
        table = csv.read_csv(text, csv.ReadOptions(column_names=names), convert_options=options).to_pandas()
        steps = table["step"].to_numpy()
        increases = np.diff(steps, prepend=-1) > 0
        increases[np.cumsum([0, *counts[:-1]])] = True  # each file begins anew
        if len(table) == sum(counts) and increases.all() and (steps >= 0).all():  # no empty lines
            return [table.assign(**{".place": np.repeat([place for place, _ in group], counts)})]
    parts = []
    for (place, _), count in zip(group, counts, strict=True):
        with suppress(OSError, Malformed):
            rows = read_metrics(Path(directories[place]))
            if len(rows) == count:
                parts.append(pd.DataFrame(rows).assign(**{".place": place}))
    return parts
