"""Stacked layers are torch's, run by run."""

import pytest
import torch

from grok_lightning.batch import Draw
from grok_lightning.models.stacked import Dropout, Embedding, LayerNorm, Linear, RMSNorm, gather


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


def test_rms_norm_and_its_gradient() -> None:
    layer, x, gradient = filled(RMSNorm(3, 5)), numbers(3, 4, 2, 5).requires_grad_(), numbers(3, 4, 2, 5, seed=1)
    found = layer(x)
    found.backward(gradient)
    for run in range(3):
        theirs, own = torch.nn.RMSNorm(5, eps=1e-5).double(), x[run].detach().clone().requires_grad_()
        theirs.weight.data = layer.gain[run, 0].detach()
        expected = theirs(own)
        expected.backward(gradient[run])
        assert_same(found[run], expected)
        assert_same(x.grad[run], own.grad)
        assert_same(layer.gain.grad[run, 0], theirs.weight.grad)
    assert not RMSNorm(1, 5)(torch.zeros(1, 1, 5)).any()


@pytest.mark.parametrize("inputs", [4, 100])
def test_a_uniform_linear_begins_as_torchs(inputs) -> None:
    layer = Linear(2, inputs, 3000, True, std=(3 * inputs) ** -0.5, uniformly=True)
    layer.reset([0, 1], "layer")
    for numbers_R in (layer.weight, layer.bias):
        for run in range(2):
            assert numbers_R[run].abs().max().item() <= inputs**-0.5 * (1 + 1e-6)
            quarters = torch.histc(numbers_R[run] * inputs**0.5, 4, -1, 1) / numbers_R[run].numel()
            assert (quarters - 0.25).abs().max() < 5 * (0.1875 / numbers_R[run].numel()) ** 0.5
        assert not torch.equal(numbers_R[0], numbers_R[1])
    assert not torch.equal(layer.weight[:, :1], layer.bias)
    alone = Linear(1, inputs, 3000, True, std=(3 * inputs) ** -0.5, uniformly=True)
    alone.reset([1], "layer")
    assert torch.equal(alone.weight[0], layer.weight[1])
    assert torch.equal(alone.bias[0], layer.bias[1])


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


def test_the_gradient_of_a_gather_is_the_sum_of_its_rows() -> None:
    table, gradient = numbers(3, 5, 4).requires_grad_(), numbers(3, 40, 4, seed=1)
    index = torch.randint(4, (3, 40), generator=torch.Generator().manual_seed(2))  # nothing takes the last row
    gather(table, index).backward(gradient)
    for run in range(3):
        for row in range(5):
            assert_same(table.grad[run, row], gradient[run, index[run] == row].sum(0))


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
