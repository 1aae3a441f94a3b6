"""Every measure on a device without float64, as Apple's GPUs: nothing asks for it there; the values are the same."""

import pytest
import torch
from fake_mps import fake_mps, to_mps
from hand_built import measured
from test_every_measure import MODELS, SEEDS, build, data, every_measure


@every_measure
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_a_measure_needs_no_float64_on_the_device(kind, model) -> None:
    of = data(*SEEDS)
    network = model(of.vocabulary_size, of.length, of.seeds)
    expected = measured(build(kind), network, of)
    with fake_mps():
        on_device = measured(build(kind), to_mps(network), of)
        found = {key: value.cpu() for key, value in on_device.items()}
    assert all(value.dtype == torch.float64 for value in found.values())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0, equal_nan=True)
