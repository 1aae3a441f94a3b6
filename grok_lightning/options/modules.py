"""Classes of ordinary modules as jsonargparse takes them: classes of ``SequenceModel`` with the same options.

Records, hashes and messages name the user's own class. Where options become objects, ``adapt`` gives the path of a
class made for it, whose objects are ``ModuleStack`` of the user's; ``original`` gives the user's path back.
"""

import inspect
import sys
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from torch import nn

from grok_lightning.models.ordinary import ModuleStack
from grok_lightning.models.user_module import SUPPLIED, constructor_parameters

_PATHS: dict[type[nn.Module], str] = {}  # of the user's classes, by the class made for each
_SKIPPED = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in (
    "supplied_vocabulary", "supplied_length", "supplied_seeds", "supplied_padded"
)]  # fmt: skip
_UNTYPED = int | float | bool | str | list  # of an option without a type


def adapt(path: str, kind: type[nn.Module]) -> str:
    """The dotted path of the class that stands for a class of ordinary modules.

    Args:
        path: The path by which the user names it.
        kind: The class.
    """
    made = _make(path, kind)  # type: ignore[arg-type]
    return f"{made.__module__}.{made.__name__}"


def original(kind: Any) -> str | None:
    """The user's path of the class that a class was made for; None if it is no such class."""
    return _PATHS.get(kind)


@cache
def _make(path: str, kind: type[nn.Module]) -> type[ModuleStack]:
    def build(
        self: ModuleStack,
        vocabulary: int,
        length: int,
        seeds: Sequence[int],
        padded: bool = False,
        classes: int | None = None,
        /,
        **options: Any,
    ) -> None:
        ModuleStack.__init__(self, vocabulary, length, seeds, padded, classes, module=partial(kind, **options))

    options = [
        inspect.Parameter(
            parameter.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=parameter.default,
            annotation=_hint(parameter),
        )
        for parameter in constructor_parameters(kind)
        if parameter.name not in SUPPLIED and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    build.__signature__ = inspect.Signature([_SELF, *_SKIPPED, *options])  # type: ignore[attr-defined]
    build.__annotations__ = {option.name: option.annotation for option in options}
    build.__doc__ = kind.__init__.__doc__
    name = kind.__name__
    while hasattr(sys.modules[__name__], name):
        name += "_"
    content = {"__init__": build, "__doc__": kind.__doc__, "__module__": __name__}
    made = type(name, (ModuleStack,), content)
    setattr(sys.modules[__name__], name, made)
    _PATHS[made] = path
    return made


_SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _hint(parameter: Any) -> Any:
    """The type of an option; without one, anything that a command line can hold."""
    if parameter.annotation is not inspect.Parameter.empty:
        return parameter.annotation
    return _UNTYPED | None if parameter.default is None else _UNTYPED
