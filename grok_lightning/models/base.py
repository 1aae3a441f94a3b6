"""Base class of the models: maps from tokens to logits at the answer's positions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from grok_lightning.batch import Beginnings, Draw
from grok_lightning.errors import UserError
from grok_lightning.models.stacked import StackedLayer


class SequenceModel(nn.Module, ABC):
    """A stack of R models of one shape. Subclasses take ``(vocabulary, length, seeds, padded, *, options)``.

    Where ``padded`` is true, tokens may be ``PADDING`` (-1), before an equation's first token and after its last. The
    logits at an equation's own positions do not depend on how much of it there is.

    Shapes: R runs, B batch, T tokens, A answer tokens, V vocabulary, D width, H heads.

    Attributes:
        causal: Whether the logits at a position depend on no later token. A model that is not causal answers with one
            token, at the last position, and cannot mask padding.
        capturable: Whether a training forward does the same operations on the same tensors at every step, and neither
            reads from the device nor copies to it; only then can a step be captured as a CUDA graph.
    """

    causal: ClassVar[bool] = True
    capturable: ClassVar[bool] = False

    @abstractmethod
    def forward(
        self, tokens_RBT: Tensor, answer_length: int = 1, draw: Draw | None = None, beginnings: Beginnings | None = None
    ) -> Tensor:
        """Logits at the last ``answer_length`` positions.

        Args:
            tokens_RBT: Input tokens, int64; ``PADDING`` where there is none.
            answer_length: A; whatever does not reach these positions need not be computed.
            draw: The randomness of a training forward; None for none.
            beginnings: Shared beginnings of the equations; a model may use them, the logits are the same.

        Returns:
            logits_RBAV.
        """

    def grid_logits(self, tokens: Sequence[Tensor]) -> Tensor:
        """Logits of the one token that follows prompts which fill a grid: all values of x against all of y, say.

        What depends on some of the operands only is computed once for each combination of these. No gradients, no
        dropout, no padding.

        Args:
            tokens: The tokens at each of T positions, int64, the same for all runs, of shapes that broadcast to the
                grid's, (n_1, ..., n_K).

        Returns:
            (R, n_1, ..., n_K, V), equal to what ``forward`` gives but for rounding.
        """
        cells = torch.stack(torch.broadcast_tensors(*tokens), dim=-1)
        tokens_RBT = cells.flatten(0, -2).expand(count_runs(self), -1, -1)
        return self(tokens_RBT, 1)[:, :, 0].unflatten(1, cells.shape[:-1])

    @property
    def embedding(self) -> Tensor:
        """Token embedding matrix: (R, V, D).

        Raises:
            UserError: If the model has none.
        """
        raise UserError(f"model.network is {self._get_name()}, which has no token embedding")

    @property
    def unembedding(self) -> Tensor:
        """Unembedding matrix, from the last hidden state to the logits: (R, D, V).

        Raises:
            UserError: If the model has none.
        """
        raise UserError(f"model.network is {self._get_name()}, which has no unembedding")

    def reset(self, seeds: Sequence[int]) -> None:
        """Sets all weights: each run's are a pure function of its seed and the parameters' names."""
        for name, module in self.named_modules():
            if isinstance(module, StackedLayer):
                module.reset(seeds, name)

    @torch.no_grad()
    def activations(self, tokens_RBT: Tensor) -> dict[str, Tensor]:
        """The output of every named part at all T positions, such as ``layers.0.attention.pattern`` (R, B, H, T, T).

        Args:
            tokens_RBT: Input tokens, int64.

        Returns:
            A tensor for each submodule's name that was computed; the logits (R, B, T, V) are under ``logits``.
        """
        found: dict[str, Tensor] = {}

        def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            found[name] = output

        handles = [module.register_forward_hook(partial(keep, name)) for name, module in self.named_modules() if name]
        try:
            found["logits"] = self(tokens_RBT, tokens_RBT.shape[-1] if self.causal else 1)
        finally:
            for handle in handles:
                handle.remove()
        batch, length = tokens_RBT.shape[1:]
        return {
            name: part.unflatten(1, (batch, length)) if part.shape[1] == batch * length != batch else part
            for name, part in found.items()
        }


def count_runs(network: nn.Module) -> int:
    """R, by which every parameter of a stack leads."""
    return len(next(network.parameters()))


def device_of(network: nn.Module) -> torch.device:
    """The device of a network's parameters."""
    return next(network.parameters()).device
