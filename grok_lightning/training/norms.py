"""Norms of weights and of the gradient, run by run."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from grok_lightning.errors import UserError, show
from grok_lightning.hardware.doubles import to_double
from grok_lightning.optim.base import PerRun, check_range, check_runs, per_run, spread
from grok_lightning.optim.constraints import Constraint

AT_MOST = "at_most"
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
def gradient_norm(model: nn.Module) -> dict[str, Tensor]:
    """Euclidean norm (R,) of the last step's gradient as the optimizer took it, float64; none before the first step."""
    squares = [_squares(weight.grad) for weight in model.parameters() if weight.grad is not None]
    return {"norm/gradient": _root(squares)} if squares else {}


class WholeNorm(Constraint):
    """The norm of all trained weights of a run: a number that it has, or that it does not exceed.

    w <- w c / |w|, or w <- w min(1, c / |w|), with one factor for all weights of a run.

    Source of the first: Liu et al., Omnigrok, arXiv 2210.01117.

    Args:
        norms: c of each run, 0 for none; empty while there is none, or as long as initial norms are not known.
        capped: For each run, whether c is the largest norm instead of the norm.
    """

    capturable = True

    def __init__(self, norms: list[float], capped: list[bool]) -> None:
        self.norms, self.capped = norms, capped

    def begin(self, weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        """Leaves the weights: initial norms are those of the weights that training begins with."""

    def __call__(self, weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        if not self.norms:
            return
        trained = list(weights.values())
        norms_R = _root(map(_squares, trained)) if trained[0].is_cpu else _single_norm(trained)
        wanted_R = per_run(self.norms, norms_R)
        factors_R = wanted_R / norms_R
        if any(self.capped):
            factors_R = torch.where(per_run([*map(float, self.capped)], norms_R) > 0, factors_R.clamp(max=1), factors_R)
        if not all(self.norms):
            factors_R = torch.where(wanted_R > 0, factors_R, 1.0)
        for weight in trained:
            weight.mul_(spread(factors_R, weight))


def read_norm(option: str | PerRun | dict[str, Any], runs: int) -> WholeNorm:
    """The constraint that ``model.weight_norm`` describes: free, initial, a number, or ``{at_most: ...}``.

    Args:
        option: The option, with one number or one for each run.
        runs: R.

    Raises:
        UserError: If it is none of these, or a number is out of range.
    """
    name, capped, value = "model.weight_norm", isinstance(option, dict), cast(str | PerRun, option)
    if isinstance(option, dict):
        if set(option) != {AT_MOST}:
            raise UserError(f"{name} is {show(option)}; a mapping is {{at_most: NUMBER}} or {{at_most: initial}}")
        name, value = f"{name}.{AT_MOST}", option[AT_MOST]
        numbers = value if isinstance(value, list) and value else [value]
        if value != "initial" and not all(type(number) in (int, float) for number in numbers):
            raise UserError(f"{name} is {show(value)}; it must be initial or a number above 0")
    elif isinstance(value, str) and value not in ("free", "initial"):
        raise UserError(f"{name} is {show(value)}; it must be free, initial, a number above 0, or {{at_most: ...}}")
    norms: list[float] = []
    if not isinstance(value, str):
        check_range(name, value, least=1e-30)
        check_runs(name, value, runs)
        norms = list(value) if isinstance(value, list) else [value] * runs
    return WholeNorm(norms, [capped] * runs)


def _single_norm(trained: Iterable[Tensor]) -> Tensor:
    """The norm in the weights' own type, for a step on a device where float64 is slow or missing."""
    norms = [torch.linalg.vector_norm(weight[..., None].flatten(1), dim=1) for weight in trained]
    return torch.linalg.vector_norm(torch.stack(norms, dim=1), dim=1)


def _squares(tensor: Tensor) -> Tensor:
    return to_double(tensor).square()[..., None].flatten(1).sum(1)


def _root(squares: Iterable[Tensor]) -> Tensor:
    # runs first: sums down a column round differently from stack to stack
    return torch.stack(list(squares), dim=1).sum(1).sqrt()
