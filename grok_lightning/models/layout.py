"""The rows that pass through a transformer: their equations and positions."""

from collections.abc import Callable

import torch
from torch import Tensor

from grok_lightning.batch import PADDING, Beginnings
from grok_lightning.models.stacked import gather


class Layout:
    """Composition of the rows (R, M, D) that pass through the blocks.

    First the S positions of each of P shared beginnings, then the other T - S positions of each of the B equations.
    Without sharing P = S = 0 and the rows are simply all positions of all equations.

    Args:
        batch: B.
        length: T.
        beginnings: The shared beginnings, or None.
        padded_RBT: The tokens, where some of them may be padding (there are no shared beginnings then); else None.
        rotations: ``attention.rotations`` of T positions or more, where attention is rotary; else None.

    Attributes:
        own_length: T - S.
        padding_RBT: Mask of padding, or None.
        places_RBT: Each token's position, counted from its equation's first token; only with padding.
        turns: Each row's rotation, (R or 1, M, width of a head / 2, 2), or None.
        inputs_RM: Index of each row among the distinct inputs, where only those are computed (before the first layer).
    """

    def __init__(
        self,
        batch: int,
        length: int,
        beginnings: Beginnings | None,
        padded_RBT: Tensor | None = None,
        rotations: Tensor | None = None,
    ) -> None:
        self.batch, self.length, self.beginnings = batch, length, beginnings
        self.shared = 0 if beginnings is None else beginnings.tokens_PS.numel()
        self.own_length = length if beginnings is None else length - beginnings.tokens_PS.shape[1]
        self.padding_RBT: Tensor | None = None
        self.places_RBT: Tensor | None = None
        if padded_RBT is not None:
            self.padding_RBT = padded_RBT == PADDING
            self.places_RBT = ((~self.padding_RBT).cumsum(-1) - 1).clamp(min=0)
        self.inputs_RM: Tensor | None = None
        self.turns = None if rotations is None else self._turns(rotations)

    def _turns(self, rotations: Tensor) -> Tensor:
        if self.places_RBT is not None:
            return rotations[self.places_RBT.flatten(1)]
        own = rotations[self.length - self.own_length : self.length].repeat(self.batch, 1, 1)
        if self.beginnings is None:
            return own[None]
        count, first = self.beginnings.tokens_PS.shape
        return torch.cat([rotations[:first].repeat(count, 1, 1), own])[None]

    def map(self, part: Callable[[Tensor], Tensor], x: Tensor, answers: int | None = None) -> Tensor:
        """Applies ``part`` to all rows or to the ``last``; where x are the distinct inputs, once to each of these."""
        if self.inputs_RM is None:
            return part(self.last(x, answers))
        return gather(part(x), self.last(self.inputs_RM, answers))

    def own(self, x: Tensor) -> Tensor:
        """The equations' own rows of (R, M, ...): (R, B, T - S, ...)."""
        return x[:, self.shared :].unflatten(1, (self.batch, -1))

    def last(self, x: Tensor, answers: int | None) -> Tensor:
        """All rows of (R, M, ...), or those of the last ``answers`` positions, at most T - S: (R, B * answers, ...)."""
        return x if answers is None else self.own(x)[:, :, -answers:].flatten(1, 2)

    def first(self, x: Tensor) -> Tensor:
        """The beginnings' rows of (R, M, ...): (R, P, S, ...)."""
        assert self.beginnings is not None
        return x[:, : self.shared].unflatten(1, self.beginnings.tokens_PS.shape)

    def whole(self, x: Tensor) -> Tensor:
        """Every equation's rows of (R, M, ...), those of its beginning before its own: (R, B, T, ...)."""
        if self.beginnings is None:
            return self.own(x)
        first = self.first(x)
        taken = gather(first.flatten(2), self.beginnings.index_RB).unflatten(-1, first.shape[2:])
        return torch.cat([taken, self.own(x)], dim=2)
