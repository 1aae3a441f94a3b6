"""Ordinary modules, from tokens (B, T) to logits, as a stack of runs.

The opposite direction, one run of a stack as an ordinary module, is ``models/plain.py``.
"""

import inspect
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from functools import partial
from io import StringIO
from typing import Any

import torch
from jsonargparse._parameter_resolvers import get_signature_parameters
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.parameter import is_lazy

from grok_lightning.batch import Beginnings, Draw
from grok_lightning.errors import UserError
from grok_lightning.models.base import SequenceModel
from grok_lightning.models.checks import check_memory
from grok_lightning.randomness import seeded

SUPPLIED = ("vocabulary", "length", "classes")  # arguments of a constructor that are no options
CAUSAL_ROWS = 8  # of a batch on which it is tried whether logits depend on later tokens
PERTURBATION = 0.02  # of the weights in that trial, since a head of zeros would hide what depends on what


def constructor_parameters(build: Callable[..., Any]) -> list[Any]:
    """The parameters of a class's constructor, or of a function, also those that it passes on by ``**kwargs``.

    Each has ``name``, ``annotation``, ``default``, ``kind`` and ``doc``.
    """
    return [parameter for parameter in get_signature_parameters(build) if parameter.kind is not _VARIADIC]


_VARIADIC = inspect.Parameter.VAR_POSITIONAL


def is_ordinary(kind: Any) -> bool:
    """Whether something is a class of ordinary modules of a user's, which ``ModuleStack`` makes a stack of."""
    if not isinstance(kind, type) or not issubclass(kind, nn.Module) or kind is nn.Module:
        return False
    return not issubclass(kind, SequenceModel) and not kind.__module__.startswith("grok_lightning.")


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
        self._build = partial(module, **{name: supplied[name] for name in _find_supplied(module)})
        self._known_causal = False
        self._title = ""
        _refuse_size(self._build, len(self.seeds))
        built = self._build_run(self.seeds[0])
        self._title = type(built).__name__
        if padded:
            raise UserError(
                f"model.network is {self._title}, an ordinary module, which is not told of the padding of equations "
                "that differ in length; use data.tokenizer elements, or Transformer, LSTM or GRU"
            )
        _refuse_module(built, self._title)
        self.module = built
        self._stack()
        self._caller = [_Caller(self.module)]  # in a list: its parameters are the module's

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
        first, constants = _named_tensors(self.module), _constants(self.module)
        stacked = {name: tensor.detach().new_empty(len(self.seeds), *tensor.shape) for name, tensor in first.items()}
        for run, seed in enumerate(self.seeds):
            module = self._build_run(seed) if run else self.module
            own = _named_tensors(module)
            if {name: tensor.shape for name, tensor in own.items()} != {
                name: tensor.shape for name, tensor in first.items()
            }:
                raise self._refusal("the weights of its runs differ in name or shape")
            if run and _constants(module) != constants:
                raise self._refusal("its constructor draws what is no parameter and no buffer")
            for name, tensor in own.items():
                stacked[name][run] = tensor.detach()
        new: dict[int, Tensor] = {}
        for name, tensor in first.items():
            is_parameter = isinstance(tensor, nn.Parameter)
            new[id(tensor)] = nn.Parameter(stacked[name], tensor.requires_grad) if is_parameter else stacked[name]
        for owner in self.module.modules():
            for table in (owner._parameters, owner._buffers):
                for key, tensor in list(table.items()):
                    if tensor is not None:
                        table[key] = new[id(tensor)]  # type: ignore[assignment]
            if isinstance(owner, nn.RNNBase):
                owner.flatten_parameters = _keep_apart  # type: ignore[method-assign,assignment]
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
        weights, buffers = dict(self.module.named_parameters()), dict(self.module.named_buffers())
        weights = {name: weight + noise[name] for name, weight in weights.items()} if noise else weights
        if len(self.seeds) == 1:
            first = ({name: part[0] for name, part in parts.items()} for parts in (weights, buffers))
            logits, after = self._call(*first, tokens_RBT[0])
            logits, after = logits[None], {name: part[None] for name, part in after.items()}
        else:
            logits, after = vmap(self._call)(weights, buffers, tokens_RBT)
        if training:
            with torch.no_grad():
                for name, buffer in after.items():
                    buffers[name].copy_(buffer)
        return logits

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
        stacked = _named_tensors(self.module)
        for name, tensor in _named_tensors(module).items():
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

    def _find(self, kind: type[nn.Module], attribute: str, counts: Sequence[int]) -> list[Tensor]:
        return [part.weight for part in self.module.modules() if type(part) is kind and getattr(part, attribute) in counts]

    def hidden_matrices(self) -> set[str]:
        """Names of the matrices (out, in) of torch's own layers that are neither embeddings nor lead to the logits."""
        outer = {id(weight) for weight in self._find(nn.Linear, "out_features", (self._vocabulary, self._classes))}
        found = set()
        for name, owner in self.named_modules():
            if not type(owner).__module__.startswith("torch.nn.modules.") or isinstance(owner, nn.Embedding):
                continue
            for key, weight in owner.named_parameters(recurse=False):
                if weight.dim() == 3 and min(weight.shape[1:]) > 1 and id(weight) not in outer:
                    found.add(f"{name}.{key}")
        return found

    @torch.no_grad()
    def activations(self, tokens_RBT: Tensor) -> dict[str, Tensor]:
        """The output of every part of the modules that is computed, by its name in them, (R, B, ...); and ``logits``."""
        runs: list[dict[str, Tensor]] = [{} for _ in self.seeds]

        def keep(found: dict[str, Tensor], name: str, module: nn.Module, inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output  # a recurrent layer's has its state too
            if isinstance(output, Tensor):
                found[name] = output

        self.module.eval()
        weights, buffers = dict(self.module.named_parameters()), dict(self.module.named_buffers())
        for run, found in enumerate(runs):
            named = [(name, part) for name, part in self.module.named_modules() if name]
            handles = [part.register_forward_hook(partial(keep, found, name)) for name, part in named]
            own = ({name: part[run] for name, part in parts.items()} for parts in (weights, buffers))
            try:
                with self._seeded(None, tokens_RBT.device):
                    found["logits"] = self._call(*own, tokens_RBT[run])[0]
            finally:
                for handle in handles:
                    handle.remove()
        return {name: torch.stack([found[name] for found in runs]) for name in runs[0]}


class _Caller(nn.Module):
    """A module that also returns its buffers, which it may have replaced."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, tokens_BT: Tensor) -> tuple[Any, dict[str, Tensor]]:
        return self.module(tokens_BT), dict(self.module.named_buffers())


def _find_supplied(build: Callable[..., Any]) -> Iterator[str]:
    """Which of ``SUPPLIED`` a class, function or ``partial`` of one takes by name and has not been given."""
    given = set(build.keywords) if isinstance(build, partial) else set()
    bound = inspect.signature(build).parameters
    names = {name for name, parameter in bound.items() if parameter.kind is not _VARIADIC}
    kind: Any = build
    while isinstance(kind, partial):
        kind = kind.func
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in bound.values()):
        names |= {parameter.name for parameter in constructor_parameters(kind)}
    return (name for name in SUPPLIED if name in names - given)


def _named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _constants(module: nn.Module) -> dict[str, bytes]:
    """What is stored in a module beside parameters, buffers and submodules, as far as it can be compared."""
    found = {}
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if key not in _OF_TORCH and not key.startswith("_flat_weight"):
                with suppress(Exception):
                    found[f"{name}.{key}"] = pickle.dumps(value)
    return found


_OF_TORCH = frozenset(vars(nn.Module()))


def _keep_apart() -> None:
    """In place of ``nn.RNNBase.flatten_parameters``, which would take weights out of the stack."""


def _refuse_size(build: Callable[[], nn.Module], runs: int) -> None:
    """Refuses a stack that does not fit into memory, where its size can be told without allocating it."""
    weights = 0
    with suppress(Exception), seeded(0, "size"), torch.device("meta"), redirect_stdout(StringIO()):
        weights = sum(weight.numel() for weight in build().parameters() if not is_lazy(weight))
    size = "" if runs == 1 else f" in each of {runs} runs"
    check_memory(f"model.network has {weights:,} weights{size}", runs * weights)


def _refuse_module(module: nn.Module, name: str) -> None:
    """Refuses modules that cannot be trained here, in one line."""
    named = [*module.named_parameters(), *module.named_buffers()]
    for key, tensor in named:
        if is_lazy(tensor):
            part = key.rpartition(".")[0]
            kind = type(module.get_submodule(part)).__name__
            raise UserError(f"model.network is {name}, whose {part} is a {kind}, of unknown shape; give its shape")
    for key, weight in module.named_parameters():
        if weight.dtype != torch.float32:
            kind = str(weight.dtype).removeprefix("torch.")
            raise UserError(
                f"model.network is {name}, whose parameter {key} is made in {kind}; make float32 parameters, "
                "trainer.precision decides (64-true for float64)"
            )
    for key, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise UserError(f"model.network is {name}, whose state {key} is a {type(value).__name__}; use buffers")
    if not any(weight.requires_grad for weight in module.parameters()):
        raise UserError(f"model.network is {name}, which has no parameters to train")
