"""Float64 on every device: on the tensor's own where it has float64, on the CPU where it has not."""

import torch
from torch import Tensor

WITHOUT_FLOAT64 = ("mps",)


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64; Apple's GPUs do not."""
    return device.type not in WITHOUT_FLOAT64


def to_double(tensor: Tensor) -> Tensor:
    """A tensor in float64.

    Args:
        tensor: Numbers of any type. Gradients pass through.

    Returns:
        It on its own device, or on the CPU if that device has no float64. What is computed together with the result
        must be moved to ``result.device``.
    """
    # two steps, since a tensor that is moved and converted in one may be converted first
    return (tensor if has_float64(tensor.device) else tensor.cpu()).double()
