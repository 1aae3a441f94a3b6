"""Dihedral and alternating groups, cyclic products, finite fields and matrices agree with independent definitions."""

import itertools
import re
from typing import Any

import numpy as np
import pytest

from grok_lightning.data.algebra import Algebra
from grok_lightning.data.alternating import AlternatingDataModule, AlternatingGroup
from grok_lightning.data.cyclic import CyclicProduct, CyclicProductDataModule
from grok_lightning.data.dihedral import DihedralDataModule, DihedralGroup
from grok_lightning.data.fields import FiniteField, FiniteFieldDataModule
from grok_lightning.data.matrices import Matrices, MatrixDataModule
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.errors import UserError

GROUPS = [DihedralGroup(2), DihedralGroup(7), DihedralGroup(8), AlternatingGroup(3), AlternatingGroup(5)]
RINGS = [
    CyclicProduct((2, 2)),
    CyclicProduct((3, 4)),
    *(FiniteField(p, k) for p, k in ((2, 3), (3, 2), (7, 1), (2, 1))),
]
RINGS += [Matrices(2), Matrices(3)]


def table(algebra: Algebra, operator: str) -> tuple[Any, Any]:
    x, y = np.indices((algebra.size, algebra.size), dtype=np.int64).reshape(2, -1)
    result, defined = algebra.binary(operator, x, y)
    shape = (algebra.size, algebra.size)
    return result.reshape(shape), None if defined is None else defined.reshape(shape)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.title)
def test_groups(group: Algebra) -> None:
    product, defined = table(group, "*")
    every = np.arange(group.size)
    assert defined is None
    assert len(set(group.names)) == group.size
    assert np.array_equal(np.sort(product, 0), np.tile(every[:, None], group.size)), "each column is a permutation"
    assert np.array_equal(product[product], product[:, product]), "associative"
    identity = group.power(every, 0)[0]
    assert set(identity) == {0}
    assert np.array_equal(product[0], every)
    assert np.array_equal(product[:, 0], every)
    inverse = group.power(every, -1)[0]
    assert not product[every, inverse].any()
    assert not product[inverse, every].any()
    quotient, _ = table(group, "/")
    assert np.array_equal(quotient, product[every[:, None], inverse])
    cube = product[product[every, every], every]
    assert np.array_equal(group.power(every, 3)[0], cube)
    assert np.array_equal(group.power(every, -3)[0], inverse[cube])


@pytest.mark.parametrize("degree", [2, 7, 8])
def test_dihedral_groups_are_symmetries_of_polygons(degree: int) -> None:
    group = DihedralGroup(degree)
    turn, mirror = 2 * np.pi / degree, np.diag([1.0, -1.0])

    def matrix(name: str) -> Any:
        angle = int(name[1:]) * turn
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return rotation @ mirror if name[0] == "s" else rotation

    matrices = [matrix(name) for name in group.names]
    product, _ = table(group, "*")
    for x, y in itertools.product(range(group.size), repeat=2):
        assert np.allclose(matrices[product[x, y]], matrices[x] @ matrices[y])


@pytest.mark.parametrize("degree", [2, 3, 4, 5])
def test_alternating_groups_are_the_even_part_of_the_symmetric_group(degree: int) -> None:
    whole, even = SymmetricGroup(degree), AlternatingGroup(degree)
    signs = {
        name: round(np.linalg.det(np.eye(degree)[image])) for name, image in zip(whole.names, whole.images, strict=True)
    }
    assert even.names == [name for name in whole.names if signs[name] == 1]
    product, _ = table(even, "*")
    of_whole, _ = table(whole, "*")
    place = {name: number for number, name in enumerate(whole.names)}
    numbers = np.array([place[name] for name in even.names])
    assert np.array_equal(numbers[product], of_whole[np.ix_(numbers, numbers)])


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: ring.title)
def test_rings(ring: Algebra) -> None:
    plus, minus, times = (table(ring, operator)[0] for operator in "+-*")
    every, zero, one = np.arange(ring.size), ring.literal(0), ring.literal(1)
    assert len(set(ring.names)) == ring.size
    assert np.array_equal(plus, plus.T)
    assert np.array_equal(plus[plus], plus[:, plus])
    assert np.array_equal(plus[zero], every)
    assert np.array_equal(plus[minus, every], np.tile(every[:, None], ring.size))
    assert np.array_equal(times[one], every)
    assert np.array_equal(times[:, one], every)
    few = every[:: max(1, ring.size // 20)]
    for x, y, z in itertools.product(few, repeat=3):
        assert times[times[x, y], z] == times[x, times[y, z]]
        assert times[x, plus[y, z]] == plus[times[x, y], times[x, z]]
        assert times[plus[y, z], x] == plus[times[y, x], times[z, x]]
    assert ring.literal(5) == plus[plus[plus[plus[one, one], one], one], one]
    assert set(ring.power(every, 0)[0]) == {one}
    assert np.array_equal(ring.power(every, 3)[0], times[times[every, every], every])


@pytest.mark.parametrize(("p", "k"), [(2, 1), (2, 4), (3, 2), (3, 3), (5, 2), (7, 1)])
def test_finite_fields_are_polynomials_modulo_an_irreducible_one(p: int, k: int) -> None:
    field = FiniteField(p, k)
    modulus = np.array(field.polynomial[::-1])

    def coefficients(number: int) -> list[int]:
        return [number // p**place % p for place in range(k)]

    product, _ = table(field, "*")
    for x, y in itertools.product(range(field.size), repeat=2):
        whole = np.polymul(coefficients(x)[::-1], coefficients(y)[::-1])
        rest = np.polydiv(whole, modulus)[1] if len(whole) > k else whole
        expected = [round(value) % p for value in rest[::-1]] + [0] * k
        assert coefficients(product[x, y]) == expected[:k]
    quotient, defined = table(field, "/")
    assert np.array_equal(defined, np.tile(np.arange(field.size) != 0, (field.size, 1)))
    x = np.arange(field.size)[:, None]
    assert np.array_equal(np.where(defined, product[quotient, np.arange(field.size)], x), x + 0 * quotient)
    inverse, has_one = field.power(np.arange(field.size), -1)
    assert has_one.tolist() == [False] + [True] * (field.size - 1)
    assert (product[np.arange(field.size), inverse][1:] == 1).all()


@pytest.mark.parametrize("modulus", [2, 3, 4])
def test_matrices_are_matrices(modulus: int) -> None:
    ring = Matrices(modulus)

    def entries(name: str) -> Any:
        return np.array([int(number) for number in re.findall(r"\d+", name)]).reshape(2, 2)

    every = [entries(name) for name in ring.names]
    product, difference = table(ring, "*")[0], table(ring, "-")[0]
    quotient, defined = table(ring, "/")
    identity = ring.literal(1)
    invertible = [any(product[x, y] == identity == product[y, x] for y in range(ring.size)) for x in range(ring.size)]
    assert np.array_equal(defined, np.tile(invertible, (ring.size, 1)))
    for x in range(0, ring.size, max(1, ring.size // 40)):
        for y in range(ring.size):
            assert np.array_equal(every[product[x, y]], every[x] @ every[y] % modulus)
            assert np.array_equal(every[difference[x, y]], (every[x] - every[y]) % modulus)
            if defined[x, y]:
                assert product[quotient[x, y], y] == x


def test_what_an_algebra_has_not_is_refused_by_name() -> None:
    for data, formula, words in (
        (DihedralDataModule, "x + y", r"over D31' has only \*, / and \*\*"),
        (DihedralDataModule, "x * 2", "only be an exponent"),
        (AlternatingDataModule, "x - y", r"only \*, / and \*\*"),
        (CyclicProductDataModule, "x / y", "has only"),
        (CyclicProductDataModule, "x**-1", "exponent -1"),
        (FiniteFieldDataModule, "x // y", r"over GF\(81\)' has only"),
        (MatrixDataModule, "x if x < y else y", "matrices have only == and !="),
    ):
        with pytest.raises(UserError, match=words):
            data(formula)
    for make, words in (
        (lambda: DihedralGroup(1), "data.degree is 1"),
        (lambda: CyclicProduct((1, 4)), r"data.moduli is \[1, 4\]"),
        (lambda: FiniteField(4, 1), "must be a prime"),
        (lambda: FiniteField(2, 13), "at most 4096 elements"),
        (lambda: Matrices(32), "for matrices"),
    ):
        with pytest.raises(UserError, match=words):
            make()


@pytest.mark.parametrize(
    ("data", "title"),
    [
        (DihedralDataModule(degree=4), "over D4"),
        (AlternatingDataModule(degree=4), "over A4"),
        (CyclicProductDataModule(moduli=(3, 5)), "over C3 × C5"),
        (FiniteFieldDataModule("x / y", 3, 2), "over GF(9)"),
        (MatrixDataModule("x * y - y * x", 2), "over 2×2 matrices mod 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_their_tables_are_split_and_written(data: Any, title: str) -> None:
    assert data.operation.algebra.title == title
    row = data.describe(0)
    assert len(row) == 3
    assert row[0] in data.operation.algebra.names
    assert data.counts("train")[0] + data.counts("val")[0] == len(data.operation)
