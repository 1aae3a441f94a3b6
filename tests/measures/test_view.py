"""A view's logits and answers are those that training and evaluation see."""

import pytest
import torch
from hand_built import addition

from grok_lightning.data import PermutationDataModule
from grok_lightning.data.batches import Chunk
from grok_lightning.measures import View
from grok_lightning.models import Transformer
from grok_lightning.training import evaluation

DATA = {
    "elements": lambda: addition("x / y", 11, train_fraction=[0.3, 0.5], answer_noise=0.4),
    "characters": lambda: addition("x + y", 11, tokenizer="characters", answer_noise=0.4, val_fraction=0.3),
    "permutations": lambda: PermutationDataModule(degree=3, seeds=[0, 1]),
}
every_data = pytest.mark.parametrize("data", [make() for make in DATA.values()], ids=DATA.keys())


def network(data) -> Transformer:
    return Transformer(data.vocabulary_size, data.length, data.seeds, data.padded, width=8, heads=2, dropout=0.5)


@every_data
@pytest.mark.parametrize("rows_at_once", [evaluation.ROWS_AT_ONCE, 7])
def test_rows_have_the_logits_and_answers_of_the_evaluation(data, rows_at_once, monkeypatch) -> None:
    monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", rows_at_once)
    model = network(data).double()
    view = View(model, data)
    for split in ("train", "val"):
        for run, rows in enumerate(view.rows(split)):
            batch = data.chunk(Chunk(split, 0, len(rows)), torch.device("cpu"))
            logits = model(batch.tokens_RBT, data.answer_length).detach()
            assert torch.equal(rows, batch.rows_RB[run])
            torch.testing.assert_close(view.logits_RNAV[run, rows], logits[run])
            assert torch.equal(view.targets_RNA[run, rows], batch.targets_RBA[run])


def test_the_logits_are_of_full_precision_and_without_a_graph() -> None:
    data = DATA["elements"]()
    model = network(data)
    plain = View(model, data).logits_RNAV
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = View(model, data).logits_RNAV
    assert plain.dtype == torch.float32
    assert torch.equal(plain, under_autocast)
    assert not plain.requires_grad


def test_what_was_computed_is_not_computed_again() -> None:
    data = DATA["elements"]()
    view = View(network(data), data)
    assert view.logits_RNAV is view.logits_RNAV
