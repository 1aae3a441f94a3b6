"""Strings to be memorized, one token per character."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import numpy as np

from grok_lightning.batch import PADDING
from grok_lightning.data.algebra import Column
from grok_lightning.data.sequences import SequenceDataModule, repeat_per_run
from grok_lightning.data.split import Split
from grok_lightning.data.tokenizer import Rows
from grok_lightning.errors import MOST_SHOWN, UserError, show
from grok_lightning.randomness import derive_keys, permutations

BEGIN = "<begin>"
END = "<end>"


class TextDataModule(SequenceDataModule):
    """Strings that a model learns by heart: each is the answer to one and the same prompt, the beginning mark.

    The vocabulary is the characters that occur, sorted; then the beginning mark and the end mark. A string is one row,
    right only if every character and the end mark are. Strings that begin alike or differ in their first character
    cannot all be right, because nothing tells which of them is asked for before they part.

    Args:
        strings: One string, or a list of strings.
        val_fraction: Fraction of strings held out; default: none. Validation is then on the training strings
            themselves, because the question is whether they were memorized.
        split_seed: Seed of the split; default: the run's seed. One number, or one for each run.
        batch_size: Rows per step. A number or ``full``; a few strings come several times in one batch.
        seeds: One seed for each run of the stack.

    Raises:
        UserError: If there is no string, or one is empty, or an option is out of range.
    """

    def __init__(
        self,
        strings: list[str] | str = "I love machine learning",
        val_fraction: float | None = None,
        split_seed: int | list[int] | None = None,
        batch_size: int | Literal["full", "paper"] = 64,
        seeds: Sequence[int] = (0,),
    ) -> None:
        super().__init__(seeds)
        self.strings = [strings] if isinstance(strings, str) else list(strings)
        if not self.strings:
            raise UserError("data.strings is an empty list; give at least one string")
        if "" in self.strings:
            raise UserError(f"data.strings has an empty string (number {self.strings.index('') + 1}); leave it out")
        twice = next((text for text in self.strings if self.strings.count(text) > 1), None)
        if twice is not None and val_fraction is not None:
            raise UserError(
                f"data.strings has {twice[:40]!r} twice, so data.val_fraction could not hold it out; leave one"
            )
        self.row_name, self.recited = "strings", True
        self._characters = sorted(set("".join(self.strings)))
        self.vocabulary = [*self._characters, BEGIN, END]
        self._token = {character: token for token, character in enumerate(self.vocabulary)}
        self.end = self._token[END]
        lengths = {len(string) for string in self.strings}
        self.prompt_length, self.answer_length, self.padded = 1, max(lengths) + 1, len(lengths) > 1
        self.columns = ["text"]
        split_seeds = repeat_per_run(self.seeds if split_seed is None else split_seed, len(self.seeds), "split_seed")
        self.splits = [_split(len(self.strings), seed, val_fraction) for seed in split_seeds]
        self.set_batch_size(batch_size)

    def rows(self) -> Rows:
        answers = np.full((len(self.strings), self.answer_length), PADDING, dtype=np.int64)
        for answer, string in zip(answers, self.strings, strict=True):
            answer[: len(string) + 1] = [*(self._token[character] for character in string), self._token[END]]
        return Rows(np.full((len(self.strings), 1), self._token[BEGIN], dtype=np.int64), answers[None])

    def encode(self, text: str) -> Column:
        """The beginning mark and the tokens of a string's beginning, shape (T,).

        Raises:
            UserError: If a character occurs in none of the strings, or the text is longer than all of them.
        """
        unknown = next((character for character in text if character not in self._token), None)
        if unknown is not None:
            raise UserError(
                f"prompt {show(text)} has {show(unknown)}; "
                f"this model of strings knows only the characters {show(''.join(self._characters), 200)}; "
                f"a prompt is how a string begins, such as {show(self.example)}"
            )
        if len(text) >= self.answer_length:
            raise UserError(
                f"prompt {show(text)} has {len(text)} characters; the longest string has {self.answer_length - 1}, "
                f"and a prompt is how a string begins, such as {show(self.example)}"
            )
        return np.array([self._token[BEGIN], *(self._token[character] for character in text)], dtype=np.int64)

    @property
    def example(self) -> str:
        return self.strings[0][: (len(self.strings[0]) + 1) // 2][:MOST_SHOWN]

    def show(self, prompt: str, continuation: str) -> str:
        return prompt + continuation

    def describe(self, row: int) -> list[str]:
        return [self.strings[row]]


def _split(strings: int, seed: int, val_fraction: float | None) -> Split:
    """All strings for training and validation alike, or a share of them held out."""
    every = np.arange(strings)
    if val_fraction is None:
        return Split(every, every, every[:0], None)
    if not 0 < val_fraction < 1:
        raise UserError(f"data.val_fraction is {val_fraction}; it must lie between 0 and 1, both excluded")
    held_out = int(Fraction(repr(float(val_fraction))) * strings)
    if not held_out:
        raise UserError(f"data.val_fraction is {val_fraction}, which holds out none of the {strings} strings")
    shuffled = permutations(derive_keys([seed], "split"), strings)[0].numpy()
    return Split(shuffled[held_out:], shuffled[:held_out], every[:0], None)
