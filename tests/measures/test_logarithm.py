"""Multiplication and division are additions in the discrete logarithm, and other formulas in variables of their own."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_built import LookUp, addition, float64, measured, random_logits
from torch.nn.functional import cross_entropy

from grok_lightning import load_run
from grok_lightning.data import FiniteFieldDataModule, PermutationDataModule
from grok_lightning.errors import UserError
from grok_lightning.measures import Fourier, Irreps, Progress, View
from grok_lightning.models import Transformer

ROOTS = {7: 3, 11: 2, 13: 2}  # smallest primitive roots


def logarithms(modulus: int) -> np.ndarray:
    """Of 0..p-1, -1 for 0, by listing powers."""
    found = np.full(modulus, -1)
    for k in range(modulus - 1):
        found[pow(ROOTS[modulus], k, modulus)] = k
    return found


def with_rows(data, rows_of_embedding: torch.Tensor, columns_of_head: torch.Tensor) -> LookUp:
    network = LookUp(data, random_logits(data))
    with torch.no_grad():
        network.embeddings["tokens"].copy_(rows_of_embedding)
        network.head.copy_(columns_of_head)
    return network


@pytest.mark.parametrize("formula", ["x * y", "x / y", "y / x"])
def test_spectra_are_numpys_transforms_in_the_logarithm(formula) -> None:
    data = addition(formula, 13)
    network = LookUp(data, random_logits(data))
    found = measured(Fourier(top=2), network, data)
    order = np.argsort(logarithms(13))[1:]  # of the numbers but 0
    for run in range(2):
        for name, matrix in (("embedding", network.embedding[run]), ("unembedding", network.unembedding[run].T)):
            transform = np.fft.rfft(matrix.detach().numpy()[order], axis=0)
            power = (np.abs(transform[1:]) ** 2).sum(1) * np.array([2] * 5 + [1])
            shares = power / power.sum()
            best = np.argsort(-shares)[:2]
            for place, at in enumerate(best, 1):
                assert found[f"fourier/{name}_share_{place}"][run] == pytest.approx(shares[at])
                if formula != "y / x":  # whose x is counted backwards: the same frequencies
                    assert found[f"fourier/{name}_key_{place}"][run] == at + 1


def product_projector(modulus: int, frequencies: list[int], sign: int, rows: np.ndarray) -> torch.Tensor:
    """On the rows of two operands that are not 0: the unit waves in log x + sign log y, written out as pairs."""
    logs = logarithms(modulus)
    sums = (logs[rows[:, 0]] + sign * logs[rows[:, 1]]) % (modulus - 1)
    whole = np.zeros((len(rows), len(rows)))
    for k in frequencies:
        for wave in (np.cos, np.sin):
            unit = wave(2 * np.pi * k * sums / (modulus - 1))
            if np.linalg.norm(unit) > 1e-6:
                unit /= np.linalg.norm(unit)
                whole += np.outer(unit, unit)
    return torch.from_numpy(whole)


@pytest.mark.parametrize(("formula", "sign"), [("x * y", 1), ("x / y", -1)])
@pytest.mark.parametrize(("modulus", "frequencies"), [(7, [1, 3]), (11, [2, 5, 4])])
def test_losses_are_those_of_the_projection_over_the_pairs_without_zero(formula, sign, modulus, frequencies) -> None:
    data = addition(formula, modulus, train_fraction=[0.3, 0.6], answer_noise=0.3)
    logits_RNV = random_logits(data, spread=3.0)
    found = measured(Progress(frequencies=frequencies), LookUp(data, logits_RNV), data)
    operands = data.operation.operands_NK
    kept = (operands != 0).all(1)
    project = product_projector(modulus, frequencies, sign, operands[kept])
    answers, shown = torch.from_numpy(data.operation.results_N), torch.from_numpy(data.answers_XN)
    for run in range(2):
        logits = logits_RNV[run, kept, :modulus]  # all numbers are classes, 0 too
        restricted = project @ logits + logits.mean(0)
        expected = cross_entropy(restricted, answers[kept]).item()
        assert found["progress/restricted_loss"][run] == pytest.approx(expected)
        excluded = (logits - project @ logits)[np.isin(np.flatnonzero(kept), data.splits[run].train)]
        rows = np.intersect1d(np.flatnonzero(kept), data.splits[run].train)
        assert found["progress/excluded_loss"][run] == pytest.approx(cross_entropy(excluded, shown[run, rows]).item())


def test_sums_that_come_unequally_often_weigh_as_often_as_they_come() -> None:
    data = addition("x**2 + y**2", 5)
    logits_RNV = random_logits(data, spread=2.0)
    found = measured(Progress(frequencies=[2]), LookUp(data, logits_RNV), data)
    results = torch.from_numpy(data.operation.results_N)
    waves = [[wave(4 * math.pi * s / 5) for s in range(5)] for wave in (math.cos, math.sin)]
    units = torch.tensor(waves, dtype=torch.float64) * math.sqrt(2 / 5)
    for run in range(2):
        means = torch.stack([logits_RNV[run, results == s, :5].mean(0) for s in range(5)])
        restricted = units.T @ units @ means + means.mean(0)
        expected = cross_entropy(restricted[results], results).item()
        assert found["progress/restricted_loss"][run] == pytest.approx(expected)


def test_a_square_of_a_sum_is_seen_in_the_sum() -> None:
    data = addition("(x + y)**2", 7)
    operands = torch.from_numpy(data.operation.operands_NK)
    sums = operands.sum(1) % 7
    logits = torch.zeros(2, len(sums), data.vocabulary_size, dtype=torch.float64)
    logits[:, :, :7] = 5 * torch.cos(2 * math.pi * 3 * (sums[:, None] - torch.arange(7)).double() / 7)
    network = LookUp(data, logits)
    found = measured(Progress(frequencies=[3]), network, data)
    torch.testing.assert_close(found["progress/excluded_loss"], float64(*[math.log(7)] * 2))
    loss = cross_entropy(logits[0, :, :7], sums**2 % 7).item()
    assert found["progress/restricted_loss"][0] == pytest.approx(loss)
    spectra = measured(Fourier(), network, data)
    assert spectra["fourier/embedding_gini"].isfinite().all()
    for key in ("gini", "key_1", "share_1"):  # squares are not all numbers: no number stands for a sum
        assert spectra[f"fourier/unembedding_{key}"].isnan().all()
    assert measured(Progress(), network, data)["progress/restricted_loss"].isfinite().all()


def test_other_formulas_keep_the_numbers_as_they_are_and_so_does_plain() -> None:
    data, product = addition("x**2 + x*y + y**2", 11), addition("x * y", 11)
    network = LookUp(product, random_logits(product))
    plain = measured(Fourier(plain=True), network, product)
    torch.testing.assert_close(measured(Fourier(), network, data), plain)
    torch.testing.assert_close(measured(Fourier(), network, addition("x + y", 11)), plain)
    in_logarithm = measured(Fourier(), network, product)
    assert in_logarithm.keys() == plain.keys()
    assert (in_logarithm["fourier/embedding_gini"] != plain["fourier/embedding_gini"]).all()


def test_runs_of_several_formulas_have_the_values_they_have_alone() -> None:
    formulas = ["x * y", "x + y", "x * y"]
    together = addition(formulas, 11, seeds=(0, 1, 2))
    network = Transformer(together.vocabulary_size, together.length, (0, 1, 2), layers=1, width=8, heads=2).double()
    for measure in (Fourier(), Progress(frequencies=[2]), Progress()):
        found = measured(measure, network, together)
        for run, formula in enumerate(formulas):
            alone = addition(formula, 11, seeds=(run,))
            single = Transformer(alone.vocabulary_size, alone.length, (run,), layers=1, width=8, heads=2).double()
            expected = measured(measure, single, alone)
            for key, value in expected.items():
                torch.testing.assert_close(found[key][run : run + 1], value, msg=f"{formula}: {key}")


def test_of_division_over_all_runs_the_tables_differ() -> None:
    """x / y lacks the rows of y = 0 that x + y has; splits and rows are of each its own."""
    formulas = ["x / y", "x + y"]
    together = addition(formulas, 7, train_fraction=[0.4, 0.6])
    network = Transformer(together.vocabulary_size, together.length, (0, 1), layers=1, width=8, heads=2).double()
    found = measured(Progress(frequencies=[1, 2]), network, together)
    for run, (formula, fraction) in enumerate(zip(formulas, (0.4, 0.6), strict=True)):
        alone = addition(formula, 7, seeds=(run,), train_fraction=fraction)
        single = Transformer(alone.vocabulary_size, alone.length, (run,), layers=1, width=8, heads=2).double()
        expected = measured(Progress(frequencies=[1, 2]), single, alone)
        for key, value in expected.items():
            torch.testing.assert_close(found[key][run : run + 1], value)


def test_other_algebras_are_seen_where_their_product_is_cyclic() -> None:
    data = FiniteFieldDataModule("x * y", 3, 2, seeds=(0, 1))
    network = LookUp(data, random_logits(data))
    assert measured(Fourier(), network, data)["fourier/embedding_gini"].isfinite().all()
    assert measured(Progress(), network, data)["progress/restricted_loss"].isfinite().all()
    for other in (FiniteFieldDataModule("x + y", 3, 2), PermutationDataModule("x * y", 3)):
        for measure in (Fourier(), Progress()):
            with pytest.raises(UserError, match=r"^measures names \w+, which needs integers mod p, .* mod n; "):
                measure.check(network, other)
    with pytest.raises(UserError, match=r"^measures\.Fourier\.plain is true, which needs integers mod p"):
        Fourier(plain=True).check(network, data)


def test_a_transformer_that_grokked_division_has_six_frequencies_in_the_logarithm() -> None:
    """As measured: 85.5 % of its embedding is at six of 48 frequencies; in the numbers as they are six hold 13.1 %."""
    run = load_run(Path(__file__).parents[2] / "checkpoints/reference/division.ckpt")
    view = View(run.model, run.data)
    found, plain = Fourier(top=6)(view), Fourier(top=6, plain=True)(view)
    assert {int(found[f"fourier/embedding_key_{place}"]) for place in range(1, 7)} == {5, 14, 17, 18, 39, 48}
    shares, flat = (
        sum(float(values[f"fourier/embedding_share_{place}"]) for place in range(1, 7)) for values in (found, plain)
    )
    assert shares == pytest.approx(0.8549, abs=1e-3)
    assert flat == pytest.approx(0.1313, abs=5e-3)
    logits = sum(float(value) for key, value in Irreps()(view).items() if key.startswith("irreps/logits_"))
    assert logits == pytest.approx(0.9832, abs=1e-3)  # of what varies in the logits depends on the quotient alone
