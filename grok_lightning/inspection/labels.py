"""What stands beside an inspection's pictures: names of operands, elements, tokens, positions and components."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.figures.elements import NothingToShow, are_long
from grok_lightning.inspection.basis import Basis
from grok_lightning.inspection.gather import Gathered
from grok_lightning.inspection.subject import Subject

PLURALS = {"frequency": "frequencies"}


@dataclass(frozen=True)
class Labels:
    """Names in pictures.

    Attributes:
        operands: Names of the two operands of maps.
        values: The elements that each of them takes.
        tokens: The vocabulary.
        positions: What stands at each position of the input.
        components: The basis's components.
        word, words: What a component is called, and several.
        split: The split that confusions are of, in words.
        is_cyclic: Whether the first element follows the last.
        turns: Place of each element in the order of the basis, from 0 to 1, or of their numbers.
        are_ordered: Whether maps have their elements in another order than that of their numbers.
        note: What maps leave out.
    """

    operands: tuple[str, str]
    values: tuple[list[str], list[str]]
    tokens: list[str]
    positions: list[str]
    components: list[str]
    word: str
    words: str
    split: str
    is_cyclic: bool
    turns: NDArray[np.float64]
    are_ordered: bool
    note: str

    def token(self, number: int) -> str:
        return self.tokens[number]

    @staticmethod
    def are_long(names: Sequence[str]) -> bool:
        """Whether names are too long for the ticks of an axis."""
        return are_long(list(names) or [""])


def name_things(gathered: Gathered) -> Labels:
    """The names for the pictures of an inspection."""
    subject, basis = gathered.subject, gathered.choice.basis
    data = subject.data
    operands, values, note, are_ordered = ("x", "y"), ([""], [""]), "", False
    if isinstance(data, TableDataModule):
        try:
            cells, elements = subject.cells, data.operation.algebra.names
            x, y = ([elements[int(number)] for number in column] for column in cells.values)
            operands, values, note = cells.names, (x, y), cells.note
            are_ordered = any(bool((np.diff(column) < 0).any()) for column in cells.values)
        except NothingToShow:
            pass
    splits = {"val": "validation", "test": "test", "train": "training"}
    split = next((words for name, words in splits.items() if data.counts(name)[0]), "training")
    is_cyclic = isinstance(data, TableDataModule) and isinstance(data.operation.algebra, IntegersMod)
    components, word = (basis.labels, basis.word) if isinstance(basis, Basis) else ([""], "frequency")
    plural = PLURALS.get(word, f"{word}s")
    tokens = list(data.vocabulary)
    note += "Maps have their elements in its order, any others last. " if are_ordered else ""
    positions = _name_positions(subject)
    turns = np.zeros(0)
    if isinstance(basis, Basis):
        turns = np.ones(max(basis.elements_N) + 1)
        turns[basis.elements_N] = np.arange(len(basis.elements_N)) / len(basis.elements_N)
    order = is_cyclic, turns, are_ordered
    return Labels(operands, values, tokens, positions, components, word, plural, split, *order, note)


def _name_positions(subject: Subject) -> list[str]:
    """The operand or token that stands at each position of every equation; else its number."""
    data, tokens_NT = subject.data, subject.data.rows().prompts_NT
    names = []
    for place in range(data.length):
        column = tokens_NT[..., place].reshape(-1) if place < tokens_NT.shape[-1] else np.array([0, 1])
        name = data.vocabulary[int(column[0])] if (column == column[0]).all() and column[0] >= 0 else ""
        if not name and isinstance(data, TableDataModule):
            pairs = zip(data.operation.formula.operand_names, data.operands_NK.T, strict=True)
            name = next((operand for operand, own in pairs if np.array_equal(own, column)), "")
        names.append(name or f"token {place}")
    return names
