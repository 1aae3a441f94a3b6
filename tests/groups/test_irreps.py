"""Representations are homomorphisms, unitary, orthogonal, and all there are; two constructions agree."""

import numpy as np
import pytest
from known import GROUPS, group_of, quaternions, table_of

from grok_lightning.data.alternating import AlternatingGroup
from grok_lightning.data.dihedral import DihedralGroup
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.errors import UserError
from grok_lightning.groups.decomposition import name_by_dimension
from grok_lightning.groups.group import find_group
from grok_lightning.groups.irreps import find_irreps
from grok_lightning.groups.young import conjugate, partitions, standard_tableaux

every_group = pytest.mark.parametrize(("algebra", "operator", "dimensions"), GROUPS.values(), ids=GROUPS.keys())


def check_irreps(group, irreps, dimensions) -> None:
    """Homomorphism, unitarity, Schur's orthogonality of all matrix elements, and completeness."""
    size = len(group)
    assert sorted(irrep.dimension for irrep in irreps) == sorted(dimensions)
    assert sum(d**2 for d in dimensions) == size
    assert len({irrep.name for irrep in irreps}) == len(irreps)
    assert np.allclose(irreps[0].matrices_GDD, 1, atol=1e-10)
    elements = []
    for irrep in irreps:
        matrices = irrep.matrices_GDD
        products = np.einsum("gij,hjk->ghik", matrices, matrices)
        np.testing.assert_allclose(products, matrices[group.table_GG], atol=1e-9)
        adjoints = matrices.conj().transpose(0, 2, 1)
        np.testing.assert_allclose(matrices @ adjoints, np.tile(np.eye(irrep.dimension), (size, 1, 1)), atol=1e-9)
        elements.append(matrices.reshape(size, -1).T * np.sqrt(irrep.dimension / size))
    every = np.concatenate(elements)
    np.testing.assert_allclose(every @ every.conj().T, np.eye(size), atol=1e-9)
    characters = np.stack([irrep.characters_G for irrep in irreps])
    np.testing.assert_allclose(characters @ characters.conj().T / size, np.eye(len(irreps)), atol=1e-9)


@every_group
def test_all_irreps_are_there_and_orthogonal(algebra, operator, dimensions) -> None:
    group = group_of(algebra, operator)
    check_irreps(group, find_irreps(group, algebra), dimensions)


@every_group
def test_formulas_and_the_decomposition_of_the_table_have_the_same_characters(algebra, operator, dimensions) -> None:
    group = group_of(algebra, operator)
    by_formula, by_table = find_irreps(group, algebra), find_irreps(group)
    check_irreps(group, by_table, dimensions)
    overlaps = np.array([[np.vdot(a.characters_G, b.characters_G) for b in by_table] for a in by_formula]) / len(group)
    assert np.allclose(np.sort(np.abs(overlaps), 1)[:, -1], 1)
    np.testing.assert_allclose(np.abs(overlaps).sum(0), 1, atol=1e-9)


def test_characters_of_s5_are_those_of_the_book() -> None:
    """By cycle type 1, (01), (01)(23), (012), (012)(34), (0123), (01234): James and Liebeck, chapter 19."""
    algebra = SymmetricGroup(5)
    names = ["()", "(0 1)", "(0 1)(2 3)", "(0 1 2)", "(0 1 2)(3 4)", "(0 1 2 3)", "(0 1 2 3 4)"]
    numbers = [algebra.names.index(name) for name in names]
    expected = {
        "5": [1, 1, 1, 1, 1, 1, 1],
        "4-1": [4, 2, 0, 1, -1, 0, -1],
        "3-2": [5, 1, 1, -1, 1, -1, 0],
        "3-1-1": [6, 0, -2, 0, 0, 0, 1],
        "2-2-1": [5, -1, 1, -1, -1, 1, 0],
        "2-1-1-1": [4, -2, 0, 1, 1, 0, -1],
        "1-1-1-1-1": [1, -1, 1, 1, -1, -1, 1],
    }
    irreps = find_irreps(group_of(algebra), algebra)
    assert [irrep.name for irrep in irreps] == list(expected)
    for irrep in irreps:
        assert irrep.matrices_GDD.dtype == np.float64
        np.testing.assert_allclose(irrep.characters_G[numbers], expected[irrep.name], atol=1e-12)


def test_the_halves_of_a5_have_the_golden_ratio() -> None:
    algebra = AlternatingGroup(5)
    irreps = {irrep.name: irrep for irrep in find_irreps(group_of(algebra), algebra)}
    assert set(irreps) == {"5", "4-1", "3-2", "3-1-1+", "3-1-1-"}
    five_cycle = algebra.names.index("(0 1 2 3 4)")
    found = sorted(irreps[f"3-1-1{sign}"].characters_G[five_cycle].real for sign in "+-")
    np.testing.assert_allclose(found, [(1 - 5**0.5) / 2, (1 + 5**0.5) / 2], atol=1e-9)


def test_s6_and_a_large_dihedral_group() -> None:
    for algebra, count in ((SymmetricGroup(6), 11), (DihedralGroup(30), 18)):
        group = group_of(algebra)
        irreps = find_irreps(group, algebra)
        assert len(irreps) == count
        assert sum(irrep.dimension**2 for irrep in irreps) == len(group)
        for irrep in irreps:
            assert np.vdot(irrep.characters_G, irrep.characters_G) / len(group) == pytest.approx(1)


def test_a_group_that_is_too_large_is_one_line() -> None:
    group = group_of(DihedralGroup(600))
    with pytest.raises(UserError, match=r"^data\.degree 600 is a group of 1,200 elements; .* at most 1,024$"):
        find_irreps(group, title="data.degree 600")


def test_what_is_no_group_is_not_taken_for_one() -> None:
    group = table_of(quaternions())
    assert find_group(group) is not None
    rng = np.random.default_rng(0)
    for _ in range(50):  # every single entry matters
        changed = group.copy()
        changed[rng.integers(8), rng.integers(8)] += rng.integers(1, 8)
        assert find_group(changed % 8) is None
    subtraction = (np.arange(5)[:, None] - np.arange(5)) % 5
    assert find_group(subtraction) is None
    loop = np.array([[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]])
    assert find_group(loop) is None  # a Latin square with an identity, not associative


def test_partitions_and_tableaux_are_as_many_as_known() -> None:
    assert [len(list(partitions(n))) for n in range(8)] == [1, 1, 2, 3, 5, 7, 11, 15]
    assert all(conjugate(conjugate(shape)) == shape for shape in partitions(7))
    assert len(standard_tableaux((3, 2, 1))) == 16
    assert conjugate((4, 1)) == (2, 1, 1, 1)


def test_names_go_on_after_z() -> None:
    names = name_by_dimension([np.zeros((1, 1, 1))] * 54)
    assert [names[place] for place in (0, 25, 26, 51, 52, 53)] == ["1a", "1z", "1aa", "1az", "1ba", "1bb"]
