"""Algebras obey their definitions."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers, sampled_from

from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.operation import Operation
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.errors import UserError


def every_pair(size):
    return np.indices((size, size), dtype=np.int64).reshape(2, -1)


def inverse_by_search(b, p):
    return next((c for c in range(p) if b * c % p == 1), None)


def from_cycles(name, degree):
    """Reads ``(0 1 2)(3 4)`` into the tuple of images."""
    image = list(range(degree))
    for cycle in re.findall(r"\(([^)]*)\)", name):
        items = [int(item) for item in cycle.split()]
        for item, following in zip(items, items[1:] + items[:1], strict=True):
            image[item] = following
    return tuple(image)


def test_division_undoes_multiplication() -> None:
    for p in (2, 3, 7, 97):
        integers = IntegersMod(p)
        x, y = every_pair(p)
        quotient, defined = integers.binary("/", x, y)
        product, _ = integers.binary("*", quotient, y)
        assert np.array_equal(defined, y != 0)
        assert np.array_equal(product[defined], x[defined])


@pytest.mark.parametrize("p", [2, 6, 7, 97])
def test_results_are_those_of_python_integers(p) -> None:
    x, y = every_pair(p)
    for operator, function in (("+", int.__add__), ("-", int.__sub__), ("*", int.__mul__)):
        result, defined = IntegersMod(p).binary(operator, x, y)
        assert defined is None
        assert result.tolist() == [function(a, b) % p for a, b in zip(x.tolist(), y.tolist(), strict=True)], operator


@given(p=sampled_from([2, 7, 13]), exponent=integers(-20, 64))
def test_powers_are_repeated_products(p, exponent) -> None:
    power, defined = IntegersMod(p).power(np.arange(p), exponent)
    for base in range(p):
        factor = base if exponent >= 0 else inverse_by_search(base, p)
        if factor is None:
            assert not defined[base]
            continue
        expected = 1
        for _ in range(abs(exponent)):
            expected = expected * factor % p
        assert power[base] == expected
        assert defined is None or defined[base]


def test_zero_to_the_zero_is_one() -> None:
    assert IntegersMod(7).power(np.array([0]), 0)[0].tolist() == [1]


def test_products_near_the_largest_modulus_do_not_overflow() -> None:
    p = IntegersMod.LARGEST
    result, _ = IntegersMod(p).binary("*", np.array([p - 1, p - 2]), np.array([p - 1, p - 3]))
    assert result.tolist() == [(p - 1) ** 2 % p, (p - 2) * (p - 3) % p]


def test_division_needs_a_prime_modulus() -> None:
    for modulus in (4, 6, 91, 289):
        for formula in ("x / y", "x * y**-1", "x / y if y % 2 else x - y"):
            with pytest.raises(UserError, match=rf"^data\.modulus is {modulus}\b.*prime.*$"):
                Operation(formula, IntegersMod(modulus))


def test_a_composite_modulus_does_without_division() -> None:
    for formula in ("x + y", "x - y", "x * y", "x**2 + y"):
        operation = Operation(formula, IntegersMod(6))
        expected = [eval(formula, {"x": int(x), "y": int(y)}) % 6 for x, y in operation.operands_NK]
        assert operation.results_N.tolist() == expected, formula
        assert len(operation) == 36


def test_a_modulus_out_of_range_is_refused() -> None:
    for modulus in (-7, 0, 1, 2**20 + 1):
        with pytest.raises(UserError, match=rf"^data\.modulus is {modulus};"):
            IntegersMod(modulus)


def test_a_degree_out_of_range_is_refused() -> None:
    for degree in (-1, 1, 9):
        with pytest.raises(UserError, match=rf"^data\.degree is {degree};"):
            SymmetricGroup(degree)


def test_names_denote_the_permutations() -> None:
    for degree in (2, 3, 4, 5):
        group = SymmetricGroup(degree)
        images = [from_cycles(name, degree) for name in group.names]
        assert images == list(itertools.permutations(range(degree)))
        assert images == [tuple(image) for image in group.images.tolist()]
        assert group.names[0] == "()"
        assert group.size == len(set(group.names)) == len(images)


def test_a_product_applies_its_right_factor_first() -> None:
    for degree in (3, 4, 5):
        group = SymmetricGroup(degree)
        images = [from_cycles(name, degree) for name in group.names]
        number = {image: position for position, image in enumerate(images)}
        x, y = every_pair(group.size)
        product, _ = group.binary("*", x, y)
        pairs = itertools.product(images, images)
        assert product.tolist() == [number[tuple(a[b[i]] for i in range(degree))] for a, b in pairs]


def test_a_product_is_that_of_permutation_matrices() -> None:
    group = SymmetricGroup(4)
    matrices = np.eye(4, dtype=np.int64)[group.images].transpose(0, 2, 1)  # column i has its one in row x(i)
    x, y = every_pair(group.size)
    product, _ = group.binary("*", x, y)
    assert np.array_equal(matrices[product], matrices[x] @ matrices[y])


def test_permutations_form_a_group() -> None:
    for degree in (3, 4, 5):
        group = SymmetricGroup(degree)
        a, b, c = np.random.default_rng(0).integers(group.size, size=(3, 500))
        left = group.binary("*", group.binary("*", a, b)[0], c)[0]
        right = group.binary("*", a, group.binary("*", b, c)[0])[0]
        inverse = group.power(a, -1)[0]
        assert np.array_equal(left, right)
        assert not group.binary("*", a, inverse)[0].any()
        assert not group.binary("*", inverse, a)[0].any()
        assert np.array_equal(group.binary("*", group.binary("/", a, b)[0], b)[0], a)
        assert np.array_equal(group.power(a, -3)[0], group.power(inverse, 3)[0])


def test_permutations_have_no_sums() -> None:
    for operator in ("+", "-", "//", "%"):
        with pytest.raises(UserError, match=r"over S3' has only \*, / and \*\*"):
            SymmetricGroup(3).binary(operator, np.array([0]), np.array([1]))
