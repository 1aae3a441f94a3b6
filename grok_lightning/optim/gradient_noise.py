"""Gaussian noise added to gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from grok_lightning.optim.base import PerRun, check_range, per_run
from grok_lightning.optim.filters import GradientFilter
from grok_lightning.randomness import gaussians, purpose_keys


def noise_deviation(std_R: Tensor, decay_R: Tensor, step: Tensor) -> Tensor:
    """sigma of step t for each run, sigma^2 = std^2 / (1 + t)^decay.

    Source: Neelakantan et al., arXiv 1511.06807, who call std^2 eta, and decay gamma.
    """
    return std_R * (1 + step).to(std_R) ** (-decay_R / 2)


class GradientNoise(GradientFilter):
    """Adds normal noise to every number of the gradient: g + N(0, sigma^2), where sigma^2 = std^2 / (1 + step)^decay.

    The noise is a pure function of a run's seed, the step and the place among all parameters.

    Source: Neelakantan et al., arXiv 1511.06807. What we changed: they always decay, at 0.55.

    Args:
        std: Standard deviation at the first step. One number, or one for each run.
        decay: Exponent by which the variance falls. 0 for constant noise; one number, or one for each run.

    Raises:
        UserError: If a number is out of range.
    """

    capturable = True

    def __init__(self, std: float | list[float] = 0.01, decay: float | list[float] = 0.0) -> None:
        check_range("model.filters: GradientNoise.std", std)
        check_range("model.filters: GradientNoise.decay", decay)
        self.std, self.decay = std, decay

    @property
    def hyperparameters(self) -> dict[str, PerRun]:
        return {"std": self.std, "decay": self.decay}

    def __call__(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor], step: Tensor, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        changed = list(gradients.values())
        first = changed[0]
        deviations_R = noise_deviation(per_run(self.std, first), per_run(self.decay, first), step)
        keys_R = purpose_keys(tuple(seeds), "gradient noise", first.device)
        torch._foreach_add_(changed, gaussians(keys_R, step, changed, deviations_R[:, None]))
        return gradients
