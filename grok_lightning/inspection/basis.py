"""The basis in which functions of a task's elements are seen: how they split into components, such as frequencies."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grok_lightning.data.algebra import Column
from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.operation import Operation
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.data.tokenizer import ElementTokenizer
from grok_lightning.errors import UserError
from grok_lightning.figures.elements import NothingToShow
from grok_lightning.groups.fourier import build_real_basis
from grok_lightning.groups.irreps import find_irreps
from grok_lightning.groups.law import find_law, find_own_group
from grok_lightning.measures.fourier import fourier_basis
from grok_lightning.measures.progress import STANDS_OUT

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Basis:
    """An orthonormal basis of the functions on n elements, whose rows fall into C components.

    Attributes:
        title: What it is, after "in".
        word: What a component is called, such as ``frequency``.
        elements_N: Numbers of the n elements, in the order of the columns: as operands, in the embedding.
        answers_N: Their numbers as answers; None if answers do not stand for them one by one.
        operands_N: Their numbers as x and as y; of one that does not stand for them one by one ``elements_N``.
        matrix_NN: A unit vector in each row.
        component_N: The component of each row, 0 to C - 1; component 0 is the constant function.
        labels: Name of each component.
    """

    title: str
    word: str
    elements_N: Column
    answers_N: Column | None
    operands_N: tuple[Column, Column]
    matrix_NN: Floats
    component_N: Column
    labels: list[str]

    def squares(self, vectors_ND: NDArray) -> Floats:
        """The squared norm of n vectors in each component, (C,)."""
        squares_N = np.square(self.matrix_NN @ vectors_ND.astype(np.float64)).sum(axis=1)
        return np.bincount(self.component_N, squares_N, len(self.labels)).astype(np.float64)

    def shares(self, vectors_ND: NDArray) -> Floats:
        """Each component's share of the squared norm, the constant (0) aside, (C,)."""
        squares = self.squares(vectors_ND)
        squares[0] = 0
        return squares / max(squares.sum(), np.finfo(float).tiny)

    def project(self, vectors_ND: NDArray, component: int) -> Floats:
        """The part of n vectors in one component, (n, D)."""
        rows = self.matrix_NN[self.component_N == component]
        return rows.T @ (rows @ vectors_ND.astype(np.float64))

    def phases(self, component: int) -> Floats:
        """The angle of each element in a component of two functions, in turns from 0 to 1; else its place / n."""
        rows = self.matrix_NN[self.component_N == component]
        if len(rows) != 2:
            return np.arange(len(self.elements_N)) / len(self.elements_N)
        return np.arctan2(rows[1], rows[0]) / (2 * np.pi) % 1

    def key_components(self, vectors_ND: NDArray, most: int) -> list[int]:
        """The components that stand out, largest share first: more than 1.5 times their equal share.

        A component's equal share is the number of its functions by that of all but the constant.
        """
        shares = self.shares(vectors_ND)
        sizes = np.bincount(self.component_N, minlength=len(self.labels))
        out = np.flatnonzero(shares > STANDS_OUT * sizes / (len(self.elements_N) - 1))
        return [int(number) for number in out[np.argsort(-shares[out], kind="stable")][:most]]


def make_cyclic_basis(
    title: str, elements_N: Column, answers_N: Column | None, operands_N: tuple[Column, Column]
) -> Basis:
    """The real Fourier basis of a cyclic group, whose elements are given in the order of their exponents."""
    count = len(elements_N)
    component_N = (np.arange(count) + 1) // 2
    labels = [str(number) for number in range(count // 2 + 1)]
    matrix_NN = fourier_basis(count).numpy()
    return Basis(title, "frequency", elements_N, answers_N, operands_N, matrix_NN, component_N, labels)


def find_of_group(operation: Operation) -> Basis | None:
    """That of the group in which the operation is a product (``groups/law.py``): its irreducible representations.

    Of a cyclic group these are frequencies of the logarithm: of the numbers themselves for ``x + y``, of the discrete
    logarithm for ``x / y``.
    """
    law = find_law(operation) or find_own_group(operation)
    if law is None or law.operand_G is None:
        return None
    title = operation.algebra.title or type(operation.algebra).__name__
    of_x, of_y = (law.operand_G if numbers is None else numbers for numbers in law.operands_G)
    numbers = law.operand_G, law.answer_G, (of_x, of_y)
    of_integers = isinstance(operation.algebra, IntegersMod)
    if law.is_cyclic and (of_integers or law.algebra is None):
        unit, modulus = int(law.operand_G[1 % len(law.group)]), operation.algebra.size
        plain = np.array_equal(law.operand_G, np.arange(modulus))
        powers = [pow(unit, power, modulus) for power in range(len(law.group))]
        where = f"in which the formula is an addition mod {len(law.group)}"
        if plain and of_integers:
            where = f"the integers mod {modulus}"
        elif of_integers and np.array_equal(law.operand_G, powers):
            where = f"the discrete logarithm to the base {unit} mod {modulus}"
        else:
            where = f"the variables {where}"
        return make_cyclic_basis(f"the Fourier basis of {where}", *numbers)
    try:
        irreps = find_irreps(law.group, law.algebra, title)
    except UserError:  # too many elements
        return None
    real = build_real_basis(irreps)
    of = f"the group of {len(law.group)} elements in which the formula is a product"
    title = f"the representations of {of}"
    return Basis(title, "representation", *numbers, real.basis_GG, real.component_G, real.names)


def find_additive(operation: Operation) -> Basis | None:
    """The Fourier basis of the integers mod p."""
    if not isinstance(operation.algebra, IntegersMod):
        return None
    modulus = operation.algebra.size
    every = np.arange(modulus)
    return make_cyclic_basis(f"the Fourier basis of the integers mod {modulus}", every, every, (every, every))


FINDERS: list[Callable[[Operation], Basis | None]] = [find_of_group, find_additive]
"""What gives a task its basis: the first that has one."""


def find_basis(data: SequenceDataModule) -> Basis:
    """The basis of a task's elements.

    Raises:
        NothingToShow: If there is none, or an element has no token of its own.
    """
    if not isinstance(data, TableDataModule):
        raise NothingToShow("the data have no elements that form a group")
    if not isinstance(data.tokenizer, ElementTokenizer):
        raise NothingToShow("elements are written in several tokens, so that no vector stands for one")
    algebra = data.operation.algebra
    found = next((basis for find in FINDERS if (basis := find(data.operation)) is not None), None)
    if found is None or len(found.elements_N) < 3:
        raise NothingToShow(f"no Fourier basis is known {algebra.title or type(algebra).__name__}")
    return found
