"""Groups for tests: those of the shipped algebras, and some given by a table alone."""

from itertools import product

import numpy as np

from grok_lightning.data import TabulatedAlgebra
from grok_lightning.data.algebra import Algebra
from grok_lightning.data.alternating import AlternatingGroup
from grok_lightning.data.cyclic import CyclicProduct
from grok_lightning.data.dihedral import DihedralGroup
from grok_lightning.data.fields import FiniteField
from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.groups.group import FiniteGroup, find_group


def multiply_quaternions(left: tuple[int, str], right: tuple[int, str]) -> tuple[int, str]:
    (s, a), (t, b) = left, right
    if "1" in (a, b):
        return s * t, a if b == "1" else b
    if a == b:
        return -s * t, "1"
    return s * t * (1 if a + b in ("ij", "jk", "ki") else -1), ({"i", "j", "k"} - {a, b}).pop()


def quaternions() -> TabulatedAlgebra:
    elements = list(product((1, -1), "1ijk"))
    return TabulatedAlgebra(
        elements, {"*": multiply_quaternions}, "over Q8", lambda q: ("m" if q[0] < 0 else "") + q[1]
    )


def heisenberg(p: int) -> TabulatedAlgebra:
    elements = list(product(range(p), repeat=3))
    multiply = lambda g, h: ((g[0] + h[0]) % p, (g[1] + h[1]) % p, (g[2] + h[2] + g[0] * h[1]) % p)  # noqa: E731
    return TabulatedAlgebra(elements, {"*": multiply}, "over the Heisenberg group")


def shuffled_triangle() -> TabulatedAlgebra:
    """S3 with its elements in another order, the identity not first."""
    algebra = SymmetricGroup(3)
    order = [3, 5, 0, 2, 4, 1]
    table = table_of(algebra)
    return TabulatedAlgebra(order, {"*": lambda a, b: int(table[a, b])}, "over shuffled S3")


def table_of(algebra: Algebra, operator: str = "*") -> np.ndarray:
    every = np.arange(algebra.size)
    left, right = np.repeat(every, algebra.size), np.tile(every, algebra.size)
    return algebra.binary(operator, left, right)[0].reshape(algebra.size, algebra.size)


def group_of(algebra: Algebra, operator: str = "*") -> FiniteGroup:
    group = find_group(table_of(algebra, operator))
    assert group is not None
    return group


# algebra, operator, dimensions in order
GROUPS = {
    "S2": (SymmetricGroup(2), "*", [1, 1]),
    "S3": (SymmetricGroup(3), "*", [1, 1, 2]),
    "S4": (SymmetricGroup(4), "*", [1, 1, 2, 3, 3]),
    "S5": (SymmetricGroup(5), "*", [1, 1, 4, 4, 5, 5, 6]),
    "A2": (AlternatingGroup(2), "*", [1]),
    "A3": (AlternatingGroup(3), "*", [1, 1, 1]),
    "A4": (AlternatingGroup(4), "*", [1, 1, 1, 3]),
    "A5": (AlternatingGroup(5), "*", [1, 3, 3, 4, 5]),
    "D2": (DihedralGroup(2), "*", [1] * 4),
    "D7": (DihedralGroup(7), "*", [1, 1, 2, 2, 2]),
    "D8": (DihedralGroup(8), "*", [1] * 4 + [2] * 3),
    "C3 x C4": (CyclicProduct((3, 4)), "+", [1] * 12),
    "C2 x C6": (CyclicProduct((2, 6)), "+", [1] * 12),
    "C7": (IntegersMod(7), "+", [1] * 7),
    "C10": (IntegersMod(10), "+", [1] * 10),
    "GF(9)": (FiniteField(3, 2), "+", [1] * 9),
    "Q8": (quaternions(), "*", [1] * 4 + [2]),
    "Heisenberg 3": (heisenberg(3), "*", [1] * 9 + [3, 3]),
    "table of S3": (shuffled_triangle(), "*", [1, 1, 2]),
}
