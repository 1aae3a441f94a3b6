"""Float64 arithmetic for tensors on any device, including devices without float64."""

import torch
from torch import Tensor

WITHOUT_FLOAT64 = ("mps",)  # device types


def double_device(device: torch.device) -> torch.device:
    """Device for float64 copies of tensors on a device: the device itself, or the CPU if it has no float64."""
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def to_double(tensor: Tensor) -> Tensor:
    """Converts a tensor to float64, on the CPU if its device has no float64.

    Args:
        tensor: Tensor of any type and device. Gradients pass through.

    Returns:
        The float64 tensor. Tensors that are used together with it must be moved to its device.
    """
    # in one step the tensor might be converted before it is moved
    return tensor.to(double_device(tensor.device)).double()
