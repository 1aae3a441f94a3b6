"""Restricted and excluded loss are those of the source's projection, written out over all p^2 pairs."""

import math

import numpy as np
import pytest
import torch
from hand_built import (
    AMPLITUDES,
    FREQUENCIES,
    MODULUS,
    Cosines,
    LookUp,
    addition,
    answered,
    float64,
    measured,
    random_logits,
)
from torch.nn.functional import cross_entropy

from grok_lightning.data import PermutationDataModule
from grok_lightning.errors import UserError
from grok_lightning.measures import Progress, View
from grok_lightning.measures.fourier import spectrum
from grok_lightning.measures.progress import means_by_answer, project_on_frequencies, select_key_frequencies
from grok_lightning.models import Transformer


def projector(modulus: int, frequencies: list[int], sign: int) -> torch.Tensor:
    """P over all p^2 pairs, from the source's definition; for ``x - y`` the sines of y have the other sign."""
    whole = torch.zeros(modulus**2, modulus**2, dtype=torch.float64)
    n = np.arange(modulus)
    for k in frequencies:
        cos, sin = np.cos(2 * np.pi * k * n / modulus), np.sin(2 * np.pi * k * n / modulus)
        if 2 * k == modulus:
            units = [np.outer(cos, cos) / modulus]
        else:
            cos, sin = cos / np.linalg.norm(cos), sin / np.linalg.norm(sin)
            units = [
                (np.outer(cos, cos) - sign * np.outer(sin, sin)) / math.sqrt(2),
                (np.outer(sin, cos) + sign * np.outer(cos, sin)) / math.sqrt(2),
            ]
        for unit in units:
            whole += torch.from_numpy(np.outer(unit, unit))
    return whole


def mask(modulus: int, frequencies: list[list[int]]) -> torch.Tensor:
    chosen = torch.zeros(len(frequencies), modulus // 2, dtype=torch.bool)
    for run, of_run in enumerate(frequencies):
        chosen[run, [k - 1 for k in of_run]] = True
    return chosen


@pytest.mark.parametrize(("formula", "sign"), [("x + y", 1), ("x - y", -1)])
@pytest.mark.parametrize(("modulus", "frequencies"), [(7, [[1, 3], [2]]), (11, [[5], [1, 2, 4]]), (6, [[3], [1, 3]])])
def test_the_key_part_is_the_projection_over_all_pairs(formula, sign, modulus, frequencies) -> None:
    data = addition(formula, modulus)
    logits_RNP, results_N = random_logits(data)[..., :modulus], torch.from_numpy(data.operation.results_N)
    found = project_on_frequencies(means_by_answer(logits_RNP, results_N), mask(modulus, frequencies))[:, results_N]
    for run, of_run in enumerate(frequencies):
        expected = projector(modulus, of_run, sign) @ logits_RNP[run]
        torch.testing.assert_close(found[run], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("formula", "sign"), [("x + y", 1), ("x - y", -1)])
def test_both_losses_are_those_of_the_sources_formula(formula, sign) -> None:
    data = addition(formula, 7, train_fraction=[0.3, 0.6], answer_noise=0.5)
    logits_RNV = random_logits(data, spread=3.0)
    found = measured(Progress(frequencies=[1, 3]), LookUp(data, logits_RNV), data)
    project = projector(7, [1, 3], sign)
    answers, shown = torch.from_numpy(data.operation.results_N), torch.from_numpy(data.answers_XN)
    for run in range(2):
        logits = logits_RNV[run, :, :7]  # neither the operator nor "="
        restricted = project @ logits + logits.mean(0)
        rows = torch.from_numpy(data.splits[run].train)
        excluded = (logits - project @ logits)[rows]
        assert found["progress/restricted_loss"][run] == pytest.approx(cross_entropy(restricted, answers).item())
        assert found["progress/excluded_loss"][run] == pytest.approx(cross_entropy(excluded, shown[run, rows]).item())


@pytest.mark.parametrize(("formula", "sign"), [("x + y", 1), ("x - y", -1)])
def test_a_network_of_cosines_is_all_key_part(formula, sign) -> None:
    data = addition(formula)
    network = Cosines(data, sign=sign)
    found = measured(Progress(), network, data)
    angles = 2 * math.pi * np.arange(MODULUS) / MODULUS
    for run, (frequencies, amplitudes) in enumerate(zip(FREQUENCIES, AMPLITUDES, strict=True)):
        logits = sum(a * np.cos(k * angles) for k, a in zip(frequencies, amplitudes, strict=True))  # of the answer + n
        full_loss = np.log(np.exp(logits).sum()) - logits[0]
        assert found["progress/restricted_loss"][run] == pytest.approx(full_loss, rel=1e-9)
        squared = MODULUS * sum(1 + a**2 for a in amplitudes)
        assert found["progress/squared_weights"][run] == pytest.approx(squared)
    assert full_loss < 0.1
    torch.testing.assert_close(found["progress/excluded_loss"], float64(*[math.log(MODULUS)] * 2))
    assert found["progress/key_frequencies"].tolist() == [3, 3]


def test_given_frequencies_part_the_network_in_two() -> None:
    data = addition(train_fraction=[0.4, 0.7])
    found = measured(Progress(frequencies=[4, 2, 5]), Cosines(data), data)
    key = Cosines(data, [[4], [2]], [[5.0], [8.0]])
    rest = Cosines(data, [[1, 9], [11, 7]], [[6.0, 4.0], [9.0, 7.5]])
    results = torch.from_numpy(data.operation.results_N)
    for run in range(2):
        logits = [View(part, data).logits_RNAV[run, :, 0, :MODULUS] for part in (key, rest)]
        rows = torch.from_numpy(data.splits[run].train)
        assert found["progress/restricted_loss"][run] == pytest.approx(cross_entropy(logits[0], results).item())
        expected = cross_entropy(logits[1][rows], results[rows]).item()
        assert found["progress/excluded_loss"][run] == pytest.approx(expected)
    assert found["progress/key_frequencies"].tolist() == [3, 3]


def test_memory_survives_what_excludes_cosines_and_not_what_restricts_to_them() -> None:
    data = addition(train_fraction=0.3)
    train = torch.zeros(2, len(data.operation), dtype=torch.bool)
    for run, split in enumerate(data.splits):
        train[run, split.train] = True
    found = measured(Progress(frequencies=[1, 4, 9]), answered(data, train, lead=20.0), data)
    assert (found["progress/excluded_loss"] < 1e-3).all()
    assert (found["progress/restricted_loss"] > 1).all()


def test_frequencies_stand_out_above_one_and_a_half_times_the_even_share() -> None:
    spectrum_RP = torch.ones(3, 21, dtype=torch.float64)
    spectrum_RP[0, 0] = 100.0  # the constant is no frequency
    spectrum_RP[1, 5] = math.sqrt(2.18)  # with its sine 3.18, of 21.18 in all: more than 1.5 of 10 even parts
    spectrum_RP[2, 5] = math.sqrt(2.17)
    found = select_key_frequencies(spectrum_RP)
    assert [row.nonzero().flatten().add(1).tolist() for row in found] == [[], [3], []]


def test_an_untrained_transformer_has_no_key_frequency_and_nothing_is_excluded() -> None:
    data = addition(modulus=59)
    network = Transformer(data.vocabulary_size, data.length, data.seeds, layers=1, width=32, heads=2).double()
    found = measured(Progress(), network, data)
    assert found["progress/key_frequencies"].tolist() == [0, 0]
    view = View(network, data)
    for run in range(2):
        rows = torch.from_numpy(data.splits[run].train)
        logits = view.logits_RNAV[run, :, 0, :59]
        loss = cross_entropy(logits[rows], view.targets_RNA[run, rows, 0]).item()
        assert found["progress/excluded_loss"][run] == pytest.approx(loss, rel=1e-12)


def test_frequencies_are_found_where_neurons_meet_the_logits() -> None:
    data = addition()
    network = Transformer(data.vocabulary_size, data.length, data.seeds, layers=1, width=6, heads=2).double()
    cosines = Cosines(data)
    with torch.no_grad():
        network.head.weight.copy_(cosines.head)
        outer = network.layers[0].feedforward.outer.weight
        outer.zero_()[:, 0, 0] = 1.0  # one neuron, which reaches the logits by the first cosine alone
    found = measured(Progress(), network, data)
    assert found["progress/key_frequencies"].tolist() == [1, 1]
    assert (spectrum(network.head.weight.mT[:, :MODULUS]) > 1).sum(-1).tolist() == [6, 6]


@pytest.mark.parametrize(
    ("formula", "options"),
    [("x**2 + x * y", {}), ("x + y + z", {}), ("x", {}), ("x + y", {"rows": 20}), ("x / y if y % 2 else x - y", {})],
    ids=str,
)
def test_other_operations_are_refused(formula, options) -> None:
    data = addition(formula, 5, **options)
    network = Transformer(data.vocabulary_size, data.length, data.seeds, layers=1, width=8, heads=2)
    with pytest.raises(UserError, match=r"^measures names Progress, .*x \+ y or x - y") as error:
        Progress().check(network, data)
    assert repr(formula) in str(error.value)


def test_what_else_it_cannot_be_computed_of_is_refused() -> None:
    data = addition(modulus=11)
    network = Transformer(data.vocabulary_size, data.length, data.seeds, layers=1, width=8, heads=2)
    Progress(frequencies=[1, 5]).check(network, data)
    with pytest.raises(UserError, match=r"^measures\.Progress\.frequencies has 7; modulo 12 they are 1 to 6$"):
        Progress(frequencies=[7]).check(network, addition("x * y", 13))
    for frequency in (0, 6, -1):
        with pytest.raises(UserError, match=rf"^measures\.Progress\.frequencies has {frequency};.* 1 to 5$"):
            Progress(frequencies=[1, frequency]).check(network, data)
    with pytest.raises(UserError, match=r"^measures\.Progress\.frequencies is an empty list"):
        Progress(frequencies=[])
    with pytest.raises(UserError, match=r"^measures names Progress, which needs integers"):
        Progress().check(network, PermutationDataModule(degree=3))
