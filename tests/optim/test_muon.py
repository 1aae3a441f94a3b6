"""Muon is the published one, run by run, on the matrices it is told to take; the rest is AdamW."""

import io

import numpy as np
import pytest
import torch

from grok_lightning.errors import UserError
from grok_lightning.models import GRU, LSTM, MLP, Transformer
from grok_lightning.optim import Muon, muon
from grok_lightning.optim.muon import orthogonalize

SHAPES = {
    "embeddings.weight": (7, 6),
    "layers.0.wide.weight": (4, 6),
    "layers.0.tall.weight": (6, 4),
    "layers.0.square.weight": (5, 5),
    "layers.0.square.bias": (1, 5),
    "layers.1.wide.weight": (4, 6),
    "norm.gain": (1, 6),
}
MATRICES = [name for name in SHAPES if name.startswith("layers") and name.endswith("weight")]
PATTERNS = ["layers.*.wide.*", "layers.0.tall.weight", "*square.weight"]
RUNS = 3
NUMBERS = {
    "shared": {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.5, "adamw_lr": 0.01, "adamw_weight_decay": 1.0},
    "each its own": {
        "lr": [0.02, 0.1, 0.0],
        "momentum": [0.95, 0.0, 0.5],
        "weight_decay": [0.0, 0.3, 1.0],
        "adamw_lr": [0.01, 0.0, 0.1],
        "adamw_weight_decay": [1.0, 0.5, 0.0],
    },
}


def random_stack(seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(RUNS, *shape, dtype=torch.float64, generator=generator) for name, shape in SHAPES.items()}


def stack():
    return {name: tensor.requires_grad_() for name, tensor in random_stack(0).items()}


def train(optimizer, weights, steps, factors=None):
    for step in steps:
        factor = 1.0 if factors is None else factors[step]
        optimizer.param_groups[0] |= {"factor": factor, "lr": optimizer.defaults["lr"] * factor}
        for name, gradient in random_stack(1000 + step).items():
            weights[name].grad = gradient
        optimizer.step()


def of_run(value, run):
    return value[run] if isinstance(value, list) else value


def published(weight_oi, gradients_oi, lr, momentum, weight_decay, nesterov, factors, iterations=5):
    """Muon on one matrix (out, in), operation by operation."""
    mean = np.zeros_like(weight_oi)
    for gradient, factor in zip(gradients_oi, factors, strict=True):
        mean = momentum * mean + (1 - momentum) * gradient
        update = (1 - momentum) * gradient + momentum * mean if nesterov else mean
        outputs, inputs = update.shape
        x = update / (np.sqrt((update**2).sum()) + 1e-7)
        x = x.T if outputs > inputs else x
        for _ in range(iterations):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        x = x.T if outputs > inputs else x
        rate = lr * factor
        weight_oi = (1 - rate * weight_decay) * weight_oi - rate * max(1, outputs / inputs) ** 0.5 * x
    return weight_oi


@pytest.mark.parametrize(("nesterov", "iterations"), [(True, 5), (False, 5), (True, 2)])
@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_every_matrix_of_every_run_follows_the_published_update(numbers, nesterov, iterations) -> None:
    factors = [0.0, 0.5, 1.0, 1.0, 1.0, 0.3]
    weights = stack()
    optimizer = Muon(weights.items(), **numbers, nesterov=nesterov, steps=iterations, matrices=PATTERNS)
    train(optimizer, weights, range(6), factors)
    lr, momentum, weight_decay = numbers["lr"], numbers["momentum"], numbers["weight_decay"]
    for run in range(RUNS):
        own = [of_run(value, run) for value in (lr, momentum, weight_decay)]
        for name in MATRICES:
            gradients = [random_stack(1000 + step)[name][run].T.numpy() for step in range(6)]
            start = random_stack(0)[name][run].T.numpy()
            end = published(start, gradients, *own, nesterov, factors, iterations)
            np.testing.assert_allclose(weights[name][run].detach().T.numpy(), end, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_everything_else_follows_adamw(numbers) -> None:
    weights = stack()
    train(Muon(weights.items(), **numbers, adamw_eps=1e-6, matrices=PATTERNS), weights, range(6))
    for run in range(RUNS):
        lr, weight_decay = (of_run(numbers[name], run) for name in ("adamw_lr", "adamw_weight_decay"))
        single = {name: weight[run].detach().clone().requires_grad_() for name, weight in stack().items()}
        others = [name for name in SHAPES if name not in MATRICES]
        theirs = torch.optim.AdamW(
            [single[name] for name in others], lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=weight_decay
        )
        for step in range(6):
            for name in others:
                single[name].grad = random_stack(1000 + step)[name][run]
            theirs.step()
        for name in others:
            torch.testing.assert_close(weights[name][run], single[name], rtol=1e-12, atol=1e-12)


def test_a_matrix_follows_torch_as_far_as_its_bfloat16_goes() -> None:
    for name in MATRICES:
        weights = {name: stack()[name].detach().requires_grad_()}
        ours = Muon(weights.items(), 0.02, 0.9, 0.1, matrices=[name])
        single = random_stack(0)[name][0].T.contiguous().requires_grad_()
        theirs = torch.optim.Muon([single], lr=0.02, momentum=0.9, weight_decay=0.1)
        for step in range(5):
            weights[name].grad = random_stack(1000 + step)[name]
            single.grad = random_stack(1000 + step)[name][0].T.contiguous()
            ours.step()
            theirs.step()
        moved = single - random_stack(0)[name][0].T
        assert (weights[name][0].T - single).norm() < 0.02 * moved.norm()


@pytest.mark.parametrize("shape", [(4, 9, 9), (4, 9, 30)])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape) -> None:
    generator = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, dtype=torch.float64, generator=generator), full_matrices=False)
    sizes = torch.logspace(-2, 0, 9, dtype=torch.float64) * torch.tensor([1e-4, 1.0, 30.0, 1e6])[:, None]
    done = orthogonalize(left * sizes[:, None] @ right, 5)
    values = left.mT @ done @ right.mT
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert ((diagonal > 0.68) & (diagonal < 1.21)).all()
    torch.testing.assert_close(values, torch.diag_embed(diagonal), rtol=0, atol=1e-9)


def test_in_pieces_as_at_once(monkeypatch) -> None:
    matrices = torch.randn(7, 4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = orthogonalize(matrices, 5)
    for numbers in (1, 2 * 4 * 9, 3 * 4 * 9 + 1):
        monkeypatch.setattr(muon, "CACHED_NUMBERS", numbers)
        torch.testing.assert_close(orthogonalize(matrices, 5), whole, rtol=1e-12, atol=1e-12)


def test_a_gradient_of_zero_moves_nothing_and_one_that_is_not_finite_spoils_no_other_run() -> None:
    spoiled, clean = stack(), stack()
    for weights, ruin in ((spoiled, torch.nan), (clean, 0.0)):
        optimizer = Muon(weights.items(), [0.1] * RUNS, matrices=PATTERNS, adamw_weight_decay=[0.0, 0.0, 1.0])
        for step in range(3):
            for name, gradient in random_stack(1000 + step).items():
                gradient[1] = ruin
                weights[name].grad = gradient
            optimizer.step()
    for name, start in random_stack(0).items():
        assert torch.equal(clean[name][1], start[1])
        assert spoiled[name][1].isnan().all()
        assert torch.equal(spoiled[name][[0, 2]], clean[name][[0, 2]])


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_a_saved_optimizer_continues_exactly(numbers) -> None:
    weights = stack()
    optimizer = Muon(weights.items(), **numbers, matrices=PATTERNS)
    train(optimizer, weights, range(7))
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), {name: weight.detach() for name, weight in weights.items()}), file)
    train(optimizer, weights, range(7, 14))
    file.seek(0)
    state, saved = torch.load(file, weights_only=True)
    resumed = {name: weight.requires_grad_() for name, weight in saved.items()}
    optimizer = Muon(resumed.items(), **numbers, matrices=PATTERNS)
    optimizer.load_state_dict(state)
    assert all(value.is_floating_point() for state in optimizer.state.values() for value in state.values())
    train(optimizer, resumed, range(7, 14))
    assert all(torch.equal(weights[name], resumed[name]) for name in SHAPES)


def test_a_parameter_without_gradient_stays() -> None:
    weights = stack()
    optimizer = Muon(weights.items(), matrices=PATTERNS)
    weights["layers.0.tall.weight"].grad = torch.ones_like(weights["layers.0.tall.weight"])
    optimizer.step()
    moved = [name for name, start in random_stack(0).items() if not torch.equal(weights[name], start)]
    assert moved == ["layers.0.tall.weight"]


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (Transformer, {"layers": 2, "width": 8, "heads": 2}),
        (MLP, {"hidden": [8, 8, 8], "width": 4}),
        (MLP, {"hidden": [8, 8], "inputs": "one-hot"}),
        (LSTM, {"layers": 2, "hidden": 8, "width": 4}),
        (GRU, {"layers": 1, "hidden": 8, "width": 4}),
    ],
)
def test_by_default_it_takes_the_hidden_matrices_of_every_model(network, options) -> None:
    model = network(13, 4, [0, 1], **options)
    chosen = Muon(model.named_parameters()).matrices
    tables = {"embeddings.tokens.weight", "embeddings.positions.weight", "head.weight", "feedforward.0.linear.weight"}
    hidden = {name for name, weight in model.named_parameters() if weight.shape[1] > 1} - tables
    assert chosen == hidden
    assert len(chosen) >= 1


def test_hidden_layers_of_one_unit_are_left_to_adamw_unless_they_are_named() -> None:
    model = Transformer(13, 4, [0, 1], width=16, heads=2, layers=1, feedforward=1)
    chosen = Muon(model.named_parameters()).matrices
    assert "layers.0.feedforward.inner.weight" in chosen
    assert "layers.0.feedforward.outer.weight" not in chosen


def test_parameters_without_names_are_numbered() -> None:
    weights = [weight.detach().requires_grad_() for weight in stack().values()]
    assert Muon(weights, matrices=["[1-3]", "5"]).matrices == {"1", "2", "3", "5"}


@pytest.mark.parametrize(
    ("matrices", "words"),
    [
        (["layers.*.wide.weight", "blocks.*"], ["'blocks.*'", "matches no parameter", "layers.0.wide.weight"]),
        (["layers.*"], ["'layers.*'", "layers.0.square.bias", "no matrix"]),
        (["norm.gain"], ["'norm.gain'", "no matrix"]),
        ([], ["hidden matrices", "layers.0.wide.weight"]),
        (None, ["hidden matrices", "layers.0.wide.weight"]),
    ],
    ids=str,
)
def test_patterns_that_choose_no_matrix_are_refused(matrices, words) -> None:
    with pytest.raises(UserError, match=r"^model\.optimizer\.matrices ") as refusal:
        Muon(stack().items(), matrices=matrices)
    assert all(word in str(refusal.value) for word in words)


OUT_OF_RANGE = [
    *[
        (name, [-1e-3, float("nan"), float("inf"), [0.1, -0.1, 0.1], [0.1, float("nan"), 0.1], [0.1], [0.1] * 4])
        for name in ("lr", "weight_decay", "adamw_lr", "adamw_weight_decay")
    ],
    ("momentum", [1.0, -0.1, float("nan"), [0.9, 1.0, 0.9], [0.9, 0.9]]),
    ("steps", [0, -1]),
    ("adamw_betas", [(1.0, 0.98), (0.9, -0.1), (float("nan"), 0.9)]),
    ("adamw_eps", [0.0, -1.0, float("nan"), float("inf")]),
]


def test_numbers_out_of_range_are_refused() -> None:
    for name, values in OUT_OF_RANGE:
        for value in values:
            with pytest.raises(UserError, match=rf"^model\.optimizer\.{name} "):
                Muon(stack().items(), matrices=PATTERNS, **{name: value})
