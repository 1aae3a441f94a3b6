"""The local learning coefficient, on losses for which it is known in closed form or by quadrature."""

import numpy as np
import pytest
import torch
from hand_built import LookUp, addition, random_logits
from torch import Tensor

from grok_lightning.measures import LearningCoefficient, Objective, View
from grok_lightning.measures.learning_coefficient import sample_excess_loss
from grok_lightning.randomness import derive_keys


def estimate(loss, dimensions: int, scale: float, rate: float, localization: float, draws: int, chains: int = 200):
    """n beta E[L] around 0, and its standard error, of a loss of the weights (C, P)."""

    def gradient(weights: Tensor, step: int) -> tuple[Tensor, Tensor]:
        at = weights.clone().requires_grad_()
        values = loss(at)
        return torch.autograd.grad(values.sum(), at)[0], values.detach()

    center, scales = torch.zeros(chains, dimensions).double(), torch.full((chains,), scale).double()
    keys = derive_keys(range(chains), "test")
    found = scale * sample_excess_loss(gradient, center, scales, keys, rate, localization, draws, draws // 2)
    return float(found.mean()), float(found.std(correction=0) / chains**0.5)


def test_a_regular_minimum_has_half_the_number_of_weights() -> None:
    curvatures = torch.tensor([0.5, 1.0, 2.0, 8.0, 3.0]).double()
    scale, rate = 100.0, 2e-4
    found, error = estimate(lambda w: (curvatures * w.square()).sum(1) / 2, 5, scale, rate, 0.0, 1200)
    # a step of finite size has the variance 1 / (a (1 - rate a / 4)) with a = n beta h
    exact = float((0.5 / (1 - rate * scale * curvatures / 4)).sum())
    assert error < 0.04
    assert found == pytest.approx(exact, abs=4 * error)
    assert found == pytest.approx(5 / 2, abs=0.2)


@pytest.mark.parametrize(
    ("loss", "dimensions", "density", "known"),
    [
        (lambda w: w[:, 0] ** 4, 1, lambda x: x**4, 1 / 4),
        (lambda w: w[:, 0] ** 2 * w[:, 1] ** 2, 2, lambda x, y: x**2 * y**2, None),
    ],
    ids=["w^4", "w1^2 w2^2"],
)
def test_a_degenerate_minimum_has_less(loss, dimensions, density, known) -> None:
    scale, localization, rate = 25.0, 4.0 if known is None else 0.0, 2e-3 if known is None else 5e-4
    found, error = estimate(loss, dimensions, scale, rate, localization, 1500)
    axes = np.meshgrid(*[np.linspace(-6, 6, 2401)] * dimensions, indexing="ij")
    losses = density(*axes)
    weight = np.exp(-scale * losses - localization / 2 * sum(axis**2 for axis in axes))
    exact = scale * (losses * weight).sum() / weight.sum()
    assert known is None or exact == pytest.approx(known, rel=1e-3)
    assert exact < dimensions / 2 - 0.1
    assert error < 0.02
    assert found == pytest.approx(exact, abs=4 * error + 0.01)


@pytest.mark.slow
def test_of_a_network_that_is_quadratic_in_its_weights_it_is_what_the_curvature_says() -> None:
    data = addition(modulus=5, seeds=(0, 1), train_fraction=[0.6, 0.4])
    shown = torch.from_numpy(data.answers_XN).expand(2, -1)
    network = LookUp(data, torch.nn.functional.one_hot(shown, data.vocabulary_size).double())  # the least squares
    measure = LearningCoefficient(chains=6, draws=300, burn_in=60, rate=0.1, localization=1.0, rows=100)
    found = measure(View(network, data, objective=Objective("mse")))
    for run, split in enumerate(data.splits):
        count, classes = len(split.train), data.vocabulary_size
        scale = count / np.log(count)
        curvature = scale * 2 / (count * classes)  # of each of count * classes weights; the others are flat
        pull = curvature + 1.0
        exact = count * classes * curvature / (2 * pull * (1 - 0.1 * pull / 4))
        error = float(found["learning/deviation"][run]) / 6**0.5
        assert error < 0.1 * exact
        assert float(found["learning/coefficient"][run]) == pytest.approx(exact, abs=4 * error)


def test_the_choice_of_rows_adds_no_noise_at_the_weights_themselves() -> None:
    data = addition(modulus=5, seeds=(0,))
    network = LookUp(data, random_logits(data, 3.0))
    found = LearningCoefficient(draws=5, burn_in=0, rate=1e-30, rows=2)(View(network, data))
    assert abs(float(found["learning/coefficient"])) < 1e-12
    assert LearningCoefficient(chains=1, draws=1)(View(network, data))["learning/deviation"].isnan().all()


def test_a_chain_is_the_same_however_many_run_beside_it() -> None:
    one, _ = estimate(lambda w: w.square().sum(1), 3, 10.0, 1e-2, 1.0, 20, chains=1)
    keys = derive_keys(range(4), "test")

    def gradient(weights: Tensor, step: int) -> tuple[Tensor, Tensor]:
        return 2 * weights, weights.square().sum(1)

    found = sample_excess_loss(
        gradient, torch.zeros(4, 3).double(), torch.full((4,), 10.0).double(), keys, 1e-2, 1.0, 20, 10
    )
    assert 10 * float(found[0]) == pytest.approx(one, rel=1e-12)
