"""Irreducible representations: what they are, and those of the groups that this package knows by name."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grok_lightning.data.algebra import Algebra
from grok_lightning.data.alternating import AlternatingGroup
from grok_lightning.data.cyclic import CyclicProduct
from grok_lightning.data.dihedral import DihedralGroup
from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.groups.decomposition import decompose_regular, name_by_dimension, split
from grok_lightning.groups.group import FiniteGroup, Numbers, require_moderate
from grok_lightning.groups.young import conjugate, name_partition, partitions, young_orthogonal

Matrices = NDArray[np.float64] | NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Irrep:
    """An irreducible unitary representation of a group of n elements.

    Attributes:
        name: Its name, unique in its group.
        matrices_GDD: The matrix of each element, (n, d, d); float64 where they are real, else complex128.
    """

    name: str
    matrices_GDD: Matrices

    @property
    def dimension(self) -> int:
        """d."""
        return self.matrices_GDD.shape[1]

    @property
    def characters_G(self) -> Matrices:
        """The trace of each element's matrix, (n,)."""
        characters: Matrices = np.einsum("gii->g", self.matrices_GDD)
        return characters


def find_irreps(group: FiniteGroup, algebra: Algebra | None = None, title: str = "") -> list[Irrep]:
    """All irreducible representations of a group, up to equivalence, the trivial one first.

    ====================  ============================================  ===============================
    algebra               construction                                  names
    ====================  ============================================  ===============================
    permutations          Young's orthogonal form                       partitions, such as ``4-1``
    even permutations     its restriction; of a self-conjugate          partitions; halves end in ``+``
                          partition the two halves                      and ``-``
    dihedral              known formulas                                ``A1 A2 B1 B2 E1 E2`` ...
    integers mod n, +     characters exp(2 pi i k x / n)                k
    C_n x C_m, +          products of these                             ``k-l``
    any other             ``decompose_regular``, from the table alone   ``1a 1b 2a``: dimension, letter
    ====================  ============================================  ===============================

    Args:
        group: The group.
        algebra: An algebra whose elements are the group's in their order: under ``*``, rings under ``+``.
        title: The group in an error message.

    Raises:
        UserError: If it has more than ``group.LARGEST`` elements.
    """
    require_moderate(len(group), title or "this")
    if isinstance(algebra, AlternatingGroup):
        return _alternating(algebra)
    if isinstance(algebra, SymmetricGroup):
        return [
            Irrep(name_partition(shape), young_orthogonal(shape, algebra.images))
            for shape in partitions(algebra.degree)
        ]
    if isinstance(algebra, DihedralGroup):
        return _dihedral(algebra.degree)
    if isinstance(algebra, CyclicProduct):
        return _cyclic_product(algebra.first, algebra.second)
    if isinstance(algebra, IntegersMod):
        return cyclic_irreps(algebra.modulus)
    matrices = decompose_regular(group)
    return [Irrep(name, each) for name, each in zip(name_by_dimension(matrices), matrices, strict=True)]


def characters_of_cyclic(order: int) -> NDArray[np.complex128]:
    """exp(2 pi i k x / n) for the rows k and the columns x, (n, n)."""
    every = np.arange(order)
    waves: NDArray[np.complex128] = np.exp(2j * np.pi / order * (every[:, None] * every % order))
    return waves


def cyclic_irreps(order: int) -> list[Irrep]:
    """Those of the integers mod n under addition, named by their frequency k."""
    return [Irrep(str(k), wave[:, None, None]) for k, wave in enumerate(characters_of_cyclic(order))]


def _cyclic_product(first: int, second: int) -> list[Irrep]:
    waves = np.kron(characters_of_cyclic(first), characters_of_cyclic(second))  # element (a, b) is number a m + b
    names = [f"{k}-{m}" for k in range(first) for m in range(second)]
    return [Irrep(name, wave[:, None, None]) for name, wave in zip(names, waves, strict=True)]


def _dihedral(degree: int) -> list[Irrep]:
    """A1, A2, for even n B1, B2, and E1, E2, ... in which r1 turns by 2 pi k / n; as in Serre, section 5.3."""
    turns = np.arange(degree)
    found = [Irrep("A1", np.ones((2 * degree, 1, 1))), Irrep("A2", np.repeat([1.0, -1.0], degree)[:, None, None])]
    if degree % 2 == 0:
        alternating = (-1.0) ** turns
        for name, sign in (("B1", 1), ("B2", -1)):
            found.append(Irrep(name, np.concatenate([alternating, sign * alternating])[:, None, None]))
    flip = np.diag([1.0, -1.0])
    for k in range(1, (degree + 1) // 2):
        angles = 2 * np.pi / degree * (k * turns % degree)
        cos, sin = np.cos(angles), np.sin(angles)
        rotations = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
        found.append(Irrep(f"E{k}", np.concatenate([rotations, rotations @ flip])))
    return found


def _alternating(algebra: AlternatingGroup) -> list[Irrep]:
    found = []
    for shape in partitions(algebra.degree):
        if shape < conjugate(shape):  # the same restriction as that of its conjugate
            continue
        matrices = young_orthogonal(shape, SymmetricGroup(algebra.degree).images)[_even_numbers(algebra)]
        name = name_partition(shape)
        if shape > conjugate(shape):
            found.append(Irrep(name, matrices))
        else:
            found += [Irrep(name + sign, half) for sign, half in zip("+-", split(matrices), strict=True)]
    return found


def _even_numbers(algebra: AlternatingGroup) -> Numbers:
    """The even permutations' numbers among all."""
    whole = SymmetricGroup(algebra.degree)
    numbers = {image.tobytes(): number for number, image in enumerate(whole.images)}
    return np.array([numbers[image.tobytes()] for image in algebra.images])
