"""The file of predictions says what the model answered to each row, and how sure it was."""

import csv
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from scoring import score

from grok_lightning.callbacks.pictures import prediction_table
from grok_lightning.callbacks.predictions import Predictions
from grok_lightning.data import ModularArithmeticDataModule, TextDataModule
from grok_lightning.data.batches import Chunk
from grok_lightning.models import Transformer
from grok_lightning.module import GrokModule
from grok_lightning.run import Run

CPU = torch.device("cpu")


def written(data: Any, path: Path, logits: torch.Tensor, chunk: Chunk) -> list[dict[str, str]]:
    """The file's rows after one batch with these logits."""
    probability, prediction = logits.softmax(-1).max(-1)
    return write(data, path, chunk, (prediction, probability))


def write(data: Any, path: Path, chunk: Chunk, outputs: tuple[torch.Tensor, torch.Tensor]) -> list[dict[str, str]]:
    callback, trainer = Predictions(path, chunk.split, data), SimpleNamespace()
    callback.on_predict_batch_end(trainer, None, outputs, data.chunk(chunk, CPU), 0)  # type: ignore[arg-type]
    callback.on_predict_end(trainer, None)  # type: ignore[arg-type]
    with path.open() as file:
        return list(csv.DictReader(file))


def sure(data: Any, chunk: Chunk, logit: float) -> torch.Tensor:
    """Logits that are right everywhere, and say 'end' where nothing is asked."""
    targets = data.chunk(chunk, CPU).targets_RBA
    asked = targets.masked_fill(targets < 0, data.end if data.end is not None else 0)
    return logit * torch.nn.functional.one_hot(asked, data.vocabulary_size).double()


@pytest.mark.parametrize("tokenizer", ["elements", "characters"])
def test_right_answers_of_a_table(tokenizer: Any, tmp_path: Path) -> None:
    data = ModularArithmeticDataModule("x * y", 13, tokenizer=tokenizer)
    chunk = Chunk("val", 0, 60)
    rows = written(data, tmp_path / "p.csv", sure(data, chunk, 3.0), chunk)
    assert list(rows[0]) == ["x", "y", "answer", "prediction", "probability", "correct", "split"]
    assert len({(row["x"], row["y"]) for row in rows}) == 60
    one = torch.e**3 / (torch.e**3 + data.vocabulary_size - 1)
    for row in rows:
        assert int(row["answer"]) == int(row["x"]) * int(row["y"]) % 13
        assert (row["prediction"], row["correct"], row["split"]) == (row["answer"], "True", "val")
        tokens = 1 if tokenizer == "elements" else len(row["answer"]) + 1  # padding is left out
        assert float(row["probability"]) == pytest.approx(one**tokens, abs=1e-6)


def test_what_is_correct_agrees_with_the_accuracy(tmp_path: Path) -> None:
    data = ModularArithmeticDataModule("x + y", 13, tokenizer="characters")
    chunk = Chunk("train", 0, 84)
    logits = torch.randn(1, 84, 3, data.vocabulary_size, generator=torch.Generator().manual_seed(0))
    logits = logits + sure(data, chunk, 2.5)
    rows = written(data, tmp_path / "p.csv", logits, chunk)
    right = int(score(logits, data.chunk(chunk, CPU).targets_RBA).correct)
    assert 10 < right < 74
    assert sum(row["correct"] == "True" for row in rows) == right
    assert all((row["prediction"] == row["answer"]) == (row["correct"] == "True") for row in rows)
    assert len({len(row["prediction"]) for row in rows}) > 2


def test_strings(tmp_path: Path) -> None:
    data = TextDataModule(["hello, you", "hi"])
    chunk = Chunk("train", 0, 2)
    logits = sure(data, chunk, 4.0)
    place = data.splits[0].train.tolist().index(0)
    logits[0, place, 1, data.vocabulary.index("u")] = 9
    rows = written(data, tmp_path / "p.csv", logits, chunk)
    assert list(rows[0]) == ["text", "prediction", "probability", "correct", "split"]
    assert {(row["text"], row["prediction"], row["correct"]) for row in rows} == {
        ("hello, you", "hullo, you", "False"),
        ("hi", "hi", "True"),
    }


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_several_tokens_are_those_that_the_network_itself_writes(tmp_path: Path, noise: float) -> None:
    """Wherever a wrong answer parts from the right one, and whatever the row was trained on."""
    data = ModularArithmeticDataModule("x + y", 13, tokenizer="characters", answer_noise=noise, seeds=[8])
    sizes = data.vocabulary_size, data.length, data.answer_length, data.seeds, data.padded
    network = partial(Transformer, width=16, heads=2, layers=1, embedding_std=3)
    module = GrokModule(*sizes, network=network).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(4)  # so that answers differ, and end at several places
    run = Run(module, data, 0, {})
    chunk = Chunk("train", 0, 84)
    with torch.no_grad():
        rows = write(data, tmp_path / "p.csv", chunk, module.predict_step(data.chunk(chunk, CPU), 0))
    own = run.predict(x=[int(row["x"]) for row in rows], y=[int(row["y"]) for row in rows])
    assert [row["prediction"] for row in rows] == own
    assert all(row["correct"] == str(row["prediction"] == row["answer"]) for row in rows)
    assert len({len(text) for text in own}) > 1
    table = prediction_table(module, data)
    shown = table.set_index([table["x"].astype(str), table["y"].astype(str)])["prediction"]
    for row in rows:
        known = row["prediction"] in data.operation.algebra.names
        assert shown[row["x"], row["y"]] == row["prediction"] if known else pd.isna(shown[row["x"], row["y"]])


def test_nothing_is_shown_after_the_end_mark(tmp_path: Path) -> None:
    data = ModularArithmeticDataModule("x + y", 13, tokenizer="characters")
    chunk = Chunk("train", 0, 84)
    logits = sure(data, chunk, 3.0)
    targets = data.chunk(chunk, CPU).targets_RBA
    short = int((targets[0, :, 2] < 0).nonzero()[0])
    logits[0, short, 2, data.vocabulary.index("8")] = 9
    row = written(data, tmp_path / "p.csv", logits, chunk)[short]
    assert (row["prediction"], row["correct"]) == (row["answer"], "True")
    logits[0, short, 1, data.vocabulary.index("8")] = 9
    row = written(data, tmp_path / "p.csv", logits, chunk)[short]
    assert (row["prediction"], row["correct"]) == (row["answer"] + "88", "False")
