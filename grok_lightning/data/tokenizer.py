"""One token per element: how an equation becomes a prompt and an answer, and how a typed prompt is read."""

import re

import numpy as np

from grok_lightning.data.algebra import Column
from grok_lightning.data.operation import Operation
from grok_lightning.errors import UserError

_PIECES = re.compile(r"\d+|(?:\([\d ]*\))+|[^\s]")


class ElementTokenizer:
    """Writes ``x op y =`` with one token per element; the answer is one token.

    The vocabulary is the algebra's elements in their order, then the operator token, then ``=``. The operator token is
    shown as the formula's operator when the formula is just its operands joined by it, else as ``o``.

    Args:
        operation: Whose equations are written.
        operator_token: Whether operands are joined by the operator token; without it the prompt is ``x y =``.
    """

    answer_length = 1

    def __init__(self, operation: Operation, operator_token: bool = True) -> None:
        self.arity = operation.formula.arity
        self.elements = operation.algebra.names
        self.operator = operation.formula.operator or "o"
        self._joins = operator_token and self.arity > 1
        self.vocabulary = [*self.elements, *([self.operator] if self._joins else []), "="]
        self.prompt_length = 2 * self.arity if self._joins else self.arity + 1

    def prompts(self, operands_NK: Column) -> Column:
        """Token numbers of the prompts, shape (N, T), for operands of shape (N, K)."""
        prompts = np.full((len(operands_NK), self.prompt_length), len(self.elements), dtype=np.int64)
        prompts[:, : -1 : 2 if self._joins else 1] = operands_NK
        prompts[:, -1] = len(self.vocabulary) - 1
        return prompts

    def beginnings(self) -> Column:
        """How prompts begin: the first operand, and the operator token if one follows; shape (P, S), by element."""
        first = np.zeros((len(self.elements), self.arity), dtype=np.int64)
        first[:, 0] = np.arange(len(self.elements))
        return self.prompts(first)[:, : 2 if self._joins else 1]

    def answers(self, results_N: Column) -> Column:
        """Token numbers of the answers, shape (N, A = 1), for results of shape (N,)."""
        return results_N[:, None]

    def read(self, text: str) -> Column:
        """Reads a prompt such as ``91/7=``, or bare operands such as ``91 7``, into operands of shape (1, K).

        Raises:
            UserError: If the text names no element, the wrong operator or the wrong number of operands.
        """
        example = self.operator.join(self.elements[-self.arity :]) + "="
        pieces = _PIECES.findall(text.strip().removesuffix("="))
        if len(pieces) > 1 and set(pieces[1::2]) <= {self.operator, "o"}:
            pieces = pieces[::2]  # operands joined by the operator; anything else is bare operands
        numbers = {name: number for number, name in enumerate(self.elements)}
        for piece in pieces:
            if piece not in numbers:
                raise UserError(
                    f"prompt {text!r} has {piece!r}; expected are {self.arity} of the elements "
                    f"{self.elements[0]} ... {self.elements[-1]}, such as {example!r}"
                )
        if len(pieces) != self.arity:
            raise UserError(f"prompt {text!r} has {len(pieces)} operands; {self.arity} are expected: {example!r}")
        return np.array([[numbers[piece] for piece in pieces]], dtype=np.int64)
