"""Dihedral groups: the symmetries of a regular polygon."""

from typing import Any

import numpy as np

from grok_lightning.data.algebra import Algebra, Column, Mask, missing_operator, repeated_product, without_integers
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError


class DihedralGroup(Algebra):
    """The 2n symmetries of a regular n-gon: rotations ``r0 ... r(n-1)`` and reflections ``s0 ... s(n-1)``.

    ``rk`` rotates by k corners, ``sk`` reflects (corner i goes to -i) and then rotates by k. A product acts with its
    right factor first, so ``s0 * r1 = s(n-1)`` and ``r1 * s0 = s1``. The identity is ``r0``. Formulas may name the
    elements, as in ``x * s0``.

    Args:
        degree: n, from 2 to 1000.
    """

    operators = ("*", "/", "**")
    LARGEST = 1000

    def __init__(self, degree: int) -> None:
        if not 2 <= degree <= self.LARGEST:
            raise UserError(f"data.degree is {degree}; it must be an integer from 2 to {self.LARGEST}")
        self.degree = degree
        self.title = f"over D{degree}"
        self.constants = {name: number for number, name in enumerate(self.names)}

    @property
    def size(self) -> int:
        return 2 * self.degree

    @property
    def names(self) -> list[str]:
        return [f"{kind}{number}" for kind in "rs" for number in range(self.degree)]

    def binary(self, operator: str, left: Column, right: Column) -> tuple[Column, Mask | None]:
        if operator == "/":
            right, _ = self.power(right, -1)
        elif operator != "*":
            raise missing_operator(self, operator)
        reflects, turn = np.divmod(left, self.degree)
        also_reflects, first_turn = np.divmod(right, self.degree)
        turn = (turn + np.where(reflects, -first_turn, first_turn)) % self.degree
        return (reflects ^ also_reflects) * self.degree + turn, None

    def power(self, base: Column, exponent: int) -> tuple[Column, Mask | None]:
        if exponent < 0:  # a reflection is its own inverse
            base = np.where(base < self.degree, -base % self.degree, base)
        return repeated_product(self, base, abs(exponent), np.zeros_like(base)), None

    def literal(self, value: int) -> int:
        raise UserError(f"data.formula uses the number {value}; in a dihedral group a number can only be an exponent")

    def representative(self, column: Column) -> Column:
        raise without_integers("dihedral groups")


class DihedralDataModule(TableDataModule):
    """Operations over the symmetries of a regular polygon, with (x * y)(i) = x(y(i)).

    Args:
        formula: Formula, such as x * y * x**-1.
        degree: n, number of corners; the group has 2n elements.
        options: Those of ``TableDataModule``.
    """

    def __init__(self, formula: str | list[str] = "x * y", degree: int = 31, **options: Any) -> None:
        self.degree = degree
        super().__init__(formula, **options)

    def algebra(self) -> DihedralGroup:
        return DihedralGroup(self.degree)
