"""Rows of tokens from the loaders of an ordinary LightningDataModule: each row once, whatever order they come in."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

from grok_lightning.batch import NOTHING_TO_ANSWER, PADDING
from grok_lightning.data.algebra import Column, Mask
from grok_lightning.errors import UserError, show

MOST_ROWS = 2**22  # of a loader that may never end
MOST_BYTES = 2 * 1024**3  # of a split's tokens
ROWS_AT_ONCE = 2**16
INPUTS, TARGETS = ("inputs", "input", "tokens", "x"), ("targets", "target", "labels", "label", "y")
EXPECTED = "a batch (inputs, targets) of integers is expected: inputs (B, T), targets (B,) or (B, A)"


class LoadedRows(NamedTuple):
    """The rows of one split.

    Attributes:
        inputs_NT: Tokens; -1 before the first one of a shorter row.
        targets_NA: Answer tokens; -1 after the last one of a shorter answer.
        batch_size: Rows of one of its loader's batches; of several loaders, together.
    """

    inputs_NT: Column
    targets_NA: Column
    batch_size: int


def read_loaders(loaders: Any, where: str) -> LoadedRows | None:
    """Reads all rows of a split.

    Of a DataLoader the dataset is read in its order, those rows that its sampler draws, with its ``collate_fn``;
    ``shuffle``, ``drop_last`` and workers have no effect. Several loaders are taken together.

    Args:
        loaders: What ``train_dataloader`` or the like has returned: a DataLoader, any other iterable of batches, or a
            list or mapping of these.
        where: What errors begin with.

    Returns:
        The rows, or None if there are none.

    Raises:
        UserError: A batch is not of the expected form, or the loader draws a row twice, other rows at each pass, or
            more rows than can be kept.
    """
    parts = [_read(loader, where) for loader in _flatten(loaders, where)]
    found = [part for part in parts if len(part.inputs_NT)]
    if not found:
        return None
    for part in found:
        for name, one, other in (("inputs", found[0].inputs_NT, part.inputs_NT),
                                 ("targets", found[0].targets_NA, part.targets_NA)):  # fmt: skip
            if one.shape[1] != other.shape[1]:
                raise UserError(f"{where} has loaders whose {name} have {one.shape[1]} and {other.shape[1]} tokens")
    return LoadedRows(
        np.concatenate([part.inputs_NT for part in found]),
        np.concatenate([part.targets_NA for part in found]),
        sum(part.batch_size for part in found),
    )


def _flatten(loaders: Any, where: str) -> list[Any]:
    """The loaders in lists, mappings and combined loaders."""
    if loaders is None:
        return []
    if isinstance(loaders, CombinedLoader):
        return list(loaders.flattened)
    if isinstance(loaders, list | tuple) and loaders and all(map(_is_batch, loaders)):
        return [loaders]
    if isinstance(loaders, list | tuple | Mapping) and not _is_batch(loaders):
        inner = loaders.values() if isinstance(loaders, Mapping) else loaders
        return [loader for each in inner for loader in _flatten(each, where)]
    if isinstance(loaders, Tensor | str) or not isinstance(loaders, Iterable):
        raise UserError(f"{where} returns {type(loaders).__name__}; a DataLoader of (inputs, targets) is expected")
    return [loaders]


def _is_batch(value: Any) -> bool:
    """Whether it is a pair of tensors, or a mapping of them."""
    parts = [*value.values()] if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else []
    return len(parts) == 2 and all(isinstance(part, Tensor) for part in parts)


def _read(loader: Any, where: str) -> LoadedRows:
    """The rows of one loader."""
    if isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__:
        batch_size, batches, single = _open(loader, where)
    else:
        batch_size, batches, single = None, iter(loader), False
    inputs: list[Column] = []
    targets: list[Column] = []
    rows = size = 0
    for batch in batches:
        inputs_BT, targets_BA = _take_rows(batch, single, where)
        if inputs and (inputs_BT.shape[1], targets_BA.shape[1]) != (inputs[0].shape[1], targets[0].shape[1]):
            raise UserError(
                f"{where} gives rows of {inputs[0].shape[1]} + {targets[0].shape[1]} and {inputs_BT.shape[1]} + "
                f"{targets_BA.shape[1]} tokens (inputs + targets); pad them to one length"
            )
        batch_size = len(inputs_BT) if batch_size is None else batch_size
        inputs.append(inputs_BT)
        targets.append(targets_BA)
        rows += len(inputs_BT)
        size += 8 * (inputs_BT.size + targets_BA.size)
        if size > MOST_BYTES or rows > MOST_ROWS:
            raise UserError(
                f"{where} gives more than {rows:,} rows; at most {MOST_ROWS:,}, of {MOST_BYTES / 1024**3:.0f} GiB, are "
                "kept in memory: use fewer"
            )
    if not inputs:
        return LoadedRows(np.empty((0, 0), np.int64), np.empty((0, 0), np.int64), 0)
    return LoadedRows(np.concatenate(inputs), np.concatenate(targets), batch_size or 1)


def _open(loader: DataLoader[Any], where: str) -> tuple[int | None, Iterator[Any], bool]:
    """A DataLoader's batch size, its rows in the dataset's order, and whether they come one by one."""
    sampler, batch_size = loader.sampler, loader.batch_size
    if batch_size is None and isinstance(loader.batch_sampler, BatchSampler):
        sampler, batch_size = loader.batch_sampler.sampler, loader.batch_sampler.batch_size
    # with a generator of its own, so that reading moves no global one
    read = partial(DataLoader, loader.dataset, collate_fn=loader.collate_fn, generator=torch.Generator())
    if isinstance(loader.dataset, IterableDataset):
        return batch_size, iter(read(batch_size=batch_size)), batch_size is None
    single = batch_size is None and loader.batch_sampler is None
    if batch_size is None and loader.batch_sampler is not None:  # a class of the user's, which yields lists of rows
        sampler, batch_size = _RowsOfBatches(loader.batch_sampler), len(next(iter(loader.batch_sampler), ()))
    chosen = _choose_rows(sampler, loader, where)
    rows = read(batch_size=None if single else ROWS_AT_ONCE, sampler=chosen)
    return 1 if single else batch_size, iter(rows), single


class _RowsOfBatches:
    """The rows that a batch sampler draws, one by one."""

    def __init__(self, batches: Iterable[Iterable[Any]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return (row for batch in self.batches for row in batch)


def _choose_rows(sampler: Any, loader: DataLoader[Any], where: str) -> Any:
    """The rows that a sampler draws, in the dataset's order."""
    dataset: Any = loader.dataset
    shuffled = isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == len(dataset)
    if shuffled or isinstance(sampler, SequentialSampler):
        return range(len(dataset))
    first = list(islice(sampler, MOST_ROWS + 1))
    drawing = sampler.batches if isinstance(sampler, _RowsOfBatches) else sampler
    kind = f"{where} draws rows by {type(drawing).__name__}"
    if len(first) > MOST_ROWS:
        raise UserError(f"{kind}, more than {MOST_ROWS:,} of them; use fewer")
    if len(set(first)) < len(first):
        raise UserError(f"{kind}, some of them several times; each row is drawn once in an epoch here: leave it out")
    if set(first) != set(sampler):
        raise UserError(f"{kind}, others in each pass; an epoch has the same rows here: leave it out")
    return sorted(first)


def _take_rows(batch: Any, single: bool, where: str) -> tuple[Column, Column]:
    """A batch's inputs (B, T) and targets (B, A)."""
    inputs, targets = (
        _to_integers(part, name, where)
        for part, name in zip(_split_pair(batch, where), ("inputs", "targets"), strict=True)
    )
    if single and inputs.ndim < 2:  # one row
        inputs, targets = np.atleast_1d(inputs)[None], np.atleast_1d(targets)[None]
    shapes = f"inputs of shape {inputs.shape} and targets of shape {targets.shape}"
    if inputs.ndim not in (1, 2) or targets.ndim not in (1, 2) or len(inputs) != len(targets):
        raise UserError(f"{where} gives {shapes}; {EXPECTED}")
    inputs, targets = (part[:, None] if part.ndim == 1 else part for part in (inputs, targets))
    if not inputs.shape[1] or not targets.shape[1]:
        raise UserError(f"{where} gives {shapes}, without tokens; {EXPECTED}")
    targets = np.where(targets == NOTHING_TO_ANSWER, PADDING, targets)
    _refuse_negative(inputs, inputs < 0, "inputs", "before the first token", where)
    _refuse_negative(targets, targets < 0, "targets", "after the last answer token", where)
    return inputs, targets


def _refuse_negative(tokens: Column, missing: Mask, name: str, place: str, where: str) -> None:
    """Refuses tokens below 0, save -1 where padding stands: before inputs, after targets, and never all of a row."""
    ordered = missing if name == "inputs" else missing[:, ::-1]
    if (tokens < PADDING).any() or (ordered[:, 1:] & ~ordered[:, :-1]).any() or missing.all(axis=1).any():
        raise UserError(f"{where} gives {name} below 0; tokens are 0, 1, 2, ..., and -1 only {place} of a row")


def _split_pair(batch: Any, where: str) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        found = [[key for key in batch if key in names] for names in (INPUTS, TARGETS)]
        if len(batch) == 2 and all(len(keys) == 1 for keys in found):
            return batch[found[0][0]], batch[found[1][0]]
        raise UserError(
            f"{where} gives a mapping of {show(', '.join(map(str, batch)))}; expected are two entries, inputs and "
            "targets, or a pair of them"
        )
    if isinstance(batch, list | tuple) and len(batch) == 2:
        return batch[0], batch[1]
    kind = f"{len(batch)} parts" if isinstance(batch, list | tuple) else type(batch).__name__
    raise UserError(f"{where} gives a batch of {kind}; {EXPECTED}")


def _to_integers(part: Any, name: str, where: str) -> Column:
    try:
        tensor = torch.as_tensor(part).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"{where} gives {name} of {type(part).__name__}; {EXPECTED}") from None
    if tensor.is_floating_point() or tensor.is_complex():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise UserError(
            f"{where} gives {name} of {kind}; tokens, integers from 0 on, are expected: return them with .long()"
        )
    tokens: Column = tensor.to(torch.int64).numpy()
    return tokens
