"""A seeded sample of distinct rows out of a table that may be far too large to write down."""

import numpy as np
import torch

from grok_lightning.data.algebra import Algebra, Column
from grok_lightning.data.formula import ROWS_AT_ONCE, Formula
from grok_lightning.errors import UserError
from grok_lightning.randomness import derive_keys, hashed, permutations

FEWEST_DRAWS = 2**18
DRAWS_PER_ROW = 64
ROWS_A_ROUND = 2**16


def choose(rows: int, possible: int, seed: int) -> Column:
    """``rows`` of the numbers 0..possible-1, distinct, all choices equally likely, in increasing order."""
    return np.sort(permutations(derive_keys([seed], "rows"), possible)[0, :rows].numpy())


def draw(formula: Formula, algebra: Algebra, rows: int, seed: int) -> tuple[Column, Column]:
    """Draws distinct rows on which the formula is defined, without ever listing all of them.

    Operands are drawn independently; undefined rows and repetitions are passed over. With one seed, the rows of a
    smaller sample are among those of a larger one.

    Args:
        formula: The formula.
        algebra: Over what; at most 2**20 elements.
        rows: M, how many rows are wanted.
        seed: The sample is a pure function of it.

    Returns:
        Operands (M, K) in lexicographic order, and results (M,).

    Raises:
        UserError: If fewer distinct rows are found than asked for.
    """
    arity, values = formula.arity, algebra.operands
    key = derive_keys([seed], "rows")
    most = min(max(DRAWS_PER_ROW * rows, FEWEST_DRAWS), 2**32 // arity)  # the hash numbers its draws with 32 bits
    found = np.empty((0, arity + 1), dtype=np.int64)
    drawn = 0
    while len(found) < rows:
        if drawn >= most:
            raise UserError(
                f"data.rows is {rows:,}, but {drawn:,} rows drawn at random held only {len(found):,} different ones on "
                "which data.formula is defined; ask for fewer or change the formula"
            )
        stop = min(most, drawn + (max(rows, ROWS_A_ROUND) if drawn else rows + rows // 8 + 64))
        operands_NK = np.empty((stop - drawn, arity), dtype=np.int64)
        for start in range(drawn, stop, ROWS_AT_ONCE):
            end = min(start + ROWS_AT_ONCE, stop)
            counter = torch.arange(start * arity, end * arity)
            # the high half of a product of 32-bit numbers: no operand is favored by more than len(values) in 2**32
            numbers = (hashed(key, counter) * len(values)) >> 32
            operands_NK[start - drawn : end - drawn] = numbers.reshape(-1, arity).numpy() + values.start
        results, defined = formula.evaluate(algebra, operands_NK)
        found = np.concatenate([found, np.column_stack([operands_NK, results])[defined]])
        _, first = np.unique(found, axis=0, return_index=True)
        found = found[np.sort(first)]
        drawn = stop
    found = np.unique(found[:rows], axis=0)
    return found[:, :arity], found[:, arity]
