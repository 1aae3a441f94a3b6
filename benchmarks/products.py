"""The matrix products that something computes, and how long they alone take."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm")


class Products(TorchDispatchMode):
    """Notes the factors of each matrix product: their shapes and type."""

    def __init__(self) -> None:
        super().__init__()
        self.factors: list[tuple[torch.Size, torch.Size, torch.dtype]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function._schema.name.removeprefix("aten::") in PRODUCTS:
            left, right = args[-2:]
            self.factors.append((left.shape, right.shape, left.dtype))
        return function(*args, **(kwargs or {}))

    @property
    def operations(self) -> int:
        """Multiplications and additions, 2 for each pair of numbers."""
        return sum(2 * left.numel() * right[-1] for left, right, _ in self.factors)

    def alone(self, device: torch.device) -> Callable[[], None]:
        """What computes the same products on random numbers and nothing else."""
        kinds = {kind: self._product(kind, device) for kind in dict.fromkeys(self.factors)}

        def compute() -> None:
            for kind in self.factors:
                kinds[kind]()

        return compute

    @staticmethod
    def _product(kind: tuple[torch.Size, torch.Size, torch.dtype], device: torch.device) -> Callable[[], Tensor]:
        left, right = (torch.randn(shape, device=device).to(kind[2]) for shape in kind[:2])
        return lambda: torch.matmul(left, right)


def products_of(function: Callable[[], Any]) -> Products:
    """The products that a call computes."""
    products = Products()
    with products:
        function()
    return products


def seconds(function: Callable[[], Any], device: torch.device, calls: int = 1) -> float:
    """Wall time of a call, its work on the device included."""
    wait(device)
    begun = time.perf_counter()
    for _ in range(calls):
        function()
    wait(device)
    return (time.perf_counter() - begun) / calls


def wait(device: torch.device) -> None:
    """Waits for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
