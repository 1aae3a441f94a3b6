"""Compiled as one graph, and with other weights put in its own weights' place."""

from typing import get_args

import pytest
import torch
from small_transformers import LENGTH, MODERN, VOCABULARY, assert_same, build, tokens

from grok_lightning.batch import PADDING, Beginnings, Draw
from grok_lightning.models.transformer import Place

EVERYWHERE = list(get_args(Place))

# dynamo's and inductor's own imports and traces use what torch itself deprecates
FROM_TORCH = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def other_weights(model):
    """What weight noise puts in the weights' place, as far as the model can tell: some function of them."""
    return {name: weight + 0.1 * weight.cos() for name, weight in model.named_parameters()}


def with_other_weights(model, *inputs):
    return torch.func.functional_call(model, other_weights(model), inputs)


def with_gradients(model, logits):
    return [logits, *torch.autograd.grad(logits.sin().sum(), list(model.parameters()))]


def padded_tokens():
    sequence = tokens()
    sequence[:, :3, :2] = PADDING
    sequence[:, 2:4, 4:] = PADDING
    return sequence


OPTIONS = [
    {"dropout": 0.3, "dropout_on": EVERYWHERE},
    {"tied": True, "bias": False},
    MODERN,
    {**MODERN, "padded": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_weights_may_be_replaced_for_one_forward(options) -> None:
    model, draw = build(**options), Draw(torch.tensor(2))
    before = [weight.detach().clone() for weight in model.parameters()]
    logits, *gradients = with_gradients(model, with_other_weights(model, tokens(), 2, draw))
    assert all(torch.equal(weight, own) for weight, own in zip(model.parameters(), before, strict=True))
    with torch.no_grad():
        for weight, other in zip(model.parameters(), other_weights(model).values(), strict=True):
            weight.copy_(other)
    moved_logits, *moved_gradients = with_gradients(model, model(tokens(), 2, draw))
    assert torch.equal(logits, moved_logits)
    for gradient, moved, own in zip(gradients, moved_gradients, before, strict=True):
        assert gradient.any()
        assert_same(gradient, moved * (1 - 0.1 * own.sin()))


@FROM_TORCH
@pytest.mark.parametrize(
    "options",
    [
        {**MODERN, "padded": True, "dropout": 0.3, "dropout_on": EVERYWHERE},
        pytest.param({"activation": "square"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_padding_sharing_and_other_weights_are_one_graph(options) -> None:
    torch._dynamo.reset()
    model, draw = build(layers=1, **options), Draw(torch.tensor(2))
    if "padded" in options:
        inputs = (padded_tokens(), 2, draw)
    else:
        first = torch.arange(2 * VOCABULARY).view(-1, 2)[:4] % VOCABULARY
        beginnings = Beginnings(first, torch.tensor([0, 1, 2, 3, 1, 0]).expand(3, -1))
        inputs = (torch.cat([first[beginnings.index_RB], tokens()[:, :, 2:]], dim=2), LENGTH, draw, beginnings)
    # aot_eager traces the graph and its gradients without the compiler, which would take half a minute more
    compiled = torch.compile(with_other_weights, fullgraph=True, dynamic=False, backend="aot_eager")
    found, expected = (with_gradients(model, function(model, *inputs)) for function in (compiled, with_other_weights))
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs)
    torch._dynamo.reset()


@FROM_TORCH
@pytest.mark.slow
def test_compiled_is_eager() -> None:
    torch._dynamo.reset()
    model = build(**MODERN, padded=True, layers=1)
    compiled = torch.compile(model, fullgraph=True, dynamic=False)
    found, expected = (with_gradients(model, function(padded_tokens(), 2)) for function in (compiled, model))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    torch._dynamo.reset()
