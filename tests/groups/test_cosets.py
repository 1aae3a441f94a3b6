"""Subgroups are as many as the books say, and cosets part the group."""

from itertools import combinations

import numpy as np
import pytest
from known import GROUPS, group_of

from grok_lightning.data.dihedral import DihedralGroup
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.errors import UserError
from grok_lightning.groups.cosets import find_cosets, find_partitions, find_subgroup_classes


@pytest.mark.parametrize(
    ("name", "classes", "subgroups"),
    # proper and not trivial: 2 fewer than in the tables of subgroups
    [("S3", 2, 4), ("S4", 9, 28), ("S5", 17, 154), ("A4", 3, 8), ("A5", 7, 57), ("D7", 2, 8), ("D8", 9, 17),
     ("Q8", 4, 4), ("C10", 2, 2), ("C2 x C6", 8, 8), ("C7", 0, 0), ("Heisenberg 3", 9, 17), ("GF(9)", 4, 4)],
)  # fmt: skip
def test_subgroups_are_as_many_as_known(name, classes, subgroups) -> None:
    algebra, operator, _ = GROUPS[name]
    group = group_of(algebra, operator)
    found = find_subgroup_classes(group, len(group))
    assert len({each.name for each in found}) == len(found) == classes
    assert sum(len(each.members_HG) for each in found) == subgroups
    for each in found:
        for members in each.members_HG:
            own = np.flatnonzero(members)
            assert members[group.table_GG[np.ix_(own, own)]].all()
            assert len(own) == each.order


def test_those_of_s4_are_all_closed_subsets() -> None:
    group = group_of(SymmetricGroup(4))
    pairs = {
        frozenset(np.flatnonzero(_close(group.table_GG, [a, b])).tolist()) for a, b in combinations(range(24), 2)
    }  # every proper subgroup of S4 has two generators
    found = {
        frozenset(np.flatnonzero(members).tolist())
        for each in find_subgroup_classes(group, 24)
        for members in each.members_HG
    }
    assert {each for each in pairs if 1 < len(each) < 24} == found


def _close(table, generators) -> np.ndarray:
    members = {0, *generators}
    while True:
        more = members | {int(table[a, b]) for a in members for b in members}
        if more == members:
            return np.isin(np.arange(len(table)), list(members))
        members = more


def test_the_large_ones_of_s5_have_their_names() -> None:
    group = group_of(SymmetricGroup(5))
    found = find_subgroup_classes(group, 12)
    assert [(each.name, len(each.members_HG)) for each in found] == [
        ("60a", 1), ("24a", 5), ("20a", 6), ("12a", 5), ("12b", 10), ("10a", 6),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["S4", "D7", "Q8", "C10"])
def test_cosets_part_the_group_and_are_kept_by_the_subgroup(name) -> None:
    algebra, operator, _ = GROUPS[name]
    group = group_of(algebra, operator)
    for each in find_subgroup_classes(group, 12):
        for members in each.members_HG:
            own = np.flatnonzero(members)
            left, right = (find_cosets(group, members, side) for side in (True, False))
            for cosets in (left, right):
                assert np.bincount(cosets).tolist() == [each.order] * (len(group) // each.order)
            for h in own:
                assert np.array_equal(left[group.table_GG[:, h]], left)
                assert np.array_equal(right[group.table_GG[h]], right)


def test_of_normal_subgroups_both_sides_are_one_partition() -> None:
    group = group_of(SymmetricGroup(4))
    partitions = {each.name: len(find_partitions(group, each)) for each in find_subgroup_classes(group, 8)}
    assert partitions["12a"] == 1
    assert partitions["8a"] == 6
    assert partitions["6a"] == 8


def test_a_group_that_is_too_large_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^a group of 800 elements is too large .* at most 720"):
        find_subgroup_classes(group_of(DihedralGroup(400)), 10)
