"""One pass over a table has the losses and right answers of its rows, whichever way it takes."""

import functools
from dataclasses import replace

import pytest
import torch
from scoring import score

from grok_lightning.data import ModularArithmeticDataModule, PermutationDataModule
from grok_lightning.data.batches import Chunk
from grok_lightning.models import Transformer
from grok_lightning.module import GrokModule
from grok_lightning.training import evaluation
from grok_lightning.training.evaluation import table_pass

CPU = torch.device("cpu")
SPLITS = ("train", "val", "test")
STACK = {"modulus": 7, "seeds": [0, 1], "train_fraction": [0.3, 0.5], "val_fraction": [0.2, 0.4]}
DATA = {
    "a grid": lambda: ModularArithmeticDataModule("x / y", answer_noise=0.4, **STACK),
    "own formulas": lambda: ModularArithmeticDataModule(["x / y", "x + y"], **STACK),
    "a sample": lambda: ModularArithmeticDataModule(rows=20, **STACK),
    "characters": lambda: ModularArithmeticDataModule(tokenizer="characters", **STACK | {"modulus": 12}),
    "permutations": lambda: PermutationDataModule(degree=3, seeds=[0, 1], train_fraction=0.4, val_fraction=0.3),
    "few rows": lambda: ModularArithmeticDataModule(modulus=7, seeds=[0, 1], rows=24, train_rows=4, val_fraction=0.2),
}
every_data = pytest.mark.parametrize("make", DATA.values(), ids=DATA)


def module_of(data, **options) -> GrokModule:
    network = functools.partial(Transformer, width=8, heads=2)
    sizes = data.vocabulary_size, data.length, data.answer_length
    return GrokModule(*sizes, data.seeds, data.padded, network=network, **options).double().eval()


@torch.no_grad()
def passed(module, data, evaluated=SPLITS, keep_logits=False, **where):
    table = replace(data.table(CPU), evaluated=evaluated, **where)
    options = (module.loss, module.loss_precision == 64, keep_logits)
    return table, table_pass(module.network, table, module.targets, *options)


@torch.no_grad()
def expected(module, data, split):
    """The sums of a split, its rows passed by the module's own way to a loss."""
    batch = data.chunk(Chunk(split, 0, max(data.counts(split))), CPU)
    targets = module.targets(batch.tokens_RBT, batch.targets_RBA)
    logits = module.network(batch.tokens_RBT, targets.shape[-1])
    return score(logits, targets, module.loss, module.answer_length)


@pytest.mark.parametrize("rows_at_once", [evaluation.ROWS_AT_ONCE, 9])
@pytest.mark.parametrize("options", [{}, {"loss_on": "equation", "loss": "mse"}, {"mask_first_n": 1}], ids=str)
@every_data
def test_splits_have_the_sums_of_their_rows(make, options, rows_at_once, monkeypatch) -> None:
    monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", rows_at_once)
    data = make()
    module = module_of(data, **options)
    for evaluated in (SPLITS, ("train", "val"), ("test",)):
        table, found = passed(module, data, evaluated)
        for split in evaluated:
            if not max(data.counts(split)):
                continue
            for sums, right in zip(found.score(table.rows_RN[split]), expected(module, data, split), strict=True):
                torch.testing.assert_close(sums, right)


def test_a_grid_is_taken_for_answers_and_rows_for_whole_equations(monkeypatch) -> None:
    data = DATA["a grid"]()
    taken = []
    monkeypatch.setattr(Transformer, "grid_logits", lambda *_: taken.append("grid") or pytest.fail("asked for"))
    passed(module_of(data, loss_on="equation"), data)
    passed(module_of(DATA["a sample"]()), DATA["a sample"]())
    assert not taken
    with pytest.raises(pytest.fail.Exception):
        passed(module_of(data), data)


@every_data
def test_shares_of_processes_add_up(make) -> None:
    data = make()
    module = module_of(data)
    table, whole = passed(module, data)
    shares = [passed(module, data, rank=rank, world_size=3)[1] for rank in range(3)]
    for split in SPLITS:
        rows = table.rows_RN[split]
        for sums, parts in zip(
            whole.score(rows), zip(*(share.score(rows) for share in shares), strict=True), strict=True
        ):
            torch.testing.assert_close(sum(parts), sums)


@every_data
def test_kept_logits_are_those_of_all_rows(make) -> None:
    data = make()
    module = module_of(data)
    _, found = passed(module, data, ("train",), keep_logits=True)
    with torch.no_grad():
        logits = module.network(data.table(CPU).tokens_XNT.expand(2, -1, -1), data.answer_length)
    torch.testing.assert_close(found.logits_RNAV, logits)
    assert torch.equal(found.predictions_RNA, logits.argmax(-1))
    assert found.computed_N is None or found.computed_N.all()


def test_only_the_rows_of_a_small_split_are_computed() -> None:
    data = DATA["few rows"]()
    _, found = passed(module_of(data), data, ("train",))
    assert set(found.computed_N.nonzero()[:, 0].tolist()) == set(data.table(CPU).rows_RN["train"].flatten().tolist())
    assert passed(module_of(data), data, ("train",), keep_logits=True)[1].computed_N.all()
