"""What is no prompt of a task is refused in one line that shows one, and the prompt shown is one of the task."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from grok_lightning.data import (
    AlternatingDataModule,
    CyclicProductDataModule,
    DihedralDataModule,
    FiniteFieldDataModule,
    MatrixDataModule,
    ModularArithmeticDataModule,
    PermutationDataModule,
    SignedRemaindersDataModule,
    TextDataModule,
)
from grok_lightning.data.equations import read_elements
from grok_lightning.data.ordinary import _OrdinaryDataModule
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError

HOWTO = Path(__file__).parents[2] / "docs" / "howto"


def of_user(name: str) -> Any:
    """The DataModule of a how-to page."""
    sys.path.insert(0, str(HOWTO))
    try:
        if name == "heisenberg":
            from heisenberg import HeisenbergDataModule

            return HeisenbergDataModule(modulus=3)
        from parity import ParityData

        return _OrdinaryDataModule([lambda: ParityData(bits=10)], lambda: ParityData(bits=10), [0])
    finally:
        sys.path.remove(str(HOWTO))


KINDS: dict[str, Any] = {
    "division": lambda: ModularArithmeticDataModule("x / y", 97),
    "one operand": lambda: ModularArithmeticDataModule("x**2", 11),
    "K-ary": lambda: ModularArithmeticDataModule("x1 + x2 + x3 + x4", 5),
    "a condition": lambda: ModularArithmeticDataModule("x / y if y % 2 else x - y", 11),
    "bare": lambda: ModularArithmeticDataModule("x - y", 11, operator_token=False, equals_token=False),
    "characters": lambda: ModularArithmeticDataModule("x / y", 97, tokenizer="characters"),
    "half": lambda: ModularArithmeticDataModule("x + y", 11, pairing="half"),
    "a sample": lambda: ModularArithmeticDataModule("x + y + z", 11, rows=50),
    "S5": lambda: PermutationDataModule("x * y", 5),
    "S3 conjugate": lambda: PermutationDataModule("x * y * x**-1", 3),
    "A4": lambda: AlternatingDataModule("x * y", 4),
    "signed remainders": lambda: SignedRemaindersDataModule("x - y", 7),
    "signed of characters": lambda: SignedRemaindersDataModule("x // y if y % 2 else x - y", 7, tokenizer="characters"),
    "dihedral": lambda: DihedralDataModule("x * y", 5),
    "finite field": lambda: FiniteFieldDataModule("x * y", 3, 2),
    "matrices": lambda: MatrixDataModule("x * y", 2),
    "cyclic": lambda: CyclicProductDataModule("x + y", [3, 4]),
    "strings": lambda: TextDataModule(["I love machine learning", "so"]),
    "a user's algebra": lambda: of_user("heisenberg"),
    "a user's rows": lambda: of_user("parity"),
}
WRONG = ("9999/7=", "hello 世界", "zzz", "7 ? 9")


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_prompt_is_answered_with_one_of_the_task(kind: str) -> None:
    data: SequenceDataModule = KINDS[kind]()
    assert data.encode(data.example) is not None
    for text in WRONG:
        with pytest.raises(UserError) as refused:
            data.encode(text)
        message = str(refused.value)
        assert "\n" not in message
        shown = re.search(r"such as ('.*'|\".*\")$", message)
        assert shown is not None, message
        assert eval(shown[1]) == data.example  # quoted as Python does
        if isinstance(data, TableDataModule):
            assert f"expected for {data.operation.formula.text}" in message


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_a_row_of_the_table(kind: str) -> None:
    data = KINDS[kind]()
    if not isinstance(data, TableDataModule):
        return
    (row,) = data.tokenizer.read(data.example).tolist()
    assert row in data.operation.operands_NK.tolist()
    with pytest.raises(UserError) as refused:
        read_elements(data.operation, dict.fromkeys(data.operation.formula.operand_names, "no element"))
    example = str(refused.value).split("as in ")[1]
    assert read_elements(data.operation, eval(f"dict({example})")).tolist() == [row]


def test_a_wrong_number_of_operands_names_the_task_too() -> None:
    data = KINDS["K-ary"]()
    with pytest.raises(UserError, match=r"has 2 operands; expected for x1 \+ x2 \+ x3 \+ x4 mod 5 are 4, such as '3\+"):
        data.encode("1+2=")
