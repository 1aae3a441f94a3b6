"""Neither padding, nor computing shared beginnings once, nor compiling changes what an LSTM or GRU computes."""

import pytest
import torch
from small_recurrent import LENGTH, SEEDS, assert_same, build, draw, every_kind, every_option, tokens

from grok_lightning.batch import PADDING, Beginnings
from grok_lightning.data import ModularArithmeticDataModule


def padded_tokens(length):
    """Rows of 1 to 5 tokens with all ways of padding them to a length, and where each row's tokens stand."""
    rows, spans = [], []
    for row in tokens()[0]:
        for own in range(1, LENGTH + 1):
            for before in range(length - own + 1):
                whole = torch.full((length,), PADDING)
                whole[before : before + own] = row[:own]
                rows.append(whole)
                spans.append((before, before + own))
    return torch.stack(rows).expand(len(SEEDS), -1, -1), spans


@every_kind
@every_option
def test_padding_changes_no_logits_and_no_gradients(kind, options) -> None:
    model = build(kind, padded=True, **options)
    tokens_RBT, spans = padded_tokens(LENGTH + 2)
    found = model(tokens_RBT, LENGTH + 2)
    real = torch.stack([found[:, row, start:stop].sin().sum() for row, (start, stop) in enumerate(spans)]).sum()
    plain, alone = build(kind, **options), []
    for row, (start, stop) in enumerate(spans):
        alone.append(plain(tokens_RBT[:, row : row + 1, start:stop], stop - start))
        assert_same(found[:, row, start:stop], alone[-1][:, 0])
    real.backward()
    torch.stack([logits.sin().sum() for logits in alone]).sum().backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, plain.get_parameter(name).grad, rtol=1e-9, atol=1e-9)


@every_kind
def test_padding_leaves_the_state_as_it_was(kind) -> None:
    model = build(kind, padded=True)
    tokens_RBT = tokens()
    tokens_RBT[:, :, [0, 3]] = PADDING
    for number in range(2):
        hidden = model.activations(tokens_RBT)[f"recurrent.{number}.hidden"]
        assert not hidden[:, :, 0].any()
        assert torch.equal(hidden[:, :, 3], hidden[:, :, 2])
        assert (hidden[:, :, 2] != hidden[:, :, 1]).any(-1).all()


def batch_of(formula="x + y", **options):
    data = ModularArithmeticDataModule(formula, 7, batch_size=64, seeds=SEEDS, **options)
    batch = data.training_batch(3, torch.device("cpu"))
    assert batch.beginnings is not None
    return batch.tokens_RBT, batch.beginnings


def computed_rows(model, *inputs):
    """The logits, and how many rows and positions pass through the first layer, call by call."""
    rows = []
    handle = model.recurrent[0].hidden.register_forward_hook(lambda *call: rows.append(tuple(call[2].shape[1:3])))
    logits = model(*inputs)
    handle.remove()
    return logits, rows


@every_kind
@pytest.mark.parametrize("formula", ["x + y", "x + y + z", "x"])
@pytest.mark.parametrize("operator_token", [True, False])
def test_sharing_beginnings_changes_neither_logits_nor_gradients(kind, formula, operator_token) -> None:
    tokens_RBT, beginnings = batch_of(formula, operator_token=operator_token)
    model, found = build(kind), []
    kinds, shared = beginnings.tokens_PS.shape
    for given, expected in (None, [(64, tokens_RBT.shape[2])]), (beginnings, [(kinds, shared), (64, -1)]):
        logits, rows = computed_rows(model, tokens_RBT, 1, None, given)
        assert rows[0] == expected[0]
        assert len(rows) == len(expected)
        found.append([logits, *torch.autograd.grad(logits.sin().sum(), list(model.parameters()))])
    assert rows[1] == (64, tokens_RBT.shape[2] - shared)
    for alone, shared_too in zip(*found, strict=True):
        torch.testing.assert_close(alone, shared_too, rtol=1e-10, atol=1e-10)


@every_kind
@pytest.mark.parametrize("why", ["dropout", "answers reach into them", "few rows"])
def test_beginnings_are_not_shared_where_that_is_wrong_or_costs_more(kind, why) -> None:
    tokens_RBT, beginnings = batch_of()
    model, answer_length, at = build(kind), 1, None
    if why == "dropout":
        model, at = build(kind, dropout=0.5), draw(1)
    elif why == "few rows":
        tokens_RBT, beginnings = tokens_RBT[:, :7], Beginnings(beginnings.tokens_PS, beginnings.index_RB[:, :7])
    else:
        answer_length = tokens_RBT.shape[2]
    logits, rows = computed_rows(model, tokens_RBT, answer_length, at, beginnings)
    assert rows == [tuple(tokens_RBT.shape[1:])]
    assert torch.equal(logits, model(tokens_RBT, answer_length, at))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # dynamo's own trace uses what torch itself deprecates
@pytest.mark.slow
@every_kind
def test_it_compiles_whole(kind) -> None:
    model = build(kind, padded=True, dropout=0.3)
    tokens_RBT, beginnings = batch_of()
    torch._dynamo.reset()
    for at in (None, draw(4)):
        found = []
        for forward in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
            logits = forward(tokens_RBT, 1, at, beginnings)
            found.append([logits, *torch.autograd.grad(logits.sin().sum(), list(model.parameters()))])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
