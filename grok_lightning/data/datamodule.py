"""DataModules: tables of operations as tokenized splits that live on the device."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from grok_lightning.data.algebra import Algebra, Column, IntegersMod, SymmetricGroup
from grok_lightning.data.batches import Batch, BatchOrder, Chunk, Chunks, NextBatch, TrainingRequests, share
from grok_lightning.data.operation import Operation
from grok_lightning.data.split import Pairing, Split, split_table
from grok_lightning.data.tokenizer import ElementTokenizer
from grok_lightning.errors import UserError

CHUNK_ROWS = 2048
PAPER_BATCH = 512
LARGEST_BATCH = 2**22
NOTHING_TO_ANSWER = -100


class TableDataModule(LightningDataModule, ABC):
    """The tokenized splits of an operation's table, for a stack of runs.

    Args:
        formula: The operation, over operands ``x y z`` or ``x1 x2 ...``.
        train_fraction: Share of the table that trains, floored to whole rows; one number, or one for each run.
        val_fraction: Share that validates; default: all the rest. What remains is test.
        split_seed: Seed of the split; default: the run's seed. One number, or one for each run.
        pairing: How mirrored pairs (x, y), (y, x) are dealt: free, together (both on one side), half (only x >= y).
        commutative_fraction: Wanted share of training rows whose mirror is in validation.
        batch_size: Rows a step; ``full`` for all training rows, ``paper`` for min(512, half of them rounded up).
        operator_token: Whether a token for the operator stands between operands.
        seeds: One seed for each run of the stack.

    Raises:
        UserError: If an option is out of range or contradicts another.
    """

    def __init__(
        self,
        formula: str = "x + y",
        train_fraction: float | list[float] = 0.5,
        val_fraction: float | None = None,
        split_seed: int | list[int] | None = None,
        pairing: Pairing = "free",
        commutative_fraction: float | None = None,
        batch_size: int | Literal["full", "paper"] = 512,
        operator_token: bool = True,
        seeds: Sequence[int] = (0,),
    ) -> None:
        super().__init__()
        if isinstance(batch_size, int) and not 1 <= batch_size <= LARGEST_BATCH:
            raise UserError(
                f"data.batch_size is {batch_size}; it must be from 1 to {LARGEST_BATCH:,}, or full, or paper"
            )
        self.seeds = list(seeds)
        self.operation = Operation(formula, self.algebra())
        self.tokenizer = ElementTokenizer(self.operation, operator_token)
        fractions = _one_for_each(train_fraction, len(self.seeds), "train_fraction")
        split_seeds = _one_for_each(self.seeds if split_seed is None else split_seed, len(self.seeds), "split_seed")
        self.splits: list[Split] = [
            split_table(self.operation, seed, fraction, val_fraction, pairing, commutative_fraction)
            for seed, fraction in zip(split_seeds, fractions, strict=True)
        ]
        self.batch_size = self._resolve_batch_size(batch_size)
        self.predict_splits: list[str] = ["train", "val", "test"]
        self._tables: dict[torch.device, dict[str, Tensor]] = {}
        self._order: BatchOrder | None = None

    @abstractmethod
    def algebra(self) -> Algebra:
        """The algebra that the operands live in."""

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return len(self.tokenizer.vocabulary)

    @property
    def length(self) -> int:
        """T, the number of input tokens: the prompt, and the answer without its last token."""
        return self.tokenizer.prompt_length + self.tokenizer.answer_length - 1

    @property
    def answer_length(self) -> int:
        """A, the number of answer tokens; their logits stand at the last A input positions."""
        return self.tokenizer.answer_length

    def tokens(self, operands_NK: Column) -> Tensor:
        """Prompts of equations as a model takes them: (R, N, T), the same for every run.

        Args:
            operands_NK: Element numbers, shape (N, K), such as rows of ``operation.operands_NK``.
        """
        return torch.from_numpy(self.tokenizer.prompts(operands_NK)).expand(len(self.seeds), -1, -1)

    def counts(self, split: str) -> list[int]:
        """Number of rows of a split (train, val or test) in each run."""
        return [len(getattr(part, split)) for part in self.splits]

    def train_dataloader(self) -> TrainingRequests:
        return TrainingRequests()

    def val_dataloader(self) -> list[Chunks]:
        """The whole training split and the whole validation split, both evaluated."""
        return [self._chunks("train"), self._chunks("val")]

    def test_dataloader(self) -> list[Chunks]:
        if not max(self.counts("test")):
            raise UserError(
                "data.val_fraction leaves no rows for test; train with train_fraction and val_fraction "
                "that add up to less than 1, or use validate"
            )
        return [self._chunks("test")]

    def predict_dataloader(self) -> list[Chunks]:
        return [self._chunks(split) for split in self.predict_splits]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Batch:
        """Fills a loader's request from the tables on the device: only here is the step known exactly."""
        if isinstance(batch, NextBatch):
            assert self.trainer is not None
            return self.training_batch(
                self.trainer.global_step, device, self.trainer.global_rank, self.trainer.world_size
            )
        assert isinstance(batch, Chunk)
        return self.chunk(batch, device)

    def training_batch(self, step: int, device: torch.device, rank: int = 0, world_size: int = 1) -> Batch:
        """One process's share of the batch at a step: a pure function of the runs' seeds and the step."""
        if self._order is None:
            self._order = BatchOrder(self.seeds, self.counts("train"), self.batch_size, device)
        positions = self._order(step)
        start, stop = share(self.batch_size, rank, world_size)
        rows = torch.gather(self._table(device)["train"], 1, positions[:, start:stop])
        return self._batch(rows, device, "train", step=step, first_row=start, whole=self.batch_size)

    def chunk(self, chunk: Chunk, device: torch.device) -> Batch:
        """A stretch of a split, with -100 as target where a run of the stack has no such row."""
        return self._batch(self._table(device)[chunk.split][:, chunk.start : chunk.stop], device, chunk.split)

    def _batch(self, rows_RB: Tensor, device: torch.device, split: str, **where: int) -> Batch:
        table = self._table(device)
        known = rows_RB.clamp(min=0)
        targets = table["targets_NA"][known]
        if not where:  # training batches are always full
            targets = targets.masked_fill((rows_RB < 0)[..., None], NOTHING_TO_ANSWER)
        tokens, first = table["tokens_NT"][known], table["beginning_N"][known]
        return Batch(tokens, targets, rows_RB, table["beginnings_PS"], first, split, **where)

    def _table(self, device: torch.device) -> dict[str, Tensor]:
        if device not in self._tables:
            prompts = self.tokenizer.prompts(self.operation.operands_NK)
            answers = self.tokenizer.answers(self.operation.results_N)
            table = {
                "tokens_NT": torch.from_numpy(np.concatenate([prompts, answers[:, :-1]], axis=1)),
                "targets_NA": torch.from_numpy(answers),
                "beginnings_PS": torch.from_numpy(self.tokenizer.beginnings()),
                "beginning_N": torch.from_numpy(self.operation.operands_NK[:, 0].copy()),
            }
            for split in ("train", "val", "test"):
                rows = np.full((len(self.splits), max(self.counts(split))), -1, dtype=np.int64)
                for run, part in enumerate(self.splits):
                    rows[run, : self.counts(split)[run]] = getattr(part, split)
                table[split] = torch.from_numpy(rows)
            self._tables[device] = {name: tensor.to(device) for name, tensor in table.items()}
        return self._tables[device]

    def _chunks(self, split: str) -> Chunks:
        trainer = self.trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        return Chunks(split, max(self.counts(split)), CHUNK_ROWS, rank, world_size)

    def _resolve_batch_size(self, batch_size: int | Literal["full", "paper"]) -> int:
        if isinstance(batch_size, int):
            return batch_size
        counts = set(self.counts("train"))
        if len(counts) > 1:
            raise UserError(f"data.batch_size is {batch_size}, but the runs of the stack differ in training rows")
        (rows,) = counts
        return rows if batch_size == "full" else min(PAPER_BATCH, -(-rows // 2))


class ModularArithmeticDataModule(TableDataModule):
    """Operations over the integers modulo p.

    Args:
        formula: Such as ``"x / y if y % 2 else x - y"``.
        modulus: p; prime where the formula divides.
        options: Those of ``TableDataModule``.
    """

    def __init__(self, formula: str = "x + y", modulus: int = 97, **options: Any) -> None:
        self.modulus = modulus
        super().__init__(formula, **options)

    def algebra(self) -> IntegersMod:
        return IntegersMod(self.modulus)


class PermutationDataModule(TableDataModule):
    """Operations over all permutations of n items, with (x * y)(i) = x(y(i)).

    Args:
        formula: Such as ``"x * y * x**-1"``.
        degree: n.
        options: Those of ``TableDataModule``.
    """

    def __init__(self, formula: str = "x * y", degree: int = 5, **options: Any) -> None:
        self.degree = degree
        super().__init__(formula, **options)

    def algebra(self) -> SymmetricGroup:
        return SymmetricGroup(self.degree)


def _one_for_each(value: Any, runs: int, option: str) -> list[Any]:
    """One value for each run: a list as given, anything else repeated."""
    values = value if isinstance(value, list) else [value] * runs
    if len(values) != runs:
        raise UserError(f"data.{option} has {len(values)} values for a stack of {runs} runs; give one, or one each")
    return values
