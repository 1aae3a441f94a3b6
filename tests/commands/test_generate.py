"""Generation stops where the model ends its answer, for tables and for text; what is asked reaches the model as is."""

import csv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import TINY
from torch import Tensor

from grok_lightning import generate
from grok_lightning.__main__ import main
from grok_lightning.data import ModularArithmeticDataModule, SignedRemaindersDataModule, TextDataModule
from grok_lightning.errors import UserError
from grok_lightning.generate import answer

TABLE = ModularArithmeticDataModule("x + y", 113, tokenizer="characters")
TEXT = TextDataModule(["hello world", "hi"])


class Scripted:
    """A network that continues what it is shown by a rule over its written tokens, and keeps what it was shown.

    The token after the rule's choice in the vocabulary is the second most probable one.
    """

    def __init__(self, data: Any, rule: Callable[[str], str]) -> None:
        self.data, self.rule, self.shown = data, rule, []

    def __call__(self, tokens_RBT: Tensor, answer_length: int) -> Tensor:
        assert tokens_RBT.shape[:2] == (1, 1)
        assert answer_length == 1
        assert tokens_RBT.shape[2] <= self.data.length
        self.shown.append(tokens_RBT[0, 0].tolist())
        written = "".join(self.data.vocabulary[token] for token in self.shown[-1] if token != -1)
        chosen = self.data.vocabulary.index(self.rule(written))
        logits = torch.zeros(1, 1, 1, self.data.vocabulary_size)
        logits[..., chosen] = 2
        logits[..., (chosen + 1) % self.data.vocabulary_size] = 1
        return logits


def adding(written: str) -> str:
    """The next character of a right answer."""
    prompt, begun = written.split("=")
    rest = str(sum(map(int, prompt.split("+"))) % 113).removeprefix(begun)
    return rest[0] if rest else "<end>"


def reciting(written: str) -> str:
    rest = "hello world".removeprefix(written.removeprefix("<begin>"))
    return rest[0] if rest else "<end>"


def run_of(data: Any, rule: Callable[[str], str]) -> Any:
    return SimpleNamespace(data=data, model=Scripted(data, rule))


@pytest.mark.parametrize(("prompt", "expected"), [("1+2=", "3"), ("60 39", "99"), ("100+112", "99"), ("56+56", "112")])
def test_an_answer_is_as_long_as_the_model_makes_it(prompt: str, expected: str) -> None:
    run = run_of(TABLE, adding)
    assert answer(run, prompt) == expected
    assert len(run.model.shown) == len(expected) + 1  # its digits and the end mark
    assert run.model.shown[0] == TABLE.encode(prompt).tolist()
    assert len(run.model.shown[0]) == TABLE.prompt_length
    for before, after in zip(run.model.shown, run.model.shown[1:], strict=False):
        assert after[:-1] == before


def test_an_answer_without_end_is_cut_at_the_longest_or_as_asked() -> None:
    run = run_of(TABLE, lambda written: "7")
    assert answer(run, "1+2=") == "7777"
    assert answer(run, "1+2=", max_new_tokens=2) == "77"
    assert answer(run, "1+2=", max_new_tokens=9) == "7777"
    assert answer(run_of(TABLE, adding), "1+2=", max_new_tokens=1) == "3"


@pytest.mark.parametrize("prompt", ["", "h", "hello", "hello world"])
def test_a_string_is_continued_from_any_beginning(prompt: str) -> None:
    run = run_of(TEXT, reciting)
    assert TEXT.show(prompt, answer(run, prompt)) == "hello world"
    assert run.model.shown[0] == [TEXT.vocabulary.index("<begin>"), *(TEXT.vocabulary.index(c) for c in prompt)]


def test_draws_follow_the_probabilities_and_the_seed() -> None:
    run = run_of(ModularArithmeticDataModule(modulus=5), lambda written: "2")

    def drawn(seed: int, **options: Any) -> list[str]:
        generator = torch.Generator().manual_seed(seed)
        return [answer(run, "1+1", generator=generator, **options) for _ in range(400)]

    assert set(drawn(0)) == set(drawn(0, temperature=9.0, top_k=1)) == {"2"}
    two = drawn(0, temperature=1.0, top_k=2)
    assert set(two) == {"2", "3"}
    assert two.count("3") / 400 == pytest.approx(1 / (1 + torch.e), abs=0.06)
    assert drawn(0, temperature=9.0) == drawn(0, temperature=9.0) != drawn(1, temperature=9.0)
    assert set(drawn(0, temperature=9.0)) == {"0", "1", "2", "3", "4", "+", "="}


@pytest.mark.parametrize(
    ("data", "prompt", "options", "said"),
    [
        (TABLE, "1+2", {"max_new_tokens": 0}, "--max_new_tokens is 0; it must be at least 1"),
        (TEXT, "hello", {"max_new_tokens": -8}, "--max_new_tokens is -8"),
        *[(TEXT, "hello!", {}, "'!'"), (TEXT, "<end>", {}, "'<'"), (TEXT, "hello worldd", {}, "12 characters")],
        *[(TABLE, "113+1", {}, "'113'"), (TABLE, "", {}, "0 operands")],
        *[(TABLE, "1+2", {"temperature": -1.0}, "--temperature"), (TABLE, "1+2", {"top_k": 14}, "--top_k is 14")],
    ],
)
def test_bad_questions_are_refused_in_one_line(data: Any, prompt: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        answer(run_of(data, lambda written: "1"), prompt, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["x", "-5+3=", "3 -5"], "-5+3= -2\n3 -5 = -2\n"),
        (["x", "--top-k", "1", "-5+3=", "--temperature=2"], "-5+3= -2\n"),
        (["--seed", "-3", "x", "--", "-5 + 3", "--max_new_tokens=1"], None),
    ],
)
def test_prompts_may_begin_with_a_minus(words: list[str], printed: str | None, monkeypatch, capsys) -> None:
    data = SignedRemaindersDataModule("x + y", 7, tokenizer="characters")
    monkeypatch.setattr(data.tokenizer, "_operands", {str(number): number + 7 for number in range(-7, 8)})
    rest = {"=": "-", "=-": "2", "=-2": "<end>"}
    run = run_of(data, lambda written: rest[written[written.index("=") :]])
    monkeypatch.setattr(generate, "load_run", lambda path, trust: run)
    if printed is None:  # what follows -- is a prompt
        assert main(["generate", *words]) == 2
        assert "'--max_new_tokens=1'" in capsys.readouterr().err
    else:
        assert main(["generate", *words]) == 0
        assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x", "1+1", "--temperature"], "--temperature needs a value"),
        (["x", "1+1", "--temperature", "hot"], "temperature"),
        (["x", "1+1", "--top", "1"], "did you mean --top_k?"),
        (["x"], "CHECKPOINT PROMPTS..."),
        (["--seed", "1"], "CHECKPOINT PROMPTS..."),
    ],
)
def test_bad_command_lines_are_refused_in_one_line(words: list[str], said: str, capsys) -> None:
    assert main(["generate", *words]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert said in printed.err


def test_a_string_is_memorized_and_given_back(command: Callable[..., tuple[int, str, str]]) -> None:
    network = TINY[TINY.index("--model.network.layers") :]
    data = ["--data", "TextDataModule", "--data.strings", "ab, abba!", "--data.batch_size", 2]
    options = ["--model.optimizer.lr", "0.01", "--trainer.max_steps", 200, "--experiment", "e", "--run", "a"]
    status, out, err = command("fit", *network, *data, *options)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith("memorized at step")
    checkpoint = "checkpoints/e/a/last.ckpt"
    assert command("generate", checkpoint, "", "ab,", "ab, abba!") == (0, "ab, abba!\n" * 3, "")
    assert command("predict", "--ckpt_path", checkpoint, "--split", "val", "--output", "p.csv")[0] == 0
    with Path("p.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["text"], row["prediction"], row["correct"], row["split"]) == ("ab, abba!",) * 2 + ("True", "val")


def test_a_table_in_characters_is_answered_as_it_is_predicted(command: Callable[..., tuple[int, str, str]]) -> None:
    options = ["--data.tokenizer", "characters", "--trainer.max_steps", 60, "--experiment", "e", "--run", "a"]
    assert command("fit", *TINY, *options)[0] == 0
    checkpoint = "checkpoints/e/a/last.ckpt"
    command("predict", "--ckpt_path", checkpoint, "--split", "all", "--output", "p.csv")
    with Path("p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 121
    _, out, _ = command("generate", checkpoint, *[f"{row['x']}+{row['y']}=" for row in rows])
    answers = [line.split("= ")[1] for line in out.splitlines()]
    # the first token has no answer before it; a right prediction follows its own tokens
    assert [answer[:1] for answer in answers] == [row["prediction"][:1] for row in rows]
    right = [(answer, row["prediction"]) for answer, row in zip(answers, rows, strict=True) if row["correct"] == "True"]
    assert right
    assert all(answer == prediction for answer, prediction in right)


def test_what_the_formula_does_not_define_is_not_answered(monkeypatch, capsys) -> None:
    data = ModularArithmeticDataModule("x / y", 5)
    run = run_of(data, lambda written: "3")
    monkeypatch.setattr(generate, "load_run", lambda path, trust: run)
    assert main(["generate", "c", "1/0=", "4/3="]) == 0
    assert capsys.readouterr().out == "1/0= (the table has no such row: x / y is not defined there)\n4/3= 3\n"


def test_a_sample_of_the_table_is_asked_about_all_of_it(monkeypatch, capsys) -> None:
    data = ModularArithmeticDataModule("x + y", 7, rows=10)
    run = run_of(data, lambda written: "3")
    monkeypatch.setattr(generate, "load_run", lambda path, trust: run)
    assert main(["generate", "c", *(f"{x}+{y}=" for x in range(7) for y in range(7))]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 49


def test_top_k_without_temperature_is_told(monkeypatch, capsys) -> None:
    run = run_of(ModularArithmeticDataModule("x + y", 7), lambda written: "3")
    monkeypatch.setattr(generate, "load_run", lambda path, trust: run)
    assert main(["generate", "c", "1+2=", "--top_k", "3"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("1+2= 3\n", "--top_k does nothing at temperature 0; give --temperature too\n")
