"""Evaluations of many runs as one table."""

import io
from collections.abc import Sequence
from csv import Error
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from grok_lightning.files import read_bytes
from grok_lightning.records.record import METRICS, read_metrics


def read_curves(directories: Sequence[str]) -> pd.DataFrame:
    """The evaluations of runs, in their order.

    Files with the same columns are concatenated as text and parsed at once: parsing thousands of small files takes ten
    times as long.

    Args:
        directories: Directories of runs. One without ``metrics.csv``, or with a damaged line in it, has no rows.

    Returns:
        ``run`` (the directory), ``step`` and every metric of any run; NaN where a run does not have it.
    """
    bodies: dict[bytes, list[tuple[int, bytes]]] = {}
    for place, directory in enumerate(directories):
        head, _, rest = _read(f"{directory}/{METRICS}").partition(b"\n")
        body = rest[: rest.rfind(b"\n") + 1]  # an unfinished last line is a killed process's
        if body:
            bodies.setdefault(head, []).append((place, body))
    parts = [part for head, group in bodies.items() for part in _parse(head, group, directories)]
    if not parts:
        return pd.DataFrame({"run": pd.Series(dtype=object), "step": pd.Series(dtype=int)})
    table = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    table = table.sort_values(".place", kind="stable", ignore_index=True) if len(parts) > 1 else table
    names = np.array(directories, object)[table.pop(".place").to_numpy()]
    table.insert(0, "run", names)
    return table


def _read(path: str) -> bytes:
    try:
        return read_bytes(path)
    except OSError:
        return b""


def _parse(head: bytes, group: list[tuple[int, bytes]], directories: Sequence[str]) -> list[pd.DataFrame]:
    names = head.decode(errors="replace").split(",")
    if "step" not in names or len(set(names)) < len(names):
        return []
    types = {name: pa.int64() if name == "step" else pa.float64() for name in names}
    try:
        text = io.BytesIO(b"\n".join([head, b"".join(body for _, body in group)]))
        table = csv.read_csv(text, convert_options=csv.ConvertOptions(column_types=types, null_values=["", "nan"]))
        counts = [body.count(b"\n") for _, body in group]
        if len(table) != sum(counts):
            raise pa.ArrowInvalid("empty lines")
    except pa.ArrowInvalid:  # a damaged line somewhere: one by one then
        return [part for place, body in group if (part := _parse_one(place, directories[place], body)) is not None]
    frame = table.to_pandas()
    frame[".place"] = np.repeat([place for place, _ in group], counts)
    return [frame]


def _parse_one(place: int, directory: str, body: bytes) -> pd.DataFrame | None:
    """A curve by itself, None if it is damaged."""
    try:
        rows = read_metrics(Path(directory))
    except (OSError, ValueError, Error):
        return None
    return pd.DataFrame(rows).assign(**{".place": place}) if len(rows) == body.count(b"\n") else None
