"""Logits over a grid of operands are those of its rows one by one."""

import functools

import pytest
import torch

from grok_lightning.data import ModularArithmeticDataModule, PermutationDataModule
from grok_lightning.models import GRU, LSTM, MLP, ResidualMLP, Transformer
from grok_lightning.models.base import SequenceModel

SMALL = {"width": 16, "heads": 2}
NETWORKS = {
    "transformer": functools.partial(Transformer, **SMALL),
    "one layer": functools.partial(Transformer, layers=1, **SMALL),
    "post-norm, sinusoidal, tied": functools.partial(
        Transformer, norm="post", positions="sinusoidal", tied=True, **SMALL
    ),
    "norm of the stream": functools.partial(Transformer, norm="stream", **SMALL),
    "no norm, rotary": functools.partial(Transformer, norm="none", positions="rotary", bias="feedforward", **SMALL),
    "swiglu, rms": functools.partial(Transformer, activation="swiglu", normalization="rms", layers=3, **SMALL),
    "MLP": functools.partial(MLP, width=8, hidden=[16, 12]),
    "one-hot MLP": functools.partial(MLP, inputs="one-hot", hidden=[16], activation="gelu"),
    "linear": functools.partial(MLP, inputs="one-hot", hidden=[], bias=False),
    "summed MLP": functools.partial(MLP, inputs="summed", width=8, hidden=[16]),
    "residual MLP": functools.partial(ResidualMLP, width=8, layers=2),
    "summed residual MLP": functools.partial(ResidualMLP, inputs="summed", width=8, layers=1, embedding_rank=3),
    "one-hot residual MLP": functools.partial(ResidualMLP, inputs="one-hot", width=8, layers=1, norm="none"),
    "LSTM": functools.partial(LSTM, width=8, hidden=12),
    "GRU": functools.partial(GRU, width=8, hidden=12, layers=1),
}
DATA = {
    "two operands": lambda: ModularArithmeticDataModule(modulus=7, seeds=[0, 1]),
    "without y = 0": lambda: ModularArithmeticDataModule("x / y", modulus=7, seeds=[0, 1]),
    "three operands": lambda: ModularArithmeticDataModule("x1 + x2 * x3", modulus=3, seeds=[0, 1]),
    "without signs": lambda: ModularArithmeticDataModule(
        modulus=7, seeds=[0, 1], operator_token=False, equals_token=False
    ),
    "permutations": lambda: PermutationDataModule(degree=3, seeds=[0, 1]),
    "one operand": lambda: ModularArithmeticDataModule("x * x", modulus=5, seeds=[0, 1]),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("make_data", DATA.values(), ids=DATA)
def test_a_grid_has_the_logits_of_its_rows(make, make_data) -> None:
    data = make_data()
    network = make(data.vocabulary_size, data.length, data.seeds).double()
    grid = data.grid()
    with torch.no_grad():
        expected = network(data.tokens(data.operands_NK), 1)[:, :, 0]
        cells = network.grid_logits([torch.from_numpy(tokens) for tokens in grid.tokens])
        plain = SequenceModel.grid_logits(network, [torch.from_numpy(tokens) for tokens in grid.tokens])
    assert cells.shape == (2, *grid.shape, data.vocabulary_size)
    torch.testing.assert_close(cells.flatten(1, -2)[:, grid.cells_N], expected)
    torch.testing.assert_close(plain, cells)


def test_a_small_sample_is_no_grid_and_a_large_one_is() -> None:
    assert ModularArithmeticDataModule(modulus=11, rows=50).grid() is None
    assert ModularArithmeticDataModule(modulus=11, rows=90).grid() is not None
    assert ModularArithmeticDataModule("x1 + x2 + x3", modulus=2, operands=43, rows=2000).grid() is None
    assert ModularArithmeticDataModule(modulus=11, tokenizer="characters").grid() is None
