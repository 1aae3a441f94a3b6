"""Float64 on every device: on the tensor's own where it has float64, on the CPU where it has not."""

import torch
from torch import Tensor

WITHOUT_FLOAT64 = ("mps",)  # types of devices; Apple's GPUs


def double_device(device: torch.device) -> torch.device:
    """Where float64 numbers of a device's tensors are: on that device, or on the CPU if it has no float64."""
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def to_double(tensor: Tensor) -> Tensor:
    """A tensor in float64, on its ``double_device``.

    Args:
        tensor: Numbers of any type. Gradients pass through.

    Returns:
        The tensor. What is computed together with it must be on its device, which may be another than before.
    """
    # moved and then converted: in one step it might be converted first
    return tensor.to(double_device(tensor.device)).double()
