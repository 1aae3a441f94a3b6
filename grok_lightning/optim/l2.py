"""L2 regularization in the gradient, where filters that follow see it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from grok_lightning.optim.base import PerRun, check_range, per_run, spread
from grok_lightning.optim.filters import GradientFilter


class L2(GradientFilter):
    """Adds to the gradient that of c / 2 times the sum of the squared weights of all matrices: g <- g + c w.

    Optimizers add theirs after all filters; this one is added where it is listed. Biases and gains have none.

    Args:
        strength: Factor c on the weights. One number, or one for each run.

    Raises:
        UserError: If a number is out of range.
    """

    capturable = True

    def __init__(self, strength: float | list[float] = 1e-4) -> None:
        check_range("model.filters: L2.strength", strength)
        self.strength = strength

    @property
    def hyperparameters(self) -> dict[str, PerRun]:
        return {"strength": self.strength}

    @torch.no_grad()
    def __call__(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor], step: Tensor, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        matrices = [name for name, weight in weights.items() if weight.dim() > 2 and weight.shape[1] > 1]
        strengths = {name: spread(per_run(self.strength, gradients[name]), gradients[name]) for name in matrices}
        return gradients | {
            name: torch.addcmul(gradients[name], weights[name].to(gradients[name]), strengths[name])
            for name in matrices
        }
