"""Measures of a network whose head has outputs for answers alone, and of one whose embedding is a product."""

import pytest
import torch
from hand_built import measured
from test_every_measure import MEASURES, build, data

from grok_lightning.models import ResidualMLP, Transformer

SEEDS = (3, 5)
OF_NUMBERS = ("Fourier", "Progress", "Participation", "Irreps", "IrrepLosses")
OF_ALL_WEIGHTS = "progress/squared_weights"  # the other classes dropped


def pair(**options):
    """Networks with 12 and with 14 outputs, alike in the first 12."""
    of = data(*SEEDS)
    whole = Transformer(of.vocabulary_size, of.length, SEEDS, width=8, heads=2, layers=1, head_bias=True, **options)
    narrow = Transformer(of.vocabulary_size, of.length, SEEDS, width=8, heads=2, layers=1, head_bias=True, **options)
    narrow.limit_outputs(of.classes)
    for name, weight in narrow.named_parameters():
        weight.data.copy_(whole.get_parameter(name)[..., : weight.shape[-1]])
    return whole.double(), narrow.double(), of


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_takes_a_network_without_classes_for_operator_and_equals_sign(name: str) -> None:
    whole, narrow, of = pair()
    assert whole.unembedding.shape[2] == 14
    assert narrow.unembedding.shape[2] == 12
    wanted, found = measured(build(MEASURES[name]), whole, of), measured(build(MEASURES[name]), narrow, of)
    assert found.keys() == wanted.keys()
    for key, value in found.items():
        assert value.isfinite().tolist() == wanted[key].isfinite().tolist(), key
        if name in OF_NUMBERS and key != OF_ALL_WEIGHTS:
            torch.testing.assert_close(value, wanted[key], msg=key)


@pytest.mark.parametrize("name", ["Fourier", "Progress", "Participation", "Irreps", "Rank"])
def test_measures_see_the_product_of_two_factors(name: str) -> None:
    of = data(*SEEDS)
    networks = [ResidualMLP(of.vocabulary_size, of.length, SEEDS, width=8, layers=1).double() for _ in range(2)]
    factored = ResidualMLP(of.vocabulary_size, of.length, SEEDS, width=8, layers=1, embedding_rank=3).double()
    networks[0].embeddings["tokens"].weight.data.copy_(factored.embedding)
    for own, weight in factored.named_parameters():
        if "tokens" not in own:
            networks[0].get_parameter(own).data.copy_(weight)
    wanted, found = (measured(build(MEASURES[name]), network, of) for network in (networks[0], factored))
    for key in found.keys() - {OF_ALL_WEIGHTS}:
        torch.testing.assert_close(found[key], wanted[key], msg=key)
    other = measured(build(MEASURES[name]), networks[1], of)
    assert any(not torch.allclose(found[key], other[key], equal_nan=True) for key in found)
