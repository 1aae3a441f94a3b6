"""Ordinary modules, from tokens (B, T) to logits, as a stack of runs.

The opposite direction, one run of a stack as an ordinary module, is ``models/plain.py``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from grok_lightning.batch import Beginnings, Draw
from grok_lightning.errors import UserError
from grok_lightning.models.base import SequenceModel
from grok_lightning.models.hooks import LOGITS, Function, apply_function, check_functions
from grok_lightning.models.user_module import (
    Caller,
    constants,
    find_supplied,
    is_ordinary,
    keep_apart,
    named_tensors,
    refuse_module,
    refuse_size,
)
from grok_lightning.randomness import seeded

Part = Literal["embedding", "matrix", "head", "vector"]  # of a network, as in grok_lightning.optim.parts
CAUSAL_ROWS = 8  # of a batch on which it is tried whether logits depend on later tokens
PERTURBATION = 0.02  # of the weights in that trial, since a head of zeros would hide what depends on what


def build_network(
    network: Callable[..., nn.Module],
    vocabulary: int,
    length: int,
    seeds: Sequence[int],
    padded: bool = False,
    classes: int | None = None,
) -> SequenceModel:
    """Builds a stack from a ``SequenceModel`` or an ordinary module.

    Args:
        network: A class, or a ``partial`` of one with its options. A ``SequenceModel`` is called with
            ``(vocabulary, length, seeds, padded)``; of an ordinary ``nn.Module`` a ``ModuleStack`` is made.
        vocabulary, length, seeds, padded, classes: As for ``ModuleStack``.
    """
    kinds: list[Any] = [network]
    while isinstance(kinds[-1], partial):
        kinds += [*kinds[-1].args, kinds[-1].func]
    if any(map(is_ordinary, kinds)):
        return ModuleStack(vocabulary, length, seeds, padded, classes, module=network)
    further = [classes] if any(isinstance(kind, type) and issubclass(kind, ModuleStack) for kind in kinds) else []
    built: SequenceModel = network(vocabulary, length, seeds, padded, *further)  # type: ignore[assignment]
    return built


class ModuleStack(SequenceModel):
    """A stack of ordinary modules of one class: its parameters and buffers are theirs, led by R.

    Each run's module is constructed with the global generators seeded by (the run's seed, "initial weights"). It maps
    tokens (B, T) to logits (B, C) of the one token that follows, or (B, T, C) of the token after each position, where C
    is V or ``classes``. A single run's module is called as it is, with views of its weights; several are mapped over by
    ``torch.func.vmap``. Whatever a forward pass draws comes from global generators seeded by (seed, step), or always
    alike in evaluation. Where a Draw is given the modules are in training mode, else in eval mode.

    Parameters have the names that they have in the module, behind ``module.``, and its shapes: a linear map's weights
    are (R, out, in).

    Args:
        vocabulary: V.
        length: T, the number of input tokens.
        seeds: One seed for each run.
        padded: Whether equations may be padded, which such a module is not told of.
        classes: Number of tokens that an answer can be; default: V. They come first in the vocabulary.
        module: Builds one run's module: called with those of ``vocabulary``, ``length`` and ``classes`` that it takes
            by name.

    Attributes:
        module: The first run's module, with the parameters of all of them.
        seeds: As above.

    Raises:
        UserError: If equations may be padded, or modules of this kind cannot be trained, or not in a stack.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        seeds: Sequence[int],
        padded: bool = False,
        classes: int | None = None,
        *,
        module: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        self._vocabulary, self._classes, self.seeds = vocabulary, classes or vocabulary, list(seeds)
        supplied = {"vocabulary": vocabulary, "length": length, "classes": self._classes}
        self._build = partial(module, **{name: supplied[name] for name in find_supplied(module)})
        self._known_causal = self._silent = False
        self._title = ""
        refuse_size(self._build, len(self.seeds))
        built = self._build_run(self.seeds[0])
        self._title = type(built).__name__
        if padded:
            raise UserError(
                f"model.network is {self._title}, an ordinary module, which is not told of the padding of equations "
                "that differ in length; use data.tokenizer elements, or Transformer, LSTM or GRU"
            )
        refuse_module(built, self._title)
        self.module = built
        self._stack()
        self._caller = [Caller(self.module)]  # in a list: its parameters are the module's

    def _get_name(self) -> str:
        return self._title or super()._get_name()

    def _build_run(self, seed: int) -> nn.Module:
        with seeded(seed, "initial weights"):
            built = self._build()
        if not isinstance(built, nn.Module):
            raise UserError(f"model.network gives a {type(built).__name__}; an nn.Module is expected")
        return built

    def _stack(self) -> None:
        """Replaces the parameters and buffers of the module by those of all runs."""
        first, kept = named_tensors(self.module), constants(self.module)
        stacked = {name: tensor.detach().new_empty(len(self.seeds), *tensor.shape) for name, tensor in first.items()}
        for run, seed in enumerate(self.seeds):
            module = self._build_run(seed) if run else self.module
            own = named_tensors(module)
            if {name: tensor.shape for name, tensor in own.items()} != {
                name: tensor.shape for name, tensor in first.items()
            }:
                raise self._refusal("the weights of its runs differ in name or shape")
            if run and constants(module) != kept:
                raise self._refusal("its constructor draws what is no parameter and no buffer")
            for name, tensor in own.items():
                stacked[name][run] = tensor.detach()
        new: dict[int, Tensor] = {}
        for name, tensor in first.items():
            is_parameter = isinstance(tensor, nn.Parameter)
            new[id(tensor)] = nn.Parameter(stacked[name], tensor.requires_grad) if is_parameter else stacked[name]
        for owner in self.module.modules():
            for table in (owner._parameters, owner._buffers):
                for key, part in list(table.items()):
                    if part is not None:
                        table[key] = new[id(part)]  # type: ignore[assignment]
            if isinstance(owner, nn.RNNBase):
                owner.flatten_parameters = keep_apart  # type: ignore[method-assign]
                owner._init_flat_weights()

    def _refusal(self, reason: str) -> UserError:
        return UserError(
            f"model.network is {self._title}, of which no stack of several runs can be made: {reason}; "
            "train its runs one by one"
        )

    def forward(
        self, tokens_RBT: Tensor, answer_length: int = 1, draw: Draw | None = None, beginnings: Beginnings | None = None
    ) -> Tensor:
        """Logits at the last ``answer_length`` positions, (R, B, A, C).

        Raises:
            UserError: If the module gives anything but logits (B, C) or (B, T, C), or not so many tokens' logits, or
                logits that depend on later tokens where several tokens are to be predicted.
        """
        training = draw is not None
        if self.module.training != training:
            self.module.train(training)
        if torch.compiler.is_compiling():  # ``seed_around`` is around it
            logits = self.compute(tokens_RBT, training)
        else:
            with self._seeded(draw, tokens_RBT.device):
                logits = self.compute(tokens_RBT, training)
        return self._select(logits, tokens_RBT, answer_length)

    def seed_around(self, losses: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """What takes (tokens, targets, beginnings, draw), with the generators seeded as the forward pass needs them."""

        def seeded_losses(tokens: Tensor, targets: Tensor, beginnings: Beginnings | None, draw: Draw | None) -> Tensor:
            with self._seeded(draw, tokens.device):
                return losses(tokens, targets, beginnings, draw)

        return seeded_losses

    def _seeded(self, draw: Draw | None, device: torch.device) -> Any:
        purpose = ("evaluation",) if draw is None else ("forward", int(draw.step), draw.first_row)
        return seeded(self.seeds[0], *purpose, device=device)

    def compute(self, tokens_RBT: Tensor, training: bool, noise: dict[str, Tensor] | None = None) -> Tensor:
        """The modules' own logits, with the generators as they are.

        Args:
            tokens_RBT: Input tokens.
            training: Whether buffers that are replaced are kept.
            noise: Added to the weights, by their names in the module.

        Returns:
            Logits (R, B, C) or (R, B, T, C).
        """
        weights, buffers = self._parts()
        if noise is not None:
            weights = {name: weight + noise[name] for name, weight in weights.items()}
        if len(self.seeds) == 1:
            logits, after = self._call(_take_run(weights, 0), _take_run(buffers, 0), tokens_RBT[0])
            logits, after = logits[None], {name: part[None] for name, part in after.items()}
        else:
            logits, after = vmap(self._call)(weights, buffers, tokens_RBT)
        if training:
            with torch.no_grad():
                for name, buffer in after.items():
                    buffers[name].copy_(buffer)
        return logits

    def _parts(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Parameters and buffers by their names in the module."""
        return dict(self.module.named_parameters()), dict(self.module.named_buffers())

    def _call(
        self, weights: dict[str, Tensor], buffers: dict[str, Tensor], tokens_BT: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One run's logits, and those of its buffers that it has replaced; others it may have changed in place."""
        parts = {f"module.{name}": part for name, part in {**weights, **buffers}.items()}
        logits, after = functional_call(self._caller[0], parts, (tokens_BT,))
        if not isinstance(logits, Tensor):
            raise UserError(
                f"model.network is {self._title}, whose forward returns a {type(logits).__name__}; "
                "a tensor of logits is expected"
            )
        return logits, {name: part for name, part in after.items() if part is not buffers[name]}

    def _select(self, logits: Tensor, tokens_RBT: Tensor, answer_length: int) -> Tensor:
        """The logits of the answer's tokens, (R, B, A, C)."""
        (_, batch, length), (_, *shape) = tokens_RBT.shape, logits.shape
        wanted = dict.fromkeys((self._vocabulary, self._classes))
        if shape not in [[batch, *rest, count] for rest in ([], [length]) for count in wanted]:
            forms = " or ".join(f"({batch}, {count}) or ({batch}, {length}, {count})" for count in wanted)
            raise UserError(
                f"model.network is {self._title}, whose forward gives {tuple(shape)} for {batch} x {length} tokens; "
                f"logits {forms} are expected"
            )
        if not logits.is_floating_point():
            kind = str(logits.dtype).removeprefix("torch.")
            raise UserError(f"model.network is {self._title}, whose forward gives numbers of type {kind}; use floats")
        if answer_length == 1:
            return logits[:, :, None] if len(shape) == 2 else logits[:, :, -1:]
        if len(shape) == 2:
            raise UserError(
                f"model.network is {self._title}, whose forward gives the logits of one token, ({batch}, {shape[-1]}), "
                f"but {answer_length} are to be predicted; let it give ({batch}, {length}, {shape[-1]}), or use "
                "model.loss_on answer and data.tokenizer elements"
            )
        if not self._known_causal and not torch.compiler.is_compiling():
            self._require_causal(tokens_RBT[:, :CAUSAL_ROWS])
        return logits[:, :, -answer_length:]

    @torch.no_grad()
    def _require_causal(self, tokens_RBT: Tensor) -> None:
        """Refuses logits that depend on later tokens, of which some are to be predicted."""
        training, length = self.module.training, tokens_RBT.shape[-1]
        generator = torch.Generator().manual_seed(0)
        noise = {
            name: PERTURBATION * torch.randn(weight.shape, generator=generator).to(weight)
            for name, weight in self.module.named_parameters()
        }
        self.module.eval()
        try:
            with self._seeded(None, tokens_RBT.device):
                before = self.compute(tokens_RBT, False, noise)
                for place in range(1, length):
                    changed = tokens_RBT.clone()
                    changed[..., place:] = (changed[..., place:] + 1) % self._vocabulary
                    after = self.compute(changed, False, noise)[:, :, :place]
                    if not torch.allclose(before[:, :, :place], after, 1e-3, 1e-4, equal_nan=True):
                        raise UserError(
                            f"model.network is {self._title}, whose logits depend on later tokens, so that it would be "
                            "shown what it is to predict; mask them (causal attention), or use model.loss_on answer "
                            "and data.tokenizer elements"
                        )
        finally:
            self.module.train(training)
        self._known_causal = True

    def plain(self, run: int = 0) -> nn.Module:
        """One run's module, of the user's own class, with that run's parameters and buffers: a copy."""
        module = self._build_run(self.seeds[run])
        stacked = named_tensors(self.module)
        for name, tensor in named_tensors(module).items():
            tensor.data = stacked[name].detach()[run].clone()
        return module

    @property
    def embedding(self) -> Tensor:
        """The weights (R, V, D) of the ``nn.Embedding`` of V rows, if there is exactly one."""
        found = self._find(nn.Embedding, "num_embeddings", (self._vocabulary,))
        if len(found) != 1:
            raise UserError(
                f"model.network is {self._title}, which has {len(found) or 'no'} nn.Embedding of {self._vocabulary} "
                "rows; one is expected"
            )
        return found[0]

    @property
    def unembedding(self) -> Tensor:
        """The weights (R, D, C) of the ``nn.Linear`` with C outputs, if there is exactly one."""
        counts = (self._vocabulary, self._classes)
        found = self._find(nn.Linear, "out_features", counts)
        if len(found) != 1:
            raise UserError(
                f"model.network is {self._title}, which has {len(found) or 'no'} nn.Linear with {max(counts)} outputs; "
                "one is expected"
            )
        return found[0].mT

    def _find(self, kind: type[nn.Embedding] | type[nn.Linear], attribute: str, counts: Sequence[int]) -> list[Tensor]:
        parts = [part for part in self.module.modules() if isinstance(part, kind)]
        return [part.weight for part in parts if getattr(part, attribute) in counts]

    def hidden_matrices(self) -> set[str]:
        """Names of the matrices (out, in) of torch's own layers that are neither embeddings nor lead to the logits."""
        return {name for name, part in self.parts().items() if part == "matrix"}

    def parts(self) -> dict[str, Part]:
        """The part that each parameter of torch's own layers is, by its layer's class.

        An ``nn.Embedding`` of V rows holds embeddings, one of other rows (positions, say) vectors; an ``nn.Linear`` is
        the head, its bias included, if it gives as many numbers as there are logits. Weights of more dimensions than
        those of a linear map are left out.
        """
        outer = {id(weight) for weight in self._find(nn.Linear, "out_features", (self._vocabulary, self._classes))}
        found: dict[str, Part] = {}
        for name, owner in self.named_modules():
            if not type(owner).__module__.startswith("torch.nn.modules."):
                continue
            for key, weight in owner.named_parameters(recurse=False):
                if isinstance(owner, nn.Embedding):
                    part: Part = "embedding" if owner.num_embeddings == self._vocabulary else "vector"
                elif isinstance(owner, nn.Linear) and id(owner.weight) in outer:
                    part = "head"
                else:
                    part = "matrix" if weight.dim() == 3 and min(weight.shape[1:]) > 1 else "vector"
                if weight.dim() <= 3:
                    found[f"{name}.{key}"] = part
        return found

    @torch.no_grad()
    def activations(self, tokens_RBT: Tensor) -> dict[str, Tensor]:
        """The outputs of the modules' parts, by their names in the module, (R, B, ...); and ``logits``."""
        runs: list[dict[str, Tensor]] = [{} for _ in self.seeds]

        def keep(found: dict[str, Tensor], name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output  # a recurrent layer's has its state too
            if isinstance(output, Tensor):
                found[name] = output

        self.module.eval()
        weights, buffers = self._parts()
        for run, found in enumerate(runs):
            named = [(name, part) for name, part in self.module.named_modules() if name]
            handles = [part.register_forward_hook(partial(keep, found, name)) for name, part in named]
            own = _take_run(weights, run), _take_run(buffers, run)
            try:
                with self._seeded(None, tokens_RBT.device):
                    found["logits"] = self._call(*own, tokens_RBT[run])[0]
            finally:
                for handle in handles:
                    handle.remove()
        return {name: torch.stack([found[name] for found in runs]) for name in runs[0]}

    @contextmanager
    def hooks(self, functions: Mapping[str, Function]) -> Iterator[None]:
        """As in ``SequenceModel``, of one run; names and shapes are those of ``activations``."""
        parts = {name or LOGITS: part for name, part in self.module.named_modules()}
        check_functions(functions, parts, "")
        if len(self.seeds) > 1:
            raise UserError(f"hooks act on one run of {self._title}, here are {len(self.seeds)}; load_run gives one")
        handles = [
            parts[name].register_forward_hook(partial(self._act, name, function))
            for name, function in functions.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _act(self, name: str, function: Function, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Applies a function to the output of a part; of a recurrent layer's, to all but its state."""
        first, *rest = output if isinstance(output, tuple) else (output,)
        if self._silent or not isinstance(first, Tensor):
            return None
        new = apply_function(name, function, first[None])[0]
        return (new, *rest) if isinstance(output, tuple) else new

    def part_names(self, tokens_RBT: Tensor) -> list[str]:
        """The names of ``activations``; no function of ``hooks`` acts."""
        self._silent = True
        try:
            return list(self.activations(tokens_RBT))
        finally:
            self._silent = False


def _take_run(parts: dict[str, Tensor], run: int) -> dict[str, Tensor]:
    return {name: part[run] for name, part in parts.items()}
