"""Batches as a pure function of (seed, step): which rows each run of a stack sees at a step."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from grok_lightning.randomness import derive_key, permutations


class Chunk(NamedTuple):
    """A stretch of one split, in order: the item of a prediction loader."""

    split: str
    start: int
    stop: int


class Evaluation(NamedTuple):
    """A request to evaluate splits, all of whose rows are in one table."""

    splits: tuple[str, ...]


class NextBatch(NamedTuple):
    """Item of the training loader: a request that is filled only when the step is known."""


class TrainingRequests:
    """The endless training loader. It holds no position: the step comes from the Trainer."""

    def __iter__(self) -> Iterator[NextBatch]:
        while True:
            yield NextBatch()


class Evaluations:
    """An evaluation loader: one request for several splits.

    Args:
        splits: Their names.
    """

    def __init__(self, *splits: str) -> None:
        self._request = Evaluation(splits)

    def __iter__(self) -> Iterator[Evaluation]:
        yield self._request

    def __len__(self) -> int:
        return 1


class Chunks:
    """A prediction loader: one process's share of a split, in order.

    Args:
        split: Name of the split.
        rows: Its number of rows.
        size: Rows a chunk.
        rank, world_size: This process, of how many.
    """

    def __init__(self, split: str, rows: int, size: int, rank: int = 0, world_size: int = 1) -> None:
        start, stop = share(rows, rank, world_size)
        self._chunks = [Chunk(split, first, min(first + size, stop)) for first in range(start, stop, size)]

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self._chunks)

    def __len__(self) -> int:
        return len(self._chunks)


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
