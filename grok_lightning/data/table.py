"""The rows and splits of a stack as tensors on one device."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grok_lightning.batch import NOTHING_TO_ANSWER, Batch, Beginnings
from grok_lightning.data.algebra import Column
from grok_lightning.data.grid import Grid
from grok_lightning.data.split import Split
from grok_lightning.data.tokenizer import Rows


@dataclass(frozen=True)
class Table:
    """All rows of a stack on one device.

    Attributes:
        tokens_XNT: Inputs, int64; ``PADDING`` where there is no token. X is 1, or R where the runs' rows differ.
        targets_XNA: Answer tokens, int64; ``NOTHING_TO_ANSWER`` where there is none. X as above, or 1.
        rows_RN: Row numbers of each split in each run, int64, by the split's name; -1 at the end of a shorter one.
        beginnings_PS: The first S tokens of each of the P beginnings, int64, or None.
        beginning_N: The beginning of each row, int64, or None.
        grid_tokens: The tokens at each of T positions, of shapes that broadcast to that of the grid of all operands,
            int64; None where the rows do not fill such a grid.
        cells_N: The grid cell of each row, int64; None if row n is cell n, or there is no grid.
        evaluated: The splits to evaluate.
        rank, world_size: This process's rank, and the number of processes that share the rows.
    """

    tokens_XNT: Tensor
    targets_XNA: Tensor
    rows_RN: dict[str, Tensor]
    beginnings_PS: Tensor | None
    beginning_N: Tensor | None
    grid_tokens: list[Tensor] | None
    cells_N: Tensor | None
    evaluated: tuple[str, ...] = ()
    rank: int = 0
    world_size: int = 1

    def batch(self, rows_RB: Tensor, split: str, step: int = -1, first_row: int = 0, whole: int = 0) -> Batch:
        """Looks up rows; the arguments are the attributes of ``Batch``."""
        known = rows_RB.clamp(min=0)
        targets = _take(self.targets_XNA, known)
        if not whole:  # training batches are always full
            targets = targets.masked_fill((rows_RB < 0)[..., None], NOTHING_TO_ANSWER)
        beginnings = None
        if self.beginnings_PS is not None and self.beginning_N is not None:
            beginnings = Beginnings(self.beginnings_PS, self.beginning_N[known])
        return Batch(_take(self.tokens_XNT, known), targets, rows_RB, beginnings, split, step, first_row, whole)


def build_table(rows: Rows, splits: Sequence[Split], grid: Grid | None, device: torch.device) -> Table:
    """Moves the rows of a stack to a device.

    Args:
        rows: All rows as tokens.
        splits: Row numbers of each part, one Split for each run.
        grid: The rows as a grid of operands, where they fill one.
        device: The device.
    """

    def place(array: Column) -> Tensor:
        return torch.from_numpy(array.copy()).to(device)

    # inputs hold the answer without its last token; with one token and the same prompts the runs' inputs are the same
    one = rows.prompts_NT.ndim == 2 and rows.answers_XNA.shape[-1] == 1
    answers_XNA = rows.answers_XNA[: 1 if one else None, :, :-1]
    prompts_XNT = np.broadcast_to(rows.prompts_NT, (len(answers_XNA), *rows.prompts_NT.shape[-2:]))
    identity = grid is not None and np.array_equal(grid.cells_N, np.arange(np.prod(grid.shape)))
    return Table(
        place(np.concatenate([prompts_XNT, answers_XNA], axis=2)),
        place(np.where(rows.answers_XNA < 0, NOTHING_TO_ANSWER, rows.answers_XNA)),
        {name: place(_pad_split(splits, name)) for name in ("train", "val", "test")},
        None if rows.beginnings_PS is None else place(rows.beginnings_PS),
        None if rows.beginning_N is None else place(rows.beginning_N),
        None if grid is None else [place(tokens) for tokens in grid.tokens],
        None if grid is None or identity else place(grid.cells_N),
    )


def _pad_split(splits: Sequence[Split], name: str) -> Column:
    """Row numbers (R, N) of one split in each run, with -1 at the end of shorter ones."""
    rows = [getattr(split, name) for split in splits]
    padded_RN = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for own_N, row in zip(padded_RN, rows, strict=True):
        own_N[: len(row)] = row
    return padded_RN


def _take(table_XNT: Tensor, rows_RB: Tensor) -> Tensor:
    """Rows of a table that all runs share (X is 1), or of each run's own: (R, B, T)."""
    if len(table_XNT) == 1:
        return table_XNT[0][rows_RB]
    return table_XNT[torch.arange(len(table_XNT), device=table_XNT.device)[:, None], rows_RB]
