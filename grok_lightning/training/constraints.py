"""What is done to the weights of a stack after each update: its constraints, in their order."""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from grok_lightning.errors import UserError
from grok_lightning.optim.constraints import Constraint
from grok_lightning.training.norms import WholeNorm


class Constraints:
    """The constraints of a stack: those listed, in their order, then that on the norm of all weights.

    Args:
        network: The stack.
        listed: The option ``model.constraints``.
        norm: The constraint on the norm of all trained weights.
        maps: Names of matrices (R, in, out), which torch has as (out, in).
    """

    def __init__(
        self, network: nn.Module, listed: Sequence[Constraint], norm: WholeNorm, maps: Collection[str]
    ) -> None:
        self._network, self._listed, self._norm, self._maps = network, list(listed), norm, frozenset(maps)

    def __bool__(self) -> bool:
        return bool(self._listed or self._norm.norms)

    @property
    def capturable(self) -> bool:
        """Whether all of them do the same operations on the same tensors at every step."""
        return all(each.capturable for each in [*self._listed, self._norm])

    @torch.no_grad()
    def begin(self) -> None:
        """Brings the initial weights to where training is to begin.

        Raises:
            UserError: If a constraint does not fit the network.
        """
        weights = self._weights()
        for each in self._listed:
            inherited = type(each).begin is Constraint.begin
            _change(each, each if inherited else each.begin, weights, self._rows(weights))

    @torch.no_grad()
    def __call__(self) -> None:
        """Changes the weights, after an update."""
        weights = self._weights()
        rows = self._rows(weights) if self._listed else {}
        for each in self._listed:
            _change(each, each, weights, rows)
        self._norm(weights, rows)

    def _weights(self) -> dict[str, Tensor]:
        return {name: weight for name, weight in self._network.named_parameters() if weight.requires_grad}

    def _rows(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: as_rows(weight.detach(), name in self._maps) for name, weight in weights.items()}


def _change(
    constraint: Constraint, change: Callable[..., Any], weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]
) -> None:
    """Has a constraint change the weights in place; new ones that it returned would be lost.

    Raises:
        UserError: If it returned something.
    """
    result = change(MappingProxyType(weights), rows)  # other tensors under the names would be lost too
    if result is not None:
        raise UserError(
            f"model.constraints: {type(constraint).__name__} returns {type(result).__name__}; it must change the "
            "weights in place, such as by weight.clamp_(min=0), and return nothing"
        )


def as_rows(weight: Tensor, transposed: bool = False) -> Tensor:
    """A view of a stack's parameter as rows, (R, rows, numbers of a row).

    Args:
        weight: (R, out, in), further dimensions belonging to the inputs; (R, 1, D) or (R, D) is one row, (R,) a number.
        transposed: Whether it is (R, in, out).
    """
    if weight.dim() < 3:
        return weight.view(len(weight), 1, -1)
    return weight.mT if transposed else weight.view(*weight.shape[:2], -1)
