"""An operation: a formula evaluated over an algebra, and the table of its equations."""

import numpy as np

from grok_lightning.data.algebra import Algebra, Column, identify_algebra
from grok_lightning.data.formula import ROWS_AT_ONCE, Formula
from grok_lightning.data.sampling import choose, draw
from grok_lightning.errors import MOST_SHOWN, UserError, show

LARGEST_TABLE_BYTES = 2 * 1024**3
LARGEST_ALGEBRA = 2**20


class Operation:
    """The table of all equations of a formula over an algebra, or of a sample of them.

    Args:
        formula: The formula as typed.
        algebra: The algebra of its operands.
        operands: K, the number of operands; default: those that the formula uses.
        rows: Number of distinct rows to draw from the table, all equally likely; default: the whole table.
        rows_seed: Seed of that sample.
        given_NK: Operands of the rows to have in place of a sample, and where the whole table does not fit in memory;
            in lexicographic order.

    Attributes:
        operands_NK: Element numbers of the operands, shape (N, K), in lexicographic order.
        results_N: Element numbers of the answers, shape (N,). Rows on which the branch taken divides by zero are not
            in the table.
        is_given: Whether its rows are those of ``given_NK``.
        is_sample: Whether it has a part of the rows that the formula is defined for, as far as they are known.

    Raises:
        UserError: If the formula cannot be read or evaluated, the table would not fit in memory, there are fewer rows
            than asked for, or none.
    """

    def __init__(
        self,
        formula: str,
        algebra: Algebra,
        operands: int | None = None,
        rows: int | None = None,
        rows_seed: int = 0,
        given_NK: Column | None = None,
    ) -> None:
        self.formula = Formula(formula, operands, algebra)
        self.algebra = algebra
        if algebra.size > LARGEST_ALGEBRA:
            raise UserError(
                f"data.formula {show(formula)} is over {algebra.size:,} elements; at most 2^20 are accepted"
            )
        if rows is None and rows_seed != 0:
            raise UserError(f"data.rows_seed is {rows_seed}, but data.rows is not given; the whole table needs no seed")
        if rows is not None and rows < 1:
            raise UserError(f"data.rows is {rows}; it must be at least 1")
        possible = len(algebra.operands) ** self.formula.arity
        fits = self._bytes(possible) <= LARGEST_TABLE_BYTES
        self.is_given = given_NK is not None and (rows is not None or not fits)
        self.is_sample = rows is not None or not fits
        if given_NK is not None and self.is_given:
            results_N, defined_N = self.formula.evaluate(algebra, given_NK)
            self.operands_NK, self.results_N = given_NK[defined_N], results_N[defined_N]
            return
        if not fits and rows is None:
            count = f"{len(algebra.operands)}^{self.formula.arity}" + (f" = {possible:,}" if possible < 10**15 else "")
            raise UserError(
                f"data.formula {show(formula)} has {count} rows, about {_gibibytes(self._bytes(possible))}; "
                f"a table may take {_gibibytes(LARGEST_TABLE_BYTES)}: set data.rows to draw a sample of it, "
                "or use fewer operands or a smaller algebra"
            )
        if rows is not None and rows > possible:
            raise _too_many(rows, possible)
        if rows is not None and self._bytes(rows) > LARGEST_TABLE_BYTES:
            raise UserError(
                f"data.rows is {rows:,}, about {_gibibytes(self._bytes(rows))}; "
                f"a table may take {_gibibytes(LARGEST_TABLE_BYTES)}"
            )
        if fits:
            self.operands_NK, self.results_N = self._whole()
        if fits and rows is not None:
            if rows > len(self):
                raise _too_many(rows, len(self))
            self.is_sample = rows < len(self)
            chosen = choose(rows, len(self), rows_seed)
            self.operands_NK, self.results_N = self.operands_NK[chosen], self.results_N[chosen]
        elif rows is not None:
            self.operands_NK, self.results_N = draw(self.formula, algebra, rows, rows_seed)
        if not len(self):
            raise UserError(f"data.formula {show(formula)} is defined for no operands, so its table has 0 rows")

    def __len__(self) -> int:
        return len(self.results_N)

    @property
    def mirrors_N(self) -> Column:
        """For each row (x, y) the row of (y, x), or -1 where the table has none; only for two operands."""
        return find_mirrors(self.operands_NK, self.algebra.size)

    @property
    def is_commutative(self) -> bool:
        """Whether of two operands every row has the answer of its mirror, also where a sample lacks the mirror."""
        if self.formula.arity != 2:
            return False
        results, defined = self.formula.evaluate(self.algebra, self.operands_NK[:, ::-1])
        return bool(np.all(defined & (results == self.results_N)))

    def _whole(self) -> tuple[Column, Column]:
        values, arity = self.algebra.operands, self.formula.arity
        possible = len(values) ** arity
        operands_NK, results_N = np.empty((possible, arity), np.int64), np.empty(possible, np.int64)
        rows = 0
        for start in range(0, possible, ROWS_AT_ONCE):
            numbers = np.arange(start, min(start + ROWS_AT_ONCE, possible))
            block_NK = np.stack(np.unravel_index(numbers, (len(values),) * arity), axis=1) + values.start
            results, defined = self.formula.evaluate(self.algebra, block_NK)
            end = rows + int(defined.sum())
            operands_NK[rows:end], results_N[rows:end] = block_NK[defined], results[defined]
            rows = end
        return operands_NK[:rows], results_N[:rows]

    def _bytes(self, rows: int) -> int:
        """The size of a table, and of what is computed from its columns."""
        return rows * (self.formula.arity + self.algebra.columns) * 8


def example_row(operation: Operation) -> list[int]:
    """The operands of some row of the table, as element numbers."""
    return [int(number) for number in operation.operands_NK[len(operation) * 3 // 5]]


def name_operation(operation: Operation) -> str:
    """An operation in an error message, such as ``x / y mod 97``."""
    text = operation.formula.text if len(operation.formula.text) <= MOST_SHOWN else "this formula"
    return f"{text} {operation.algebra.title or f'over {identify_algebra(operation.algebra)}'}"


def find_mirrors(operands_NK: Column, size: int) -> Column:
    """For each row (x, y) the row of (y, x), or -1 where there is none.

    Args:
        operands_NK: Two operands each, in lexicographic order.
        size: Number of elements.
    """
    codes = operands_NK @ np.array([size, 1])  # increasing, as the rows are
    mirrored = operands_NK @ np.array([1, size])
    place = np.searchsorted(codes, mirrored).clip(max=len(codes) - 1)
    return np.where(codes[place] == mirrored, place, -1)


def _too_many(rows: int, there: int) -> UserError:
    return UserError(f"data.rows is {rows:,}, but the table has {there:,} rows; it can be at most that")


def _gibibytes(size: int) -> str:
    whole = size // 1024**3
    return f"{size / 1024**3:,.1f} GiB" if whole < 10**9 else f"10^{len(str(whole)) - 1} GiB"
