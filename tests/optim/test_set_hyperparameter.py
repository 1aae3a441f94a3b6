"""Numbers set for one run in the middle of training: each run follows torch's optimizer of it alone."""

from functools import partial

import pytest
import torch

from grok_lightning.errors import UserError
from grok_lightning.optim import AdamW, Muon
from grok_lightning.optim.rates import RateSchedule, advance
from grok_lightning.training.interventions import set_hyperparameter
from grok_lightning.training.separate import build_optimizer

SHAPE = (3, 5, 4)  # R runs
STEPS, AT = 9, 4
SET = {0: {"weight_decay": 0.5}, 2: {"lr": 0.003, "weight_decay": 0.0}}


def factor(step: int) -> float:
    return min(1.0, (step + 1) / 6)


def gradient(step: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def trained_alone(build, run: int) -> torch.Tensor:
    """One run by an ordinary optimizer, whose group is changed by hand."""
    weight = gradient(100)[run].clone().requires_grad_()
    optimizer = build([weight])
    group = optimizer.param_groups[0]
    rate = group["lr"]
    for step in range(STEPS):
        if step == AT:
            group.update({name: value for name, value in SET.get(run, {}).items() if name != "lr"})
            rate = SET.get(run, {}).get("lr", rate)
        group["lr"] = rate * factor(step)
        weight.grad = gradient(step)[run]
        optimizer.step()
    return weight.detach()


def trained_together(build, apart: bool) -> torch.Tensor:
    weight = gradient(100).clone().requires_grad_()
    optimizer = build_optimizer(build, [("layers.0.weight", weight)], [1, 2, 3], apart=apart)
    schedule = RateSchedule(optimizer, factor)
    for step in range(STEPS):
        if step == AT:
            for run, settings in SET.items():
                for name, value in settings.items():
                    optimizer.set_hyperparameter(run, name, value)
        if step == AT + 2:  # as a stopped fit does
            optimizer, schedule = resumed(build, apart, weight, optimizer, schedule)
        weight.grad = gradient(step)
        optimizer.step(lambda: torch.zeros(()))
        advance(schedule, step + 1)
    return weight.detach()


def resumed(build, apart, weight, optimizer, schedule):
    states = optimizer.state_dict(), schedule.state_dict()
    fresh = build_optimizer(build, [("layers.0.weight", weight)], [1, 2, 3], apart=apart)
    again = RateSchedule(fresh, factor)
    fresh.load_state_dict(states[0])
    again.load_state_dict(states[1])
    for run, settings in SET.items():
        for name, value in settings.items():
            set_hyperparameter(fresh, run, name, value, again=True)
    return fresh, again


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (
            lambda named: AdamW(named, lr=0.01, weight_decay=1.0),
            lambda own: torch.optim.AdamW(own, lr=0.01, weight_decay=1.0, betas=(0.9, 0.98)),
        ),
        (
            lambda named: AdamW(named, lr=0.01, weight_decay=0.2, decay="l2"),
            lambda own: torch.optim.Adam(own, lr=0.01, weight_decay=0.2, betas=(0.9, 0.98)),
        ),
    ],
    ids=["AdamW", "Adam"],
)
def test_ours(ours, torchs) -> None:
    together = trained_together(ours, apart=True)
    for run in range(SHAPE[0]):
        assert torch.allclose(together[run], trained_alone(torchs, run), rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.NAdam, torch.optim.Adafactor])
def test_those_of_torch(kind) -> None:
    def build(parameters):
        return kind(parameters, lr=0.01, weight_decay=0.1)

    together = trained_together(build, apart=True)
    for run in range(SHAPE[0]):
        assert torch.allclose(together[run], trained_alone(build, run), rtol=1e-12, atol=0)


def test_muon_alone_and_together() -> None:
    def build(named):
        return Muon(named, lr=0.02, weight_decay=0.1, matrices=["*"])

    together = trained_together(build, apart=True)
    for run in range(SHAPE[0]):
        weight = gradient(100)[run : run + 1].clone().requires_grad_()
        optimizer = build([("layers.0.weight", weight)])
        for step in range(STEPS):
            if step == AT:  # a new one with other numbers, and the state of the old one
                changed = Muon([("layers.0.weight", weight)], **{"lr": 0.02, "weight_decay": 0.1} | SET.get(run, {}),
                               matrices=["*"])  # fmt: skip
                changed.state[weight] = optimizer.state[weight]
                optimizer = changed
            weight.grad = gradient(step)[run : run + 1]
            _update(optimizer, weight, factor(step))
        assert torch.allclose(together[run], weight.detach()[0], rtol=1e-9, atol=1e-12)


@torch.no_grad()
def _update(optimizer: Muon, weight: torch.Tensor, rate: float) -> None:
    optimizer.update({"layers.0.weight": weight}, rate)


@pytest.mark.parametrize(
    ("build", "name", "value", "told"),
    [
        (lambda named: AdamW(named), "momentum", 0.5, "sets momentum, which model.optimizer AdamW has not been given"),
        (lambda named: Muon(named, matrices=["*"]), "momentum", 1.0, "momentum is 1.0; it must be"),
        (lambda own: torch.optim.SGD(own), "betas", 0.5, "sets betas, which is no number of SGD; there are lr"),
        (lambda own: torch.optim.SGD(own, lr=0.0), "lr", 0.5, "it is 0 at first"),
    ],
)
def test_what_is_refused(build, name: str, value: float, told: str) -> None:
    weight = gradient(100).clone().requires_grad_()
    optimizer = build_optimizer(build, [("layers.0.weight", weight)], [1, 2, 3], apart=True)
    with pytest.raises(UserError, match=told):
        optimizer.set_hyperparameter(1, name, value)


class Groups(torch.optim.SGD):
    """Of which only the second group has iterations, and which changes its own rate and momentum."""

    def __init__(self, named_parameters, lr: float) -> None:
        (_, first), (_, second) = named_parameters
        super().__init__([{"params": [first]}, {"params": [second], "iterations": 4}], lr=lr, momentum=0.9)

    def step(self, closure=None):
        for group in self.param_groups:
            group["momentum"] *= 0.9
            group["lr"] *= 0.95 ** len(range(group.get("iterations", 1)))
        return super().step(closure)


def test_what_has_become_of_a_number_since_it_was_set_is_resumed() -> None:
    settings = {"momentum": 0.5, "lr": 0.02, "iterations": 2.0}
    named, copies = ([(f"{seed}.weight", gradient(seed).requires_grad_()) for seed in (1, 2)] for _ in range(2))
    whole, other, resumed = (
        build_optimizer(partial(Groups, lr=0.01), pairs, [1, 2, 3], apart=True) for pairs in (named, copies, copies)
    )
    for optimizer, pairs in ((whole, named), (other, copies)):
        for name, value in settings.items():
            optimizer.set_hyperparameter(1, name, value)
        _take_steps(optimizer, pairs, range(3))
    resumed.load_state_dict(other.state_dict())
    for name, value in settings.items():
        set_hyperparameter(resumed, 1, name, value, again=True)
    for optimizer, pairs in ((whole, named), (resumed, copies)):
        _take_steps(optimizer, pairs, range(3, 6))
    assert all(torch.equal(one, two) for (_, one), (_, two) in zip(named, copies, strict=True))
    assert not torch.equal(named[0][1][0], named[0][1][1])


def _take_steps(optimizer, named, steps: range) -> None:
    for step in steps:
        for _, weight in named:
            weight.grad = gradient(step)
        optimizer.step(lambda: torch.zeros(()))
