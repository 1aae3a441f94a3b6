"""Norms are those of each run's own weights, whatever stack it is in."""

import pytest
import torch
from torch import Tensor

from grok_lightning.models import LSTM, SequenceModel, Transformer
from grok_lightning.training.norms import PARTS, gradient_norm, weight_norms

SEEDS = (3, 5, 8)
LENGTH = 4
OF_TRANSFORMER = [part for part in PARTS if part != "recurrent"]


def network(*seeds: int, **options: object) -> Transformer:
    return Transformer(7, LENGTH, seeds, layers=2, width=8, heads=2, **options)  # type: ignore[arg-type]


def by_hand(tensors: list[Tensor], run: int) -> float:
    flat = torch.cat([tensor[run].detach().flatten() for tensor in tensors]).double()
    return float(torch.linalg.vector_norm(flat))


def is_in(name: str, part: str) -> bool:
    marks = {"embeddings": "embeddings.", "attention": ".attention.", "feedforward": ".feedforward.", "head": "head."}
    return (marks | {"recurrent": "recurrent."})[part] in name


def test_the_norm_of_all_weights_is_each_runs_own() -> None:
    model = network(*SEEDS)
    found = weight_norms(model)["norm/weights"]
    expected = [by_hand(list(model.parameters()), run) for run in range(len(SEEDS))]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("part", "kind"), [*((part, "transformer") for part in OF_TRANSFORMER), ("recurrent", "LSTM"), ("head", "LSTM")]
)
def test_the_norm_of_a_part(part: str, kind: str) -> None:
    model: SequenceModel = network(*SEEDS) if kind == "transformer" else LSTM(7, LENGTH, SEEDS, hidden=8, width=4)
    weights = [weight for name, weight in model.named_parameters() if is_in(name, part)]
    expected = [by_hand(weights, run) for run in range(len(SEEDS))]
    torch.testing.assert_close(weight_norms(model)[f"norm/{part}"], torch.tensor(expected, dtype=torch.float64))


def test_parts_and_layer_norms_make_up_the_whole() -> None:
    model = network(*SEEDS)
    found = weight_norms(model)
    parts = sum(found[f"norm/{part}"] ** 2 for part in OF_TRANSFORMER)
    norms = [weight for name, weight in model.named_parameters() if "norm." in name]
    rest = torch.tensor([by_hand(norms, run) for run in range(len(SEEDS))], dtype=torch.float64)
    torch.testing.assert_close(parts + rest**2, found["norm/weights"] ** 2)


def test_a_run_has_the_same_norms_alone_and_in_a_stack() -> None:
    stacked = weight_norms(network(*SEEDS))
    for run, seed in enumerate(SEEDS):
        single = weight_norms(network(seed))
        assert single.keys() == stacked.keys()
        torch.testing.assert_close(
            {key: value[0] for key, value in single.items()}, {k: v[run] for k, v in stacked.items()}
        )


def test_a_tied_model_has_no_head_of_its_own() -> None:
    assert "norm/head" not in weight_norms(network(1, tied=True))


def test_scaling_the_weights_scales_every_norm() -> None:
    model = network(*SEEDS)
    before = weight_norms(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    torch.testing.assert_close(weight_norms(model), {key: 3 * value for key, value in before.items()})


def test_the_gradient_norm_is_each_runs_own() -> None:
    model = network(*SEEDS)
    assert gradient_norm(model) == {}
    tokens = torch.randint(7, (len(SEEDS), 5, LENGTH), generator=torch.Generator().manual_seed(0))
    model(tokens, 1).square().sum().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    expected = [by_hand(gradients, run) for run in range(len(SEEDS))]
    assert min(expected) > 0
    torch.testing.assert_close(gradient_norm(model)["norm/gradient"], torch.tensor(expected, dtype=torch.float64))


def test_norms_neither_need_nor_leave_a_graph() -> None:
    model = network(*SEEDS)
    assert not any(norm.requires_grad for norm in weight_norms(model).values())
    assert all(weight.grad is None for weight in model.parameters())


def test_sums_of_many_parts_are_those_of_a_run_alone_to_the_bit() -> None:
    for seed in range(60):
        seeds = (seed, seed + 100, seed + 200)
        stacked = weight_norms(network(*seeds))["norm/weights"]
        assert stacked.tolist() == [weight_norms(network(each))["norm/weights"].item() for each in seeds]
