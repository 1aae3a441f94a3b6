"""Options that name a class: which classes there are, their own options and defaults."""

import copy
import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from inspect import Parameter, isabstract, signature
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from jsonargparse import ArgumentParser

from grok_lightning.errors import UserError, show
from grok_lightning.models.user_module import is_ordinary
from grok_lightning.options import modules
from grok_lightning.options.importing import NotImported, import_object

Nested = dict[str, Any]
_PLAIN = (int, float, bool, str, list, tuple, set)
_UNIONS = (Union, UnionType)


@dataclass(frozen=True)
class ClassOption:
    """An option that names a class.

    Attributes:
        default: Dotted path of the class taken when none is named; empty where there is none then.
        base: Dotted path of the class that all of them extend.
        rooms: Modules in which bare names are looked up, with everything below them.
        skip: How many leading parameters the program itself supplies.
        hidden: Further parameters that the program supplies.
    """

    default: str
    base: str
    rooms: tuple[str, ...]
    skip: int = 0
    hidden: frozenset[str] = frozenset()


NETWORK = "model.network"
CLASS_OPTIONS = {
    "data": ClassOption(
        "grok_lightning.data.ModularArithmeticDataModule",
        "lightning.pytorch.LightningDataModule",
        ("grok_lightning.data",),
        hidden=frozenset({"seeds"}),
    ),
    NETWORK: ClassOption(
        "grok_lightning.models.Transformer", "grok_lightning.models.SequenceModel", ("grok_lightning.models",), skip=4
    ),
    "model.optimizer": ClassOption(
        "grok_lightning.optim.AdamW", "torch.optim.Optimizer", ("grok_lightning.optim", "torch.optim"), skip=1
    ),
    "model.scheduler": ClassOption("", "torch.optim.lr_scheduler.LRScheduler", ("torch.optim.lr_scheduler",), skip=1),
}
LIST_OPTIONS = {  # options that name a list of classes, empty by default
    "model.filters": ClassOption("", "grok_lightning.optim.filters.GradientFilter", ("grok_lightning.optim",)),
    "model.constraints": ClassOption("", "grok_lightning.optim.constraints.Constraint", ("grok_lightning.optim",)),
    "measures": ClassOption("", "grok_lightning.measures.base.Measure", ("grok_lightning.measures",)),
}
TRAINER_LISTS = {  # lists of classes for the Trainer; ``trainer.logger`` may be true or false instead
    "trainer.callbacks": ClassOption("", "lightning.pytorch.Callback", ("lightning.pytorch.callbacks",)),
    "trainer.logger": ClassOption("", "lightning.pytorch.loggers.Logger", ("lightning.pytorch.loggers",)),
}
LISTS = LIST_OPTIONS | TRAINER_LISTS
NAMING = CLASS_OPTIONS | LISTS
RUN_DIRECTORY = "auto"  # of a path of a callback or logger: the run's own directory
LEFT_OUT = {  # options added to the classes of a list: with the class's default of this value they are not recorded
    "measures": {"every": 1},
}
_DEFAULTS = {  # ours, for parameters that have none, and for one with a default that does not suit integer buffers
    ("trainer.logger", "save_dir"): (None, RUN_DIRECTORY),
    ("trainer.callbacks", "dirpath"): (None, RUN_DIRECTORY),
    ("trainer.callbacks", "use_buffers"): (True, False),
}


def class_of(option: str, value: Nested) -> str:
    """The class that a mapping of options names, or the default one."""
    return str(value.get("class_path", NAMING[option].default if option in NAMING else ""))


@cache
def class_path(option: str, name: str) -> str:
    """The full dotted path of a class named for an option.

    Raises:
        UserError: If there is no such class.
    """
    base = import_object(NAMING[option].base)
    if "." in name:
        named = find_object(option, name)
        if option == NETWORK and (is_ordinary(named) or modules.original(named)):
            return modules.original(named) or name
        if not isinstance(named, type) or not issubclass(named, base):
            wanted = f"{base.__name__}{' or torch.nn.Module' if option == NETWORK else ''}"
            kind = f"does not extend {wanted}" if isinstance(named, type) else "is no class"
            raise UserError(f"{option} names {show(name)}, which {kind}")
        short = _classes(option).get(named.__name__)
        return short if short is not None and import_object(short) is named else name
    found = _classes(option)
    if name not in found:
        raise UserError(f"{option} names the class {name!r}, which does not exist{suggestion(name, found)}")
    return found[name]


def parsed_path(option: str, name: str) -> str:
    """The path of the class that jsonargparse builds for one that an option names: another for an ordinary module."""
    named: Any = find_object(option, name) if option == NETWORK else None
    return modules.adapt(name, named) if is_ordinary(named) else name


def is_module(network: Nested) -> bool:
    """Whether the options of a network name an ordinary module."""
    return is_ordinary(find_object(NETWORK, class_of(NETWORK, network)))


@cache
def _classes(option: str) -> dict[str, str]:
    """The classes that a bare name can mean: name to dotted path."""
    base = import_object(NAMING[option].base)
    found: dict[str, str] = {}
    for room in NAMING[option].rooms:
        package = importlib.import_module(room)
        modules = [room]
        if room.startswith("grok_lightning"):
            modules += [f"{room}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
        for module in modules:
            for key, value in vars(importlib.import_module(module)).items():
                public = not key.startswith("_") and isinstance(value, type) and not isabstract(value)
                if public and issubclass(value, base) and value is not base and key != "ModuleStack":
                    found.setdefault(key, f"{module}.{key}")
    return found


def class_names(option: str) -> list[str]:
    """The bare names that an option takes."""
    return sorted(_classes(option))


def find_object(option: str, name: str) -> Any:
    """The object of a dotted name that an option gives. All classes that options name are imported here.

    Raises:
        UserError: If there is none, with the reason.
    """
    try:
        return import_object(name)
    except NotImported as error:
        raise UserError(f"{option} names {show(name)}: {error}") from error


@cache
def is_ordinary_data(name: str) -> bool:
    """Whether a DataModule is an ordinary LightningDataModule, whose loaders are read."""
    return not issubclass(find_object("data", name), import_object("grok_lightning.data.SequenceDataModule"))


@cache
def required_seeds(name: str) -> Nested:
    """The parameters of a DataModule that have no default and stand for the run's seed, each with some value."""
    parameters = signature(find_object("data", name)).parameters
    known = {"seed": 0, "seeds": [0]} if is_ordinary_data(name) else {"seeds": [0]}
    return {
        key: value for key, value in known.items() if key in parameters and parameters[key].default is Parameter.empty
    }


@cache
def _class_parser(option: str, name: str) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    if not name:
        return parser
    first: set[Any] = {NAMING[option].skip} - {0}
    kind = find_object(option, parsed_path(option, name))
    hidden = NAMING[option].hidden | (required_seeds(name).keys() if option == "data" else set())
    nameless = [key for key, one in signature(kind).parameters.items() if _is_nameless(one.default)]
    if nameless:
        raise UserError(
            f"--{option} {name} has a default that no config can hold: {nameless[0]} is a function without a name; "
            "derive a class of your own that fixes it"
        )
    parser.add_class_arguments(kind, skip=first | hidden, fail_untyped=False)
    return parser


def _is_nameless(default: Any) -> bool:
    """Whether a default is a function that no text names."""
    return "<" in getattr(default, "__qualname__", "")


def class_defaults(option: str, name: str) -> Nested:
    """The options of a class with their defaults, those that the program supplies left out; none of no class."""
    found = copy.deepcopy(_class_parser(option, name).get_defaults().as_dict())
    for (owner, key), (default, ours) in _DEFAULTS.items():
        if owner == option and key in found and found[key] == default:
            found[key] = ours
    return found


def required_options(option: str, name: str) -> list[str]:
    """The options of a class that have no default."""
    own = signature(import_object(name)).parameters if name else {}
    without = {key for key, one in own.items() if one.default is Parameter.empty}  # jsonargparse's: those with a type
    return [each.dest for each in _class_parser(option, name)._actions if each.required or each.dest in without]


class Argument(NamedTuple):
    """An option of a parser.

    Attributes:
        name: Dotted, without dashes.
        hint: Its type.
        default: Its default.
        help: Its description.
        positional: Whether it is given without its name.
        many: Whether it takes one or more values.
    """

    name: str
    hint: Any
    default: Any
    help: str
    positional: bool
    many: bool


def arguments_of(parser: ArgumentParser) -> Iterator[Argument]:
    """The options of a parser, in its order."""
    for action in parser._actions:
        hint = getattr(action, "_typehint", None) or action.type
        positional, many = not action.option_strings, action.nargs == "+"
        yield Argument(action.dest, hint, action.default, action.help or "", positional, many)


def class_arguments(option: str, name: str) -> list[Argument]:
    """The options of a class, those that the program supplies left out."""
    return [argument for argument in arguments_of(_class_parser(option, name)) if argument.name != "help"]


def class_hints(option: str, name: str) -> dict[str, Any]:
    """The types of a class's options, by name."""
    return {argument.name: argument.hint for argument in class_arguments(option, name)}


def takes_mapping(hint: Any) -> bool:
    """Whether an option of this type may be a mapping: not of a plain type, which a misspelt name may be below."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if get_origin(hint) in _UNIONS else [hint]
    return any(kind not in _PLAIN and get_origin(kind) not in (*_PLAIN, Literal) for kind in kinds)


def put(nested: Nested, option: str, value: Any) -> None:
    """Sets a dotted option, in place."""
    *parents, last = option.split(".")
    for parent in parents:
        nested = nested.setdefault(parent, {})
    nested[last] = value


def listed(nested: Nested, option: str) -> list[Nested]:
    """The classes of an option of ``LISTS``, each with its options."""
    items = lookup(nested, option)
    return items if isinstance(items, list) else []


def lookup(nested: Nested, option: str) -> Any:
    """The value of a dotted option, or None."""
    place: Any = nested
    for part in option.split("."):
        place = place.get(part) if isinstance(place, dict) else None
    return place


def suggestion(name: str, known: Iterable[str], prefix: str = "", words: Mapping[str, str] | None = None) -> str:
    """``; did you mean ...?`` for the nearest known name, or the list of them where none is near.

    Args:
        name: What was written.
        known: The names that there are.
        prefix: What stands before a name.
        words: Other words for some of the names. A name without a dot is compared with them and with last parts first.
    """
    known = sorted(known)
    by_last = {key.rsplit(".", 1)[-1]: key for key in known}
    begun = [key for key in known if key.startswith(name)]
    begun = [key for key in known if key.casefold() == name.casefold()] or begun
    near = begun if len(begun) == 1 else []
    if not near and words is not None and "." not in name:
        in_short = dict(words) | by_last
        near = [in_short[word] for word in get_close_matches(name.lower(), in_short, 1, 0.75)]
    group, _, own = name.rpartition(".")  # names of one group begin alike, which makes none of them near
    inside = {key.removeprefix(f"{group}."): key for key in known if group and key.startswith(f"{group}.")}
    near = near or [inside[key] for key in get_close_matches(own, inside, 1, 0.6)]
    above = [key for key in known if name.startswith(f"{key}.")]
    near = near or ([] if inside or above else get_close_matches(name, known, 1, 0.6))
    by_last = {last: key for last, key in by_last.items() if not last.isdigit()}
    near = near or [by_last[last] for last in get_close_matches(own, by_last, 1, 0.7)]
    if near:
        return f"; did you mean {prefix}{near[0]}?"
    return f"; known are {', '.join(known)}" if known and len(known) <= 40 and not prefix else ""
