"""Formulas as the field writes them stand for formulas of this package, which compute the same."""

import pytest

from grok_lightning.data import ModularArithmeticDataModule, PermutationDataModule
from grok_lightning.errors import UserError
from grok_lightning.options.formulas import OPERATIONS, canonical_formula

ROOM = "grok_lightning.data."
MODULAR = f"{ROOM}ModularArithmeticDataModule"


@pytest.mark.parametrize("formula", OPERATIONS)
def test_every_name_of_an_operation_is_its_formula_which_has_a_table(formula: str) -> None:
    for word in OPERATIONS[formula].split():
        for written in (word, word.upper(), word.replace("_", " "), word.replace("_", "-") if len(word) > 2 else word):
            assert canonical_formula(written, MODULAR, ["7"]) == formula, written
    assert canonical_formula(formula, MODULAR, ["7"]) == formula  # itself as it is
    assert len(ModularArithmeticDataModule(formula, 7).operation) > 40


READ = {
    "a + b": "x + y",
    "a+b": "x + y",
    "(a+b)%97": "x + y",
    "(a + b) % p": "x + y",
    "a+b mod 97": "x + y",
    "a + b (mod 97)": "x + y",
    "(a + b mod p)": "x + y",
    "x+y, mod 97": "x + y",
    "a/b": "x / y",
    "a × b": "x * y",
    "a ÷ b": "x / y",
    "a − b": "x - y",
    "x^2+y^2": "x**2 + y**2",
    "a * b * a^-1": "x * y * x**-1",
    "x**2+y**2+x*y_mod_97": "x**2 + y**2 + x * y",
    "x % 97 + y % 97": "x + y",
    "a/b if b % 2 else a-b": "x / y if y % 2 else x - y",
    "a + b + c": "x + y + z",
    "a+b+c+d": "x1 + x2 + x3 + x4",
}


@pytest.mark.parametrize("text", READ)
def test_what_papers_write_is_read(text: str) -> None:
    assert canonical_formula(text, MODULAR, ["97"]) == READ[text]
    ModularArithmeticDataModule(READ[text], 5)


UNTOUCHED = ["x+y", "x + y", "x1 + x2", "b + c", "a + x", "x / y if y % 97 else x", "no such (", "p", "a + e", "x**-1"]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_formulas_of_ours_and_what_is_none_are_left_alone(text: str) -> None:
    assert canonical_formula(text, MODULAR, ["97"]) == text


def test_the_algebra_decides() -> None:
    assert canonical_formula("a * x", f"{ROOM}FiniteFieldDataModule", []) == "a * x"
    assert canonical_formula("x % 97", f"{ROOM}SignedRemaindersDataModule", ["97"]) == "x % 97"
    assert canonical_formula("division", "mine.Data", []) == "division"
    formula = canonical_formula("s5conj", f"{ROOM}PermutationDataModule", [])
    assert len(PermutationDataModule(formula, 3).operation) == 36


@pytest.mark.parametrize(
    "text", ["(a+b)%113", "a + b mod 113", "x+y_mod_113", "(a % 113 + b) mod 97", "(x % 113 + y) % 113"]
)
def test_another_modulus_is_answered_with_the_option(text: str) -> None:
    with pytest.raises(UserError, match=r'write --data.formula "x \+ y" --data.modulus 113$'):
        canonical_formula(text, MODULAR, ["97"])


@pytest.mark.parametrize("text", ["x % 2 * y", "x + y % 2", "(x % 2 + y) % 113"])
def test_a_remainder_within_arithmetic_is_no_modulus(text: str) -> None:
    with pytest.raises(UserError, match=r"within arithmetic mod p; .* such as y if x % \d+ == 0 else x$"):
        canonical_formula(text, MODULAR, ["97"])


@pytest.mark.parametrize(
    ("text", "near"), [("divison", "division"), ("Substraction", "subtraction"), ("adition", "ad")]
)
def test_a_misspelt_operation_gets_the_nearest(text: str, near: str) -> None:
    with pytest.raises(UserError, match=f"is '{text}'; did you mean {near}"):
        canonical_formula(text, MODULAR, ["97"])
