"""Strings as rows: one prompt, and an answer that ends."""

from typing import Any

import pytest
import torch

from grok_lightning.data import TextDataModule
from grok_lightning.data.batches import Chunk
from grok_lightning.errors import UserError

CPU = torch.device("cpu")


def test_one_string_fills_every_row_of_a_batch() -> None:
    data = TextDataModule()
    string = "I love machine learning"
    assert data.vocabulary == [*sorted(set(string)), "<begin>", "<end>"]
    assert (data.prompt_length, data.answer_length, data.length, data.padded) == (1, 24, 24, False)
    batch = data.training_batch(7, CPU)
    assert batch.tokens_RBT.shape == batch.targets_RBA.shape == (1, 64, 24)
    for tokens, targets in zip(batch.tokens_RBT[0], batch.targets_RBA[0], strict=True):
        assert [data.vocabulary[token] for token in tokens] == ["<begin>", *string]
        assert [data.vocabulary[token] for token in targets] == [*string, "<end>"]


def test_strings_of_different_lengths_are_padded_after_their_end() -> None:
    strings = ["abc", "b", "cabba"]
    data = TextDataModule(strings, batch_size=2)
    assert (data.answer_length, data.padded) == (6, True)
    batch = data.chunk(Chunk("train", 0, 3), CPU)
    for row, tokens, targets in zip(batch.rows_RB[0], batch.tokens_RBT[0], batch.targets_RBA[0], strict=True):
        string = strings[row]
        padding = 5 - len(string)
        assert tokens.tolist() == [*data.encode(string), data.end, *[-1] * padding][: data.length]
        assert targets.tolist() == [*data.encode(string)[1:], data.end, *[-100] * padding]
        assert data.decode(targets[targets >= 0].tolist()) == string == data.describe(int(row))[-1]


def test_validation_is_on_the_training_strings_unless_some_are_held_out() -> None:
    data = TextDataModule(["ab", "ba", "aa"])
    assert data.counts("train") == data.counts("val") == [3]
    assert data.counts("test") == [0]
    strings = [f"{number:02}" for number in range(20)]
    held = TextDataModule(strings, val_fraction=0.15, seeds=[0, 1, 2], split_seed=[5, 6, 5])
    for split in held.splits:
        assert sorted([*split.train, *split.val]) == list(range(20))
        assert len(split.val) == 3
        assert split.commutative_fraction is None
    first, second, third = (split.val.tolist() for split in held.splits)
    assert first == third != second
    assert TextDataModule(strings, val_fraction=0.15, seeds=[5]).splits[0].val.tolist() == first


def test_a_prompt_is_the_beginning_of_a_string() -> None:
    data = TextDataModule(["hello", "hi"])
    written = [data.vocabulary[token] for token in data.encode("he")]
    assert written == ["<begin>", "h", "e"]
    assert data.encode("").tolist() == [data.vocabulary.index("<begin>")]
    assert data.show("he", "llo") == "hello"
    for text, said in [("hexe", "'x'"), ("hellohello", "10 characters; the longest string has 5")]:
        with pytest.raises(UserError, match=rf"^prompt .*{said}"):
            data.encode(text)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        *[({"strings": []}, "strings"), ({"strings": ""}, "strings"), ({"strings": ["a", ""]}, "strings")],
        *[({"val_fraction": value}, "val_fraction") for value in (0.0, 1.0, -0.5, 0.5)],
        *[({"batch_size": 0}, "batch_size"), ({"split_seed": [1, 2]}, "split_seed")],
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, Any], name: str) -> None:
    with pytest.raises(UserError, match=rf"^data\.{name} ") as caught:
        TextDataModule(**options)
    assert "\n" not in str(caught.value)


def test_there_is_nothing_to_test() -> None:
    with pytest.raises(UserError, match=r"no test rows \(1 train, 0 val\)"):
        TextDataModule().test_dataloader()
