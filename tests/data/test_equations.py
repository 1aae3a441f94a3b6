"""Operands by name as they are written, or as element numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from test_export import run_of

from grok_lightning.data.equations import read_elements, read_numbers
from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.operation import Operation
from grok_lightning.data.permutations import SymmetricGroup
from grok_lightning.data.signed import SignedRemainders
from grok_lightning.errors import UserError
from grok_lightning.generate import answer

SUM = Operation("x + y", IntegersMod(7))
SIGNED = Operation("x - y", SignedRemainders(5))
PRODUCT = Operation("x * y", SymmetricGroup(3))


@pytest.mark.parametrize(
    ("operation", "named", "numbers"),
    [
        (SUM, {"x": 3, "y": [1, 2, 6]}, [[3, 1], [3, 2], [3, 6]]),
        (SUM, {"y": torch.tensor([4]), "x": np.array([1, 0])}, [[1, 4], [0, 4]]),
        (SUM, {"x": "3", "y": " 2"}, [[3, 2]]),
        (SUM, {"x": np.arange(2)[:, None], "y": range(2)}, [[0, 0], [0, 1], [1, 0], [1, 1]]),
        (SIGNED, {"x": [1, 5], "y": 2}, [[6, 7], [10, 7]]),
        (PRODUCT, {"x": "(0 1)", "y": ["()", "(0 1 2)"]}, None),
    ],
)
def test_elements_are_read_as_they_are_written(operation: Operation, named: dict[str, Any], numbers: Any) -> None:
    found = read_elements(operation, named)
    names = operation.algebra.names
    if numbers is None:
        assert [[names[number] for number in row] for row in found] == [["(0 1)", "()"], ["(0 1)", "(0 1 2)"]]
    else:
        assert found.tolist() == numbers
    assert np.array_equal(read_numbers(operation, found), found)


@pytest.mark.parametrize(
    ("operation", "named", "words"),
    [
        (SUM, {"x": 3}, "operand 'y' is missing; as in x=4, y=1"),
        (SUM, {"x": 3, "y": 1, "z": 1}, "operand 'z' is no operand; expected: x, y"),
        (SUM, {"x": 7, "y": 1}, "operand x is 7; expected for x \\+ y mod 7 are the elements 0 ... 6"),
        (SUM, {"x": 3.0, "y": 1}, "operand x is 3.0"),
        (SUM, {"x": True, "y": 1}, "operand x is True"),
        (SUM, {"x": [1, 2], "y": [1, 2, 3]}, r"x \(2,\), y \(3,\)"),
        (SUM, {"x": [[1, 2], [3]], "y": 1}, "operand x is "),
        (SIGNED, {"x": -3, "y": 1}, "operand x is -3; expected for x - y mod 5, signed are the elements 1 ... 5"),
        (PRODUCT, {"x": 3, "y": "()"}, "operand x is 3; expected"),
    ],
)
def test_what_is_no_operand_is_refused(operation: Operation, named: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_elements(operation, named)


@pytest.mark.parametrize("numbers", [[1, 2], [[1, 2, 3]], [[1.0, 2.0]], [["1", "2"]], [[-1, 0]], [[0, 7]], 3])
def test_what_are_no_numbers_of_elements_are_refused(numbers: Any) -> None:
    with pytest.raises(UserError, match="operands has"):
        read_numbers(SUM, numbers)


def test_numbers_of_results_only_are_no_operands() -> None:
    with pytest.raises(UserError, match="element number 3; 6 to 10"):
        read_numbers(SIGNED, [[3, 6]])


@pytest.mark.parametrize(
    ("network", "data"),
    [
        ({}, {}),
        ({"class_path": "MLP"}, {}),
        ({"class_path": "GRU", "embedding_std": 3.0, "head_scale": 9.0}, {}),
        ({}, {"tokenizer": "characters"}),
    ],
)
def test_equations_in_every_form_have_the_same_answers_as_prompts(network: Any, data: Any) -> None:
    run = run_of(network, data)
    prompts = ["3+10=", "10+2=", "0+0="]
    wanted = [answer(run, prompt) for prompt in prompts]
    assert len(set(wanted)) > 1
    assert run.predict(prompts) == wanted
    assert run.predict(x=[3, 10, 0], y=[10, 2, 0]) == wanted
    assert run.predict(np.array([[3, 10], [10, 2], [0, 0]])) == wanted
    assert [run.predict(prompt) for prompt in prompts] == [[text] for text in wanted]
    one, other = run.activations(prompts), run.activations(x=[3, 10, 0], y=[10, 2, 0])
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) and len(one[name]) == 3 for name in one)


@pytest.mark.parametrize("given", [((), {}), (([[1, 2]],), {"x": 1}), (([],), {}), ((np.zeros((0, 2), int),), {})])
def test_equations_are_given_once(given: tuple[Any, dict[str, Any]]) -> None:
    run = run_of({"layers": 1})
    with pytest.raises(UserError, match=r"one of the two|at least one|operands has shape"):
        run.activations(*given[0], **given[1])
