"""Parts of a network whose parameters may have settings of their own: embeddings, hidden matrices, head and vectors."""

import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal

from torch import Tensor

from grok_lightning.errors import UserError, show
from grok_lightning.optim.base import OF_MODULES, PerRun, StackOptimizer, parameter_names

Part = Literal["embedding", "matrix", "head", "vector"]
Setting = tuple[Tensor, Tensor]  # learning rates and weight decays, (R,) or (1,) each
Told = Mapping[str, Part]  # parts by name that a network tells of itself, which is not known by names
Given = dict[Part, tuple[PerRun | None, PerRun | None]]  # the options of parts: learning rate, weight decay

_NONE: Told = MappingProxyType({})
_EMBEDDING = re.compile(r"embed|(?<![a-z])emb")  # not ensemble, nor member
_EMBEDDINGS = ("wte", "wpe")
_HEADS = ("head", "lm_head", "unembed", "unembedding")
_LAST = ("out", "output", "readout", "classifier", "decoder")  # only as the first word of a name
_ONE_HOT = "feedforward.0.linear.weight"  # the first map of one-hot tokens


def part_of(name: str, shape: Sequence[int]) -> Part:
    """The part that a parameter belongs to.

    Args:
        name: Its dotted name.
        shape: Its shape in each run; a bias or gain is (1, D) or (D,).

    Returns:
        ``vector`` for biases, gains and what else is no matrix; ``embedding`` where a word of the name has ``embed`` in
        it, or a part that begins with ``emb``, such as ``tok_emb`` (and for the first map of one-hot tokens); ``head``
        where one is ``head``, ``lm_head``, ``unembed`` or the like; else ``matrix``.
    """
    if len(shape) < 2 or (shape[0] == 1 and not name.endswith(".weight")):
        return "vector"
    if is_in_head(name):
        return "head"
    if any(_EMBEDDING.search(word) or word in _EMBEDDINGS for word in _words(name)) or name == _ONE_HOT:
        return "embedding"
    return "matrix"


def _words(name: str) -> list[str]:
    return name.lower().removeprefix(OF_MODULES).split(".")


def is_in_head(name: str, told: Told = _NONE) -> bool:
    """Whether a parameter is the head's, a bias included."""
    if name in told:
        return told[name] == "head"
    words = _words(name)
    return any(word in _HEADS for word in words) or words[0] in _LAST


def is_token_table(name: str, shape: Sequence[int], told: Told = _NONE) -> bool:
    """Whether a parameter is a table of token embeddings: not that of positions, nor the map of one-hot tokens."""
    if name in told and told[name] != "embedding":
        return False
    positions = any("pos" in word or word == "wpe" for word in _words(name))
    return (name in told or part_of(name, shape) == "embedding") and name != _ONE_HOT and not positions


def is_hidden_map(name: str, shape: Sequence[int], told: Told = _NONE) -> bool:
    """Whether a parameter is the matrix of a linear map that is not the head's, that of one-hot tokens included."""
    if name in told:
        return told[name] == "matrix"
    return part_of(name, shape) == "matrix" or name == _ONE_HOT


def choose_names(option: str, shapes: Mapping[str, Sequence[int]], patterns: Sequence[str]) -> set[str]:
    """The names that patterns choose, as the shell's.

    Args:
        option: Full name of the option that holds the patterns.
        shapes: Each run's shape of every parameter, by name.
        patterns: The patterns.

    Raises:
        UserError: If a pattern matches no parameter.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in shapes if fnmatchcase(name, pattern)}
        if not found:
            known = ", ".join(list(shapes)[:4])
            raise UserError(
                f"{option} has the pattern {show(pattern)}, which matches no parameter; there are {known}, ..."
            )
        chosen |= found
    return chosen


def require_some(option: str, chosen: Collection[str], shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuses a choice of no parameters, with which a method would do nothing under its name.

    Raises:
        UserError: If there are none.
    """
    if not chosen:
        known = ", ".join(list(shapes)[:4]) or "none that would do"
        raise UserError(f"{option} is of no parameter of this network, so that nothing would change; there are {known}")


def choose_settings(
    optimizer: StackOptimizer, common: Setting, given: Given, without: Collection[str] = ()
) -> dict[str, Setting]:
    """The settings of those parameters whose part has its own.

    Args:
        optimizer: Whose parameters and options they are.
        common: Settings of all others.
        given: Options of the parts; None for the common ones.
        without: Names of parameters that these options do not concern.

    Raises:
        UserError: If a number is out of range, or the network has no such part.
    """
    settings: dict[Part, Setting] = {}
    for part, values in given.items():
        names = (f"{part}_lr", f"{part}_weight_decay")
        own = [
            other if value is None else optimizer.hyperparameter(name, value)
            for name, value, other in zip(names, values, common, strict=True)
        ]
        if values != (None, None):
            settings[part] = (own[0], own[1])
    chosen = {}
    for group in optimizer.param_groups:
        for name, weight in zip(parameter_names(group), group["params"], strict=True):
            part = part_of(name, weight.shape[1:])
            if part in settings and name not in without:
                chosen[name] = (part, settings[part])
    missing = settings.keys() - {part for part, _ in chosen.values()}
    if missing:
        option = f"model.optimizer.{min(missing)}_" + ("weight_decay" if given[min(missing)][0] is None else "lr")
        raise UserError(f"{option} is given, but no parameter of this network is named as one of that part")
    return {name: setting for name, (_, setting) in chosen.items()}


def split_by_setting(
    weights: dict[str, Tensor], common: Setting, settings: dict[str, Setting]
) -> list[tuple[Setting, dict[str, Tensor]]]:
    """Parameters by their settings; all of them, in their order, where there are only the common ones."""
    groups: dict[tuple[int, ...], tuple[Setting, dict[str, Tensor]]] = {}
    for name, weight in weights.items():
        setting = settings.get(name, common)
        groups.setdefault(tuple(map(id, setting)), (setting, {}))[1][name] = weight
    return list(groups.values())
