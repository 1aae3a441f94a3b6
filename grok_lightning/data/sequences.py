"""Base class of the DataModules: splits of token rows, their loaders, and the batches made of them on the device."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from grok_lightning.batch import Batch
from grok_lightning.data.algebra import Column
from grok_lightning.data.batches import BatchOrder, Chunk, Chunks, Evaluation, NextBatch, Requests, TrainingBatches
from grok_lightning.data.grid import Grid
from grok_lightning.data.split import Split
from grok_lightning.data.table import Table, build_table
from grok_lightning.data.tokenizer import Rows
from grok_lightning.errors import UserError

CHUNK_ROWS = 2048
PAPER_BATCH = 512
LARGEST_BATCH = 2**22


class SequenceDataModule(LightningDataModule, ABC):
    """Rows of tokens, split for a stack of runs.

    A subclass sets the attributes from ``vocabulary`` to ``splits`` in its constructor, then calls ``set_batch_size``.

    Args:
        seeds: One seed for each run of the stack.

    Attributes:
        vocabulary: Text of each token, by its number.
        prompt_length: Tokens of the longest prompt.
        answer_length: A, the tokens of the longest answer; their logits stand at the last A input positions.
        padded: Whether prompts or answers differ in length, so that some of their tokens are padding.
        end: The token that ends every answer; None where all answers are equally long.
        operator_place: The token that denotes only the operator, however it is shown; None if there is none.
        columns: Names of the entries of ``describe``.
        splits: Row numbers of each part, one Split for each run.
        batch_size: Rows a step, a number.
        title: What titles and reports call the task, or of operations what follows the formula; None: the class with
            its options.
        fingerprints: A hash of each run's rows, where options do not decide them. A run is resumed on the same.
        notes: What is printed when a run begins, a line each.
        row_name: What several rows are called.
        recited: As of ``Batch``.
    """

    vocabulary: list[str]
    prompt_length: int
    answer_length: int
    padded: bool
    end: int | None = None
    operator_place: int | None = None
    columns: list[str]
    splits: list[Split]
    batch_size: int
    title: str | None = None
    fingerprints: list[str] | None = None
    notes: Sequence[str] = ()
    row_name: str = "rows"
    recited: bool = False

    def __init__(self, seeds: Sequence[int]) -> None:
        super().__init__()
        self.seeds = list(seeds)
        self.predict_splits: list[str] = ["train", "val", "test"]
        self._tables: dict[torch.device, Table] = {}
        self._batches: dict[torch.device, TrainingBatches] = {}

    @abstractmethod
    def rows(self) -> Rows:
        """All rows as tokens."""

    def grid(self) -> Grid | None:
        """The rows as a grid of operands, where they fill one."""
        return None

    @abstractmethod
    def encode(self, text: str) -> Column:
        """The tokens, shape (T,), after which a model continues a typed prompt; -1 before a shorter prompt.

        Raises:
            UserError: If the text is no prompt of these data.
        """

    @property
    @abstractmethod
    def example(self) -> str:
        """A prompt of these data, as it is typed."""

    def decode(self, tokens: Sequence[int]) -> str:
        """An answer's tokens as text, up to the end mark if there is one."""
        own = list(tokens)
        return "".join(self.vocabulary[token] for token in own[: own.index(self.end) if self.end in own else None])

    def advise_test_rows(self) -> str:
        """What gives a new run test rows, for an error; empty where nothing does."""
        return ""

    @abstractmethod
    def show(self, prompt: str, continuation: str) -> str:
        """A typed prompt and the text that a model continued it with, as they are printed."""

    @abstractmethod
    def describe(self, row: int) -> list[str]:
        """A row as text; the last entry is its true answer."""

    def identity(self) -> str | None:
        """What two runs with the same options must agree in to have the same task; None: the options say it all."""
        return None

    def check_repeatable(self) -> None:
        """Refuses data that another process could not make again; by default none.

        Raises:
            UserError: If that is so.
        """

    def shown(self, row: int) -> list[str]:
        """A row as ``describe`` writes it, with the answer that the first run is trained on."""
        return self.describe(row)

    @property
    def class_name(self) -> str:
        """Name of the class that the user has given."""
        return type(self).__name__

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return len(self.vocabulary)

    @property
    def classes(self) -> int:
        """Number of tokens that an answer can be, which come first in the vocabulary."""
        return self.vocabulary_size

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

    def is_validated(self, run: int = 0) -> bool:
        """Whether a run's validation rows are held out; else they are its training rows."""
        return not np.array_equal(self.splits[run].train, self.splits[run].val)

    def held_counts(self, run: int = 0) -> dict[str, int]:
        """Number of rows of a run's splits by name; no validation rows where none are held out."""
        counts = {split: self.counts(split)[run] for split in ("train", "val", "test")}
        return counts if self.is_validated(run) else counts | {"val": 0}

    def count_rows(self, run: int = 0) -> int:
        """Number of rows of a run's table, those that are in no split included."""
        split = self.splits[run]
        return len(np.unique(np.concatenate([split.train, split.val, split.test])))

    def describe_counts(self, run: int = 0) -> str:
        """The size of a run's table and of its splits: ``9,312 equations, 4,656 train, 4,656 val, 0 test``."""
        rows, counts = self.count_rows(run), self.held_counts(run)
        parts = [f"{rows:,} {self.row_name.removesuffix('s') if rows == 1 else self.row_name}"]
        parts += [f"{count:,} {split}" for split, count in counts.items()]
        unused = rows - sum(counts.values())
        return ", ".join([*parts, f"{unused:,} in no split"] if unused > 0 else parts)

    def train_dataloader(self) -> Iterable[NextBatch]:
        return repeat(NextBatch())  # without end or position: the step comes from the Trainer

    def val_dataloader(self) -> Requests:
        """One request: the whole training split and the whole validation split."""
        return Requests([Evaluation(("train", "val"))])

    def test_dataloader(self) -> Requests:
        if not max(self.counts("test")):
            held = self.held_counts()
            raise UserError(
                f"this run has no test rows ({held['train']:,} train, {held['val']:,} val); use validate"
                f"{', or predict --split val,' if held['val'] else ''} on the same checkpoint{self.advise_test_rows()}"
            )
        return Requests([Evaluation(("test",))])

    def predict_dataloader(self) -> list[Chunks]:
        trainer = self.trainer
        rank, world_size = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        return [Chunks(split, max(self.counts(split)), CHUNK_ROWS, rank, world_size) for split in self.predict_splits]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Batch | Table:
        """Fills a loader's request from the tables on the device: only here is the step known exactly."""
        if isinstance(batch, Chunk):
            return self.chunk(batch, device)
        assert self.trainer is not None
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        if isinstance(batch, Evaluation):
            return replace(self.table(device), evaluated=batch.splits, rank=rank, world_size=world_size)
        first = self.training_batch(self.trainer.global_step, device, rank, world_size)
        return replace(first, following=partial(self.training_batches, device)) if world_size == 1 else first

    def training_batch(self, step: int, device: torch.device, rank: int = 0, world_size: int = 1) -> Batch:
        """One process's share of the batch at a step: a pure function of the runs' seeds and the step."""
        return self._training(device).share(step, rank, world_size)

    def training_batches(self, device: torch.device, step: int, steps: int) -> Iterator[Batch]:
        """The whole batches of several steps, drawn together: one gather for all of them, instead of one each."""
        return self._training(device)(step, steps)

    def table(self, device: torch.device) -> Table:
        """All rows on a device, with no split to evaluate yet."""
        if device not in self._tables:
            self._tables[device] = build_table(self.rows(), self.splits, self.grid(), device)
        return self._tables[device]

    def chunk(self, chunk: Chunk, device: torch.device) -> Batch:
        """A stretch of a split, with ``NOTHING_TO_ANSWER`` as target where a run of the stack has no such row."""
        table = self.table(device)
        batch = table.batch(table.rows_RN[chunk.split][:, chunk.start : chunk.stop], chunk.split)
        return replace(batch, recited=self.recited)

    def _training(self, device: torch.device) -> TrainingBatches:
        if device not in self._batches:
            order = BatchOrder(self.seeds, self.counts("train"), self.batch_size, device)
            self._batches[device] = TrainingBatches(self.table(device), order, self.batch_size)
        return self._batches[device]


def repeat_per_run(value: Any, runs: int, option: str) -> list[Any]:
    """One value for each run: a list as given, anything else repeated.

    Raises:
        UserError: If the list has another length than there are runs.
    """
    values = value if isinstance(value, list) else [value] * runs
    if len(values) != runs:
        raise UserError(f"data.{option} has {len(values)} values for a stack of {runs} runs; give one, or one each")
    return values
