"""Effective rank is between 1 and the rank, and what singular values say."""

import math

import pytest
import torch
from hand_built import AMPLITUDES, Cosines, addition, float64, measured
from unnamed import Unnamed

from grok_lightning.measures import Rank
from grok_lightning.measures.rank import effective_rank, hidden_matrices
from grok_lightning.measures.spectral_entropy import squared_singular_values
from grok_lightning.models import Transformer
from grok_lightning.models.ordinary import build_network


def with_singular_values(values: list[float], rows: int, columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    left, right = (
        torch.linalg.qr(torch.randn(size, len(values), dtype=torch.float64, generator=generator))[0]
        for size in (rows, columns)
    )
    return left @ torch.diag(float64(*values)) @ right.T


@pytest.mark.parametrize(("rows", "columns"), [(7, 12), (12, 7), (4, 4)])
def test_equal_singular_values_count_one_each_and_others_less(rows, columns) -> None:
    stack = torch.stack([with_singular_values(v, rows, columns) for v in ([5.0] * 4, [2.0] * 2, [3.0], [3.0, 1.0])])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    torch.testing.assert_close(effective_rank(stack), float64(4, 2, 1, math.exp(entropy)))
    torch.testing.assert_close(effective_rank(100 * stack), effective_rank(stack))


def test_a_matrix_without_a_rank_spoils_no_other() -> None:
    stack = torch.stack([torch.eye(3), torch.zeros(3, 3), torch.full((3, 3), torch.nan), torch.eye(3) / 0])
    found = effective_rank(stack)
    assert found.isnan().tolist() == [False, True, True, True]
    assert found[0].item() == pytest.approx(3)


def test_a_network_of_cosines() -> None:
    data = addition()
    found = measured(Rank(), Cosines(data), data)
    assert set(found) == {"rank/embedding", "rank/unembedding"}
    torch.testing.assert_close(found["rank/embedding"], float64(6, 6))
    for run, amplitudes in enumerate(AMPLITUDES):
        parts = [amplitude / (2 * sum(amplitudes)) for amplitude in 2 * amplitudes]
        expected = math.exp(-sum(part * math.log(part) for part in parts))
        assert found["rank/unembedding"][run] == pytest.approx(expected)


def test_hidden_matrices_are_those_between() -> None:
    data = addition()
    network = Transformer(data.vocabulary_size, data.length, data.seeds, layers=2, width=8, heads=2)
    weights = dict(network.named_parameters())
    attention = [f"attention.{part}" for part in ("query", "key", "value", "out")]
    names = [
        f"layers.{i}.{part}.weight" for i in (0, 1) for part in (*attention, "feedforward.inner", "feedforward.outer")
    ]
    found = hidden_matrices(network)
    assert {id(weight) for weight in found} == {id(weights[name]) for name in names}
    assert len(found) == len(names) == 12
    expected = torch.stack([effective_rank(weights[name]) for name in names]).mean(0)
    torch.testing.assert_close(measured(Rank(), network, data)["rank/hidden"], expected)


def test_hidden_matrices_of_an_ordinary_module_are_told_by_its_layers() -> None:
    network = build_network(Unnamed, 9, 4, [0, 1])
    assert [id(weight) for weight in hidden_matrices(network)] == [id(network.module.first.weight)]


@pytest.mark.parametrize("shape", [(7, 11), (33, 5), (97, 31)])
@pytest.mark.parametrize("values", [effective_rank, squared_singular_values])
def test_a_matrix_has_the_same_values_alone_and_in_a_stack(shape, values) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    for run, found in enumerate(values(matrices)):
        assert torch.equal(found, values(matrices[run : run + 1].clone())[0])
