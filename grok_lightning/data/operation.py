"""An operation: a formula evaluated over an algebra, and the table of its equations."""

import numpy as np

from grok_lightning.data.algebra import Algebra, Column
from grok_lightning.data.formula import Formula
from grok_lightning.errors import UserError

LARGEST_TABLE_BYTES = 2 * 1024**3


class Operation:
    """The table of all equations of a formula over an algebra.

    Args:
        formula: The formula as typed.
        algebra: Where its operands live.

    Attributes:
        operands_NK: Element numbers of the operands, shape (N, K), the last operand running fastest.
        results_N: Element numbers of the answers, shape (N,). Rows on which the branch taken divides by zero are not
            in the table.

    Raises:
        UserError: If the formula cannot be read or evaluated, or the table would not fit in memory.
    """

    def __init__(self, formula: str, algebra: Algebra) -> None:
        self.formula = Formula(formula)
        self.algebra = algebra
        arity = self.formula.arity
        rows = algebra.size**arity
        size = rows * (arity + algebra.columns) * 8  # the table, and the columns alive while it is evaluated
        if size > LARGEST_TABLE_BYTES:
            raise UserError(
                f"data.formula {formula!r} has {algebra.size}^{arity} = {rows:,} rows, about {size / 1024**3:,.1f} GiB;"
                f" a table may take {LARGEST_TABLE_BYTES / 1024**3:.0f} GiB: use fewer operands or a smaller algebra"
            )
        every = np.indices((algebra.size,) * arity).reshape(arity, -1).T.astype(np.int64)
        results, defined = self.formula.evaluate(algebra, every)
        self.operands_NK: Column = every[defined]
        self.results_N: Column = results[defined]

    def __len__(self) -> int:
        return len(self.results_N)

    @property
    def mirrors_N(self) -> Column:
        """For each row (x, y) the row of (y, x), or -1 where the table has none; only for two operands."""
        row_of = np.full((self.algebra.size,) * 2, -1, dtype=np.int64)
        row_of[self.operands_NK[:, 0], self.operands_NK[:, 1]] = np.arange(len(self))
        return row_of[self.operands_NK[:, 1], self.operands_NK[:, 0]]

    @property
    def is_commutative(self) -> bool:
        """Whether every pair of mirrored equations of two operands has one answer."""
        if self.formula.arity != 2:
            return False
        mirrors = self.mirrors_N
        return bool(np.all((mirrors >= 0) & (self.results_N[mirrors] == self.results_N)))
