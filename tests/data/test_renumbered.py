"""An algebra numbered in random order is the same one: texts and results agree, only numbers differ."""

from typing import Any

import numpy as np
import pytest

from grok_lightning.data.algebra import Algebra, identify_algebra
from grok_lightning.data.integers import IntegersMod, ModularArithmeticDataModule
from grok_lightning.data.operation import Operation
from grok_lightning.data.permutations import PermutationDataModule, SymmetricGroup
from grok_lightning.data.renumbered import RenumberedAlgebra
from grok_lightning.data.signed import SignedRemainders
from grok_lightning.data.tabulated import TabulatedAlgebra
from grok_lightning.errors import UserError
from grok_lightning.groups.law import find_law

NAMED = TabulatedAlgebra(
    range(6),
    {"+": lambda x, y: (x + y) % 6},
    "named mod 6",
    name=lambda x: f"e{x}",
    functions={"twice": lambda x: 2 * x % 6, "pick": lambda x, y: max(x, y)},
)
CASES: list[tuple[Algebra, str]] = [
    (IntegersMod(11), "x / y"),
    (IntegersMod(11), "x**2 + x*y + y**-1 + 3"),
    (IntegersMod(11), "x / y if y % 2 else x - y"),
    (IntegersMod(11), "x + y if x < y else -x"),
    (SymmetricGroup(4), "x * y * x**-1"),
    (SymmetricGroup(3), "x * e if x == y else y**-2"),
    (SignedRemainders(7), "x % y + x // y"),
    (NAMED, "twice(x) + pick(x, y) - e4"),
]


def texts(operation: Operation) -> set[tuple[str, ...]]:
    rows = np.column_stack([operation.operands_NK, operation.results_N])
    return {tuple(operation.algebra.names[number] for number in row) for row in rows}


@pytest.mark.parametrize(("algebra", "formula"), CASES)
def test_the_equations_are_the_same(algebra: Algebra, formula: str) -> None:
    other = RenumberedAlgebra(algebra, 3)
    ours, theirs = Operation(formula, other), Operation(formula, algebra)
    assert texts(ours) == texts(theirs)
    assert not np.array_equal(ours.results_N, theirs.results_N)
    assert sorted(other.names) == sorted(algebra.names) != other.names


def test_it_depends_on_its_seed_and_is_told_apart() -> None:
    first, again, other = (RenumberedAlgebra(IntegersMod(11), seed) for seed in (1, 1, 2))
    assert first.names == again.names != other.names
    identities = {identify_algebra(algebra) for algebra in (first, again, other, IntegersMod(11))}
    assert len(identities) == 3


def test_its_group_is_found_from_the_table() -> None:
    law = find_law(Operation("x / y", RenumberedAlgebra(IntegersMod(11), 5)))
    assert law is not None
    assert law.is_cyclic
    assert len(law.group) == 10


@pytest.mark.parametrize(
    ("made", "prompt", "answer"),
    [
        (ModularArithmeticDataModule("x + y", 11, numbering_seed=2), "7 + 9 =", "5"),
        (PermutationDataModule("x * y", 3, numbering_seed=2), "(0 1) * (1 2) =", "(0 1 2)"),
    ],
)
def test_what_is_typed_and_shown_is_as_ever(made: Any, prompt: str, answer: str) -> None:
    tokens = made.encode(prompt)
    rows = made.rows()
    row = int(np.flatnonzero((rows.prompts_NT == tokens).all(1))[0])
    assert made.vocabulary[rows.answers_XNA[0, row, 0]] == answer
    assert made.describe(row)[-1] == answer


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UserError, match="numbering_seed is -1; 0 or more is expected"):
        ModularArithmeticDataModule("x + y", 11, numbering_seed=-1)


def test_an_algebra_that_is_too_large_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises(UserError, match="from 2 to 1048576"):
        ModularArithmeticDataModule("x + y", 2**31 - 1, numbering_seed=0)
