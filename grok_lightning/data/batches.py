"""Batches as a pure function of (seed, step): which rows each run of a stack sees at a step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from grok_lightning.randomness import derive_key, permutations


@dataclass(frozen=True)
class Batch:
    """What a model sees at once.

    Attributes:
        tokens_RBT: Inputs, int64; -1 where there is padding.
        targets_RBA: Answer tokens, int64; -100 where there is nothing to answer.
        rows_RB: Rows of the table, int64; -1 where a run of the stack has none.
        beginnings_PS: The first S tokens of each of the P ways in which prompts begin, int64, or None.
        beginning_RB: Which of them each row begins with, int64, or None.
        split: Name of the split that the rows are from.
        step: The optimizer step whose batch this is; -1 outside training.
        first_row: Where in the whole batch this process's share begins.
        whole: How many rows the whole batch has over all processes.
        following: Gives the batches of a number of steps, from a step on; None outside training and where several
            processes share a batch.
    """

    tokens_RBT: Tensor
    targets_RBA: Tensor
    rows_RB: Tensor
    beginnings_PS: Tensor | None
    beginning_RB: Tensor | None
    split: str
    step: int = -1
    first_row: int = 0
    whole: int = 0
    following: "Callable[[int, int], Iterator[Batch]] | None" = None


class Chunk(NamedTuple):
    """A stretch of one split, in order: what an evaluation loader yields before any tensor is made."""

    split: str
    start: int
    stop: int


class Evaluation(NamedTuple):
    """A request to evaluate splits, all of whose rows are in one table."""

    splits: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """All rows of a stack's table on a device, for an evaluation.

    Attributes:
        evaluated: The splits that are to be evaluated.
        tokens_XNT: Inputs, int64; -1 where there is padding. X is 1, or R where the runs' differ.
        targets_XNA: Answer tokens, int64; -100 where there is nothing to answer. X as above, or 1.
        rows_RN: The rows of each split in each run, int64, by the split's name; -1 at the end of a shorter one.
        beginnings_PS: The first S tokens of each of the P ways in which prompts begin, int64, or None.
        beginning_N: Which of them each row begins with, int64, or None.
        grid_tokens: The tokens at each of T positions, of shapes that broadcast to that of the grid of all operands,
            int64; None where the rows do not fill such a grid.
        cells_N: Which cell of the grid each row is, int64; None if row n is cell n, or there is no grid.
        rank, world_size: Which process this is, of how many that share the rows.
    """

    evaluated: tuple[str, ...]
    tokens_XNT: Tensor
    targets_XNA: Tensor
    rows_RN: dict[str, Tensor]
    beginnings_PS: Tensor | None
    beginning_N: Tensor | None
    grid_tokens: list[Tensor] | None
    cells_N: Tensor | None
    rank: int = 0
    world_size: int = 1


class NextBatch(NamedTuple):
    """What the training loader yields: a request that is filled only when the step is known."""


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
        device: Where the order is computed and kept.
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
        """Keeps what is in use of (run, epoch) and draws what is missing, all orders of one length by one sort."""
        kept = {key: self._permutations[key] for key in used if key in self._permutations}
        for count in set(self._counts):
            missing = [(run, epoch) for run, epoch in used if self._counts[run] == count and (run, epoch) not in kept]
            if missing:
                keys = torch.tensor([derive_key(self._seeds[run], "batches", epoch) for run, epoch in missing])
                kept |= dict(zip(missing, permutations(keys.to(self._device), count), strict=True))
        self._permutations = kept
