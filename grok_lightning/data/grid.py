"""A table seen as the grid of its operands: all x against all y."""

from dataclasses import dataclass

import numpy as np

from grok_lightning.data.algebra import Column

LEAST_COVERAGE = 0.5


@dataclass(frozen=True)
class Grid:
    """The prompts of a table whose rows fill the grid of their operands, or most of it.

    A token that depends on one operand is stored once for each of that operand's values, not once for each row, so that
    whatever a model makes of it alone can be computed once too.

    Attributes:
        shape: The number of values of each operand, (n_1, ..., n_K).
        tokens: The token at each of T positions, of a shape that broadcasts to ``shape``.
        cells_N: Index of each row's cell in the grid, counted along the last axis first.
    """

    shape: tuple[int, ...]
    tokens: list[Column]
    cells_N: Column


def find_grid(prompts_NT: Column, operands_NK: Column) -> Grid | None:
    """A table's grid; None where a token depends on several operands, or the rows fill less than half of it.

    Args:
        prompts_NT: The rows' prompts.
        operands_NK: Their operands, no combination twice.
    """
    values, places = zip(*(np.unique(column, return_inverse=True) for column in operands_NK.T), strict=True)
    shape = tuple(len(each) for each in values)
    if len(operands_NK) < LEAST_COVERAGE * np.prod(shape, dtype=float):
        return None
    tokens = []
    for column in prompts_NT.T:
        found = _along_an_axis(column, places, shape)
        if found is None:
            return None
        tokens.append(found)
    return Grid(shape, tokens, np.asarray(np.ravel_multi_index(places, shape)))


def _along_an_axis(column: Column, places: tuple[Column, ...], shape: tuple[int, ...]) -> Column | None:
    """A position's tokens by the operand that decides them, or the one token that all rows have."""
    if (column == column[0]).all():
        return column[:1].reshape([1] * len(shape))
    for axis, place in enumerate(places):
        of_value = np.zeros(shape[axis], dtype=column.dtype)
        of_value[place] = column
        if (of_value[place] == column).all():
            return of_value.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return None
