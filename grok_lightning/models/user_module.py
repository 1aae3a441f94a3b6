"""A user's module: its class and constructor, its tensors, and what it cannot be."""

import inspect
import pickle
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import partial
from io import StringIO
from typing import Any

import torch
from jsonargparse._parameter_resolvers import get_signature_parameters
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from grok_lightning.errors import UserError
from grok_lightning.models.base import SequenceModel
from grok_lightning.models.checks import check_memory
from grok_lightning.randomness import seeded

SUPPLIED = ("vocabulary", "length", "classes")  # arguments of a constructor that are no options
_VARIADIC = inspect.Parameter.VAR_POSITIONAL
_OF_TORCH = frozenset(vars(nn.Module()))  # attributes of every module


def constructor_parameters(build: Callable[..., Any]) -> list[Any]:
    """The parameters of a class's constructor, or of a function, also those that it passes on by ``**kwargs``.

    Each has ``name``, ``annotation``, ``default``, ``kind`` and ``doc``.
    """
    return [parameter for parameter in get_signature_parameters(build) if parameter.kind is not _VARIADIC]


def is_ordinary(kind: Any) -> bool:
    """Whether something is a class of ordinary modules of a user's, which ``ModuleStack`` makes a stack of."""
    if not isinstance(kind, type) or not issubclass(kind, nn.Module) or kind is nn.Module:
        return False
    return not issubclass(kind, SequenceModel) and not kind.__module__.startswith("grok_lightning.")


class Caller(nn.Module):
    """A module that also returns its buffers, which it may have replaced."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, tokens_BT: Tensor) -> tuple[Any, dict[str, Tensor]]:
        return self.module(tokens_BT), dict(self.module.named_buffers())


def find_supplied(build: Callable[..., Any]) -> list[str]:
    """Which of ``SUPPLIED`` a class, function or ``partial`` of one takes by name and has not been given."""
    given = set(build.keywords) if isinstance(build, partial) else set()
    bound = inspect.signature(build).parameters
    names = {name for name, parameter in bound.items() if parameter.kind is not _VARIADIC}
    kind: Any = build
    while isinstance(kind, partial):
        kind = kind.func
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in bound.values()):
        names |= {parameter.name for parameter in constructor_parameters(kind)}
    return [name for name in SUPPLIED if name in names - given]


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def constants(module: nn.Module) -> dict[str, bytes]:
    """What is stored in a module beside parameters, buffers and submodules, as far as it can be compared."""
    found = {}
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if key not in _OF_TORCH and not key.startswith("_flat_weight"):
                with suppress(Exception):
                    found[f"{name}.{key}"] = pickle.dumps(value)
    return found


def keep_apart() -> None:
    """In place of ``nn.RNNBase.flatten_parameters``, which would take weights out of the stack."""


def refuse_size(build: Callable[[], nn.Module], runs: int) -> None:
    """Refuses a stack that does not fit into memory, where its size can be told without allocating it."""
    weights = 0
    with suppress(Exception), seeded(0, "size"), torch.device("meta"), redirect_stdout(StringIO()):
        weights = sum(weight.numel() for weight in build().parameters() if not is_lazy(weight))
    size = "" if runs == 1 else f" in each of {runs} runs"
    check_memory(f"model.network has {weights:,} weights{size}", runs * weights)


def refuse_module(module: nn.Module, name: str) -> None:
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
