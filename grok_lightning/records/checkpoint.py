"""Checkpoints: durable writing, verified reading without running code, and cutting down to some runs of a stack.

A checkpoint is an ordinary ``torch.save`` file (a zip archive) whose archive comment carries the SHA-256 of every byte
before it; ``torch.load`` reads it as it is. Torch alone would load a file with a flipped bit.
"""

import hashlib
import io
import math
import os
import re
import sys
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from torch import Tensor

from grok_lightning.errors import UserError
from grok_lightning.files import write_durably
from grok_lightning.reading import read_bytes
from grok_lightning.records.checkpoint_form import CONFIG_KEY as CONFIG_KEY
from grok_lightning.records.checkpoint_form import DIVERGED_KEY as DIVERGED_KEY
from grok_lightning.records.checkpoint_form import FILTERS_KEY as FILTERS_KEY
from grok_lightning.records.checkpoint_form import INTERVENTIONS_KEY as INTERVENTIONS_KEY
from grok_lightning.records.checkpoint_form import KEPT_NORMS_KEY as KEPT_NORMS_KEY
from grok_lightning.records.checkpoint_form import ROWS_KEY as ROWS_KEY
from grok_lightning.records.checkpoint_form import RUNS_KEY, check_archive, check_form
from grok_lightning.records.record import CONFIG, METRICS, RESULT, Row

LAST, GROK = "last.ckpt", "grok.ckpt"
EVALUATIONS_KEY = "evaluations"  # for each run: names of columns, and a float64 tensor (rows, columns)
_STATES = ("state_dict", "optimizer_states", FILTERS_KEY)
_LISTS = (KEPT_NORMS_KEY, DIVERGED_KEY, INTERVENTIONS_KEY, EVALUATIONS_KEY, ROWS_KEY)
COLUMN = re.compile(r'[^,"\r\n]+')  # a name of a column of metrics.csv
_MEASURED = {"train/acc", "train/loss", "val/acc", "val/loss"}
_MARK = b"grok_lightning sha256 "
_COMMENT_LENGTH = len(_MARK) + 64


def save(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that after a crash ``path`` is either the old or the complete new file."""
    content = to_bytes(checkpoint)
    content[-2:] = _COMMENT_LENGTH.to_bytes(2, "little")  # the archive's last field: the length of its comment
    content += _MARK
    content += hashlib.sha256(content).hexdigest().encode()
    write_durably(path, bytes(content))


def to_bytes(checkpoint: dict[str, Any]) -> bytearray:
    """Return the bytes of ``torch.save``."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return bytearray(buffer.getbuffer())


def load(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: File.
        map_location: Device of its tensors, as for ``torch.load``.

    Returns:
        Its dictionary, with the resolved config of its run under ``CONFIG_KEY``.

    Raises:
        UserError: The file is missing, empty, of another program, damaged, or holds anything but plain data.
    """
    wanted = "a checkpoint written by grok-lightning is expected"
    try:
        content = read_bytes(path, sys.maxsize)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"ckpt_path {str(path)!r} cannot be read ({reason}); {wanted}") from None
    if not content:
        raise UserError(f"ckpt_path {str(path)!r} is empty; {wanted}")
    if content[-_COMMENT_LENGTH:-64] != _MARK:
        raise UserError(f"ckpt_path {str(path)!r} is cut short or was written by another program; {wanted}")
    if hashlib.sha256(content[:-64]).hexdigest().encode() != content[-64:]:
        raise UserError(f"ckpt_path {str(path)!r} is damaged: its checksum does not agree; use another checkpoint")
    try:
        check_archive(content)
        checkpoint = _unpickle(content, map_location)
        check_form(checkpoint, len(content))
    except ValueError as error:
        raise UserError(f"ckpt_path {str(path)!r}: {error}; {wanted}") from None
    return dict(checkpoint)


def is_ours(path: Path) -> bool:
    """Tell whether a file ends as those of ``save`` do; another program's, or one cut short, does not."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _COMMENT_LENGTH))
        return file.read(len(_MARK)) == _MARK


def refuse_part_of_run(path: Path) -> None:
    """Refuse to write over a checkpoint, or a file of a record.

    Raises:
        UserError: The file is one of ours.
    """
    if path.name in (CONFIG, METRICS, RESULT) and path.exists() and (path.parent / CONFIG).exists():
        raise UserError(f"--output is {str(path)!r}, which is the record of a run; name another file")
    if path.is_file() and os.access(path, os.R_OK) and is_ours(path):
        raise UserError(f"--output is {str(path)!r}, which is a checkpoint of a run; name another file")


def _unpickle(content: bytes, map_location: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about other kinds of pickles, before it refuses them
            return torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises many kinds over what is no checkpoint
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise ValueError(f"it holds more than plain data and was not run ({reason})") from None


def without_training_state(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Reduce a checkpoint to weights and config, a third of its size: it can be used but not resumed."""
    kept = ("state_dict", "global_step", "epoch", "pytorch-lightning_version", CONFIG_KEY, ROWS_KEY)
    return {key: checkpoint[key] for key in kept if key in checkpoint}


def slice_runs(checkpoint: dict[str, Any], chosen: Sequence[int], runs: int, config: dict[str, Any]) -> dict[str, Any]:
    """Cut the checkpoint of a stack down to some of its runs, which resume exactly as in the stack.

    Every tensor of weights, of an optimizer's state and of a filter's leads with R and is cut down to the chosen runs.
    Tensors without dimensions, such as counts of steps, hold for all runs alike. So does what is no tensor, save lists
    with an entry for each run: the norms that are kept, the steps at which losses stopped being finite, the
    evaluations, the hashes of rows, and the states of the runs' own optimizers.

    Args:
        checkpoint: Checkpoint of the stack; not modified.
        chosen: Indices of the runs to keep, in their new order.
        runs: R, the number of runs of the stack.
        config: Config of the new checkpoint, under ``CONFIG_KEY``.

    Returns:
        A new dictionary. Where not all runs are chosen as they are, its tensors are copies of no more than the chosen
        ones' numbers; all else is the stack's own.

    Raises:
        ValueError: No run is chosen, or an index is out of range.
        UserError: A tensor has dimensions, but the first is not R: an optimizer does not keep the runs apart.
    """
    if not chosen or not set(chosen) <= set(range(runs)):
        raise ValueError(f"of a stack of {runs} runs {list(chosen)} were chosen")
    sliced = checkpoint | {CONFIG_KEY: config}
    if list(chosen) == list(range(runs)):
        return sliced
    for key in sliced.keys() & set(_STATES):
        sliced[key] = _slice_state(checkpoint[key], chosen, runs, key)
    for key in _LISTS:
        if checkpoint.get(key):  # an empty one says that there are none
            sliced[key] = [checkpoint[key][run] for run in chosen]
    return sliced


def _slice_state(state: Any, chosen: Sequence[int], runs: int, name: str) -> Any:
    """Apply ``slice_runs`` to a tensor, or to all tensors in nested mappings and lists."""
    if isinstance(state, dict) and name == "optimizer_states.0" and RUNS_KEY in state:
        return state | {RUNS_KEY: [_copy(state[RUNS_KEY][run]) for run in chosen]}
    if isinstance(state, dict):
        return {key: _slice_state(value, chosen, runs, f"{name}.{key}") for key, value in state.items()}
    if isinstance(state, list):
        return [_slice_state(value, chosen, runs, f"{name}.{place}") for place, value in enumerate(state)]
    if not isinstance(state, Tensor):
        return state
    if not state.dim():
        return state.clone()
    if len(state) != runs:
        raise UserError(
            f"{name} has the shape {tuple(state.shape)}, which does not lead with the {runs} runs of the stack, so "
            "that no run can be taken out of it; train with such a model.optimizer or filter in stacks of one"
        )
    return torch.cat([state[run : run + 1] for run in chosen])  # copies, and without sending indices to a GPU


def _copy(state: Any) -> Any:
    """Copy a state with no more of each tensor's storage than its own numbers."""
    if isinstance(state, dict):
        return {key: _copy(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(_copy, state))
    return state.clone() if isinstance(state, Tensor) else state


def pack_evaluations(rows: Sequence[Row], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Pack the evaluations of a run for its checkpoint.

    Args:
        rows: The evaluations, oldest first.
        before: The first of them, packed earlier; they are not packed again.

    Returns:
        The names of the ``columns``, and their ``values``, a float64 tensor of shape (rows, columns).
    """
    columns = before["columns"] if before is not None else []
    new = rows[len(before["values"]) if before is not None else 0 :]
    if any(row.keys() - set(columns) for row in new):
        before, new, columns = None, rows, list(dict.fromkeys(key for row in rows for key in row))
    packed = torch.tensor([[row.get(key, math.nan) for key in columns] for row in new], dtype=torch.float64)
    packed = packed.reshape(len(new), len(columns))
    return {"columns": columns, "values": packed if before is None else torch.cat([before["values"], packed])}


def unpack_evaluations(checkpoint: dict[str, Any], runs: int) -> list[list[Row]] | None:
    """Read the evaluations of each run from a checkpoint; None if it was saved before they were kept there.

    Args:
        checkpoint: Checkpoint.
        runs: R, the number of its runs.

    Raises:
        ValueError: They are no tables of evaluations.
    """
    if EVALUATIONS_KEY not in checkpoint:
        return None
    found = []
    try:
        for packed in checkpoint[EVALUATIONS_KEY]:
            columns, rows = packed["columns"], packed["values"].tolist()
            if len(set(columns)) < len(columns) or not all(map(COLUMN.fullmatch, columns)):
                raise ValueError("its columns are not names, each once")
            if rows and not set(columns) >= _MEASURED:
                raise ValueError("loss or accuracy is missing")
            table: list[Row] = [dict(zip(columns, map(float, row), strict=True)) for row in rows]
            found.append([row | {"step": int(row["step"])} for row in table])
    except (TypeError, LookupError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"its evaluations cannot be read ({type(error).__name__}: {error})") from None
    if any(one["step"] >= other["step"] for rows in found for one, other in pairwise(rows)):
        raise ValueError("its evaluations cannot be read (their steps do not rise)")
    if len(found) != runs:
        raise ValueError(f"its evaluations cannot be read ({len(found)} tables for {runs} runs)")
    return found


class DurableCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint plugin that uses ``save``, ``load`` and ``slice_runs``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint, or some of its runs.

        Args:
            checkpoint: Checkpoint of the Trainer.
            path: File.
            storage_options: None, or the other arguments of ``slice_runs`` by name; ``light`` among them leaves only
                weights and config.
        """
        part = dict(storage_options or {})
        checkpoint = without_training_state(checkpoint) if part.pop("light", False) else checkpoint
        save(slice_runs(checkpoint, **part) if part else checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load(Path(path), map_location or "cpu")


def move_step_count(checkpoint: dict[str, Any]) -> None:
    """Rename the optimizer step count in a checkpoint of version 0.1.0, which used automatic optimization."""
    fit_loop = checkpoint.get("loops", {}).get("fit_loop", {})
    automatic = fit_loop.get("epoch_loop.automatic_optimization.optim_progress")
    manual = fit_loop.get("epoch_loop.manual_optimization.optim_step_progress")
    if automatic and manual and not manual["total"]["completed"]:
        fit_loop["epoch_loop.manual_optimization.optim_step_progress"] = automatic["optimizer"]["step"]
