"""Gradients with equal singular values: degenerate ones, types, layouts, and which parameters they are of."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from unnamed import Unnamed

from grok_lightning.errors import UserError
from grok_lightning.models import MLP, Transformer
from grok_lightning.module import GrokModule
from grok_lightning.optim import L2, Egalitarian, NormalizeColumns
from grok_lightning.optim.egalitarian import polar_factor

SEEDS = (5, 0)


def randoms(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (6, 6), (2, 1)])
def test_all_singular_values_become_1_and_directions_stay(shape: tuple[int, int]) -> None:
    gradient = randoms(3, *shape)
    factor = polar_factor(gradient)
    for own, new in zip(gradient.numpy(), factor.numpy(), strict=True):
        u, s, vh = np.linalg.svd(own, full_matrices=False)
        np.testing.assert_allclose(np.linalg.svd(new, compute_uv=False), np.ones_like(s), rtol=1e-12)
        np.testing.assert_allclose(new, u @ vh, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        *((dtype, scale) for dtype in (torch.float64, torch.float32, torch.bfloat16) for scale in (1e-12, 1.0, 1e12)),
        (torch.float16, 1.0),  # the other scales are beyond its range
    ],
)
def test_directions_of_no_size_stay_out_whatever_the_scale_and_type(dtype: torch.dtype, scale: float) -> None:
    """A gradient of rank 3: the pseudo-inverse of the formula, computed in NumPy from the numbers as they are."""
    gradient = (randoms(2, 20, 3, seed=1) @ randoms(2, 3, 12, seed=2) * scale).to(dtype)
    factor = polar_factor(gradient)
    assert factor.dtype == dtype
    for own, new in zip(gradient.double().numpy(), factor.double().numpy(), strict=True):
        u, _, vh = np.linalg.svd(own, full_matrices=False)
        tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, 0.05)
        np.testing.assert_allclose(new, u[:, :3] @ vh[:3], atol=tolerance)


def test_zeros_give_zeros_and_a_lost_run_keeps_to_itself() -> None:
    gradient = randoms(4, 5, 3)
    alone = polar_factor(gradient[3:])
    gradient[0], gradient[1, 2, 1], gradient[2, 0, 0] = 0, torch.nan, torch.inf
    factor = polar_factor(gradient)
    assert not factor[0].any()
    assert factor[1:3].isnan().all()
    assert torch.equal(factor[3:], alone)


def test_equal_singular_values_and_repeated_columns_are_no_special_case() -> None:
    torch.testing.assert_close(polar_factor(3 * torch.eye(4)[None]), torch.eye(4)[None])
    column = randoms(1, 6, 1)
    twice = torch.cat([column, column, torch.zeros_like(column)], dim=2)
    torch.testing.assert_close(polar_factor(twice), twice / (2**0.5 * column.norm()))


class Ordinary(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 6)
        self.conv = nn.Conv1d(6, 5, 3)
        self.inner = nn.Linear(10, 4)
        self.head = nn.Linear(4, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.inner(self.conv(self.embed(tokens).mT).flatten(1)))
        return logits


def build(network: object, filters: list[object]) -> GrokModule:
    return GrokModule(8, 4, 1, list(SEEDS), network=network, filters=filters)  # type: ignore[arg-type]


def changed_by(kind: type, network: object, **options: object) -> set[str]:
    module = build(network, [kind(**options)])
    weights = {name: weight.detach().double() for name, weight in module.network.named_parameters()}
    gradients = {name: randoms(*weight.shape, seed=len(name)) for name, weight in weights.items()}
    before = {name: gradient.clone() for name, gradient in gradients.items()}
    new = module.filters[0](weights, gradients, torch.tensor(0), SEEDS)
    assert list(new) == list(before)
    return {name for name in before if not torch.equal(new[name], before[name])}


@pytest.mark.parametrize("kind", [Egalitarian, NormalizeColumns])
def test_maps_are_changed_and_vectors_embeddings_and_the_head_are_not(kind: type) -> None:
    transformer = functools.partial(Transformer, layers=1, width=8, heads=2)
    attention = {f"layers.0.attention.{name}.weight" for name in ("query", "key", "value", "out")}
    forward = {f"layers.0.feedforward.{name}.weight" for name in ("inner", "outer")}
    assert changed_by(kind, transformer) == attention | forward
    assert changed_by(kind, transformer, matrices=["*feedforward*", "head.weight"]) == forward | {"head.weight"}
    one_hot = functools.partial(MLP, inputs="one-hot", hidden=[6, 5])
    assert changed_by(kind, one_hot) == {"feedforward.0.linear.weight", "feedforward.1.weight"}
    assert changed_by(kind, Ordinary) == {"module.conv.weight", "module.inner.weight"}
    assert changed_by(kind, Unnamed) == {"module.first.weight"}


def test_columns_are_the_weights_into_one_output_in_either_layout() -> None:
    module = build(Ordinary, [NormalizeColumns(least=1e-6)])
    gradients = {name: randoms(*weight.shape) for name, weight in module.network.named_parameters()}
    new = module.filters[0](gradients, gradients, torch.tensor(0), SEEDS)
    for name in ("module.conv.weight", "module.inner.weight"):
        torch.testing.assert_close(new[name].flatten(2).norm(dim=2), torch.ones(2, new[name].shape[1]).double())
    ours = build(functools.partial(MLP, width=8, hidden=[6]), [NormalizeColumns(least=1e-6)])
    gradients = {name: randoms(*weight.shape) for name, weight in ours.network.named_parameters()}
    new = ours.filters[0](gradients, gradients, torch.tensor(0), SEEDS)
    torch.testing.assert_close(new["feedforward.0.weight"].norm(dim=1), torch.ones(2, 6).double())


def test_l2_is_that_of_the_optimizer_on_matrices() -> None:
    module = build(Ordinary, [L2(strength=[0.1, 2.0])])
    weights = {name: weight.detach() for name, weight in module.network.named_parameters()}
    gradients = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    new = module.filters[0](weights, gradients, torch.tensor(0), SEEDS)
    for name, weight in weights.items():
        strengths = torch.tensor([0.1, 2.0]).view(2, *[1] * (weight.dim() - 1))
        torch.testing.assert_close(new[name], weight * strengths if weight.dim() > 2 else torch.zeros_like(weight))


@pytest.mark.parametrize("kind", [Egalitarian, NormalizeColumns])
def test_a_pattern_without_a_matrix_is_refused_before_training(kind: type) -> None:
    for pattern in ("layers.*", "module.inner.bias"):
        with pytest.raises(UserError) as refused:
            build(Ordinary, [kind(matrices=[pattern])])
        assert f"{kind.__name__}.matrices has the pattern '{pattern}', which matches no parameter" in str(refused.value)


@pytest.mark.parametrize("kind", [Egalitarian, NormalizeColumns])
def test_a_filter_of_no_matrix_is_refused(kind: type) -> None:
    for network, options in ((functools.partial(MLP, inputs="one-hot", hidden=[]), {}), (Ordinary, {"matrices": []})):
        with pytest.raises(UserError, match=rf"{kind.__name__}.matrices is of no parameter of this network"):
            build(network, [kind(**options)])
