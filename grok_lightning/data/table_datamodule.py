"""Base class of the DataModules of operations: their tables as tokenized splits."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from grok_lightning.data.algebra import Algebra, Column, identify_algebra
from grok_lightning.data.characters import CharacterTokenizer
from grok_lightning.data.formula import Formula
from grok_lightning.data.grid import Grid, find_grid
from grok_lightning.data.noise import NoiseKind, add_answer_noise
from grok_lightning.data.operation import Operation
from grok_lightning.data.renumbered import RenumberedAlgebra
from grok_lightning.data.sequences import SequenceDataModule, repeat_per_run
from grok_lightning.data.split import Pairing, Split, split_table
from grok_lightning.data.split_files import SplitFiles
from grok_lightning.data.stacking import refuse_unlike, renumber, spread_answers, unite_tables
from grok_lightning.data.tokenizer import ElementTokenizer, Rows, Tokenizer
from grok_lightning.errors import UserError

DEFAULT_TRAIN_FRACTION = 0.5
TOKENIZERS: dict[str, Callable[[Operation, bool, bool], Tokenizer]] = {
    "elements": ElementTokenizer,
    "characters": CharacterTokenizer,
}


class TableDataModule(SequenceDataModule):
    """The tokenized splits of an operation's table, for a stack of runs.

    Args:
        formula: The operation, over operands ``x y z`` or ``x1 x2 ...``; one, or one for each run, whose tables then
            may have different rows, but not different lengths of prompts or answers.
        operands: Number of operands; default: the formula's. A larger number leaves some unused.
        rows: Size of a random sample instead of the table. The rows are distinct; default: the whole table.
        rows_seed: Seed of that sample, the same for all runs.
        train_fraction: Fraction of the table used for training. With pairing half, of that half; floored to whole rows;
            one number, or one for each run.
        train_rows: Training rows, instead of train_fraction. One number, or one for each run.
        val_fraction: Fraction for validation; default: the rest. What remains is test. One number, or one for each run.
        split_seed: Seed of the split; default: the run's seed. One number, or one for each run.
        pairing: Split of mirrored pairs. Pairs (x, y), (y, x) are split freely, kept together in one part, or only the
            half with x >= y is used.
        commutative_fraction: Fraction of training rows mirrored in validation. The wanted fraction; one number, or
            one for each run.
        answer_noise: Wrong training answers: count or fraction. A number below 1 is a fraction of the training rows,
            floored. Training accuracy is then that on the answers as shown.
        answer_noise_kind: Source of wrong answers. ``copied`` takes answers of random rows of the table, ``uniform``
            any answer that occurs.
        batch_size: Rows per step. ``full`` for all training rows, ``paper`` for min(512, half of them rounded up).
        tokenizer: Unit of a token. One token for each element of the algebra, or for each character as written.
        operator_token: Put an operator token between the operands.
        equals_token: End the prompt with a token =. Without it the answer stands at the last operand.
        numbering_seed: Seed of a random numbering of the elements. Tokens are numbers: the task stays the same, and no
            network can know the elements' usual order; default: that order. One number, the same for all runs.
        splits: Directory of splits as CSV files. train.csv, val.csv and test.csv stand in place of all options from
            train_fraction to commutative_fraction, and of answer_noise if they have wrong training answers; one
            directory, or one for each run.
        seeds: One seed for each run of the stack.

    Attributes:
        operations: The table of each run, with the true answers; a single one where all runs have the same formula.
        operation: The first of them.
        operands_NK: The operands of the stack's rows, which splits and batches number: those of the one table, or all
            that any of several has.
        answers_XN: The answers that are shown, of the stack's rows: X is 1, or R with noise or several tables, where
            each run's differ. On a row that its table lacks, a run has some answer that nothing asks for.

    Raises:
        UserError: If an option is out of range or contradicts another.
    """

    def __init__(
        self,
        formula: str | list[str] = "x + y",
        operands: int | None = None,
        rows: int | None = None,
        rows_seed: int = 0,
        train_fraction: float | list[float] = DEFAULT_TRAIN_FRACTION,
        train_rows: int | list[int] | None = None,
        val_fraction: float | list[float] | None = None,
        split_seed: int | list[int] | None = None,
        pairing: Pairing = "free",
        commutative_fraction: float | list[float] | None = None,
        answer_noise: int | float = 0,
        answer_noise_kind: NoiseKind = "copied",
        batch_size: int | Literal["full", "paper"] = 512,
        tokenizer: Literal["elements", "characters"] = "elements",
        operator_token: bool = True,
        equals_token: bool = True,
        numbering_seed: int | None = None,
        splits: str | list[str] | None = None,
        seeds: Sequence[int] = (0,),
    ) -> None:
        super().__init__(seeds)
        if splits is None and train_rows is not None and train_fraction != DEFAULT_TRAIN_FRACTION:
            raise UserError(
                f"data.train_rows is {train_rows} and data.train_fraction {train_fraction}; give one of them "
                f"(--data.train_fraction {DEFAULT_TRAIN_FRACTION} takes that of a config back)"
            )
        runs = len(self.seeds)
        formulas = repeat_per_run(formula, runs, "formula")
        algebra = self.algebra()
        if numbering_seed is not None:
            if numbering_seed < 0:
                raise UserError(f"data.numbering_seed is {numbering_seed}; 0 or more is expected")
            algebra = RenumberedAlgebra(algebra, numbering_seed)
        self.title = algebra.title or f"over {identify_algebra(algebra)}"
        files = _open_files(formulas, splits, algebra, operands)
        build = partial(Operation, algebra=algebra, operands=operands, rows=rows, rows_seed=rows_seed)
        own = _make_tables(formulas, files, build)
        make = TOKENIZERS[tokenizer]
        self._set_tokens({table: make(table, operator_token, equals_token) for table in dict.fromkeys(own)})
        self.operation, self.operations = own[0], own if len(set(own)) > 1 else own[:1]
        self.row_name = "equations"
        self.columns = [*self.operation.formula.operand_names, "answer"]
        split_seeds = repeat_per_run(self.seeds if split_seed is None else split_seed, runs, "split_seed")
        shares = {"train_fraction": train_fraction, "val_fraction": val_fraction, "train_rows": train_rows}
        shares["commutative_fraction"] = commutative_fraction
        answers = [table.results_N for table in own]
        if splits is None:
            self.splits = _split_tables(own, split_seeds, pairing, shares)
        else:
            self.splits, answers = self._take_splits(own, files, tokenizer)
        if answer_noise != 0:
            answers = [
                add_answer_noise(shown, split.train, seed, answer_noise, answer_noise_kind)
                if shown is table.results_N
                else shown
                for shown, table, split, seed in zip(answers, own, self.splits, split_seeds, strict=True)
            ]
        elif all(shown is table.results_N for shown, table in zip(answers, own, strict=True)):
            answers = [table.results_N for table in self.operations]
        self._number_rows(answers)
        self.set_batch_size(batch_size)

    def _set_tokens(self, tokenizers: dict[Operation, Tokenizer]) -> None:
        """Takes the first run's tokenizer; the tables' must agree in shape."""
        refuse_unlike(tokenizers)
        self.tokenizer = first = next(iter(tokenizers.values()))
        self.vocabulary, self.operator_place, self.end = first.vocabulary, first.operator_place, first.end
        self.prompt_length, self.answer_length = first.prompt_length, first.answer_length
        self.padded = any(tokenizer.padded for tokenizer in tokenizers.values())

    def _take_splits(
        self, tables: list[Operation], files: list[SplitFiles], tokenizer: str
    ) -> tuple[list[Split], list[Column]]:
        """The runs' splits and answers from their files."""
        found = [each.split(table) for each, table in zip(files, tables, strict=True)]
        self.fingerprints = [each.fingerprint for each in files]
        for each, table, (split, answers) in zip(files, tables, found, strict=True):
            if wrong := int((answers != table.results_N).sum()):
                where = f"data.splits: {wrong:,} of {len(split.train):,} training answers in {each.directory!r}"
                self.notes = list(dict.fromkeys([*self.notes, f"{where} are not those of data.formula"]))
        for table, (_, answers) in zip(tables, found, strict=True):
            if tokenizer == "characters" and not np.isin(answers, table.results_N).all():
                raise UserError(
                    "data.splits has training answers that no row of the table has, whose characters have no place "
                    "with data.tokenizer characters; use elements"
                )
        return [split for split, _ in found], [answers for _, answers in found]

    def _number_rows(self, answers: list[Column]) -> None:
        """Sets the stack's rows and their answers, and renumbers the splits where several tables have other rows."""
        self.operands_NK, self._results_N = self.operation.operands_NK, self.operation.results_N
        if len(self.operations) > 1:
            self.operands_NK, places = unite_tables(self.operations)
            rows = len(self.operands_NK)
            self._results_N = spread_answers(self._results_N, places[0], rows)
            answers = [spread_answers(shown, place, rows) for shown, place in zip(answers, places, strict=True)]
            self.splits = [renumber(split, place) for split, place in zip(self.splits, places, strict=True)]
        self.answers_XN = np.stack(answers)

    @abstractmethod
    def algebra(self) -> Algebra:
        """The algebra that the operands live in."""

    def identity(self) -> str:
        return identify_algebra(self.operation.algebra)

    @property
    def classes(self) -> int:
        return len(self.tokenizer.elements) if isinstance(self.tokenizer, ElementTokenizer) else self.vocabulary_size

    def count_rows(self, run: int = 0) -> int:
        return len(self.operations[run if len(self.operations) > 1 else 0])

    def rows(self) -> Rows:
        return self.tokenizer.rows(self.operands_NK, self.answers_XN)

    def grid(self) -> Grid | None:
        if self.padded or self.answer_length > 1:
            return None
        return find_grid(self.rows().prompts_NT, self.operands_NK)

    def encode(self, text: str) -> Column:
        return self.tokenizer.prompts(self.tokenizer.read(text))[0]

    @property
    def example(self) -> str:
        return self.tokenizer.example

    def advise_test_rows(self) -> str:
        if self.fingerprints is not None:
            return "; for test rows train with a test.csv in the folder of --data.splits"
        train, val = max(self.counts("train")), max(self.counts("val"))
        share = f"{val / (train + val) / 2:.2g}"
        return f"; for test rows train with a smaller share for validation, --data.val_fraction {share}"

    def show(self, prompt: str, continuation: str) -> str:
        return f"{prompt if prompt.rstrip().endswith('=') else prompt + ' ='} {continuation}"

    def shown(self, row: int) -> list[str]:
        return [*self.describe(row)[:-1], self.tokenizer.elements[self.answers_XN[0, row]]]

    def describe(self, row: int) -> list[str]:
        """A row as text; the last entry is its true answer, in a stack of several formulas by the first run's."""
        elements = [*self.operands_NK[row], self._results_N[row]]
        return [self.tokenizer.elements[element] for element in elements]

    def tokens(self, operands_NK: Column) -> Tensor:
        """Prompts of equations as a model takes them: (R, N, T), the same for every run.

        Args:
            operands_NK: Element numbers, shape (N, K), such as rows of ``operands_NK``.
        """
        return torch.from_numpy(self.tokenizer.prompts(operands_NK)).expand(len(self.seeds), -1, -1)


def _open_files(
    formulas: list[str], splits: str | list[str] | None, algebra: Algebra, operands: int | None
) -> list[SplitFiles]:
    """The files of each run; none at all without ``splits``."""
    if splits is None:
        return []
    paths = repeat_per_run(splits, len(formulas), "splits")
    elements = {name: number for number, name in enumerate(algebra.names)}
    opened = {
        (text, path): SplitFiles(path, elements, algebra.operands, Formula(text, operands, algebra).operand_names)
        for text, path in dict.fromkeys(zip(formulas, paths, strict=True))
    }
    return [opened[key] for key in zip(formulas, paths, strict=True)]


def _make_tables(formulas: list[str], files: list[SplitFiles], build: Callable[..., Operation]) -> list[Operation]:
    """Each run's table: one for a formula, or for a formula and files whose rows it consists of."""
    tables: dict[Any, Operation] = {}
    own = []
    for run, text in enumerate(formulas):
        given = files[run] if files else None
        key = next((key for key in ((text, None), (text, given)) if key in tables), None)
        if key is None:
            table = build(text, given_NK=None if given is None else given.operands_NK)
            key = text, given if table.is_given else None
            tables[key] = table
        own.append(tables[key])
    return own


def _split_tables(tables: list[Operation], seeds: list[int], pairing: Pairing, shares: dict[str, Any]) -> list[Split]:
    """Splits each run's table; ``shares`` are options of ``split_table``, one value or one for each run."""
    per_run = zip(*(repeat_per_run(value, len(tables), name) for name, value in shares.items()), strict=True)
    return [
        split_table(table, seed, pairing=pairing, **dict(zip(shares, values, strict=True)))
        for table, seed, values in zip(tables, seeds, per_run, strict=True)
    ]
