"""Float64 where a device has it, and the imitation of one that has not."""

import pytest
import torch
from fake_mps import MPS, fake_mps, to_mps
from torch import nn

from grok_lightning.hardware.doubles import double_device, to_double


def test_a_device_with_float64_keeps_its_tensors() -> None:
    numbers = torch.rand(3, dtype=torch.float32)
    assert to_double(numbers).dtype == torch.float64
    assert to_double(numbers).equal(numbers.double())
    assert to_double(numbers.to("meta")).device.type == "meta"
    assert double_device(torch.device("cuda:1")) == torch.device("cuda:1")


def test_without_float64_the_cpu_computes() -> None:
    assert double_device(MPS) == torch.device("cpu")
    numbers = torch.rand(3, 2)
    with fake_mps():
        found = to_double(numbers.to(MPS))
    assert (found.device.type, found.dtype) == ("cpu", torch.float64)
    assert found.equal(numbers.double())


def test_gradients_come_back_to_the_device() -> None:
    with fake_mps():
        weight = torch.tensor([1.0, 2.0], device=MPS, requires_grad=True)
        to_double(weight).square().sum().backward()
        assert weight.grad is not None
        assert (weight.grad.device, weight.grad.dtype) == (MPS, torch.float32)
        assert weight.grad.tolist() == [2, 4]


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.double(),
        lambda x: x.to(torch.float64),
        lambda x: x.mean(0, dtype=torch.float64),
        lambda x: torch.zeros(3, dtype=torch.float64, device=x.device),
        lambda x: torch.arange(3.0, dtype=torch.float64).to(x.device),
        lambda x: x.to("cpu").double().to(x.device),
    ],
)
def test_the_imitation_refuses_float64(ask) -> None:
    with fake_mps():
        x = torch.ones(3, 3, device=MPS)
        with pytest.raises(TypeError, match="MPS framework doesn't support float64"):
            ask(x)


def test_the_imitation_refuses_tensors_of_two_devices() -> None:
    with fake_mps():
        x = torch.ones(3, device=MPS)
        with pytest.raises(RuntimeError, match="same device"):
            x + torch.ones(3)
        assert (x + torch.tensor(2.0)).tolist() == [3, 3, 3]
        assert x[torch.tensor([0, 1])].device == MPS


@pytest.mark.parametrize(
    "index",
    [0, slice(1, 3), (None, 1), (..., 2), ([0, 2],), (slice(None), [1, 0]), (1, [0, 2, 0]), torch.eye(3, 4) > 0],
)
def test_the_imitation_indexes_as_torch_does(index) -> None:
    numbers = torch.rand(3, 4)
    changed = numbers.clone()
    changed[index] = 7
    with fake_mps():
        x = numbers.to(MPS)
        assert x[index].cpu().equal(numbers[index])
        x[index] = 7
        assert x.cpu().equal(changed)


def test_the_imitation_trains_as_the_cpu_does() -> None:
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)), torch.rand(5, 4)
    model(inputs).square().sum().backward()
    expected = [weight.grad for weight in model.parameters()]
    model.zero_grad()
    with fake_mps():
        to_mps(model)(inputs.to(MPS)).square().sum().backward()
        for weight, gradient in zip(model.parameters(), expected, strict=True):
            assert weight.device == MPS
            torch.testing.assert_close(weight.grad.cpu(), gradient, rtol=0, atol=0)
