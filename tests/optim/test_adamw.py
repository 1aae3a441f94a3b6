"""The stacked optimizer is torch's, run by run."""

import io

import pytest
import torch

from grok_lightning.errors import UserError
from grok_lightning.optim import AdamW

SHAPES = [(3, 4, 5), (3, 1, 5), (3, 6)]
RATES, DECAYS = [1e-3, 0.1, 0.0], [1.0, 0.0, 0.3]
HYPERPARAMETERS = {
    "each its own": (RATES, DECAYS),
    "own rates": (RATES, 0.5),
    "own decays": (0.01, DECAYS),
    "one for all": (0.01, 0.5),
}


def random_stack(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in SHAPES]


def stack():
    return [tensor.requires_grad_() for tensor in random_stack(0)]


def give_gradients(weights, step):
    for weight, gradient in zip(weights, random_stack(1000 + step), strict=True):
        weight.grad = gradient


def one_each(value):
    return value if isinstance(value, list) else [value] * 3


def torch_optimizers(lr, weight_decay, **options):
    """For each run of the stack its weights apart and torch's optimizer on them."""
    weights = [[weight[run].detach().clone().requires_grad_() for weight in stack()] for run in range(3)]
    numbers = zip(weights, one_each(lr), one_each(weight_decay), strict=True)
    return weights, [torch.optim.AdamW(own, lr=rate, weight_decay=decay, **options) for own, rate, decay in numbers]


@pytest.mark.parametrize("betas", [(0.9, 0.98), (0.0, 0.999)])
@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize(("lr", "weight_decay"), HYPERPARAMETERS.values(), ids=HYPERPARAMETERS)
def test_every_run_follows_torch(lr, weight_decay, scheduled, betas) -> None:
    weights = stack()
    ours = AdamW(weights, lr, weight_decay, betas, eps=1e-6)
    singles, theirs = torch_optimizers(lr, weight_decay, betas=betas, eps=1e-6)
    for step in range(20):
        factor = min(1.0, step / 10) if scheduled else 1.0
        ours.param_groups[0]["lr"] = factor
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


@pytest.mark.parametrize(("lr", "weight_decay"), HYPERPARAMETERS.values(), ids=HYPERPARAMETERS)
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


@pytest.mark.parametrize(("lr", "weight_decay"), HYPERPARAMETERS.values(), ids=HYPERPARAMETERS)
def test_a_saved_optimizer_continues_exactly(lr, weight_decay) -> None:
    weights = stack()
    optimizer = AdamW(weights, lr, weight_decay)
    for step in range(20):
        if step == 7:
            file = io.BytesIO()
            torch.save((optimizer.state_dict(), [weight.detach() for weight in weights]), file)
        give_gradients(weights, step)
        optimizer.step()
    file.seek(0)
    state, saved = torch.load(file, weights_only=True)
    resumed = [weight.requires_grad_() for weight in saved]
    optimizer = AdamW(resumed, lr, weight_decay)
    optimizer.load_state_dict(state)
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
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_run_that_is_not_finite_spoils_no_other() -> None:
    spoiled, clean = stack(), stack()
    for weights, ruin in ((spoiled, torch.nan), (clean, 0.0)):
        optimizer = AdamW(weights, [0.1, 0.1, 0.1])
        for step in range(5):
            give_gradients(weights, step)
            for weight in weights:
                weight.grad[1] = ruin
            optimizer.step()
    for one, other in zip(spoiled, clean, strict=True):
        assert one[1].isnan().all()
        assert torch.equal(one[[0, 2]], other[[0, 2]])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        *[({"lr": value}, "lr") for value in (-1e-3, float("nan"), [0.1, -0.1, 0.1], [0.1, float("nan"), 0.1])],
        *[({"weight_decay": value}, "weight_decay") for value in (-1.0, float("nan"), [1.0, -1.0, 0.0])],
        *[({"betas": value}, "betas") for value in ((1.0, 0.98), (0.9, 1.0), (-0.1, 0.9), (0.9, float("nan")))],
        *[({"lr": [0.1, 0.1]}, "lr"), ({"lr": [0.1]}, "lr"), ({"weight_decay": [1.0] * 4}, "weight_decay")],
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused(options, name) -> None:
    with pytest.raises(UserError, match=rf"^model\.optimizer\.{name} "):
        AdamW(stack(), **options)
