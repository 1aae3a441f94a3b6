"""Pictures of the task and the model of a single run: its table, its split, what the model answers right."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from grok_lightning.errors import UserError, in_one_line
from grok_lightning.figures.task import MOST_ELEMENTS
from grok_lightning.records.checkpoint import GROK, LAST
from grok_lightning.records.record import run_directories
from grok_lightning.records.tasks import NO_TASK, SHIPPED
from grok_lightning.report.drawings import Drawing
from grok_lightning.report.keys import PREFIX

if TYPE_CHECKING:
    from grok_lightning.data import SequenceDataModule

CAPTIONS = {
    "value_counts": "Number of equations with each answer.",
    "answers": "Answer of each pair of operands.",
    "split": "Split of each pair of operands.",
    "predictions": "Pairs that the model answers correctly.",
    "embedding": "First principal components of the token embeddings.",
}
DATA = f"{PREFIX}data."
FILES = {"splits"}  # options that name files, which a record alone does not have read


def draw_checkpoint(checkpoint: str | Path, root: Path, trust: bool) -> list[Drawing]:
    """Pictures of the task and the model of a checkpoint.

    Raises:
        UserError: As ``load_run``.
    """
    from grok_lightning.callbacks.pictures import pictures
    from grok_lightning.run import load_run  # Lightning alone takes seconds

    run = load_run(checkpoint, trust, root=root)
    return _list_drawings(pictures(run.module, run.data, 0, str(checkpoint), run.step))


def draw_run(record: Mapping[str, Any], root: Path, trust: bool) -> tuple[list[Drawing], list[str]]:
    """Pictures of a run: those of its checkpoint, if it lies where its record says, else those of its task alone.

    Args:
        record: The run's fields, from ``gather``.
        root: The directory below which runs are.
        trust: As for ``load_run``.

    Returns:
        The pictures, and remarks for the reader.
    """
    from grok_lightning.callbacks.pictures import task_pictures

    names = [record.get(f"{PREFIX}{name}") for name in ("experiment", "run")]
    remarks = []
    if all(isinstance(name, str) for name in names):
        logs, checkpoints = run_directories(root, *map(str, names))
        newest = next((checkpoints / name for name in (LAST, GROK) if (checkpoints / name).is_file()), None)
        if newest is not None and logs.resolve() == Path(str(record["path"])).resolve():
            try:
                return draw_checkpoint(newest, root, trust), []
            except UserError as error:
                remarks.append(f"No pictures of the model: {error}.")
    try:
        data = _build_data(record)
    except (UserError, TypeError, ValueError, LookupError, AttributeError, OSError) as error:
        reason = in_one_line(str(error))
        return [], [*remarks, f"No pictures of the task: its data cannot be built here ({reason})."]
    return (_list_drawings(task_pictures(data, 0, str(record["path"]))) if data is not None else []), remarks


def _list_drawings(found: Mapping[str, tuple[pd.DataFrame, Figure]]) -> list[Drawing]:
    return [Drawing(name, CAPTIONS[name], partial(found.__getitem__, name)) for name in found]


def _build_data(record: Mapping[str, Any]) -> "SequenceDataModule | None":
    """The data of a run of this package's DataModules; None of others, whose code is not run, and of large tables."""
    import grok_lightning.data

    options = {
        name.removeprefix(DATA): _to_plain(value)
        for name, value in record.items()
        if name.startswith(DATA) and (isinstance(value, list | dict) or not pd.isna(value))
    }
    room, _, name = str(options.pop("class_path", "")).rpartition(".")
    if f"{room}." != SHIPPED or name not in grok_lightning.data.__all__ or FILES & options.keys():
        return None
    lists = [value if isinstance(value, list) else [value] for key, value in options.items() if key not in NO_TASK]
    if any(isinstance(value, int) and value > MOST_ELEMENTS for values in lists for value in values):
        return None  # no map of so many could be read, and a record of others must not fill the memory
    seed = record.get(f"{PREFIX}seed_everything")
    data: SequenceDataModule = getattr(grok_lightning.data, name)(**options, seeds=[int(seed or 0)])
    return data


def _to_plain(value: Any) -> Any:
    """A number of Python, whole where it is one: a column with nulls in it has made floats of integers."""
    plain = value.item() if isinstance(value, np.generic) else value
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain
