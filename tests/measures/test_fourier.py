"""Spectra are the discrete Fourier transform's, and those of a network of cosines are its cosines."""

import math

import numpy as np
import pytest
import torch
from hand_built import AMPLITUDES, FREQUENCIES, MODULUS, Cosines, addition, float64, measured

from grok_lightning.data import ModularArithmeticDataModule, PermutationDataModule
from grok_lightning.errors import UserError
from grok_lightning.measures import Fourier
from grok_lightning.measures.fourier import (
    fourier_basis,
    frequency_shares,
    gini,
    key_frequencies,
    neurons_to_logits,
    require_cyclic,
    require_integers,
    spectra,
    spectrum,
)
from grok_lightning.models import Transformer

every_modulus = pytest.mark.parametrize("modulus", [2, 3, 6, 7, 12, 97])


def random_matrix(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@every_modulus
def test_the_basis_is_orthonormal_and_made_of_waves(modulus) -> None:
    basis = fourier_basis(modulus)
    torch.testing.assert_close(basis @ basis.T, torch.eye(modulus, dtype=torch.float64), rtol=0, atol=1e-12)
    for row in range(1, modulus):
        wave = np.cos if row % 2 else np.sin
        expected = wave(2 * math.pi * ((row + 1) // 2) * np.arange(modulus) / modulus)
        np.testing.assert_allclose(basis[row], expected / np.linalg.norm(expected), atol=1e-11)
    assert (basis[0] > 0).all()


@every_modulus
def test_the_spectrum_is_that_of_numpys_transform(modulus) -> None:
    matrix = random_matrix(2, modulus, 5)
    found = spectrum(matrix)
    transform = np.fft.rfft(matrix.numpy(), axis=1)
    for frequency in range(modulus // 2 + 1):
        alone = frequency == 0 or 2 * frequency == modulus
        factor = math.sqrt((1 if alone else 2) / modulus)
        cosine = factor * np.linalg.norm(transform[:, frequency].real, axis=-1)
        np.testing.assert_allclose(found[:, max(0, 2 * frequency - 1)], cosine, rtol=1e-12)
        if not alone:
            sine = factor * np.linalg.norm(transform[:, frequency].imag, axis=-1)
            np.testing.assert_allclose(found[:, 2 * frequency], sine, rtol=1e-12)


@every_modulus
def test_shares_add_up_and_do_not_see_a_shift_of_the_numbers_or_a_constant(modulus) -> None:
    matrix = random_matrix(3, modulus, 4)
    shares = frequency_shares(spectrum(matrix))
    assert shares.shape == (3, modulus // 2)
    torch.testing.assert_close(shares.sum(-1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(frequency_shares(spectrum(matrix.roll(1, 1))), shares)
    torch.testing.assert_close(frequency_shares(spectrum(matrix + 5)), shares)


def test_gini_is_half_the_relative_mean_difference() -> None:
    values = random_matrix(4, 9).abs()
    differences = (values[:, :, None] - values[:, None]).abs().mean((1, 2))
    torch.testing.assert_close(gini(values), differences / (2 * values.mean(1)))
    torch.testing.assert_close(gini(7 * values), gini(values))
    extremes = torch.stack([torch.ones(9), torch.eye(9)[4]]).double()
    torch.testing.assert_close(gini(extremes), float64(0, 8 / 9))


def test_key_frequencies_are_the_largest_shares() -> None:
    spectrum_RP = random_matrix(2, 11).abs()
    shares = frequency_shares(spectrum_RP)
    frequencies, found = key_frequencies(spectrum_RP, 3)
    for run in range(2):
        expected = sorted(range(1, 6), key=lambda k, run=run: -shares[run, k - 1])[:3]
        assert frequencies[run].tolist() == expected
        assert found[run].tolist() == [shares[run, k - 1] for k in expected]


def test_a_network_of_cosines_shows_its_frequencies_and_amplitudes() -> None:
    data = addition()
    network = Cosines(data)
    of = spectra(network, MODULUS)
    assert set(of) == {"embedding", "unembedding"}
    for run, (frequencies, amplitudes) in enumerate(zip(FREQUENCIES, AMPLITUDES, strict=True)):
        expected = torch.zeros(2, MODULUS, dtype=torch.float64)
        for frequency, amplitude in zip(frequencies, amplitudes, strict=True):
            for row in (2 * frequency - 1, 2 * frequency):
                expected[:, row] = math.sqrt(MODULUS / 2) * float64(1, amplitude)
        torch.testing.assert_close(torch.stack([of["embedding"][run], of["unembedding"][run]]), expected)


def test_values_of_a_network_of_cosines() -> None:
    data = addition()
    found = measured(Fourier(top=3), Cosines(data), data)
    assert set(found) == {
        f"fourier/{name}_{value}"
        for name in ("embedding", "unembedding")
        for value in ("gini", *(f"{kind}_{place}" for kind in ("key", "share") for place in (1, 2, 3)))
    }
    torch.testing.assert_close(found["fourier/embedding_gini"], float64(*[1 - 6 / MODULUS] * 2))
    for run, (frequencies, amplitudes) in enumerate(zip(FREQUENCIES, AMPLITUDES, strict=True)):
        power = sum(amplitude**2 for amplitude in amplitudes)
        for place, (frequency, amplitude) in enumerate(zip(frequencies, amplitudes, strict=True), 1):
            assert found[f"fourier/unembedding_key_{place}"][run] == frequency
            assert found[f"fourier/unembedding_share_{place}"][run] == pytest.approx(amplitude**2 / power)
            assert found[f"fourier/embedding_share_{place}"][run] == pytest.approx(1 / 3)
        places = {int(found[f"fourier/embedding_key_{place}"][run]) for place in (1, 2, 3)}
        assert places == set(frequencies)
        ascending = sorted(2 * amplitudes)  # as many zeros before them as make up p numbers
        ranks = range(MODULUS - 5, MODULUS + 1)
        weighted = sum((2 * rank - MODULUS - 1) * value for rank, value in zip(ranks, ascending, strict=True))
        expected = weighted / (MODULUS * sum(ascending))
        assert found["fourier/unembedding_gini"][run] == pytest.approx(expected)


@pytest.mark.parametrize("options", [{}, {"layers": 1, "norm": "none", "bias": False}, {"tied": True}], ids=str)
def test_a_transformer_is_also_seen_from_its_last_neurons(options) -> None:
    data = addition(modulus=11)
    network = Transformer(data.vocabulary_size, data.length, data.seeds, width=8, heads=2, **options).double()
    weights = dict(network.named_parameters())
    outer = weights[f"layers.{len(network.layers) - 1}.feedforward.outer.weight"]
    head = weights["embeddings.tokens.weight"].mT if options.get("tied") else weights["head.weight"]
    product = torch.stack([outer[run] @ head[run] for run in range(2)])
    torch.testing.assert_close(neurons_to_logits(network), product.detach())
    of = spectra(network, 11)
    torch.testing.assert_close(of["neurons"], spectrum(product[:, :, :11].mT.detach()))
    torch.testing.assert_close(of["unembedding"], spectrum(head[:, :, :11].mT.detach()))
    torch.testing.assert_close(of["embedding"], spectrum(weights["embeddings.tokens.weight"][:, :11].detach()))
    assert "fourier/neurons_gini" in measured(Fourier(), network, data)


def test_no_more_frequencies_are_told_than_there_are() -> None:
    data = addition(modulus=6)
    network = Transformer(data.vocabulary_size, data.length, data.seeds, layers=1, width=8, heads=2)
    found = measured(Fourier(), network, data)
    assert {key for key in found if "embedding_key" in key and "un" not in key} == {
        f"fourier/embedding_key_{place}" for place in (1, 2, 3)
    }
    assert {found[f"fourier/neurons_key_{place}"][1].item() for place in (1, 2, 3)} == {1, 2, 3}


def test_what_it_cannot_be_computed_of_is_refused() -> None:
    data = addition(modulus=5)
    network = Transformer(data.vocabulary_size, data.length, data.seeds, layers=1, width=8, heads=2)
    with pytest.raises(UserError, match=r"^measures names Fourier, which needs integers mod p"):
        Fourier().check(network, PermutationDataModule(degree=3))
    with pytest.raises(UserError, match=r"^measures names Fourier, .* data\.tokenizer elements"):
        Fourier().check(network, ModularArithmeticDataModule(modulus=5, tokenizer="characters"))
    sample = ModularArithmeticDataModule("x * y", 5, rows=20)
    with pytest.raises(UserError, match=r"^measures names Fourier, .* data\.rows takes a part .*plain true"):
        Fourier().check(network, sample)
    Fourier(plain=True).check(network, sample)
    with pytest.raises(UserError, match=r"^measures\.Fourier\.top is -1"):
        Fourier(top=-1)


@pytest.mark.parametrize("name", ["Fourier", "Participation"])
def test_numbers_in_another_order_are_named_as_the_reason(name: str) -> None:
    data = ModularArithmeticDataModule("x**2 + x*y + y**2", 7, numbering_seed=3)
    with pytest.raises(UserError, match=rf"measures names {name}, .* and data\.numbering_seed is 3; leave it out"):
        require_integers(name, data)
    with pytest.raises(UserError, match=r"data\.numbering_seed is 3"):
        require_cyclic(name, data)
