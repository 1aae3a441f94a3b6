"""Typed prompts name the operands that they seem to name."""

import itertools

import pytest

from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.data.prompts import read_operands
from grok_lightning.errors import UserError

SIGNED = {str(number): number for number in range(-12, 13)}
PERMUTATIONS = {name: number for number, name in enumerate(SymmetricGroup(4).names)}


def test_every_pair_of_signed_numbers_is_read_back() -> None:
    for operator in ("+", "-", "*", "/", "//", "%", "o"):
        for pattern in ("{}{}{}=", "{} {} {}", "  {}  {} {} = "):
            for x, y in itertools.product(range(-12, 13), repeat=2):
                assert read_operands(pattern.format(x, operator, y), SIGNED, operator, 2).tolist() == [[x, y]]


READ = [
    *[("5--3=", "-", [5, -3]), ("-5--3", "-", [-5, -3]), ("-5-3", "-", [-5, 3]), ("5 - -3", "-", [5, -3])],
    *[("5 -3", "-", [5, 3]), ("-5 -3", "-", [-5, 3]), ("5 3", "-", [5, 3]), ("-5 3", "-", [-5, 3])],
    *[("5 -3", "+", [5, -3]), ("-5 -3", "+", [-5, -3]), ("5+-3=", "+", [5, -3]), ("5 o -3", "+", [5, -3])],
    *[("1-2-3", "-", [1, 2, 3]), ("-1--2--3=", "-", [-1, -2, -3]), ("1 -2 3", "+", [1, -2, 3])],
    *[("5=", "-", [5]), ("-5", "-", [-5])],
]


def test_signs_and_operators_are_told_apart() -> None:
    for text, operator, expected in READ:
        assert read_operands(text, SIGNED, operator, len(expected)).tolist() == [expected], text


def test_every_pair_of_permutations_is_read_back() -> None:
    for pattern in ("{}*{}=", "{} * {} =", "{} {}", "{}o{}", " {} o {}="):
        for x, y in itertools.product(PERMUTATIONS, repeat=2):
            expected = [[PERMUTATIONS[x], PERMUTATIONS[y]]]
            assert read_operands(pattern.format(x, y), PERMUTATIONS, "*", 2).tolist() == expected


NO_EQUATIONS = [
    *[("5---3", "cannot be read"), ("5", "1 operands"), ("", "0 operands"), ("=", "0 operands")],
    *[("5-3-2", "3 operands"), ("13-1", "'13'"), ("5*3", "'*'"), ("5-x", "'x'"), ("5==3", "'='"), ("05-3", "'05'")],
]


def test_what_names_no_equation_is_refused_in_one_line() -> None:
    for text, said in NO_EQUATIONS:
        with pytest.raises(UserError, match=r"^prompt .*expected") as caught:
            read_operands(text, SIGNED | {"3": 3}, "-", 2)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


NO_PERMUTATIONS = ["(0 1)(2 3)", "(0 1)", "(0 1) (2 3) (0 2)", "(0  1) ()", "(1 0) ()", "0 1"]


def test_permutations_that_name_no_equation_are_refused() -> None:
    for text in NO_PERMUTATIONS:
        with pytest.raises(UserError, match=r"^prompt .*expected"):
            read_operands(text, PERMUTATIONS, "*", 2)


@pytest.mark.parametrize(
    "text", ["１ 2", "٣ + 1", "1+１２=", "9" * 5000, "1 2 \x1b[31m\u202e\ud800", "(" * 5000, "1 " * 5000]
)
def test_other_digits_and_long_prompts_are_refused_in_one_line(text: str) -> None:
    for numbers, operator in ((SIGNED, "+"), (PERMUTATIONS, "*")):
        with pytest.raises(UserError) as refused:
            read_operands(text, numbers, operator, 2)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 400
