"""The transform has Parseval's equation and an inverse, and the real basis spans what each irrep spans."""

import numpy as np
import pytest
from known import GROUPS, group_of

from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.groups.fourier import build_real_basis, invert, power, power_of_pairs, transform
from grok_lightning.groups.irreps import cyclic_irreps, find_irreps

NAMES = ["S4", "A4", "A5", "D7", "C2 x C6", "C10", "Q8", "Heisenberg 3"]
some_groups = pytest.mark.parametrize("name", NAMES)


def irreps_of(name: str):
    algebra, operator, _ = GROUPS[name]
    group = group_of(algebra, operator)
    return group, find_irreps(group, algebra)


@some_groups
def test_parseval_and_inverse(name) -> None:
    group, irreps = irreps_of(name)
    function = np.random.default_rng(1).normal(size=(len(group), 3))
    np.testing.assert_allclose(power(function, irreps).sum(0), (function**2).sum(0))
    found = invert([transform(function, irrep) for irrep in irreps], irreps)
    np.testing.assert_allclose(found, function, atol=1e-10)


@some_groups
def test_convolution_becomes_a_product(name) -> None:
    group, irreps = irreps_of(name)
    f, g = np.random.default_rng(2).normal(size=(2, len(group)))
    convolved = np.zeros(len(group))
    np.add.at(convolved, group.table_GG, f[:, None] * g)
    for irrep in irreps:
        expected = transform(f, irrep) @ transform(g, irrep)
        np.testing.assert_allclose(transform(convolved, irrep), expected, atol=1e-9)


@some_groups
def test_the_real_basis_is_orthonormal_and_has_the_power_of_each_irrep(name) -> None:
    group, irreps = irreps_of(name)
    basis = build_real_basis(irreps)
    size = len(group)
    np.testing.assert_allclose(basis.basis_GG @ basis.basis_GG.T, np.eye(size), atol=1e-9)
    assert basis.names[0] == irreps[0].name
    function = np.random.default_rng(3).normal(size=size)
    by_irrep = dict(zip([irrep.name for irrep in irreps], power(function, irreps), strict=True))
    found = np.bincount(basis.component_G, (basis.basis_GG @ function) ** 2)
    assert found.sum() == pytest.approx(sum(by_irrep.values()))
    for component, (name_, value) in enumerate(zip(basis.names, found, strict=True)):
        (irrep,) = [irrep for irrep in irreps if irrep.name == name_]
        is_real = np.allclose(irrep.characters_G.imag, 0, atol=1e-9)
        assert value == pytest.approx(by_irrep[name_] * (1 if is_real else 2))
        # the projection is the sum over h of d/n chi(h / g), written out
        quotients = irrep.characters_G[group.table_GG[:, group.inverses_G]].real * irrep.dimension / size
        np.testing.assert_allclose(basis.projector(component), quotients * (1 if is_real else 2), atol=1e-9)


def test_of_a_cyclic_group_it_is_numpys_transform() -> None:
    function = np.random.default_rng(4).normal(size=12)
    found = [transform(function, irrep)[0, 0] for irrep in cyclic_irreps(12)]
    np.testing.assert_allclose(found, np.fft.fft(function).conj(), atol=1e-10)
    assert build_real_basis(cyclic_irreps(12)).names == ["0", "1", "2", "3", "4", "5", "6"]


def test_on_pairs_functions_of_x_of_y_and_of_the_product_are_told_apart() -> None:
    algebra = SymmetricGroup(4)
    group = group_of(algebra)
    irreps = find_irreps(group, algebra)
    names = [irrep.name for irrep in irreps]
    f, g = np.random.default_rng(5).normal(size=(2, 24))
    whole = np.random.default_rng(6).normal(size=(24, 24))
    assert power_of_pairs(whole, irreps).sum() == pytest.approx((whole**2).sum())
    of_product = power_of_pairs(f[group.table_GG], irreps)
    np.testing.assert_allclose(of_product, 24 * np.diag(power(f, irreps)), atol=1e-9)
    of_x = power_of_pairs(np.repeat(f[:, None], 24, 1), irreps)
    np.testing.assert_allclose(of_x[:, 0], 24 * power(f, irreps), atol=1e-9)
    assert np.abs(of_x[:, 1:]).max() < 1e-9
    apart = power_of_pairs(f[:, None] * g, irreps)
    np.testing.assert_allclose(apart, np.outer(power(f, irreps), power(g, irreps)), atol=1e-9)
    assert names[0] == "4"


def test_of_a_quotient_the_second_is_the_conjugate() -> None:
    algebra = IntegersMod(5)
    irreps = find_irreps(group_of(algebra, "+"), algebra)
    f = np.random.default_rng(7).normal(size=5)
    x = np.arange(5)
    found = power_of_pairs(f[(x[:, None] - x) % 5], irreps)
    expected = np.zeros((5, 5))
    expected[x, -x % 5] = 5 * power(f, irreps)
    np.testing.assert_allclose(found, expected, atol=1e-9)
