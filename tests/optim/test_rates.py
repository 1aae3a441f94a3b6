"""``group["lr"]`` is the learning rate: schedules, schedulers and callbacks set it, and earlier states load."""

import copy

import pytest
import torch
from torch.optim import lr_scheduler

from grok_lightning.errors import UserError
from grok_lightning.optim import AdamW, Muon
from grok_lightning.optim.rates import RateSchedule, advance, can_be_captured

SHAPES = {"embeddings.tokens.weight": (5, 4), "layers.0.attention.out.weight": (4, 4), "head.bias": (1, 3)}
RATES = [0.01, 0.003, 0.1]


def stack(runs=range(3)):
    generator = torch.Generator().manual_seed(0)
    whole = {name: torch.randn(3, *shape, dtype=torch.float64, generator=generator) for name, shape in SHAPES.items()}
    return {name: weight[list(runs)].clone().requires_grad_() for name, weight in whole.items()}


def give_gradients(weights, step, runs=range(3)):
    generator = torch.Generator().manual_seed(100 + step)
    for name, weight in weights.items():
        weight.grad = torch.randn(3, *SHAPES[name], dtype=torch.float64, generator=generator)[list(runs)]


def build(weights, lr, kind=AdamW):
    options = {"matrices": ["layers.*.weight"]} if kind is Muon else {"weight_decay": 0.1}
    optimizer = kind(weights.items(), lr=lr, **options)
    optimizer.seeds = [0, 1, 2][: optimizer.runs]
    return optimizer


def factor(step):
    return min(1.0, step / 3) * 0.9**step


@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_the_group_shows_the_first_runs_rate_and_every_run_keeps_its_own_to_the_bit(kind) -> None:
    weights = stack()
    optimizer = build(weights, RATES, kind)
    schedule = RateSchedule(optimizer, factor)
    singles = [stack([run]) for run in range(3)]
    alone = [build(single, rate, kind) for single, rate in zip(singles, RATES, strict=True)]
    schedules = [RateSchedule(single, factor) for single in alone]
    for step in range(12):
        assert optimizer.param_groups[0]["lr"] == RATES[0] * factor(step)
        assert optimizer.read_factor(optimizer.param_groups[0]) == factor(step)
        give_gradients(weights, step)
        optimizer.step()
        advance(schedule, step + 1)
        for run in range(3):
            give_gradients(singles[run], step, [run])
            alone[run].step()
            advance(schedules[run], step + 1)
            assert alone[run].param_groups[0]["lr"] == RATES[run] * factor(step + 1)
    for run, single in enumerate(singles):
        for name, weight in single.items():
            torch.testing.assert_close(weight[0], weights[name][run], rtol=1e-14, atol=1e-15)


def test_what_a_callback_sets_is_the_rate_until_the_schedule_varies() -> None:
    weights, expected = stack([0]), stack([0])
    optimizer = build(weights, 0.01)
    schedule = RateSchedule(optimizer, lambda step: 1.0 if step < 5 else 0.5)
    torchs = torch.optim.AdamW(expected.values(), lr=0.01, weight_decay=0.1, betas=(0.9, 0.98))
    for step in range(7):
        if step == 2:
            optimizer.param_groups[0]["lr"] = 0.07
        torchs.param_groups[0]["lr"] = 0.01 if step < 2 else 0.07 if step < 5 else 0.005
        for own, each in ((weights, optimizer), (expected, torchs)):
            give_gradients(own, step, [0])
            each.step()
        advance(schedule, step + 1)
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-12, atol=1e-12)


def test_a_rate_of_zero_cannot_be_set_to_anything_else() -> None:
    weights = stack()
    optimizer = build(weights, [0.0, 0.1, 0.2])
    give_gradients(weights, 0)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.1
    with pytest.raises(UserError, match=r"^model\.optimizer\.lr is 0"):
        optimizer.step()


SCHEDULERS = {
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 3, 0.5),
    "warm restarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4, eta_min=1e-4),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=20),
    "CyclicLR": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 1e-4, 0.02, 3),
}


@pytest.mark.parametrize("build_schedule", SCHEDULERS.values(), ids=SCHEDULERS)
def test_schedulers_of_torch_act_as_on_its_own_optimizer(build_schedule) -> None:
    """Those that cycle the first beta too."""
    weights, expected = stack([0]), stack([0])
    ours = build(weights, 0.01)
    theirs = torch.optim.AdamW(expected.values(), lr=0.01, weight_decay=0.1, betas=(0.9, 0.98))
    schedules = [build_schedule(optimizer) for optimizer in (ours, theirs)]
    for step in range(15):
        for own, optimizer, schedule in zip((weights, expected), (ours, theirs), schedules, strict=True):
            give_gradients(own, step, [0])
            optimizer.step()
            advance(schedule, step + 1)
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
        assert ours.param_groups[0]["betas"] == theirs.param_groups[0]["betas"]
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-12, atol=1e-12)


def test_only_what_changes_rates_alone_is_captured() -> None:
    def of(kind, *options, **more):
        return kind(build(stack([0]), 0.01), *options, **more)

    assert can_be_captured(of(RateSchedule, factor))
    assert can_be_captured(of(lr_scheduler.StepLR, 3))
    assert not can_be_captured(of(lr_scheduler.OneCycleLR, 0.02, total_steps=20))
    assert can_be_captured(of(lr_scheduler.OneCycleLR, 0.02, total_steps=20, cycle_momentum=False))

    class Own(lr_scheduler.StepLR):
        """It may change anything."""

    assert not can_be_captured(of(Own, 3))


@pytest.mark.parametrize("lr", [0.01, RATES], ids=str)
def test_states_hold_the_factor_as_in_earlier_versions_and_go_on_to_the_bit(lr) -> None:
    weights = stack()
    optimizer = build(weights, lr)
    schedule = RateSchedule(optimizer, factor)
    for step in range(4):
        give_gradients(weights, step)
        optimizer.step()
        advance(schedule, step + 1)
    old, old_schedule = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))
    (group,) = old["param_groups"]
    assert (group["lr"], group["initial_lr"], old_schedule["base_lrs"]) == (factor(4), 1.0, [1.0])
    assert "factor" not in group
    del group["betas"]  # an option of theirs only now

    again = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    resumed = build(again, lr)
    resumed_schedule = RateSchedule(resumed, factor)
    resumed.load_state_dict(old)
    resumed_schedule.load_state_dict(old_schedule)
    for step in range(4, 9):
        for own, each, rates in ((weights, optimizer, schedule), (again, resumed, resumed_schedule)):
            give_gradients(own, step)
            each.step()
            advance(rates, step + 1)
    assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert resumed_schedule.state_dict() == schedule.state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in weights.items())


def test_a_rate_that_a_scheduler_set_is_restored_to_the_bit() -> None:
    ends = []
    for stop in (None, 3):
        weights = stack([0])
        optimizer = build(weights, 0.003)
        schedule = lr_scheduler.ExponentialLR(optimizer, 0.7)
        for step in range(9):
            if step == stop:
                states = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))
                optimizer = build(weights, 0.003)
                schedule = lr_scheduler.ExponentialLR(optimizer, 0.7)
                optimizer.load_state_dict(states[0])
                schedule.load_state_dict(states[1])
            give_gradients(weights, step, [0])
            optimizer.step()
            schedule.step()
        ends.append([*weights.values(), torch.tensor(optimizer.param_groups[0]["lr"], dtype=torch.float64)])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
