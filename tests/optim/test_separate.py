"""Other people's optimizers: every run of a stack is trained as it would be alone, by an instance of its own."""

import copy
from functools import partial

import pytest
import torch
from others import ByLoss, Everything, Keeping, Lion, Named, Sharpness

from grok_lightning.errors import UserError
from grok_lightning.optim import AdamW
from grok_lightning.randomness import derive_key
from grok_lightning.records.checkpoint import CONFIG_KEY, slice_runs
from grok_lightning.records.checkpoint_form import find_foreign
from grok_lightning.training.separate import RunOptimizers, build_optimizer, needs_closure, takes_stacks

RUNS, SEEDS = 3, [5, 6, 7]
SHAPES = {"embeddings.weight": (4, 3), "layers.0.weight": (3, 5), "layers.0.bias": (1, 5), "head.weight": (5, 4)}
MAPS, VECTORS = {"layers.0.weight", "head.weight"}, {"layers.0.bias"}
TARGET = {name: torch.sin(torch.arange(RUNS * a * b) + a).view(RUNS, a, b) for name, (a, b) in SHAPES.items()}


def stack(runs=range(RUNS)):
    generator = torch.Generator().manual_seed(0)
    whole = {name: torch.randn(RUNS, *shape, generator=generator) for name, shape in SHAPES.items()}
    return {name: weight[list(runs)].clone().requires_grad_() for name, weight in whole.items()}


def ordinary(name, tensor):
    """One run's tensor as torch's own layers hold it."""
    return tensor.mT.contiguous() if name in MAPS else tensor[0] if name in VECTORS else tensor


def run_loss(weights, target, step):
    return sum(((weight - target[name]) * (1 + 0.1 * step)).pow(4).mean() for name, weight in weights.items())


class Trained:
    """A stack, or some of its runs, that an optimizer trains."""

    def __init__(self, build, runs=range(RUNS), weights=None) -> None:
        self.runs, self.weights = list(runs), stack(runs) if weights is None else weights
        self.optimizer = build_optimizer(build, list(self.weights.items()), [SEEDS[run] for run in runs], MAPS, VECTORS)

    def losses(self, step):
        targets = {name: target[self.runs] for name, target in TARGET.items()}
        parts = [((weight - targets[name]) * (1 + 0.1 * step)).pow(4) for name, weight in self.weights.items()]
        return sum(part.flatten(1).mean(1) for part in parts)

    def go(self, steps):
        for step in steps:
            losses: list[torch.Tensor] = []

            def closure(step=step, losses=losses):
                self.optimizer.zero_grad()
                loss_R = self.losses(step)
                loss_R.sum().backward()
                losses.append(loss_R.detach())
                return loss_R.sum()

            if isinstance(self.optimizer, RunOptimizers):
                self.optimizer.losses = losses
            self.optimizer.step(closure)
        return self


def alone(build, run, steps, named=False):
    """One run by the optimizer itself, on ordinary parameters, as one writes a loop."""
    weights = {name: ordinary(name, weight.detach()[0]).clone() for name, weight in stack([run]).items()}
    weights = {name: torch.nn.Parameter(weight) for name, weight in weights.items()}
    target = {name: ordinary(name, part[run]) for name, part in TARGET.items()}
    optimizer = build(list(weights.items()) if named else list(weights.values()))
    for step in range(steps):

        def closure(step=step):
            optimizer.zero_grad()
            loss = run_loss(weights, target, step)
            loss.backward()
            return loss

        if isinstance(optimizer, Everything):
            closure()
            with torch.random.fork_rng():
                torch.manual_seed(derive_key(SEEDS[run], "optimizer", step))
                optimizer.step()
        elif isinstance(optimizer, Sharpness | Named):
            closure()
            optimizer.step(closure)
        else:
            optimizer.step(closure)
    return weights


ANY = {
    "Lion": partial(Lion, lr=1e-2, weight_decay=0.1),
    "Everything": partial(Everything, noise=0.1),
    "Named": partial(Named, lr=0.1),
    "ByLoss": partial(ByLoss, lr=0.1),
    "Adafactor": partial(torch.optim.Adafactor, lr=0.1),
    "own subclass of Adam": type("Mine", (torch.optim.Adam,), {}),
}
SINGLE = {
    "Sharpness": Sharpness,
    "LBFGS": partial(torch.optim.LBFGS, lr=0.3, max_iter=4, line_search_fn="strong_wolfe"),
}


def assert_run_is(trained, place, expected):
    for name, weight in expected.items():
        found = ordinary(name, trained.weights[name].detach()[place])
        torch.testing.assert_close(found, weight.detach(), rtol=1e-5, atol=1e-6, msg=name)
        assert (weight.detach() - ordinary(name, stack()[name].detach()[trained.runs[place]])).abs().max() > 1e-3


@pytest.mark.parametrize("name", ANY)
def test_every_run_of_a_stack_is_trained_as_alone_on_ordinary_parameters(name) -> None:
    before = torch.get_rng_state()
    trained = Trained(ANY[name]).go(range(8))
    assert torch.equal(torch.get_rng_state(), before)
    for run in range(RUNS):
        assert_run_is(trained, run, alone(ANY[name], run, 8, named=name == "Named"))


@pytest.mark.parametrize("name", SINGLE)
def test_what_evaluates_the_loss_several_times_trains_one_run_and_refuses_more(name) -> None:
    assert_run_is(Trained(SINGLE[name], [1]).go(range(5)), 0, alone(SINGLE[name], 1, 5))
    with pytest.raises(UserError, match=r"evaluates the loss several times in a step.*--stack_size 1"):
        Trained(SINGLE[name]).go(range(5))


def test_torchs_muon_gets_the_hidden_matrices_and_adamw_the_rest() -> None:
    trained = Trained(partial(torch.optim.Muon, lr=0.05, weight_decay=0.2)).go(range(6))
    assert [len(group["params"]) for group in trained.optimizer.param_groups] == [1, 3]
    for run in range(RUNS):
        matrix = alone(lambda weights: torch.optim.Muon([weights[1]], lr=0.05, weight_decay=0.2), run, 6)
        rest = alone(lambda weights: torch.optim.AdamW([weights[0], *weights[2:]], lr=0.05, weight_decay=0.2), run, 6)
        assert_run_is(trained, run, {name: (matrix if name == "layers.0.weight" else rest)[name] for name in SHAPES})


@pytest.mark.parametrize("name", [*ANY, "Muon"])
def test_a_run_taken_out_of_a_stack_goes_on_to_the_bit(name) -> None:
    build = ANY.get(name, partial(torch.optim.Muon, lr=0.05))
    trained = Trained(build).go(range(3))
    state = copy.deepcopy(trained.optimizer.state_dict())
    assert find_foreign(state, "state") is None
    weights = {name: weight.detach().clone() for name, weight in trained.weights.items()}
    checkpoint = {"state_dict": weights, "optimizer_states": [state], CONFIG_KEY: {}}
    trained.go(range(3, 7))
    for chosen in ([1], [2, 0], [0, 1, 2]):
        part = slice_runs(checkpoint, chosen, RUNS, {})
        taken = {name: weight.clone().requires_grad_() for name, weight in part["state_dict"].items()}
        resumed = Trained(build, chosen, taken)
        resumed.optimizer.load_state_dict(copy.deepcopy(part["optimizer_states"][0]))
        resumed.go(range(3, 7))
        for name_, weight in resumed.weights.items():
            torch.testing.assert_close(weight, trained.weights[name_][chosen], rtol=1e-6, atol=1e-7)
            if len(chosen) == RUNS:
                assert torch.equal(weight, trained.weights[name_])


def test_state_of_an_earlier_version_in_the_shapes_of_the_stack_is_taken() -> None:
    """Which gave a run of one parameters with R in front."""
    weights = stack([0])
    optimizer = Lion(list(weights.values()), lr=1e-2)
    old = Trained(partial(Lion, lr=1e-2), [0])
    for step in range(3):
        for own in (weights, old.weights):
            for name, weight in own.items():
                weight.grad = torch.cos(torch.arange(weight.numel()) + step).view_as(weight) * (1 + TARGET[name][:1])
        optimizer.step()
        old.optimizer.step()
    again = Trained(
        partial(Lion, lr=1e-2),
        [0],
        {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()},
    )
    again.optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for trained in (old, again):
        trained.go(range(3))
    assert all(torch.equal(weight, again.weights[name]) for name, weight in old.weights.items())


def test_what_a_scheduler_sets_in_the_groups_reaches_every_run() -> None:
    trained = Trained(partial(Everything, lr=1e-2))
    schedule = torch.optim.lr_scheduler.StepLR(trained.optimizer, 1, 0.5)
    for step in range(4):
        trained.go([step])
        schedule.step()
    state = trained.optimizer.state_dict()
    groups = [run[0]["optimizer"]["param_groups"][0] for run in state["runs"]]
    assert [group["lr"] for group in groups] == [1e-2 / 16] * RUNS
    assert len({group["distance"] for group in groups}) == RUNS, "what they set themselves stays their own"
    assert trained.optimizer.param_groups[0]["distance"] == groups[0]["distance"]


def test_one_cycle_moves_the_betas_of_every_run() -> None:
    trained = Trained(ANY["own subclass of Adam"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(trained.optimizer, 0.1, total_steps=9)
    seen = set()
    for step in range(4):
        trained.go([step])
        schedule.step()
        groups = [run[0]["optimizer"]["param_groups"][0] for run in trained.optimizer.state_dict()["runs"]]
        assert len({(group["lr"], group["betas"]) for group in groups}) == 1
        seen.add(groups[0]["betas"])
    assert len(seen) == 4


def test_a_run_that_is_not_finite_spoils_no_other() -> None:
    whole, spoiled = Trained(ANY["Lion"]), Trained(ANY["Lion"])
    with torch.no_grad():
        for weight in spoiled.weights.values():
            weight[1] = torch.nan
    whole.go(range(4))
    spoiled.go(range(4))
    for name, weight in spoiled.weights.items():
        assert torch.equal(weight[[0, 2]], whole.weights[name][[0, 2]])


def test_which_classes_get_the_stack_itself() -> None:
    assert takes_stacks(AdamW)
    assert takes_stacks(torch.optim.NAdam)
    assert not any(map(takes_stacks, (Lion, torch.optim.Muon, torch.optim.Adafactor, torch.optim.LBFGS)))
    assert needs_closure(torch.optim.LBFGS)
    assert not any(map(needs_closure, (Lion, Everything, Sharpness, torch.optim.Adam)))
    named = list(stack().items())
    assert isinstance(build_optimizer(lambda params: torch.optim.Adam(params, lr=0.1), named, SEEDS), torch.optim.Adam)
    lion = build_optimizer(lambda params: Lion(params), named, SEEDS)
    assert isinstance(lion, RunOptimizers)
    assert type(lion).__name__ == "Lion", "LearningRateMonitor names its values by the class"
    assert build_optimizer(lambda params: AdamW(params), named, SEEDS).seeds == SEEDS


def test_what_no_checkpoint_can_hold_is_found() -> None:
    trained = Trained(Keeping, [0]).go([0])
    assert find_foreign(trained.optimizer.state_dict(), "optimizer").endswith(
        "value is of type object; tensors, numbers, text, lists and dicts are expected"
    )
    assert find_foreign({torch.float32: 1}, "optimizer").startswith("optimizer has a key of type dtype")
