"""YAML files of options: dotted and nested keys are one, and nothing is dropped in silence."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from grok_lightning.errors import UserError
from grok_lightning.options.arguments import read_config

MUON = {"class_path": "grok_lightning.optim.Muon", "lr": 0.1}
TEXT = {"class_path": "grok_lightning.data.TextDataModule", "strings": ["ab"]}


def read(folder: Path, text: str) -> dict[str, Any]:
    path = folder / "c.yaml"
    path.write_text(text)
    return read_config(path)


@pytest.mark.parametrize(
    "lines",
    [
        (
            "model.optimizer: Muon",
            "model.optimizer.lr: 0.1",
            "model: {loss: mse}",
            "data: {class_path: TextDataModule}",
        ),
        ("model: {optimizer: {lr: 0.1}, loss: mse}", "model.optimizer: Muon", "data: TextDataModule"),
        ("model: {optimizer: {init_args: {lr: 0.1}}}", "model.optimizer.class_path: Muon", "model.loss: mse"),
        ("model: {optimizer: null, optimizer.lr: 0.1, loss: mse}", "model.optimizer: Muon"),
    ],
)
def test_a_class_and_its_options_may_be_written_apart_in_any_order(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with_data = "data" in lines[-1]
    for ordered in permutations((*lines, *(["data.strings: [ab]"] if with_data else []))):
        options = read(tmp_path, "\n".join(ordered))
        assert options["model"] == {"optimizer": MUON, "loss": "mse"}
        assert options.get("data") == (TEXT if with_data else None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data.modulus: 7\ndata: {modulus: 11}", "gives data.modulus twice, 7 and 11; leave one out"),
        ("model: {optimizer: Muon}\nmodel.optimizer: AdamW", "gives model.optimizer twice, 'Muon' and 'AdamW'"),
        ("model.optimizer: Muon\nmodel.optimizer.class_path: AdamW", "model.optimizer.class_path twice"),
        ("data: 5\ndata.modulus: 7", "gives data twice, 5 and {'modulus': 7}"),
        ("data.rows: 7\nseed: 1\ndata.rows: 11", "'data.rows' occurs twice in one mapping, in lines 1 and 3"),
        ("data:\n  modulus: 7\ndata:\n  formula: x * y", "'data' occurs twice in one mapping, in lines 1 and 3"),
        ("data: [", "it cannot be read as YAML"),
        ("7: x", "has 7 where the name of an option is expected"),
    ],
)  # fmt: skip
def test_what_one_would_lose_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        read(tmp_path, text)
    assert words in str(refused.value)
    assert f"--config {str(tmp_path / 'c.yaml')!r}" in str(refused.value)
    assert "\n" not in str(refused.value)
