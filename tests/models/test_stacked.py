"""Stacked layers are torch's, run by run."""

import pytest
import torch
from torch.nn import functional

from grok_lightning.models.stacked import Draw, Dropout, Embedding, LayerNorm, Linear
from grok_lightning.models.transformer import ACTIVATIONS, Attention, Layout


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def filled(module):
    for position, parameter in enumerate(module.double().parameters()):
        parameter.data = numbers(*parameter.shape, seed=100 + position)
    return module


def assert_same(one, other) -> None:
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def draw(step, first_row=0):
    return Draw(torch.tensor(step), first_row)


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias) -> None:
    layer, x = filled(Linear(3, 5, 7, bias, std=1.0)), numbers(3, 4, 2, 5)
    found = layer(x)
    for run in range(3):
        theirs = torch.nn.Linear(5, 7, bias).double()
        theirs.weight.data = layer.weight[run].detach().T
        if bias:
            theirs.bias.data = layer.bias[run, 0].detach()
        assert_same(found[run], theirs(x[run]))


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(bias) -> None:
    layer, x = filled(LayerNorm(3, 5, bias)), numbers(3, 4, 2, 5)
    found = layer(x)
    for run in range(3):
        theirs = torch.nn.LayerNorm(5, bias=bias).double()
        theirs.weight.data = layer.gain[run, 0].detach()
        if bias:
            theirs.bias.data = layer.bias[run, 0].detach()
        assert_same(found[run], theirs(x[run]))


def test_embedding_and_its_gradient() -> None:
    layer = filled(Embedding(3, 6, 5, std=1.0))
    tokens = torch.randint(5, (3, 8, 4), generator=torch.Generator().manual_seed(0))  # token 5 never occurs
    found, gradient = layer(tokens), numbers(3, 8, 4, 5)
    found.backward(gradient)
    for run in range(3):
        theirs = torch.nn.Embedding(6, 5, _weight=layer.weight[run].detach().clone())
        expected = theirs(tokens[run])
        expected.backward(gradient[run])
        assert torch.equal(found[run], expected)
        assert_same(layer.weight.grad[run], theirs.weight.grad)
    assert not layer.weight.grad[:, 5].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_relu_and_its_gradient_at_and_around_zero(dtype) -> None:
    x = torch.tensor([-2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0, torch.inf, -torch.inf], dtype=dtype)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    gradient = torch.arange(1.0, 9.0, dtype=dtype)
    ACTIVATIONS["relu"](ours).backward(gradient)
    functional.relu(theirs).backward(gradient)
    assert torch.equal(ACTIVATIONS["relu"](x), functional.relu(x))
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("queries", [1, 2, 5])
@pytest.mark.parametrize("heads", [1, 2, 8])
def test_attention_is_torchs_on_every_head(heads, queries) -> None:
    layer, x = filled(Attention(3, 5, 8, heads, bias=True, std=1.0)), numbers(3, 4, 5, 8)
    patterns = []
    layer.pattern.register_forward_hook(lambda module, inputs, output: patterns.append(output))
    found = layer(x.flatten(1, 2), Layout(4, 5, None), queries).unflatten(1, (4, queries))
    query, key, value = (
        part(x).unflatten(-1, (heads, -1)).transpose(2, 3) for part in (layer.query, layer.key, layer.value)
    )
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert_same(found, layer.out(mixed.transpose(2, 3).flatten(-2))[:, :, 5 - queries :])
    (pattern,) = patterns
    assert pattern.shape == (3, 4, heads, queries, 5)
    assert_same(pattern.sum(-1), torch.ones(3, 4, heads, queries, dtype=torch.float64))
    assert_same(pattern @ value, mixed[:, :, :, 5 - queries :])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_rate_and_keeps_the_mean(rate) -> None:
    layer = Dropout(4, rate)
    layer.reset([0, 1, 2, 3], "layers.0.dropout")
    dropped = layer(torch.ones(4, 64, 4, 128), draw(7))
    deviation = (rate * (1 - rate) / dropped[0].numel()) ** 0.5
    assert ((dropped == 0).double().mean((1, 2, 3)) - rate).abs().max() < 5 * deviation
    assert ((dropped == 0).double().mean((0, 1)) - rate).abs().max() < 6 * (rate * (1 - rate) / 256) ** 0.5
    torch.testing.assert_close(dropped[dropped != 0].unique(), torch.tensor([1 / (1 - rate)]))


def test_dropout_is_a_function_of_seed_step_and_layer() -> None:
    x = torch.ones(3, 16, 2, 32)
    layer, other = Dropout(3, 0.5), Dropout(3, 0.5)
    layer.reset([5, 6, 5], "layers.0.dropout")
    other.reset([5, 6, 5], "layers.1.dropout")
    kept = layer(x, draw(3)) != 0
    assert torch.equal(kept, layer(x, draw(3)) != 0)
    assert torch.equal(kept[0], kept[2])
    for different in (layer(x, draw(4)) != 0, other(x, draw(3)) != 0, kept[[1, 0, 1]]):
        assert abs((kept == different).double().mean() - 0.5) < 0.05


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_without_a_draw_changes_nothing(rate) -> None:
    layer = Dropout(3, rate)
    layer.reset([0, 1, 2], "dropout")
    x = numbers(3, 4, 5)
    assert torch.equal(layer(x, None), x)
    assert torch.equal(layer(x, draw(3)), x) == (rate == 0)


def test_a_share_of_a_batch_is_dropped_as_in_the_whole() -> None:
    layer = Dropout(2, 0.5)
    layer.reset([0, 1], "dropout")
    x = numbers(2, 11, 3, 8)
    shares = [layer(x[:, start:stop], draw(9, start)) for start, stop in ((0, 4), (4, 5), (5, 11))]
    assert torch.equal(torch.cat(shares, dim=1), layer(x, draw(9)))
