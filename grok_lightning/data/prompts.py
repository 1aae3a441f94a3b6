"""Parses typed prompts, such as ``91/7=`` or ``91 7``, into operands."""

import re
from collections.abc import Mapping

import numpy as np

from grok_lightning.data.algebra import Column
from grok_lightning.errors import UserError, show

_PIECES = re.compile(r"[0-9]+|(?:\([0-9 ]*\))+|\S")


def read_operands(
    text: str, numbers: Mapping[str, int], operator: str, arity: int, example: str | None = None, task: str = ""
) -> Column:
    """Reads a prompt into the element numbers of its operands, shape (1, K).

    The operands may be joined by the operator or by ``o``, or stand bare with spaces between; ``=`` may follow. The
    operator comes first: ``5 -3`` is 5 minus 3 where the operator is ``-``, and else the two operands 5 and -3.

    Args:
        text: The prompt.
        numbers: The element number of everything that may be an operand, by how it is written.
        operator: Text of the operator.
        arity: K.
        example: A prompt of the task, for errors; default: one of the last elements.
        task: What is asked, for errors.

    Raises:
        UserError: If the text names no operand, the wrong operator or the wrong number of operands.
    """
    operands = text.strip().removesuffix("=")
    for separator in (re.escape(operator), "o", r"\s+"):
        found = _split(operands, arity, re.compile(separator), numbers)
        if found is not None:
            return np.array([found], dtype=np.int64)
    elements = list(numbers)
    example = show(example or operator.join((elements[-arity:] * arity)[-arity:]) + "=")
    expected = f"expected for {task} are" if task else "expected are"
    pieces = [piece for piece in _PIECES.findall(operands) if piece not in (operator, "o")]
    for piece in pieces:
        if piece not in numbers:
            raise UserError(
                f"prompt {show(text)} has {show(piece)}; {expected} {arity} of the elements "
                f"{elements[0]} ... {elements[-1]}, such as {example}"
            )
    if len(pieces) != arity:
        raise UserError(f"prompt {show(text)} has {len(pieces)} operands; {expected} {arity}, such as {example}")
    raise UserError(f"prompt {show(text)} cannot be read; {expected} prompts such as {example}")


def _split(text: str, arity: int, separator: re.Pattern[str], numbers: Mapping[str, int]) -> list[int] | None:
    """Splits a text at separators into elements. A separator may occur within an element too, as in ``5--3``."""
    text = text.strip()
    if arity == 1:
        return [numbers[text]] if text in numbers else None
    for match in separator.finditer(text):
        first = text[: match.start()].strip()
        if first in numbers:
            rest = _split(text[match.end() :], arity - 1, separator, numbers)
            if rest is not None:
                return [numbers[first], *rest]
    return None
