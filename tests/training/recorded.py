"""Watching the operations of a step: counted, refused, or recorded and done again as a CUDA graph does."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

UNCOUNTED = {  # views, allocations, and what only marks a place in a profile
    *(
        "view",
        "_unsafe_view",
        "expand",
        "t",
        "transpose",
        "permute",
        "unsqueeze",
        "squeeze",
        "select",
        "slice",
        "split",
    ),
    *("detach", "alias", "unbind", "as_strided", "split_with_sizes", "lift_fresh", "unflatten"),
    *("empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided"),
    *("_record_function_enter_new", "_record_function_exit"),
}

# torch has meta kernels of its fused optimizers for a learning rate that is a number, not for one that is a tensor
_META_KERNELS = torch.library.Library("aten", "IMPL")
for _name in ("_fused_adamw_.tensor_lr", "_fused_adam_.tensor_lr"):
    _META_KERNELS.impl(_name, lambda *_, **__: None, "Meta")


@pytest.fixture(autouse=True)
def calls_that_take_their_time(monkeypatch):
    """However slow the machine, a call takes all the steps that it was asked for."""
    monkeypatch.setattr("grok_lightning.training.updates.CALL_SECONDS", 1000.0)


def tensors_in(tree: Any) -> list[Tensor]:
    """All tensors of nested arguments or results."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class Operations(TorchDispatchMode):
    """Counts the operations on a device and refuses what would make the host wait.

    Attributes:
        counts: How often each operation ran on the device.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        name = function._schema.name.split("::")[1]
        given, made = tensors_in((args, kwargs)), tensors_in(results)
        kinds = {tensor.device.type for tensor in given if tensor.dim()}
        if self.device in kinds | {tensor.device.type for tensor in made}:
            assert kinds <= {self.device}, f"{name} copies between devices: {kinds}"
            for tensor in [*given, *made]:
                if tensor.device.type == self.device:
                    assert tensor.dtype != torch.float64, f"{name} needs float64"
            self.counts[name] += name not in UNCOUNTED
        return results

    def total(self) -> int:
        """How many operations ran, views aside."""
        return sum(self.counts.values())


class _Recorder(TorchDispatchMode):
    """Notes each operation with its arguments and results, and what tensors it changed were before."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for argument, value in zip(function._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in tensors_in(value):
                    self._remember(tensor)
        for name, value in kwargs.items():
            if name == "out":
                for tensor in tensors_in(value):
                    self._remember(tensor)
        results = function(*args, **kwargs)
        self.operations.append((function, args, kwargs, results))
        return results

    def _remember(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.before:
            whole = torch.empty(0, dtype=torch.uint8).set_(storage)
            self.before[storage.data_ptr()] = whole, whole.clone()


class RecordedGraph:
    """A CUDA graph on a CPU: the operations of one step, done again on the same tensors with the same numbers.

    Whatever a step took from the host when it was captured stays as it was then; capturing changes nothing.
    """

    def __init__(self) -> None:
        self.rehearsals = self.replays = 0

    def rehearse(self, function) -> None:
        self.rehearsals += 1
        function()

    def capture(self, function):
        recorder = _Recorder()
        with recorder:
            function()
        for tensor, content in recorder.before.values():
            tensor.copy_(content)
        return lambda: self._replay(recorder.operations)

    @torch.no_grad()
    def _replay(self, operations) -> None:
        self.replays += 1
        for function, args, kwargs, recorded in operations:
            again = function(*args, **kwargs)
            for old, new in zip(tensors_in(recorded), tensors_in(again), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)
