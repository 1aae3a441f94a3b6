"""Finite groups given by their multiplication tables."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grok_lightning.errors import UserError

LARGEST = 1024  # elements of a group whose representations are computed: they are as many numbers as its table

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FiniteGroup:
    """A finite group of the elements 0..n-1; made by ``find_group``, which checks the axioms.

    Attributes:
        table_GG: The products: entry (g, h) is the number of g h.
        identity: The identity's number.
        inverses_G: The number of each element's inverse.
    """

    table_GG: Numbers
    identity: int
    inverses_G: Numbers

    def __len__(self) -> int:
        return len(self.table_GG)

    @property
    def is_abelian(self) -> bool:
        """Whether all elements commute."""
        return np.array_equal(self.table_GG, self.table_GG.T)

    def powers(self, element: int) -> list[int]:
        """The powers of an element, from the identity on, each once."""
        powers, power = [self.identity], element
        while power != self.identity:
            powers.append(power)
            power = int(self.table_GG[power, element])
        return powers


def find_group(table_GG: Numbers) -> FiniteGroup | None:
    """The group that a table is, or None if it is none; exact, in some n^2 log n steps.

    Associativity is tested with a generating set in the middle, which suffices (Light's test; Clifford and Preston,
    "The algebraic theory of semigroups", 1961).

    Args:
        table_GG: The number of each product; what is not in 0..n-1 is no element.
    """
    size = len(table_GG)
    every = np.arange(size)
    if table_GG.shape != (size, size) or not size or table_GG.min() < 0 or table_GG.max() >= size:
        return None
    sides = (table_GG == every).all(1) & (table_GG == every[:, None]).all(0)
    if not sides.any():
        return None
    identity = int(sides.argmax())
    is_one = table_GG == identity
    if (is_one.sum(0) != 1).any() or (is_one.sum(1) != 1).any():
        return None
    inverses_G = is_one.argmax(1)
    reached = np.zeros(size, dtype=bool)
    generators: list[int] = []
    while not reached.all():
        generators.append(int((~reached).argmax()))
        reached = _close(table_GG, generators, identity)
    for middle in generators:
        if not np.array_equal(table_GG[table_GG[:, middle]], table_GG[:, table_GG[middle]]):
            return None
    return FiniteGroup(table_GG, identity, inverses_G)


def _close(table_GG: Numbers, generators: list[int], identity: int) -> NDArray[np.bool_]:
    """Mask of what products of generators, from the identity on, reach."""
    reached = np.zeros(len(table_GG), dtype=bool)
    reached[[identity, *generators]] = True
    new = np.flatnonzero(reached)
    while len(new):
        found = np.zeros(len(table_GG), dtype=bool)
        found[table_GG[new][:, generators]] = True
        new = np.flatnonzero(found & ~reached)
        reached[new] = True
    return reached


def close_subgroup(group: FiniteGroup, generators: list[int]) -> NDArray[np.bool_]:
    """Mask of the subgroup that some elements generate: (n,) of bool."""
    return _close(group.table_GG, generators, group.identity)


def require_moderate(size: int, what: str) -> None:
    """Refuses groups whose representations would take too much memory and time.

    Raises:
        UserError: If there are more than ``LARGEST`` elements.
    """
    if size > LARGEST:
        raise UserError(f"{what} is a group of {size:,} elements; representations are computed of at most {LARGEST:,}")
