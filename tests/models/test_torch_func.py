"""The transforms of torch.func apply to every model: per-sample gradients, Jacobians, Hessians, tangent kernels."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from grok_lightning.models import GRU, LSTM, MLP, SequenceModel, Transformer
from grok_lightning.models.stacked import gather

SHAPE: dict[str, Any] = {"vocabulary": 7, "length": 4}
MODELS: dict[str, Callable[[list[int]], SequenceModel]] = {
    "Transformer": lambda seeds: Transformer(**SHAPE, seeds=seeds, width=8, heads=2),
    "Transformer of two layers": lambda seeds: Transformer(**SHAPE, seeds=seeds, width=8, heads=2, layers=2),
    "MLP": lambda seeds: MLP(**SHAPE, seeds=seeds),
    "GRU": lambda seeds: GRU(**SHAPE, seeds=seeds, width=8),
    "LSTM": lambda seeds: LSTM(**SHAPE, seeds=seeds, width=8),
}
TOKENS_BT = torch.tensor([[0, 5, 1, 6], [2, 5, 2, 6], [4, 5, 0, 6]])
TARGETS_B = torch.tensor([1, 4, 4])

# of torch itself, when it first takes a derivative forward
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

Weights = dict[str, Tensor]


def make(name: str, seeds: list[int]) -> tuple[SequenceModel, Weights]:
    model = MODELS[name](seeds).double().eval()
    return model, {key: weight.detach() for key, weight in model.named_parameters()}


def loss(model: SequenceModel, weights: Weights, tokens_BT: Tensor, targets_B: Tensor) -> Tensor:
    logits = functional_call(model, weights, (tokens_BT[None],))
    return nn.functional.cross_entropy(logits[0, :, -1], targets_B)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_single_equations_are_those_of_a_loop(name: str) -> None:
    model, weights = make(name, [3])
    single = vmap(grad(lambda w, x, y: loss(model, w, x[None], y[None])), (None, 0, 0))(weights, TOKENS_BT, TARGETS_B)
    for row in range(len(TOKENS_BT)):
        model.zero_grad()
        loss(model, dict(model.named_parameters()), TOKENS_BT[row : row + 1], TARGETS_B[row : row + 1]).backward()
        for key, weight in model.named_parameters():
            torch.testing.assert_close(single[key][row], weight.grad if weight.grad is not None else 0 * weight)


@pytest.mark.parametrize("name", MODELS)
def test_jacobians_and_hessians(name: str) -> None:
    model, weights = make(name, [3])
    key = next(iter(weights))  # the embedding, here of numbers around 1, where layer norms bend little
    weights[key] = torch.randn(weights[key].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def of_embedding(weight: Tensor) -> Tensor:
        return functional_call(model, weights | {key: weight}, (TOKENS_BT[None],))[0, :, -1]

    def loss_of_embedding(weight: Tensor) -> Tensor:
        return loss(model, weights | {key: weight}, TOKENS_BT, TARGETS_B)

    torch.testing.assert_close(jacrev(of_embedding)(weights[key]), jacfwd(of_embedding)(weights[key]))
    second = hessian(loss_of_embedding)(weights[key]).flatten(3).flatten(0, 2)
    torch.testing.assert_close(second, second.T)
    direction = torch.randn(weights[key].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ahead, behind = (grad(loss_of_embedding)(weights[key] + sign * 1e-5 * direction) for sign in (1, -1))
    torch.testing.assert_close(
        (second @ direction.flatten()).view_as(ahead), (ahead - behind) / 2e-5, atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_map_over_weights_is_a_stack(name: str) -> None:
    model, stacked = make(name, [3, 4])
    single, _ = make(name, [3])
    each = {key: weight[:, None] for key, weight in stacked.items()}
    mapped = vmap(lambda w: functional_call(single, w, (TOKENS_BT[None],)))(each)
    torch.testing.assert_close(mapped[:, 0], model(TOKENS_BT.expand(2, -1, -1)))


def test_all_derivatives_of_a_gather_are_those_of_indexing() -> None:
    table, index = torch.randn(2, 5, 3, dtype=torch.float64), torch.tensor([[0, 4, 4, 1], [2, 2, 2, 0]])

    def plain(table: Tensor) -> Tensor:
        return table[torch.arange(2)[:, None], index].pow(3).sum()

    def ours(table: Tensor) -> Tensor:
        return gather(table, index).pow(3).sum()

    torch.testing.assert_close(grad(ours)(table), grad(plain)(table))
    torch.testing.assert_close(hessian(ours)(table), hessian(plain)(table))
    torch.testing.assert_close(
        jvp(grad(ours), (table,), (table.cos(),))[1], jvp(grad(plain), (table,), (table.cos(),))[1]
    )
    torch.testing.assert_close(jacfwd(jacfwd(ours))(table), hessian(plain)(table))
