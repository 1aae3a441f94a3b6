"""Tokenizers, which turn equations into prompts and answers: their base class, and the one with a token per element."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from grok_lightning.data.algebra import Column
from grok_lightning.data.operation import Operation, example_row, name_operation
from grok_lightning.data.prompts import read_operands


class Rows(NamedTuple):
    """Sequences of tokens; -1 where there is none.

    Attributes:
        prompts_NT: Prompts, padded before their first token; (X, N, T) where the runs' differ.
        answers_XNA: Answers, padded after their last token; X is 1, or R where the runs' answers differ.
        beginnings_PS: The first S tokens of each of the P beginnings of prompts; None where they differ too much.
        beginning_N: The beginning of each row.
    """

    prompts_NT: Column
    answers_XNA: Column
    beginnings_PS: Column | None = None
    beginning_N: Column | None = None


class Tokenizer(ABC):
    """Writes equations as tokens and reads typed prompts.

    Args:
        operation: Whose equations are written.

    Attributes:
        elements: Text of each element, by its number.
        operator: Text of the operator: the formula's, where the formula is just its operands joined by it, else
            ``o``.
        vocabulary: Text of each token, by its number.
        operator_place: The token that denotes only the operator, however it is shown; None if there is none.
        prompt_length: Tokens of the longest prompt.
        answer_length: A, the tokens of the longest answer.
        padded: Whether prompts or answers differ in length.
        end: The token that ends every answer; None where all answers are equally long.
    """

    vocabulary: list[str]
    operator_place: int | None
    prompt_length: int
    answer_length: int
    padded: bool
    end: int | None

    def __init__(self, operation: Operation) -> None:
        self.elements = operation.algebra.names
        self.operator = operation.formula.operator or "o"
        self.arity = operation.formula.arity
        self._operation = operation
        self._operands = {self.elements[number]: number for number in operation.algebra.operands}

    @abstractmethod
    def prompts(self, operands_NK: Column) -> Column:
        """Token numbers of prompts, shape (N, prompt_length); -1 before a shorter prompt."""

    @abstractmethod
    def rows(self, operands_NK: Column, results_XN: Column) -> Rows:
        """Equations as tokens."""

    def read(self, text: str) -> Column:
        """Reads a prompt such as ``91/7=``, or bare operands such as ``91 7``, into operands of shape (1, K).

        Raises:
            UserError: If the text names no operand, the wrong operator or the wrong number of operands.
        """
        task = name_operation(self._operation)
        return read_operands(text, self._operands, self.operator, self.arity, self.example, task)

    @property
    def example(self) -> str:
        """The prompt of some row of the table."""
        row = example_row(self._operation)
        joined = self.operator if all(self.elements[number].isdigit() for number in row) else f" {self.operator} "
        return joined.join(self.elements[number] for number in row) + "="


class ElementTokenizer(Tokenizer):
    """Writes ``x op y =`` with one token per element; the answer is one token.

    The vocabulary is the algebra's elements in their order, then the operator token, then ``=``.

    Args:
        operation: Whose equations are written.
        operator_token: Whether operands are joined by the operator token; without it the prompt is ``x y =``.
        equals_token: Whether the prompt ends with ``=``.
    """

    answer_length = 1
    padded = False
    end = None

    def __init__(self, operation: Operation, operator_token: bool = True, equals_token: bool = True) -> None:
        super().__init__(operation)
        self._joins = operator_token and self.arity > 1
        self.operator_place = len(self.elements) if self._joins else None
        self.vocabulary = [*self.elements, *([self.operator] if self._joins else []), *(["="] if equals_token else [])]
        self._operands_length = 2 * self.arity - 1 if self._joins else self.arity
        self.prompt_length = self._operands_length + equals_token

    def prompts(self, operands_NK: Column) -> Column:
        """Token numbers of the prompts, shape (N, T), for operands of shape (N, K)."""
        prompts = np.full((len(operands_NK), self.prompt_length), len(self.elements), dtype=np.int64)
        prompts[:, : self._operands_length : 2 if self._joins else 1] = operands_NK
        prompts[:, self._operands_length :] = len(self.vocabulary) - 1
        return prompts

    def rows(self, operands_NK: Column, results_XN: Column) -> Rows:
        """Equations as tokens; prompts begin with the first operand, and the operator token if one follows."""
        prompts, answers = self.prompts(operands_NK), results_XN[..., None]
        length = 2 if self._joins else 1
        if length == self.prompt_length:  # a bare operand: nothing follows the beginning
            return Rows(prompts, answers)
        first = np.zeros((len(self.elements), self.arity), dtype=np.int64)
        first[:, 0] = np.arange(len(self.elements))
        return Rows(prompts, answers, self.prompts(first)[:, :length], operands_NK[:, 0])
