"""Training batches, drawn in blocks of several steps."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from grok_lightning.batch import Batch, Beginnings
from grok_lightning.data.batches import BatchOrder, share
from grok_lightning.data.stack_rows import StackRows

BLOCK_STEPS, BLOCK_ROWS = 64, 2**20  # most steps, and most rows of all runs, whose batches are drawn at once


class TrainingBatches:
    """The training batches of a stack on one device: a pure function of the runs' seeds and the step.

    Args:
        rows: The stack's rows.
        order: The order of the training rows.
        batch_size: B, of all processes together.
    """

    def __init__(self, rows: StackRows, order: BatchOrder, batch_size: int) -> None:
        self._rows, self._order, self._batch_size = rows, order, batch_size
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
        rows_RB = torch.gather(self._rows.splits["train"], 1, self._order(step)[:, start:stop])
        return self._rows.batch(rows_RB, "train", step, start, self._batch_size)

    def _draw_block(self, step: int, steps: int) -> dict[int, Batch]:
        """The batches of at most ``steps`` steps by their step, looked up with one gather."""
        train_RN = self._rows.splits["train"]
        steps = max(1, min(steps, BLOCK_STEPS, BLOCK_ROWS // (self._batch_size * len(train_RN))))
        rows_RB = torch.gather(train_RN, 1, self._order(step, steps))
        whole = self._rows.batch(rows_RB, "train", whole=self._batch_size)
        shared = whole.beginnings

        def split(tensor: Tensor | None) -> Sequence[Any]:
            """A tensor (R, S * B, ...) as S contiguous ones (R, B, ...)."""
            if tensor is None:
                return [None] * steps
            blocks = tensor.unflatten(1, (steps, self._batch_size)).transpose(0, 1)
            # by way of a flat tensor, so that strides are the same in all blocks, also where R is 1: compiled code asks
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
