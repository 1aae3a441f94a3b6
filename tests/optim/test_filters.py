"""Gradient filters follow their formulas run by run, in any order."""

from itertools import permutations

import numpy as np
import pytest
import torch
from filtered_gradients import (
    OPTIONS,
    SEEDS,
    WEIGHTS,
    assert_same,
    every_filter,
    gradients_of,
    of_run,
    options_of_run,
    train,
)

from grok_lightning.errors import UserError
from grok_lightning.optim import (
    L2,
    Clip,
    Egalitarian,
    GradientNoise,
    GrokfastEMA,
    GrokfastMean,
    NormalizeColumns,
    OrthogonalGradient,
)
from grok_lightning.randomness import derive_keys, gaussians


def ema_reference(history, weights, seed, alpha, strength):
    def slow(g):  # the average written out as a sum over all steps
        newer = sum((1 - alpha) * alpha ** (len(g) - 1 - step) * g[step] for step in range(1, len(g)))
        return alpha ** (len(g) - 1) * g[0] + newer

    return {name: history[-1][name] + strength * slow([past[name] for past in history]) for name in history[-1]}


def mean_reference(history, weights, seed, window, strength):
    if len(history) < window:
        return history[-1]
    means = {name: torch.stack([past[name] for past in history[-window:]]).mean(0) for name in history[-1]}
    return {name: history[-1][name] + strength * mean for name, mean in means.items()}


def orthogonal_reference(history, weights, seed):
    new = {}
    for name, gradient in history[-1].items():
        w, g = weights[name].reshape(-1, 1), gradient.reshape(-1, 1)
        if len(w) == 1:
            new[name] = torch.zeros_like(gradient)
            continue
        rest = g - w @ torch.linalg.lstsq(w, g).solution
        new[name] = (rest * g.norm() / rest.norm()).view_as(gradient)
    return new


def clip_reference(history, weights, seed, norm):
    leaves = {name: weights[name].clone().requires_grad_() for name in weights}
    for name, leaf in leaves.items():
        leaf.grad = history[-1][name].clone()
    torch.nn.utils.clip_grad_norm_(leaves.values(), norm)
    return {name: leaf.grad for name, leaf in leaves.items()}


def noise_reference(history, weights, seed, std, decay):
    step = len(history) - 1
    sigma = (std**2 / (1 + step) ** decay) ** 0.5
    noises = gaussians(
        derive_keys([seed], "gradient noise"),
        step,
        list(history[-1].values()),
        torch.tensor([[sigma]], dtype=torch.float64),
    )
    return {name: gradient + noise for (name, gradient), noise in zip(history[-1].items(), noises, strict=True)}


def egalitarian_reference(history, weights, seed):
    g = history[-1]["matrix"][0].numpy()  # (33, 7): its Gram matrix of 7 x 7 has an inverse root, its other has none
    values, vectors = np.linalg.eigh(g.T @ g)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    return history[-1] | {"matrix": torch.from_numpy(g @ root)[None]}


def columns_reference(history, weights, seed, least):
    new = history[-1]["matrix"].clone()
    for column in range(7):
        squares = sum(float(number) ** 2 for number in new[0, :, column])
        new[0, :, column] /= max(squares**0.5, least)
    return history[-1] | {"matrix": new}


def l2_reference(history, weights, seed, strength):
    weight = weights["matrix"].clone().requires_grad_()
    (strength / 2 * weight.square().sum()).backward()
    return history[-1] | {"matrix": history[-1]["matrix"] + weight.grad}


REFERENCES = {
    Egalitarian: egalitarian_reference,
    NormalizeColumns: columns_reference,
    L2: l2_reference,
    GrokfastEMA: ema_reference,
    GrokfastMean: mean_reference,
    OrthogonalGradient: orthogonal_reference,
    Clip: clip_reference,
    GradientNoise: noise_reference,
}


def by_hand(kind, run, inputs):
    options, weights = options_of_run(run, OPTIONS[kind]), of_run(run, WEIGHTS)
    return [REFERENCES[kind](inputs[: step + 1], weights, SEEDS[run], **options) for step in range(len(inputs))]


def assert_every_run_follows(kinds):
    outputs = train([kind(**OPTIONS[kind]) for kind in kinds], range(11))
    for run in range(3):
        expected = [of_run(run, gradients_of(step)) for step in range(11)]
        for kind in kinds:
            expected = by_hand(kind, run, expected)
        assert_same([of_run(run, output) for output in outputs], expected, rtol=1e-10, atol=1e-10)


@every_filter
def test_every_run_follows_the_formula(kind) -> None:
    assert_every_run_follows([kind])


def test_filters_are_applied_one_after_the_other_in_any_order() -> None:
    for kinds in list(permutations(OPTIONS, 2)):
        assert_every_run_follows(kinds)


def test_the_order_matters() -> None:
    def norms(filters):
        return torch.cat([part.reshape(3, -1) for part in train(filters, [0])[0].values()], dim=1).norm(dim=1)

    assert (norms([GradientNoise(1.0), Clip(0.5)]) <= 0.5).all()
    assert (norms([Clip(0.5), GradientNoise(1.0)]) > 5).all()


def test_the_window_is_off_until_it_is_full() -> None:
    outputs = train([GrokfastMean(window=7, strength=3.0)], range(7))
    assert_same(outputs[:6], [gradients_of(step) for step in range(6)])
    assert all((outputs[6][name] != gradient).all() for name, gradient in gradients_of(6).items())


def test_the_windows_mean_forgets_what_has_left() -> None:
    window, one = 5, GrokfastMean(window=5, strength=1.0)
    history = [gradient["matrix"] for gradient in (gradients_of(step, torch.float32) for step in range(400))]
    for step, gradient in enumerate(history):
        gradient *= 1e6 if step < 100 else 1e-3
        if step == 50:
            gradient[:] = torch.nan
        new = one({"w": gradient}, {"w": gradient.clone()}, torch.tensor(step), SEEDS)["w"]
        if step >= window - 1:
            mean = torch.stack(history[step - window + 1 : step + 1]).double().mean(0)
            scale = float(max(past.abs().max() for past in history[step - window + 1 : step + 1]))
            torch.testing.assert_close(
                new, (gradient + mean).float(), rtol=0, atol=1e-6 * scale if scale == scale else 0, equal_nan=True
            )


def test_orthogonal_gradients_of_degenerate_tensors_are_finite() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, gradient = (torch.randn(3, 4, 5, generator=generator) for _ in range(2))
    zero = torch.zeros_like(weight)
    one = OrthogonalGradient()

    def new(w, g):
        return one({"w": w}, {"w": g}, 0, SEEDS)["w"]

    assert torch.equal(new(weight, zero), zero)
    assert torch.equal(new(zero, zero), zero)
    torch.testing.assert_close(new(zero, gradient), gradient)
    parallel = new(weight, 3 * weight)
    assert parallel.isfinite().all()
    assert (parallel.flatten(1).norm(dim=1) <= 3.001 * weight.flatten(1).norm(dim=1)).all()


def test_noise_is_normal_and_independent_between_runs_tensors_and_steps() -> None:
    std, count = 0.3, 40_000
    zeros = {name: torch.zeros(2, 200, 200) for name in ("one", "other")}
    samples = []
    for step in (0, 1):
        gradients = {name: zero.clone() for name, zero in zeros.items()}
        new = GradientNoise(std)(zeros, gradients, torch.tensor(step), (0, 1))
        samples += [tensor[run].flatten() / std for tensor in new.values() for run in range(2)]
    samples_SN = torch.stack(samples)
    assert (samples_SN.mean(1).abs() < 4 / count**0.5).all()
    products = samples_SN @ samples_SN.T / count
    torch.testing.assert_close(products, torch.eye(8), rtol=0, atol=5 * (2 / count) ** 0.5)
    assert (samples_SN.pow(4).mean(1) - 3).abs().max() < 5 * (96 / count) ** 0.5


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        *[(GrokfastEMA, "alpha", value) for value in (1.0, -0.1, float("nan"), [0.5, 1.5, 0.5])],
        *[(GrokfastEMA, "strength", value) for value in (-1.0, float("inf"), [1.0, float("nan"), 1.0])],
        *[(GrokfastMean, "window", value) for value in (0, -3)],
        *[(GrokfastMean, "strength", value) for value in (-1.0, float("nan"), float("inf"))],
        *[(OrthogonalGradient, "eps", value) for value in (0.0, -1e-30, 1e-50, float("nan"), float("inf"))],
        *[(Clip, "norm", value) for value in (0.0, -1.0, float("nan"), float("inf"), [1.0, 0.0, 1.0])],
        *[(NormalizeColumns, "least", value) for value in (0.0, -1.0, float("nan"), [1.0, 0.0, 1.0])],
        *[(L2, "strength", value) for value in (-1.0, float("inf"), [0.1, float("nan"), 0.1])],
        *[(GradientNoise, "std", value) for value in (-0.1, float("nan"), float("inf"))],
        *[(GradientNoise, "decay", value) for value in (-0.1, float("nan"), [float("inf")] * 3)],
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(kind, option, value) -> None:
    with pytest.raises(UserError, match=rf"^model\.filters: {kind.__name__}\.{option} is .*; it must be "):
        kind(**{option: value})


@every_filter
def test_lists_that_do_not_fit_the_stack_are_refused(kind) -> None:
    kind(**OPTIONS[kind]).check_stack(3)
    kind().check_stack(3)
    for option in (name for name, value in OPTIONS[kind].items() if isinstance(value, list)):
        with pytest.raises(
            UserError, match=rf"^model\.filters: {kind.__name__}\.{option} has 3 values for a stack of 2"
        ):
            kind(**{option: OPTIONS[kind][option]}).check_stack(2)
