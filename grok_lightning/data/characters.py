"""One token per character: numbers of variable length, and a mark that ends every answer."""

import numpy as np

from grok_lightning.batch import PADDING
from grok_lightning.data.algebra import Column
from grok_lightning.data.operation import Operation
from grok_lightning.data.tokenizer import Rows, Tokenizer
from grok_lightning.errors import UserError

END = "<end>"
LARGEST_ROWS_BYTES = 4 * 1024**3


class CharacterTokenizer(Tokenizer):
    """Writes ``12+7=19`` with one token per character of each element, and an end mark after the answer.

    Numbers are as long as they are written, not filled up with zeros. The vocabulary is the characters of the algebra's
    elements, sorted; then the operator, ``=`` and the end mark. A character has one token wherever it stands: the two
    minus signs of ``5--3`` share theirs.

    Args:
        operation: Whose equations are written.
        operator_token: Whether operands are joined by the operator token; without it a space joins them.
        equals_token: Whether the prompt ends with ``=``.

    Raises:
        UserError: If there is no ``=`` and prompts differ in length, so that nothing would tell where they end; or if
            the tokens would not fit in memory.
    """

    def __init__(self, operation: Operation, operator_token: bool = True, equals_token: bool = True) -> None:
        super().__init__(operation)
        characters = sorted(set("".join(self.elements)))
        joins = [self.operator if operator_token else " "] * (self.arity > 1)
        equals = ["="] * equals_token
        self.vocabulary = list(dict.fromkeys([*characters, *joins, *equals, END]))
        token = {written: number for number, written in enumerate(self.vocabulary)}
        self.end = token[END]
        own = operator_token and self.operator not in characters
        self.operator_place = token[self.operator] if joins and own else None
        self._equals = equals_token
        self._marks = [token[mark] for mark in (*joins, *equals)]
        self._lengths = np.array([len(name) for name in self.elements])
        self._written = np.full((len(self.elements), self._lengths.max()), PADDING, dtype=np.int64)
        for row, name in zip(self._written, self.elements, strict=True):
            row[: len(name)] = [token[character] for character in name]

        self._marks_of_prompt = self.arity - 1 + len(equals)
        operands, answers = self._lengths[list(operation.algebra.operands)], self._lengths[operation.results_N]
        shortest, longest = (
            int(length) * self.arity + self._marks_of_prompt for length in (operands.min(), operands.max())
        )
        if not equals_token and shortest < longest:
            raise UserError(
                f"data.equals_token is false, but prompts have {shortest} to {longest} characters and only = tells "
                "where one ends; use data.equals_token true, or data.tokenizer elements"
            )
        self.prompt_length, self.answer_length = longest, int(answers.max()) + 1
        size = 2 * 8 * len(operation) * (longest + 2 * self.answer_length)  # inputs and targets, and a copy of them
        if size > LARGEST_ROWS_BYTES:
            raise UserError(
                f"data.tokenizer is characters, which writes {len(operation):,} rows as about {size / 1024**3:.1f} GiB "
                f"of tokens; at most {LARGEST_ROWS_BYTES / 1024**3:.0f} GiB are accepted: draw fewer data.rows"
            )
        self.padded = bool(shortest < longest or answers.min() < answers.max())

    def prompts(self, operands_NK: Column) -> Column:
        prompts = np.full((len(operands_NK), self.prompt_length), PADDING, dtype=np.int64)
        lengths_NK = self._lengths[operands_NK]
        place_N = self.prompt_length - self._marks_of_prompt - lengths_NK.sum(axis=1)
        for k in range(self.arity):
            if k:
                prompts[np.arange(len(prompts)), place_N] = self._marks[0]
                place_N = place_N + 1
            for position in range(self._written.shape[1]):
                (rows,) = np.nonzero(lengths_NK[:, k] > position)
                prompts[rows, place_N[rows] + position] = self._written[operands_NK[rows, k], position]
            place_N = place_N + lengths_NK[:, k]
        if self._equals:
            prompts[:, -1] = self._marks[-1]
        return prompts

    def rows(self, operands_NK: Column, results_XN: Column) -> Rows:
        """Equations as tokens, without shared beginnings."""
        answers = np.full((len(self.elements), self._written.shape[1] + 1), PADDING, dtype=np.int64)
        answers[:, :-1] = self._written
        answers[np.arange(len(answers)), self._lengths] = self.end
        return Rows(self.prompts(operands_NK), answers[:, : self.answer_length][results_XN])
