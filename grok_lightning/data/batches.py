"""Loaders, and batches as a pure function of (seed, step): which rows each run of a stack sees at a step."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from grok_lightning.batch import Batch, Beginnings
from grok_lightning.data.table import Table
from grok_lightning.randomness import derive_key, permutations

BLOCK_STEPS, BLOCK_ROWS = 64, 2**20  # most steps, and most rows of all runs, whose batches are drawn at once


class Chunk(NamedTuple):
    """A stretch of one split, in order: the item of a prediction loader."""

    split: str
    start: int
    stop: int


class Evaluation(NamedTuple):
    """A request to evaluate splits, all of whose rows are in one table."""

    splits: tuple[str, ...]


class NextBatch(NamedTuple):
    """Item of the training loader: a request that is filled when the step is known."""


class Requests:
    """A loader of requests, which the DataModule fills on the device.

    Args:
        requests: The requests, in order.
    """

    def __init__(self, requests: Sequence[Chunk | Evaluation]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[Chunk | Evaluation]:
        return iter(self._requests)

    def __len__(self) -> int:
        return len(self._requests)


class Chunks(Requests):
    """A prediction loader: one process's share of a split, in order.

    Args:
        split: Name of the split.
        rows: Its number of rows.
        size: Rows a chunk.
        rank, world_size: This process, of how many.
    """

    def __init__(self, split: str, rows: int, size: int, rank: int = 0, world_size: int = 1) -> None:
        start, stop = share(rows, rank, world_size)
        super().__init__([Chunk(split, first, min(first + size, stop)) for first in range(start, stop, size)])


def share(rows: int, rank: int, world_size: int) -> tuple[int, int]:
    """The stretch [start, stop) of ``rows`` that one of ``world_size`` processes works on."""
    return rows * rank // world_size, rows * (rank + 1) // world_size


class BatchOrder:
    """Each run walks its own seeded permutations of its training rows end to end; every batch is full.

    Args:
        seeds: The runs' seeds.
        counts: Each run's number of training rows.
        batch_size: B.
        device: The device that computes and keeps the order.
    """

    def __init__(self, seeds: list[int], counts: list[int], batch_size: int, device: torch.device) -> None:
        self._seeds, self._counts, self._batch_size, self._device = seeds, counts, batch_size, device
        self._permutations: dict[tuple[int, int], Tensor] = {}

    def __call__(self, step: int, steps: int = 1) -> Tensor:
        """Positions among the training rows at ``step``, or at several from there on: int64, shape (R, steps * B)."""
        start, size = step * self._batch_size, steps * self._batch_size
        epochs_R = [range(start // count, (start + size - 1) // count + 1) for count in self._counts]
        self._draw([(run, epoch) for run, epochs in enumerate(epochs_R) for epoch in epochs])
        rows = []
        for run, (count, epochs) in enumerate(zip(self._counts, epochs_R, strict=True)):
            whole = torch.cat([self._permutations[run, epoch] for epoch in epochs])
            first = start - epochs[0] * count
            rows.append(whole[first : first + size])
        return torch.stack(rows)

    def _draw(self, used: list[tuple[int, int]]) -> None:
        """Keeps the orders in use, by (run, epoch), and draws the missing ones, all of one length by one sort."""
        kept = {key: self._permutations[key] for key in used if key in self._permutations}
        for count in set(self._counts):
            missing = [(run, epoch) for run, epoch in used if self._counts[run] == count and (run, epoch) not in kept]
            if missing:
                keys = torch.tensor([derive_key(self._seeds[run], "batches", epoch) for run, epoch in missing])
                kept |= dict(zip(missing, permutations(keys.to(self._device), count), strict=True))
        self._permutations = kept


class TrainingBatches:
    """The training batches of a stack on one device: a pure function of the runs' seeds and the step.

    Args:
        table: The stack's rows.
        order: The order of the training rows.
        batch_size: B, of all processes together.
    """

    def __init__(self, table: Table, order: BatchOrder, batch_size: int) -> None:
        self._table, self._order, self._batch_size = table, order, batch_size
        self._block: dict[int, Batch] = {}

    def __call__(self, step: int, steps: int) -> Iterator[Batch]:
        """The whole batches of several steps, from one on."""
        for own in range(step, step + steps):
            if own not in self._block:
                self._block = self._draw_block(own, step + steps - own)
            yield self._block[own]

    def share(self, step: int, rank: int, world_size: int) -> Batch:
        """The part of a step's batch that one of several processes works on."""
        if world_size == 1:
            return next(self(step, 1))
        start, stop = share(self._batch_size, rank, world_size)
        rows_RB = torch.gather(self._table.rows_RN["train"], 1, self._order(step)[:, start:stop])
        return self._table.batch(rows_RB, "train", step, start, self._batch_size)

    def _draw_block(self, step: int, steps: int) -> dict[int, Batch]:
        """The batches of at most ``steps`` steps by their step, looked up with one gather."""
        train_RN = self._table.rows_RN["train"]
        steps = max(1, min(steps, BLOCK_STEPS, BLOCK_ROWS // (self._batch_size * len(train_RN))))
        rows_RB = torch.gather(train_RN, 1, self._order(step, steps))
        whole = self._table.batch(rows_RB, "train", whole=self._batch_size)
        shared = whole.beginnings

        def split(tensor: Tensor | None) -> Sequence[Any]:
            """A tensor (R, S * B, ...) as S contiguous ones (R, B, ...)."""
            if tensor is None:
                return [None] * steps
            blocks = tensor.unflatten(1, (steps, self._batch_size)).transpose(0, 1)
            # flat in between, so that all blocks have the same strides, also where R is 1: compiled code checks them
            return blocks.flatten().view(blocks.shape).unbind(0)

        tensors = (whole.tokens_RBT, whole.targets_RBA, rows_RB, None if shared is None else shared.index_RB)
        return {
            own: replace(
                whole,
                tokens_RBT=tokens_RBT,
                targets_RBA=targets_RBA,
                rows_RB=rows_RB,
                beginnings=None if shared is None else Beginnings(shared.tokens_PS, index_RB),
                step=own,
            )
            for own, (tokens_RBT, targets_RBA, rows_RB, index_RB) in enumerate(
                zip(*map(split, tensors), strict=True), start=step
            )
        }
