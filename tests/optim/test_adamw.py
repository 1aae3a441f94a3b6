"""The stacked optimizer is torch's, run by run."""

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import booleans, lists, sampled_from

from grok_lightning.errors import UserError
from grok_lightning.optim import AdamW
from grok_lightning.randomness import derive_keys, gaussian

SHAPES = [(3, 4, 5), (3, 1, 5), (3, 6)]
RATES = [1e-3, 0.1, 0.0]


def one_or_each(*values):
    """One number for all runs, or each its own."""
    return sampled_from(values) | lists(sampled_from(values), min_size=3, max_size=3)


any_rates, any_decays = one_or_each(1e-3, 0.01, 0.1, 0.0), one_or_each(0.5, 1.0, 0.0, 0.3)
any_noises = one_or_each(0.0, 0.5, 2.0)
DECAYS_BY_KIND = ["zero", "initial", "jiggle", "l2"]
SEEDS = [3, 1, 4]


def random_stack(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in SHAPES]


def stack():
    return [tensor.requires_grad_() for tensor in random_stack(0)]


def give_gradients(weights, step):
    for weight, gradient in zip(weights, random_stack(1000 + step), strict=True):
        weight.grad = gradient


def set_factor(optimizer, factor):
    """As a schedule sets it."""
    optimizer.param_groups[0] |= {"factor": factor, "lr": optimizer.defaults["lr"] * factor}


def one_each(value):
    return value if isinstance(value, list) else [value] * 3


def torch_optimizers(lr, weight_decay, optimizer=torch.optim.AdamW, **options):
    """For each run of the stack its weights apart and torch's optimizer on them."""
    weights = [[weight[run].detach().clone().requires_grad_() for weight in stack()] for run in range(3)]
    numbers = zip(weights, one_each(lr), one_each(weight_decay), strict=True)
    return weights, [optimizer(own, lr=rate, weight_decay=decay, **options) for own, rate, decay in numbers]


@given(
    lr=any_rates,
    weight_decay=any_decays,
    decay=sampled_from(["zero", "l2"]),
    scheduled=booleans(),
    betas=sampled_from([(0.9, 0.98), (0.0, 0.999)]),
)
def test_every_run_follows_torch(lr, weight_decay, decay, scheduled, betas) -> None:
    weights = stack()
    ours = AdamW(weights, lr, weight_decay, betas, eps=1e-6, decay=decay)
    coupled = torch.optim.Adam if decay == "l2" else torch.optim.AdamW
    singles, theirs = torch_optimizers(lr, weight_decay, coupled, betas=betas, eps=1e-6)
    for step in range(20):
        factor = min(1.0, step / 10) if scheduled else 1.0
        set_factor(ours, factor)
        give_gradients(weights, step)
        ours.step()
        for run, (own, optimizer) in enumerate(zip(singles, theirs, strict=True)):
            optimizer.param_groups[0]["lr"] = one_each(lr)[run] * factor
            for weight, whole in zip(own, weights, strict=True):
                weight.grad = whole.grad[run]
            optimizer.step()
    for run, own in enumerate(singles):
        for weight, whole in zip(own, weights, strict=True):
            torch.testing.assert_close(whole[run], weight, rtol=1e-12, atol=1e-12)


@given(lr=any_rates, weight_decay=any_decays)
def test_a_tensor_whose_gradient_comes_later_follows_torch(lr, weight_decay) -> None:
    weights = stack()
    ours = AdamW(weights, lr, weight_decay)
    singles, theirs = torch_optimizers(lr, weight_decay, betas=(0.9, 0.98))
    for step in range(8):
        give_gradients(weights, step)
        if step < 4:
            weights[1].grad = None
        ours.step()
        for run, (own, optimizer) in enumerate(zip(singles, theirs, strict=True)):
            for weight, whole in zip(own, weights, strict=True):
                weight.grad = None if whole.grad is None else whole.grad[run]
            optimizer.step()
    for run, own in enumerate(singles):
        for weight, whole in zip(own, weights, strict=True):
            torch.testing.assert_close(whole[run], weight, rtol=1e-12, atol=1e-12)


def seeded(weights, *arguments, **options):
    optimizer = AdamW(zip("abc", weights, strict=False), *arguments, **options)
    optimizer.seeds = SEEDS
    return optimizer


def drawn(seed, purpose, name, step, shape):
    """What a run draws that is alone."""
    return gaussian(derive_keys([seed], purpose, name), step, torch.empty(1, *shape, dtype=torch.float64))[0]


def drawn_together(seed, purpose, step):
    """What a run draws that is alone, for all of its parameters at once."""
    shapes = [weight[0].shape for weight in random_stack(0)]
    sizes = [shape.numel() for shape in shapes]
    numbers = gaussian(derive_keys([seed], purpose), step, torch.empty(1, sum(sizes), dtype=torch.float64))[0]
    return [part.view(shape) for part, shape in zip(numbers.split(sizes), shapes, strict=True)]


def by_hand(run, lr, weight_decay, noise, kind, factors, betas=(0.9, 0.98), eps=1e-6):
    """The weights of one run after as many steps as there are factors, one operation after the other."""
    weights = []
    for index, name in enumerate("abc"):
        weight = random_stack(0)[index][run]
        first, mean, square = weight, torch.zeros_like(weight), torch.zeros_like(weight)
        for t, factor in enumerate(factors, 1):
            gradient = random_stack(999 + t)[index][run]
            rate = lr * factor
            if kind == "l2":
                gradient = gradient + weight_decay * weight
            elif kind == "zero":
                weight = weight * (1 - rate * weight_decay)
            elif kind == "initial":
                weight = weight + (first - weight) * rate * weight_decay
            else:
                weight = weight * (rate * weight_decay * drawn(SEEDS[run], "jiggle", name, t - 1, (1,)).squeeze()).exp()
            mean = betas[0] * mean + (1 - betas[0]) * gradient
            square = betas[1] * square + (1 - betas[1]) * gradient**2
            update = mean / ((square / (1 - betas[1] ** t)).sqrt() + eps)
            update = update + noise * drawn_together(SEEDS[run], "update noise", t - 1)[index]
            weight = weight - rate / (1 - betas[0] ** t) * update
        weights.append(weight)
    return weights


@pytest.mark.parametrize("kind", DECAYS_BY_KIND)
@settings(max_examples=8)
@given(lr=any_rates, weight_decay=any_decays, noise=any_noises)
def test_every_run_follows_the_formula(lr, weight_decay, kind, noise) -> None:
    factors = [0.0, 0.25, 0.5, 1.0, 1.0]
    weights = stack()
    optimizer = seeded(weights, lr, weight_decay, eps=1e-6, decay=kind, update_noise=noise)
    for step, factor in enumerate(factors):
        set_factor(optimizer, factor)
        give_gradients(weights, step)
        optimizer.step()
    for run, numbers in enumerate(zip(*map(one_each, (lr, weight_decay, noise)), strict=True)):
        for weight, whole in zip(by_hand(run, *numbers, kind, factors), weights, strict=True):
            torch.testing.assert_close(whole[run], weight, rtol=1e-12, atol=1e-12)


def noises_of(steps=1, **options):
    """What one large tensor of each of three runs is moved by at each step, without gradient or decay."""
    weight = torch.zeros(3, 100, 100, requires_grad=True)
    optimizer = seeded([weight], **({"lr": 1.0, "weight_decay": 0.0, "betas": (0.0, 0.9)} | options))
    moved = []
    for _ in range(steps):
        before, weight.grad = weight.detach().clone(), torch.zeros_like(weight)
        optimizer.step()
        moved.append(weight.detach() - before)
    return moved


def test_update_noise_is_normal_and_new_at_every_step_in_every_run() -> None:
    first, second = noises_of(2, update_noise=[1.0, 0.5, 1.0])
    for noise, deviation in zip(first, (1.0, 0.5, 1.0), strict=True):
        assert abs(noise.mean()) < 0.04
        assert noise.std() == pytest.approx(deviation, rel=0.04)
        assert (noise.abs() < deviation).double().mean() == pytest.approx(0.6827, abs=0.02)
    unrelated = torch.stack([*first, *second]).flatten(1)
    assert (unrelated.corrcoef() - torch.eye(6)).abs().max() < 0.05


def test_tensors_of_different_names_draw_different_noise() -> None:
    weights = [torch.zeros(3, 50, 50, requires_grad=True) for _ in "ab"]
    optimizer = AdamW(zip("ab", weights, strict=True), 1.0, 0.0, update_noise=1.0)
    optimizer.seeds = SEEDS
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert not torch.isclose(*weights).any(dim=(1, 2)).all()
    assert torch.stack([weight.flatten() for weight in weights]).corrcoef()[0, 1].abs() < 0.05


def test_random_numbers_need_a_seed_for_each_run() -> None:
    for seeds in (None, [1, 2]):
        weights = stack()
        optimizer = AdamW(weights, update_noise=1.0)
        optimizer.seeds = seeds
        give_gradients(weights, 0)
        with pytest.raises(RuntimeError, match="seeds"):
            optimizer.step()


@pytest.mark.parametrize("kind", DECAYS_BY_KIND)
@settings(max_examples=8)
@given(lr=any_rates, weight_decay=any_decays, noise=any_noises)
def test_a_saved_optimizer_continues_exactly(lr, weight_decay, kind, noise) -> None:
    weights = stack()
    optimizer = seeded(weights, lr, weight_decay, decay=kind, update_noise=noise)
    for step in range(20):
        if step == 7:
            file = io.BytesIO()
            torch.save((optimizer.state_dict(), [weight.detach() for weight in weights]), file)
        give_gradients(weights, step)
        optimizer.step()
    file.seek(0)
    state, saved = torch.load(file, weights_only=True)
    resumed = [weight.requires_grad_() for weight in saved]
    optimizer = seeded(resumed, lr, weight_decay, decay=kind, update_noise=noise)
    optimizer.load_state_dict(state)
    assert all(value.is_floating_point() for state in optimizer.state.values() for value in state.values())
    for step in range(7, 20):
        give_gradients(resumed, step)
        optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(weights, resumed, strict=True))


def test_the_schedule_of_torch_drives_the_factor() -> None:
    weights = stack()
    optimizer = AdamW(weights, RATES)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 4)
    before = [weight.detach().clone() for weight in weights]
    give_gradients(weights, 0)
    optimizer.step()
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))
    for _ in range(4):
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == RATES[0]


@given(lr=sampled_from([0.1, [0.1, 0.1, 0.2]]), kind=sampled_from(DECAYS_BY_KIND), noise=sampled_from([0.0, 0.5]))
def test_a_run_that_is_not_finite_spoils_no_other(lr, kind, noise) -> None:
    spoiled, clean = stack(), stack()
    for weights, ruin in ((spoiled, torch.nan), (clean, 0.0)):
        optimizer = seeded(weights, lr, decay=kind, update_noise=noise)
        for step in range(5):
            give_gradients(weights, step)
            for weight in weights:
                weight.grad[1] = ruin
            optimizer.step()
    for one, other in zip(spoiled, clean, strict=True):
        assert one[1].isnan().all()
        assert torch.equal(one[[0, 2]], other[[0, 2]])


OUT_OF_RANGE = [
    *[
        ({"lr": value}, "lr")
        for value in (-1e-3, float("nan"), float("inf"), [0.1, -0.1, 0.1], [0.1, float("nan"), 0.1])
    ],
    *[({"weight_decay": value}, "weight_decay") for value in (-1.0, float("nan"), [1.0, -1.0, 0.0])],
    *[({"betas": value}, "betas") for value in ((1.0, 0.98), (0.9, 1.0), (-0.1, 0.9), (0.9, float("nan")))],
    *[({"eps": value}, "eps") for value in (0.0, -1e-8, float("inf"), float("nan"))],
    *[({"update_noise": value}, "update_noise") for value in (-1.0, float("nan"), [1.0, float("inf"), 0.0])],
    *[({"decay": "honest"}, "decay"), ({"update_noise": [1.0]}, "update_noise")],
    *[({"lr": [0.1, 0.1]}, "lr"), ({"lr": [0.1]}, "lr"), ({"weight_decay": [1.0] * 4}, "weight_decay")],
]


def test_numbers_out_of_range_are_refused() -> None:
    for options, name in OUT_OF_RANGE:
        with pytest.raises(UserError, match=rf"^model\.optimizer\.{name} "):
            AdamW(stack(), **options)
