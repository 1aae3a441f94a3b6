"""Equations as a user names them in Python, as element numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from grok_lightning.data.algebra import Column
from grok_lightning.data.operation import Operation, example_row, name_operation
from grok_lightning.errors import UserError, show


def read_numbers(operation: Operation, numbers_NK: Any) -> Column:
    """Operands that are given as element numbers, one row for each equation.

    Args:
        operation: Whose operands they are.
        numbers_NK: Whole numbers of shape (N, K), such as rows of ``operands_NK``; an array, a tensor or lists.

    Returns:
        The same as int64.

    Raises:
        UserError: If the shape is another, or a number is not that of an operand.
    """
    found, names = np.asarray(numbers_NK), operation.formula.operand_names
    if found.dtype.kind not in "iu" or found.ndim != 2 or found.shape[1] != len(names):
        raise UserError(
            f"operands has shape {found.shape} and type {found.dtype}; whole numbers of shape (N, {len(names)}) are "
            f"expected, the element numbers of {', '.join(names)}, or each by its name as in {_example(operation)}"
        )
    known = operation.algebra.operands
    wrong = found[(found < known.start) | (found >= known.stop)]
    if len(wrong):
        raise UserError(
            f"operands has the element number {wrong[0]}; {known.start} to {known.stop - 1} are expected, in "
            f"{name_operation(operation)} such as {example_row(operation)}"
        )
    return found.astype(np.int64)


def read_elements(operation: Operation, named: Mapping[str, Any]) -> Column:
    """Operands that are given by name, as they are written; shapes that broadcast.

    Args:
        operation: Whose operands they are.
        named: For each operand an element, or an array, tensor or list of them: numbers, or text as in
            ``algebra.names``.

    Returns:
        Element numbers, (N, K); the rows of a grid in its order.

    Raises:
        UserError: If an operand is missing or unknown, an element is none, or the shapes do not broadcast.
    """
    names, algebra = operation.formula.operand_names, operation.algebra
    other = next((name for name in [*named, *names] if name not in names or name not in named), None)
    if other is not None:
        problem = "is missing" if other in names else f"is no operand; expected: {', '.join(names)}"
        raise UserError(f"operand {show(other)} {problem}; as in {_example(operation)}")
    texts = algebra.names
    numbers = {texts[number]: number for number in algebra.operands}

    def read(name: str) -> Column:
        ragged = isinstance(named[name], list | tuple)  # perhaps
        given = np.asarray(named[name], dtype=object if ragged else None)
        found = [numbers.get(str(element).strip()) for element in given.flat]
        if None in found:
            wrong = given.flatten().tolist()[found.index(None)]
            raise UserError(
                f"operand {name} is {show(wrong)}; expected for {name_operation(operation)} are the elements "
                f"{texts[algebra.operands[0]]} ... {texts[algebra.operands[-1]]}, as in {_example(operation)}"
            )
        return np.array(found, dtype=np.int64).reshape(given.shape)

    columns = [read(name) for name in names]
    try:
        shaped = np.broadcast_arrays(*columns)
    except ValueError:
        shapes = ", ".join(f"{name} {column.shape}" for name, column in zip(names, columns, strict=True))
        raise UserError(f"the operands have shapes that do not go together: {shapes}") from None
    return np.stack([column.reshape(-1) for column in shaped], axis=1)


def _example(operation: Operation) -> str:
    elements = [operation.algebra.names[number] for number in example_row(operation)]
    shown = [element if element.lstrip("-").isdigit() else repr(element) for element in elements]
    return ", ".join(f"{name}={each}" for name, each in zip(operation.formula.operand_names, shown, strict=True))
