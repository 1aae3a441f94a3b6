"""Norms of parameters, run by run."""

import numpy as np
import torch
from hand_built import addition, measured

from grok_lightning.measures import Norms
from grok_lightning.models import Transformer


def test_every_parameter_of_every_run_has_its_norm() -> None:
    data = addition(modulus=7, seeds=(1, 2))
    network = Transformer(data.vocabulary_size, data.length, (1, 2), width=8, heads=2)
    found = measured(Norms(), network, data)
    assert {*found} == {f"norms/{name}" for name, _ in network.named_parameters()}
    for name, weight in network.named_parameters():
        for run in range(2):
            expected = np.sqrt((weight[run].detach().double().numpy() ** 2).sum())
            np.testing.assert_allclose(float(found[f"norms/{name}"][run]), expected, rtol=1e-12)


def test_a_parameter_of_a_single_number_has_its_norm() -> None:
    data = addition(modulus=7, seeds=(1, 2))
    network = Transformer(data.vocabulary_size, data.length, (1, 2), width=8, heads=2)
    network.scale = torch.nn.Parameter(torch.tensor([-2.0, 3.0]))
    assert measured(Norms(), network, data)["norms/scale"].tolist() == [2, 3]
