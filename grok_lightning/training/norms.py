"""Norms of weights and of the gradient, run by run."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from grok_lightning.hardware.doubles import to_double
from grok_lightning.optim.base import per_run, spread

PARTS = ("embeddings", "attention", "feedforward", "recurrent", "head")


@torch.no_grad()
def weight_norms(model: nn.Module) -> dict[str, Tensor]:
    """Euclidean norms of all weights and of each part, each of shape (R,), float64.

    A parameter belongs to the part that its dotted name contains; layer norms count in the total alone.
    """
    squares = {name: _squares(weight) for name, weight in model.named_parameters()}
    norms = {"norm/weights": _root(squares.values())}
    for part in PARTS:
        of_part = [square for name, square in squares.items() if part in name.split(".")]
        if of_part:
            norms[f"norm/{part}"] = _root(of_part)
    return norms


@torch.no_grad()
def weight_norm(model: nn.Module, trained: bool = False) -> Tensor:
    """Euclidean norm of all weights together, or of those that are trained, shape (R,), float64."""
    return _root(_squares(weight) for weight in model.parameters() if weight.requires_grad or not trained)


@torch.no_grad()
def single_norm(model: nn.Module) -> Tensor:
    """The norm of what is trained in the weights' own type, for a step on a device where float64 is slow or missing."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    norms = [torch.linalg.vector_norm(weight[..., None].flatten(1), dim=1) for weight in trained]
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)


@torch.no_grad()
def gradient_norm(model: nn.Module) -> dict[str, Tensor]:
    """Euclidean norm (R,) of the last step's gradient as the optimizer took it, float64; none before the first step."""
    squares = [_squares(weight.grad) for weight in model.parameters() if weight.grad is not None]
    return {"norm/gradient": _root(squares)} if squares else {}


@torch.no_grad()
def rescale(model: nn.Module, norms: list[float]) -> None:
    """Multiplies all weights of each run that are trained by one number, so that it has the norm given; 0: by 1."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    norms_R = weight_norm(model, trained=True) if trained[0].is_cpu else single_norm(model)
    wanted_R = per_run(norms, norms_R)
    factors_R = wanted_R / norms_R
    if not all(norms):
        factors_R = torch.where(wanted_R > 0, factors_R, 1.0)
    for weight in trained:
        weight.mul_(spread(factors_R, weight))


def _squares(tensor: Tensor) -> Tensor:
    return to_double(tensor).square()[..., None].flatten(1).sum(1)


def _root(squares: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(squares)).sum(0).sqrt()
