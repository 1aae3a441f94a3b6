"""Base class of the models: maps from tokens to logits at the answer's positions."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from grok_lightning.batch import Beginnings, Draw
from grok_lightning.errors import UserError
from grok_lightning.models.hooks import LOGITS, Function, HookedForward, check_functions
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
        flat_rows: Whether its parts with outputs of three dimensions give (R, B * T, D).
    """

    causal: ClassVar[bool] = True
    capturable: ClassVar[bool] = False
    flat_rows: ClassVar[bool] = False
    _hooked: HookedForward | None = None

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

    def limit_outputs(self, classes: int) -> None:
        """Leaves outputs for the first tokens of the vocabulary alone; to be called before ``reset``.

        Args:
            classes: Number of tokens that an answer can be.

        Raises:
            UserError: If the model's head is none of ours.
        """
        limit: Any = getattr(self._modules.get("head"), "limit", None)
        if limit is None:
            raise UserError(
                f"model.outputs is answers, but model.network {self._get_name()} decides by itself how many outputs it "
                "has (an ordinary module by the argument classes); leave model.outputs out"
            )
        limit(classes)

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
            A tensor for each submodule's name that was computed; the logits (R, B, T, V) are under ``logits``, of a
            model that is not causal (R, B, 1, V).
        """
        found: dict[str, Tensor] = {}
        names = [*(name for name, _ in self.named_modules() if name), LOGITS]
        with self.hooks({name: partial(found.__setitem__, name) for name in names}):
            self(tokens_RBT)
        return found

    @contextmanager
    def hooks(self, functions: Mapping[str, Function]) -> Iterator[None]:
        """Within it, functions see what parts compute, at all T positions, and may replace it.

        Args:
            functions: For each name of ``activations`` a function of that tensor, which returns one of its shape and
                type, or None to leave it. A tensor that is changed in place is taken as changed. Of nested contexts the
                outer one's functions act first.

        Raises:
            UserError: If there is no submodule of a name, or a function returns a tensor of another shape or type.
        """
        modules = {name: module for name, module in self.named_modules() if name}
        check_functions(functions, [*modules, LOGITS], "")
        if self._hooked is None:
            self._hooked = HookedForward(self)
            # grids are computed elsewhere, each position in a shape of its own
            vars(self).update(forward=self._hooked, grid_logits=MethodType(SequenceModel.grid_logits, self))
        hooked = self._hooked
        hooked.uses += 1
        on_logits = [(name, function) for name, function in functions.items() if name == LOGITS]
        hooked.on_logits += on_logits
        handles = [
            modules[name].register_forward_hook(partial(hooked.act, name, function))
            for name, function in functions.items()
            if name != LOGITS
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for entry in on_logits:
                hooked.on_logits.remove(entry)
            hooked.uses -= 1
            if not hooked.uses:
                self._hooked = None
                for name in ("forward", "grid_logits"):
                    del vars(self)[name]

    def part_names(self, tokens_RBT: Tensor) -> list[str]:
        """The names of ``activations``, of which there may be fewer than submodules; no function of ``hooks`` acts."""
        names: list[str] = []

        def note(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                names.append(name)

        handles = [module.register_forward_hook(partial(note, name)) for name, module in self.named_modules() if name]
        try:
            with torch.no_grad():
                type(self).forward(self, tokens_RBT, 1, None, None)
        finally:
            for handle in handles:
                handle.remove()
        return [*names, LOGITS]


def count_runs(network: nn.Module) -> int:
    """R, by which every parameter of a stack leads."""
    return len(next(network.parameters()))


def device_of(network: nn.Module) -> torch.device:
    """The device of a network's parameters."""
    return next(network.parameters()).device
