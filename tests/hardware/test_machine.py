"""Measurements of the machine: what they disturb, and what is made of their results."""

import pytest
import torch

from grok_lightning.hardware import products as machine
from grok_lightning.hardware.products import (
    FULL,
    HALF,
    Product,
    fastest_threads,
    product_seconds,
    speed_of_half,
    threads,
)


@pytest.mark.parametrize("precision", [FULL, HALF])
def test_measuring_disturbs_nothing(precision: str) -> None:
    state, count = torch.random.get_rng_state(), torch.get_num_threads()
    assert 0 < product_seconds(Product(8, 4, 16), precision, runs=2, count=2) < float("inf")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == count


def test_a_device_that_is_not_there_takes_for_ever() -> None:
    assert product_seconds(Product(8, 4, 16), FULL, "xpu") == float("inf")


def test_threads_are_restored_after_an_error() -> None:
    count = torch.get_num_threads()
    with pytest.raises(ValueError, match="within"), threads(count + 1):
        raise ValueError("within")
    assert torch.get_num_threads() == count


@pytest.mark.parametrize(("seconds", "speed"), [({FULL: 3.0, HALF: 1.5}, 2), ({FULL: 1.0, HALF: float("inf")}, 0)])
def test_speed_is_the_ratio_of_times(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], speed: float) -> None:
    monkeypatch.setattr(machine, "product_seconds", lambda product, precision, *_, **__: seconds[precision])
    assert speed_of_half(Product(8, 4, 16)) == speed


def test_nothing_is_fast_on_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "product_seconds", lambda *_, **__: float("inf"))
    assert speed_of_half(Product(8, 4, 16)) == 0


def test_a_large_product_is_measured_with_fewer_rows() -> None:
    assert Product(2**20, 128, 512).measurable() == Product(512, 128, 512)
    assert Product(100, 128, 512).measurable() == Product(100, 128, 512)
    assert Product(7, 2**20, 2**20).measurable().rows == 1


@pytest.mark.parametrize(
    ("seconds", "most", "chosen", "speed"),
    [
        ({1: 1.0, 2: 10.0}, 8, 1, 1),  # a busy machine
        ({1: 1.0, 2: 0.9, 4: 0.1}, 8, 1, 1),  # hardly faster
        ({1: 1.0, 2: 0.5, 4: 0.45}, 8, 2, 2),
        ({1: 1.2, 2: 0.6, 4: 0.3, 6: 0.2}, 6, 6, 6),
        ({1: 1.0}, 1, 1, 1),
    ],
)
def test_more_threads_must_be_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], most: int, chosen: int, speed: float
) -> None:
    monkeypatch.setattr(machine, "product_seconds", lambda *_, count=1, **__: seconds[count])
    assert fastest_threads(Product(8, 4, 16), FULL, most) == (chosen, pytest.approx(speed))
