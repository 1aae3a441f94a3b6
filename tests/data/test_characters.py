"""Equations written in characters say what the table says, padded where they are shorter."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scoring import score

from grok_lightning.data import ModularArithmeticDataModule, PermutationDataModule, SignedRemaindersDataModule
from grok_lightning.data import characters as module
from grok_lightning.data.batches import Chunk
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.errors import UserError

CPU = torch.device("cpu")


def modular(formula: str = "x + y", modulus: int = 13, **options: Any) -> ModularArithmeticDataModule:
    return ModularArithmeticDataModule(formula, modulus, tokenizer="characters", **options)


def text(data: SequenceDataModule, tokens: Any) -> str:
    return "".join(data.vocabulary[token] for token in tokens if token != -1)


def lines(data: SequenceDataModule) -> list[str]:
    rows = data.rows()
    return [
        text(data, prompt) + text(data, answer)
        for prompt, answer in zip(rows.prompts_NT, rows.answers_XNA[0], strict=True)
    ]


@pytest.mark.parametrize(
    ("formula", "options", "pattern", "function"),
    [
        ("x + y", {}, "{}+{}={}<end>", lambda x, y: x + y),
        ("x - y", {"operator_token": False}, "{} {}={}<end>", lambda x, y: x - y),
        ("x**2 + y", {}, "{}o{}={}<end>", lambda x, y: x * x + y),
        ("x**2", {}, "{}={}<end>", lambda x: x * x),
        ("x1 * x2 * x3", {}, "{}*{}*{}={}<end>", lambda x, y, z: x * y * z),
        ("x1 * x2 * x3", {"operator_token": False}, "{} {} {}={}<end>", lambda x, y, z: x * y * z),
    ],
)
def test_rows_read_as_the_equations(formula: str, options: dict, pattern: str, function: Any) -> None:
    data = modular(formula, 13, **options)
    arity = pattern.count("{}") - 1
    operands = itertools.product(range(13), repeat=arity)
    assert lines(data) == [pattern.format(*row, function(*row) % 13) for row in operands]
    assert set("".join(lines(data)).replace("<end>", "")) == set(data.vocabulary) - {"<end>"}


def test_signed_numbers_and_permutations_read_as_the_equations() -> None:
    signed = SignedRemaindersDataModule("x - y", 11, tokenizer="characters")
    operands = itertools.product(range(1, 12), repeat=2)
    assert lines(signed) == [f"{x}-{y}={x - y}<end>" for x, y in operands]
    assert signed.vocabulary == ["-", *"0123456789", "=", "<end>"]  # one token for the operator and for the sign
    assert signed.operator_place is None
    group = PermutationDataModule("x * y", 3, tokenizer="characters")
    names = ["()", "(1 2)", "(0 1)", "(0 1 2)", "(0 2 1)", "(0 2)"]
    pairs = list(itertools.product(names, repeat=2))
    assert [line.rsplit("=", 1)[0] for line in lines(group)] == [f"{x}*{y}" for x, y in pairs]
    assert "(0 1)*(1 2)=(0 1 2)<end>" in lines(group)
    assert group.vocabulary == [*" ()012", "*", "=", "<end>"]
    assert group.operator_place == 6


@pytest.mark.parametrize(
    ("data", "prompt_length", "answer_length", "padded"),
    [
        (modular(modulus=10), 4, 2, False),
        (modular(modulus=11), 6, 3, True),
        (modular(modulus=101), 8, 4, True),
        (modular("x + y if x + y < 10 else x * 0", 11), 6, 2, True),  # no answer of two digits
        (SignedRemaindersDataModule("x - y", 5, tokenizer="characters"), 4, 3, True),  # prompts alike, answers not
        (PermutationDataModule("x * y", 4, tokenizer="characters"), 22, 11, True),
    ],
)
def test_prompts_end_and_answers_begin_at_one_place(data, prompt_length, answer_length, padded) -> None:
    rows = data.rows()
    assert rows.prompts_NT.shape[1] == data.prompt_length == prompt_length
    assert rows.answers_XNA.shape[2] == data.answer_length == answer_length
    assert data.length == prompt_length + answer_length - 1
    assert data.padded == padded == bool((rows.prompts_NT == -1).any() or (rows.answers_XNA == -1).any())
    assert rows.beginnings_PS is None
    assert not (np.diff((rows.prompts_NT == -1).astype(int)) > 0).any()  # padding only before a prompt
    assert not (np.diff((rows.answers_XNA == -1).astype(int)) < 0).any()  # and only after an answer
    assert (rows.prompts_NT[:, -1] == data.vocabulary.index("=")).all()
    assert ((rows.answers_XNA == data.end).sum(-1) == 1).all()


@pytest.mark.parametrize("noise", [0, 0.6])
def test_inputs_are_the_prompt_and_the_answer_so_far_in_every_run(noise: float) -> None:
    data = modular(modulus=13, seeds=[3, 4], answer_noise=noise, batch_size=40)
    batch = data.training_batch(5, CPU)
    tokens, targets = batch.tokens_RBT, batch.targets_RBA
    assert tokens.shape == (2, 40, data.length)
    assert torch.equal(tokens[..., data.prompt_length :], targets[..., :-1].masked_fill(targets[..., :-1] == -100, -1))
    for run, row in itertools.product(range(2), range(40)):
        x, y = data.operation.operands_NK[batch.rows_RB[run, row]]
        shown = data.answers_XN[run if noise else 0, batch.rows_RB[run, row]]
        assert text(data, tokens[run, row, : data.prompt_length]) == f"{x}+{y}="
        assert data.decode([token for token in targets[run, row].tolist() if token >= 0]) == str(shown)
    assert bool((data.answers_XN != data.operation.results_N).any()) == bool(noise)


def test_an_answer_is_right_as_a_whole_or_not_at_all() -> None:
    data = modular(modulus=13)
    batch = data.chunk(Chunk("val", 0, 30), CPU)
    targets = batch.targets_RBA
    logits = torch.nn.functional.one_hot(targets.clamp(min=0), data.vocabulary_size).double()
    assert score(logits, targets).correct.item() == 30
    one = int((targets[0, :, 2] == -100).nonzero()[0])  # an answer of one digit: digit, end mark, padding
    two = int((targets[0, :, 2] == data.end).nonzero()[0])
    for row, place, right in [(one, 2, 30), (one, 1, 29), (one, 0, 29), (two, 2, 29), (two, 1, 29), (two, 0, 29)]:
        wrong = logits.clone()
        wrong[0, row, place] = wrong[0, row, place].roll(1)
        assert score(wrong, targets).correct.item() == right


def test_answers_are_decoded_up_to_the_end_mark() -> None:
    data = modular(modulus=101)
    token = {written: number for number, written in enumerate(data.vocabulary)}
    for tokens, expected in [("19<", "19"), ("1<9", "1"), ("<", ""), ("100", "100"), ("1=<", "1="), ("", "")]:
        assert data.decode([data.end if written == "<" else token[written] for written in tokens]) == expected


@pytest.mark.parametrize("prompt", ["7+12=", "7 12", "7 + 12"])
def test_prompts_are_encoded_as_the_rows_are(prompt: str) -> None:
    data = modular(modulus=13)
    assert data.encode(prompt).tolist() == data.rows().prompts_NT[7 * 13 + 12].tolist()


def test_without_equals_only_prompts_of_one_length_are_told_from_answers() -> None:
    data = modular(modulus=10, equals_token=False)
    assert lines(data)[57] == "5+72<end>"
    assert data.prompt_length == 3
    with pytest.raises(UserError, match=r"^data\.equals_token is false, .* 3 to 5 characters"):
        modular(modulus=11, equals_token=False)


def test_more_tokens_than_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_ROWS_BYTES", 2 * 8 * 169 * (6 + 2 * 3) - 1)
    with pytest.raises(UserError, match=r"^data\.tokenizer is characters, which writes 169 rows"):
        modular(modulus=13)
