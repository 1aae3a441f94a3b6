"""Signed remainders are what plain Python integers say."""

import itertools
import math

import numpy as np
import pytest

from grok_lightning.data import ModularArithmeticDataModule, PermutationDataModule, SignedRemaindersDataModule
from grok_lightning.data.operation import Operation
from grok_lightning.data.signed import SignedRemainders
from grok_lightning.errors import UserError


def remainder(value, divisor):
    """The remainder with the dividend's sign."""
    return int(math.fmod(value, divisor))


BLOG = {  # reduced once, at the end, as the experiment does
    "x + y": lambda x, y, p: x + y,
    "x - y": lambda x, y, p: x - y,
    "x // y if y % 2 else x - y": lambda x, y, p: x // y if y % 2 == 1 else x - y,
    "x**3 + x*y**2 + y": lambda x, y, p: x**3 + x * y**2 + y,
}
STEPS = {  # every operator reduced, operands and choices not
    "x": lambda x, y, r: x,
    "x**1": lambda x, y, r: r(x),
    "x**0 + y": lambda x, y, r: r(1 + y),
    "-x": lambda x, y, r: r(-x),
    "x if x > y else y": lambda x, y, r: max(x, y),
    "x // y": lambda x, y, r: r(x // y),
    "(x - y) // y": lambda x, y, r: r(r(x - y) // y),
    "x // (x - y)": lambda x, y, r: r(x // r(x - y)) if r(x - y) else None,
    "(x - y) % x": lambda x, y, r: remainder(r(x - y), x),
    "x % (y - 3)": lambda x, y, r: remainder(x, r(y - 3)) if r(y - 3) else None,
    "x + y - 3": lambda x, y, r: r(r(x + y) - 3),
    "x * (x - y)": lambda x, y, r: r(x * r(x - y)),
    "(x - y)**3": lambda x, y, r: r(r(x - y) ** 3),
    "x * -2": lambda x, y, r: r(x * -2),
    "x + 100000": lambda x, y, r: r(x + r(100000)),
    "x if (x - y) % 2 == -1 else y": lambda x, y, r: x if remainder(r(x - y), 2) == -1 else y,
    "x if x - y else 0": lambda x, y, r: x if r(x - y) else 0,
    "x if x % 200 > 150 else y": lambda x, y, r: x if x % 200 > 150 else y,
    "x if x // y == 1 else y": lambda x, y, r: x if r(x // y) == 1 else y,
}


def table(formula, p):
    operation = Operation(formula, SignedRemainders(p))
    numbers = [int(name) for name in operation.algebra.names]
    return [
        (tuple(numbers[operand] for operand in row), numbers[result])
        for row, result in zip(operation.operands_NK.tolist(), operation.results_N.tolist(), strict=True)
    ]


def test_the_functions_of_the_blog() -> None:
    for formula, function in BLOG.items():
        for p in (2, 7, 10, 97):
            pairs = itertools.product(range(1, p + 1), repeat=2)
            assert table(formula, p) == [((x, y), remainder(function(x, y, p), p)) for x, y in pairs], (formula, p)


def by_steps(formula, p):
    expected = []
    arity = 2 if "y" in formula else 1
    for operands in itertools.product(range(1, p + 1), repeat=arity):
        x, y = (*operands, 1)[:2]
        value = STEPS[formula](x, y, lambda value: remainder(value, p))
        if value is not None:
            expected.append((operands, value))
    return expected


def test_every_operator_is_reduced_and_nothing_else() -> None:
    for formula in STEPS:
        for p in (5, 12, 97):
            assert table(formula, p) == by_steps(formula, p), p


def test_known_values() -> None:
    rows = dict(table("x // y", 97))
    assert (rows[97, 3], rows[97, 1], rows[97, 97], rows[3, 97]) == (32, 0, 1, 0)
    differences = dict(table("x - y", 97))
    assert (differences[1, 97], differences[97, 97], differences[97, 1]) == (-96, 0, 96)


def test_operators_on_all_elements() -> None:
    p = 11
    signed = SignedRemainders(p)
    left, right = np.indices((signed.size, signed.size)).reshape(2, -1)
    x, y = left - p, right - p
    for operator in ("+", "-", "*"):
        result, defined = signed.binary(operator, left, right)
        assert defined is None
        expected = [remainder(eval(f"a {operator} b"), p) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        assert (result - p).tolist() == expected
    for operator, function in (("//", lambda a, b: remainder(a // b, p)), ("%", lambda a, b: remainder(a, b))):
        result, defined = signed.binary(operator, left, right)
        assert np.array_equal(defined, y != 0)
        pairs = zip(x[defined].tolist(), y[defined].tolist(), strict=True)
        assert (result[defined] - p).tolist() == [function(a, b) for a, b in pairs]


def test_there_are_195_numbers_and_197_tokens() -> None:
    data = SignedRemaindersDataModule("x - y")
    names = data.operation.algebra.names
    assert names == [str(number) for number in range(-97, 98)]
    assert data.vocabulary == [*names, "-", "="]
    assert len(data.operation) == 9409
    assert {names[operand] for operand in data.operation.operands_NK.flat} == set(map(str, range(1, 98)))
    assert {names[answer] for answer in data.operation.results_N} == set(map(str, range(-96, 97)))


def test_prompts_are_read() -> None:
    for text in ("97 - 3 =", "97-3", "97 3"):
        tokenizer = SignedRemaindersDataModule("x - y").tokenizer
        assert [tokenizer.elements[number] for number in tokenizer.read(text)[0]] == ["97", "3"]


def test_prompts_of_floor_division_are_read() -> None:
    for text in ("91 // 7 =", "91//7", "91 7"):
        tokenizer = SignedRemaindersDataModule("x // y").tokenizer
        assert [tokenizer.elements[number] for number in tokenizer.read(text)[0]] == ["91", "7"]


def test_what_is_no_operand_is_no_prompt() -> None:
    for text in ("0 - 3", "3 - 0", "98 - 1", "-3 - 4"):
        with pytest.raises(UserError, match=r"^prompt .*expected"):
            SignedRemaindersDataModule("x - y").tokenizer.read(text)


INVERSES = [
    ("x / y", r"^data\.formula uses '/'; .*use // .*ModularArithmeticDataModule"),
    ("x / y if y % 2 else x", r"^data\.formula uses '/'"),
    ("x**-1 + y", r"^data\.formula has the exponent -1; .*at least 0"),
]


def test_there_are_no_inverses() -> None:
    for formula, message in INVERSES:
        with pytest.raises(UserError, match=message) as caught:
            SignedRemaindersDataModule(formula, modulus=7)
        assert "\n" not in str(caught.value)


def test_others_point_to_signed_remainders() -> None:
    for data in (ModularArithmeticDataModule, PermutationDataModule):
        for formula in ("x // y", "x % y", "x * (y // x)", "x if x == y else x % y", "x if x // y else y"):
            with pytest.raises(UserError, match=r"^data\.formula uses '(//|%)'.*SignedRemaindersDataModule") as caught:
                data(formula)
            assert "\n" not in str(caught.value)


def test_a_modulus_out_of_range_is_refused() -> None:
    for modulus in (-3, 0, 1, 2**19):
        with pytest.raises(UserError, match=rf"^data\.modulus is {modulus};"):
            SignedRemaindersDataModule(modulus=modulus)
