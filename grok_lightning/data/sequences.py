"""What every DataModule here shares: splits of token rows that live on the device, and their loaders."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from grok_lightning.data.algebra import Column
from grok_lightning.data.batches import (
    Batch,
    BatchOrder,
    Chunk,
    Chunks,
    Evaluation,
    Evaluations,
    NextBatch,
    Table,
    TrainingRequests,
    share,
)
from grok_lightning.data.grid import Grid
from grok_lightning.data.split import Split
from grok_lightning.data.tokenizer import Rows
from grok_lightning.errors import UserError

CHUNK_ROWS = 2048
BLOCK_STEPS, BLOCK_ROWS = 64, 2**20  # most steps, and most rows of all runs, whose batches are drawn at once
PAPER_BATCH = 512
LARGEST_BATCH = 2**22
NOTHING_TO_ANSWER = -100


class SequenceDataModule(LightningDataModule, ABC):
    """Rows of tokens, split for a stack of runs. A subclass sets ``splits`` and then calls ``set_batch_size``.

    Args:
        seeds: One seed for each run of the stack.

    Attributes:
        splits: Row numbers of each part, one Split for each run.
        batch_size: Rows a step, a number.
    """

    splits: list[Split]
    batch_size: int

    def __init__(self, seeds: Sequence[int]) -> None:
        super().__init__()
        self.seeds = list(seeds)
        self.predict_splits: list[str] = ["train", "val", "test"]
        self._tables: dict[torch.device, dict[str, Tensor]] = {}
        self._order: BatchOrder | None = None
        self._block: dict[int, Batch] = {}
        self._evaluated: dict[torch.device, Table] = {}

    @property
    @abstractmethod
    def vocabulary(self) -> list[str]:
        """How each token is written, by its number."""

    @property
    @abstractmethod
    def prompt_length(self) -> int:
        """Tokens of the longest prompt."""

    @property
    @abstractmethod
    def answer_length(self) -> int:
        """A, the tokens of the longest answer; their logits stand at the last A input positions."""

    @property
    @abstractmethod
    def padded(self) -> bool:
        """Whether prompts or answers differ in length, so that some of their tokens are padding."""

    @abstractmethod
    def rows(self) -> Rows:
        """All rows as tokens."""

    def grid(self) -> Grid | None:
        """The rows as a grid of operands, where they fill one."""
        return None

    @property
    @abstractmethod
    def end(self) -> int | None:
        """The token that ends every answer; None where all answers are equally long."""

    @abstractmethod
    def encode(self, text: str) -> Column:
        """The tokens, shape (T,), after which a model continues a typed prompt; -1 before a shorter prompt.

        Raises:
            UserError: If the text is no prompt of these data.
        """

    def decode(self, tokens: Sequence[int]) -> str:
        """An answer's tokens as text, up to the end mark if there is one."""
        own = list(tokens)
        return "".join(self.vocabulary[token] for token in own[: own.index(self.end) if self.end in own else None])

    @abstractmethod
    def show(self, prompt: str, continuation: str) -> str:
        """A typed prompt and the text that a model continued it with, as they are printed."""

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """Names of what ``describe`` tells of a row."""

    @abstractmethod
    def describe(self, row: int) -> list[str]:
        """A row as text; the last entry is its true answer."""

    @property
    def operator_place(self) -> int | None:
        """Which token of the vocabulary stands for the operator and nothing else, however it is shown; None if none."""
        return None

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return len(self.vocabulary)

    @property
    def length(self) -> int:
        """T, the number of input tokens: the prompt, and the answer without its last token."""
        return self.prompt_length + self.answer_length - 1

    def set_batch_size(self, batch_size: int | Literal["full", "paper"]) -> None:
        """Sets the rows a step: a number; ``full``, all training rows; ``paper``, min(512, half of them rounded up).

        Raises:
            UserError: If it is out of range, or the runs differ in training rows and it depends on them.
        """
        if isinstance(batch_size, int):
            if not 1 <= batch_size <= LARGEST_BATCH:
                raise UserError(
                    f"data.batch_size is {batch_size}; it must be from 1 to {LARGEST_BATCH:,}, or full, or paper"
                )
            self.batch_size = batch_size
            return
        counts = set(self.counts("train"))
        if len(counts) > 1:
            raise UserError(f"data.batch_size is {batch_size}, but the runs of the stack differ in training rows")
        (rows,) = counts
        self.batch_size = rows if batch_size == "full" else min(PAPER_BATCH, -(-rows // 2))

    def counts(self, split: str) -> list[int]:
        """Number of rows of a split (train, val or test) in each run."""
        return [len(getattr(part, split)) for part in self.splits]

    def train_dataloader(self) -> TrainingRequests:
        return TrainingRequests()

    def val_dataloader(self) -> Evaluations:
        """One request: the whole training split and the whole validation split."""
        return Evaluations("train", "val")

    def test_dataloader(self) -> Evaluations:
        if not max(self.counts("test")):
            raise UserError(
                "data.val_fraction leaves no rows for test; use validate, or train on a table with train_fraction and "
                "val_fraction that add up to less than 1"
            )
        return Evaluations("test")

    def predict_dataloader(self) -> list[Chunks]:
        return [self._chunks(split) for split in self.predict_splits]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Batch | Table:
        """Fills a loader's request from the tables on the device: only here is the step known exactly."""
        if isinstance(batch, NextBatch):
            assert self.trainer is not None
            step, world_size = self.trainer.global_step, self.trainer.world_size
            first = self.training_batch(step, device, self.trainer.global_rank, world_size)
            return replace(first, following=partial(self.training_batches, device)) if world_size == 1 else first
        if isinstance(batch, Evaluation):
            assert self.trainer is not None
            return replace(
                self.table(device),
                evaluated=batch.splits,
                rank=self.trainer.global_rank,
                world_size=self.trainer.world_size,
            )
        assert isinstance(batch, Chunk)
        return self.chunk(batch, device)

    def training_batch(self, step: int, device: torch.device, rank: int = 0, world_size: int = 1) -> Batch:
        """One process's share of the batch at a step: a pure function of the runs' seeds and the step."""
        if world_size == 1:
            return next(self.training_batches(device, step, 1))
        positions = self._positions(device, step)
        start, stop = share(self.batch_size, rank, world_size)
        rows = torch.gather(self._table(device)["train"], 1, positions[:, start:stop])
        return self._batch(rows, device, "train", step=step, first_row=start, whole=self.batch_size)

    def training_batches(self, device: torch.device, step: int, steps: int) -> Iterator[Batch]:
        """The whole batches of several steps, drawn together: one gather for all of them, instead of one each."""
        for own in range(step, step + steps):
            if own not in self._block or self._block[own].rows_RB.device != device:
                self._block = self._draw_block(own, device, step + steps - own)
            yield self._block[own]

    def _draw_block(self, step: int, device: torch.device, steps: int) -> dict[int, Batch]:
        steps = max(1, min(steps, BLOCK_STEPS, BLOCK_ROWS // (self.batch_size * len(self.seeds))))
        positions = self._positions(device, step, steps)
        rows = torch.gather(self._table(device)["train"], 1, positions)
        whole = self._batch(rows, device, "train", whole=self.batch_size)

        def parts(tensor: Tensor | None) -> Sequence[Any]:
            """A tensor (R, S * B, ...) as S contiguous ones (R, B, ...)."""
            if tensor is None:
                return [None] * steps
            blocks = tensor.unflatten(1, (steps, self.batch_size)).transpose(0, 1)
            # by way of a flat tensor, so that strides are the same in all blocks, also where R is 1: compiled code asks
            return blocks.flatten().view(blocks.shape).unbind(0)

        batches = zip(*map(parts, (whole.tokens_RBT, whole.targets_RBA, rows, whole.beginning_RB)), strict=True)
        return {
            own: replace(
                whole, tokens_RBT=tokens, targets_RBA=targets, rows_RB=own_rows, beginning_RB=beginning, step=own
            )
            for own, (tokens, targets, own_rows, beginning) in enumerate(batches, start=step)
        }

    def _positions(self, device: torch.device, step: int, steps: int = 1) -> Tensor:
        if self._order is None:
            self._order = BatchOrder(self.seeds, self.counts("train"), self.batch_size, device)
        return self._order(step, steps)

    def table(self, device: torch.device) -> Table:
        """All rows on a device, with nothing to be evaluated yet."""
        if device not in self._evaluated:
            table, grid = self._table(device), self.grid()
            identity = grid is not None and np.array_equal(grid.cells_N, np.arange(np.prod(grid.shape)))
            self._evaluated[device] = Table(
                (),
                table["tokens_XNT"],
                table["targets_XNA"],
                {split: table[split] for split in ("train", "val", "test")},
                table.get("beginnings_PS"),
                table.get("beginning_N"),
                None if grid is None else [torch.from_numpy(tokens).to(device) for tokens in grid.tokens],
                None if grid is None or identity else torch.from_numpy(grid.cells_N).to(device),
            )
        return self._evaluated[device]

    def chunk(self, chunk: Chunk, device: torch.device) -> Batch:
        """A stretch of a split, with -100 as target where a run of the stack has no such row."""
        return self._batch(self._table(device)[chunk.split][:, chunk.start : chunk.stop], device, chunk.split)

    def _batch(
        self, rows_RB: Tensor, device: torch.device, split: str, step: int = -1, first_row: int = 0, whole: int = 0
    ) -> Batch:
        table = self._table(device)
        known = rows_RB.clamp(min=0)
        targets = _of_runs(table["targets_XNA"], known)
        if not whole:  # training batches are always full
            targets = targets.masked_fill((rows_RB < 0)[..., None], NOTHING_TO_ANSWER)
        beginnings_PS, beginning_N = table.get("beginnings_PS"), table.get("beginning_N")
        first = None if beginning_N is None else beginning_N[known]
        tokens = _of_runs(table["tokens_XNT"], known)
        return Batch(tokens, targets, rows_RB, beginnings_PS, first, split, step, first_row, whole)

    def _table(self, device: torch.device) -> dict[str, Tensor]:
        if device not in self._tables:
            rows = self.rows()
            seen_XNA = rows.answers_XNA[: None if self.answer_length > 1 else 1, :, :-1]  # without their last token
            prompts_XNT = np.broadcast_to(rows.prompts_NT, (len(seen_XNA), *rows.prompts_NT.shape))
            table = {
                "tokens_XNT": np.concatenate([prompts_XNT, seen_XNA], axis=2),
                "targets_XNA": np.where(rows.answers_XNA < 0, NOTHING_TO_ANSWER, rows.answers_XNA),
            }
            if rows.beginnings_PS is not None and rows.beginning_N is not None:
                table |= {"beginnings_PS": rows.beginnings_PS, "beginning_N": rows.beginning_N}
            for split in ("train", "val", "test"):
                of_split = np.full((len(self.splits), max(self.counts(split))), -1, dtype=np.int64)
                for run, part in enumerate(self.splits):
                    of_split[run, : self.counts(split)[run]] = getattr(part, split)
                table[split] = of_split
            self._tables[device] = {name: torch.from_numpy(array.copy()).to(device) for name, array in table.items()}
        return self._tables[device]

    def _chunks(self, split: str) -> Chunks:
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        return Chunks(split, max(self.counts(split)), CHUNK_ROWS, rank, world_size)


def one_for_each(value: Any, runs: int, option: str) -> list[Any]:
    """One value for each run: a list as given, anything else repeated.

    Raises:
        UserError: If the list has another length than there are runs.
    """
    values = value if isinstance(value, list) else [value] * runs
    if len(values) != runs:
        raise UserError(f"data.{option} has {len(values)} values for a stack of {runs} runs; give one, or one each")
    return values


def _of_runs(table_XNT: Tensor, rows_RB: Tensor) -> Tensor:
    """Rows of a table that all runs share (X is 1), or of each run's own: (R, B, T)."""
    if len(table_XNT) == 1:
        return table_XNT[0][rows_RB]
    return table_XNT[torch.arange(len(table_XNT), device=table_XNT.device)[:, None], rows_RB]
