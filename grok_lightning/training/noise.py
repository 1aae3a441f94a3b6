"""Noise on the weights of a training forward pass."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from grok_lightning.randomness import gaussians


def add_noise(model: nn.Module, keys_R: Tensor, std_R: Tensor, step: Tensor) -> dict[str, Tensor]:
    """Copies of a model's weights with normal noise added; gradients reach the weights, which stay as they are.

    Args:
        model: The model.
        keys_R: Each run's key of the random numbers.
        std_R: Standard deviation of each run's noise, (R,), or one number for all, (1,).
        step: The optimizer step, int64, without dimensions.

    Returns:
        A tensor for each parameter's name.
    """
    named: dict[str, Tensor] = dict(model.named_parameters())
    weights = list(named.values())
    noises = gaussians(keys_R, step, weights, std_R[:, None])
    noisy: Sequence[Tensor] = torch._foreach_add(weights, noises)
    return dict(zip(named, noisy, strict=True))
