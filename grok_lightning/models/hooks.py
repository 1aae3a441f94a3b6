"""Functions that see, and may replace, what the named parts of a network compute."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from grok_lightning.errors import UserError, show

LOGITS = "logits"
Function = Callable[[Tensor], Tensor | None]


class HookedForward:
    """The forward of a network while functions act on its parts: of all positions, without shared beginnings.

    Args:
        network: A ``SequenceModel``.

    Attributes:
        shape: Batch and length of the call under way; None between calls, when no function acts.
        on_logits: The functions on the logits, in the order in which they act.
        uses: Number of contexts that are active.
    """

    def __init__(self, network: Any) -> None:
        self._forward: Callable[..., Tensor] = network.forward
        self._causal, self._flat = network.causal, network.flat_rows
        self.shape: torch.Size | None = None
        self.on_logits: list[tuple[str, Function]] = []
        self.uses = 0

    def __call__(self, tokens_RBT: Tensor, answer_length: int = 1, draw: Any = None, beginnings: Any = None) -> Tensor:
        """The logits of ``SequenceModel.forward``."""
        outer, self.shape = self.shape, tokens_RBT.shape[1:]
        try:
            logits = self._forward(tokens_RBT, self.shape[1] if self._causal else answer_length, draw, None)
            for name, function in self.on_logits:
                logits = apply_function(name, function, logits)
        finally:
            self.shape = outer
        return logits[:, :, -answer_length:]

    def act(self, name: str, function: Function, module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
        """Applies a function to the output of a part, in the shape that ``activations`` shows."""
        if self.shape is None or not isinstance(output, Tensor):
            return None
        whole = unflatten(output, self.shape, self._flat)
        return apply_function(name, function, whole).reshape(output.shape)


def unflatten(part: Tensor, shape: torch.Size, flat: bool) -> Tensor:
    """The output of a part with its rows as equations and positions: (R, B * T, ...) as (R, B, T, ...).

    Args:
        part: The output.
        shape: B and T.
        flat: Whether three dimensions are always (R, B * T, D), also where T is 1.
    """
    batch, length = shape
    rows = part.dim() > 1 and part.shape[1] == batch * length
    return part.unflatten(1, (batch, length)) if rows and (length != 1 or (flat and part.dim() == 3)) else part


def check_functions(functions: Mapping[str, Function], known: Mapping[str, Any] | list[str], hint: str) -> None:
    """Refuses functions on parts that there are not, and what is no function.

    Raises:
        UserError: For the first such name.
    """
    for name, function in functions.items():
        if name not in known:
            raise UserError(f"hooks has the name {show(name)}, of which this network computes nothing{hint}")
        if not callable(function):
            raise UserError(f"hooks has {show(function)} for {show(name)}; a function of one tensor is expected")


def check_replacement(name: str, new: Any, value: Tensor) -> None:
    """Refuses what a function returned in place of a value.

    Raises:
        UserError: If it is no tensor of the value's shape and type.
    """
    wanted = f"{_describe(value)} or None is expected"
    if not isinstance(new, Tensor):
        raise UserError(f"the hook on {show(name)} returned {show(new)}; {wanted}")
    if new.shape != value.shape or new.dtype != value.dtype:
        raise UserError(f"the hook on {show(name)} returned {_describe(new)}; {wanted}")


def apply_function(name: str, function: Function, value: Tensor) -> Tensor:
    """What comes of a value that a function sees, and may change or replace."""
    seen = value.clone()  # so that it may be changed in place, also where a gradient needs the value
    new = function(seen)
    if new is None:
        return seen
    check_replacement(name, new, value)
    return new


def _describe(value: Tensor) -> str:
    return f"a tensor of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
