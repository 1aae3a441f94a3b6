"""What the user asked for, before any type is checked: arguments and YAML files as one nested mapping.

Options are written short: ``data.formula``, not ``data.init_args.formula``. A class may be named by its bare name. The
rule that jsonargparse does not keep is kept here: naming a class starts from that class's own defaults, so nothing of
AdamW's reaches Muon; and what was *given* stays apart from what is default.
"""

import copy
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from inspect import isabstract
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser

from grok_lightning.errors import UserError
from grok_lightning.record import flatten

Nested = dict[str, Any]


class ClassOption:
    """An option that names a class.

    Args:
        default: Dotted path of the class taken when none is named.
        base: Dotted path of the class that all of them extend.
        rooms: Modules in which bare names are looked up, with everything below them.
        skip: How many leading parameters the program itself supplies.
        hidden: Further parameters that the program supplies.
    """

    def __init__(
        self, default: str, base: str, rooms: tuple[str, ...], skip: int = 0, hidden: frozenset[str] = frozenset()
    ) -> None:
        self.default, self.base, self.rooms, self.skip, self.hidden = default, base, rooms, skip, hidden


CLASS_OPTIONS = {
    "data": ClassOption(
        "grok_lightning.data.ModularArithmeticDataModule",
        "lightning.pytorch.LightningDataModule",
        ("grok_lightning.data",),
        hidden=frozenset({"seeds"}),
    ),
    "model.network": ClassOption(
        "grok_lightning.models.Transformer", "grok_lightning.models.SequenceModel", ("grok_lightning.models",), skip=3
    ),
    "model.optimizer": ClassOption(
        "grok_lightning.optim.AdamW", "torch.optim.Optimizer", ("grok_lightning.optim", "torch.optim"), skip=1
    ),
}
NO_VALUE = "\0"  # stands for a missing value until the option's name has been checked


def given_options(arguments: list[str], flags: Iterable[str]) -> tuple[Nested, list[Path]]:
    """Reads command line arguments.

    Args:
        arguments: Everything after the subcommand: ``--key value``, ``--key=value``, ``--list+=item``; ``--config``
            takes a YAML file or the name of a shipped config. Later ones win over earlier ones, the command line over
            every file.
        flags: Options that may stand without a value, which then is true.

    Returns:
        The options given, nested and short; and the config files read.

    Raises:
        UserError: If an argument is no option or a file cannot be read.
    """
    flags, assignments, configs = set(flags), [], []
    rest = iter(range(len(arguments)))
    for place in rest:
        argument = arguments[place]
        name, equals, value = argument.partition("=")
        name = {"-c": "--config"}.get(name, name)
        if not name.startswith("--") or name == "--":
            raise UserError(f"unexpected argument {argument!r}; options are written --name value")
        key = name[2:].replace("-", "_").replace(".init_args", "")
        follows = arguments[place + 1] if place + 1 < len(arguments) else "--"
        if not equals and not follows.startswith("--"):
            value = arguments[next(rest)]
        elif not equals and key in flags:
            value = "true"
        elif not equals:
            value = NO_VALUE
        if key == "config":
            configs.append(find_config(value))
        else:
            assignments.append((key, value))
    given: Nested = {}
    for path in configs:
        merge(given, read_config(path))
    # classes first, so that the order of options on one command line does not matter
    direct: Nested = {}
    for key, value in sorted(assignments, key=lambda item: item[0].removesuffix("+") not in CLASS_OPTIONS):
        _assign(direct, key, value)
    merge(given, normalize(direct))
    return given, configs


def _assign(nested: Nested, key: str, value: Any) -> None:
    if key in CLASS_OPTIONS:
        value = yaml.safe_load(value) if value.lstrip().startswith("{") else {"class_path": value}
    *parents, last = key.removesuffix("+").split(".")
    place: Any = nested
    for parent in parents:
        value_there = place.setdefault(parent, {})
        # an option of a class that was named before: --trainer.logger Name, or --trainer.callbacks+=Name
        if isinstance(value_there, list):
            value_there[-1] = _as_class(value_there[-1])
            place = value_there[-1]["init_args"]
        elif isinstance(value_there, str):
            place[parent] = _as_class(value_there)
            place = place[parent]["init_args"]
        else:
            place = value_there["init_args"] if "init_args" in value_there else value_there
    if key.endswith("+"):
        place.setdefault(last, []).append(value)
    else:
        place[last] = value


def _as_class(value: Any) -> Nested:
    value = value if isinstance(value, dict) else {"class_path": value}
    value.setdefault("init_args", {})
    return value


def read_config(path: Path) -> Nested:
    """One YAML file as nested options.

    Raises:
        UserError: If it cannot be read or is no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"--config {str(path)!r} cannot be read as YAML: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"--config {str(path)!r} is no mapping of options, such as `data: {{formula: x + y}}`")
    return normalize(content)


def shipped_configs() -> dict[str, Path]:
    """The configs installed with the package, by name."""
    folder = Path(str(files("grok_lightning") / "configs"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_config(name: str) -> Path:
    """The YAML file of that path, or the shipped config of that name.

    Raises:
        UserError: If there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = shipped_configs()
    if Path(name).stem in shipped and Path(name).parent in (Path(), Path("configs")):
        return shipped[Path(name).stem]
    raise UserError(f"--config {name!r} is neither a file nor a shipped config{suggestion(name, shipped)}")


def normalize(nested: Nested) -> Nested:
    """The short form: classes by full path, their options beside it, no ``init_args``."""
    nested = copy.deepcopy(nested)
    for option in CLASS_OPTIONS:
        *parents, last = option.split(".")
        place: Any = nested
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or place.get(last) is None:
            continue
        value = place[last]
        value = {"class_path": value} if isinstance(value, str) else value
        if not isinstance(value, dict):
            raise UserError(f"{option} is {value!r}; a class name or a mapping of options is expected")
        value = {key: inner for key, inner in value.items() if key != "init_args"} | (value.get("init_args") or {})
        if "class_path" in value:
            value["class_path"] = class_path(option, value["class_path"])
        place[last] = value
    return nested


def merge(base: Nested, new: Nested, prefix: str = "") -> Nested:
    """Lays ``new`` over ``base``, in place; naming another class than before drops the old one's options."""
    for key, value in new.items():
        option = f"{prefix}{key}"
        old = base.get(key)
        if (
            isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("class_path", _class_of(option, old)) == _class_of(option, old)
        ):
            merge(old, value, f"{option}.")
        else:
            base[key] = copy.deepcopy(value)
    return base


def _class_of(option: str, value: Nested) -> str:
    return str(value.get("class_path", CLASS_OPTIONS[option].default if option in CLASS_OPTIONS else ""))


def complete(given: Nested) -> Nested:
    """Adds the default classes and every class's own defaults, still in the short form."""
    whole = copy.deepcopy(given)
    for option in CLASS_OPTIONS:
        *parents, last = option.split(".")
        place = whole
        for parent in parents:
            place = place.setdefault(parent, {})
        value = place.setdefault(last, {})
        name = _class_of(option, value)
        place[last] = {"class_path": name, **class_defaults(option, name), **value}
    return whole


def expand(whole: Nested) -> Nested:
    """The form that jsonargparse takes: ``class_path`` and ``init_args``."""
    whole = copy.deepcopy(whole)
    for option in CLASS_OPTIONS:
        *parents, last = option.split(".")
        place = whole
        for parent in parents:
            place = place[parent]
        name = place[last].pop("class_path")
        place[last] = {"class_path": name, "init_args": place[last]}
    return whole


def check_names(given: Nested, known: Iterable[str]) -> None:
    """Refuses options that do not exist, with the nearest one that does.

    Args:
        given: What the user gave, normalized.
        known: The dotted options that do not belong to a class of ``CLASS_OPTIONS``.

    Raises:
        UserError: For the first unknown option, or the first without a value.
    """
    known = set(known)
    own = set()
    for option in CLASS_OPTIONS:
        value = _lookup(given, option) or {}
        name = _class_of(option, value)
        own |= {f"{option}.{key}" for key in class_defaults(option, name)} | {f"{option}.class_path", option}
    classes_of_others = [name for name in known if f"{name}.help" in known and name not in CLASS_OPTIONS]
    for key, value in flatten(given).items():
        if key in own or key in known or any(key.startswith(f"{name}.") for name in classes_of_others):
            if value == NO_VALUE:
                raise UserError(f"--{key} needs a value")
            continue
        owner = next((option for option in CLASS_OPTIONS if key.startswith(f"{option}.")), None)
        what = "no option"
        if owner is not None:
            what = f"no option of {_class_of(owner, _lookup(given, owner) or {}).rsplit('.', 1)[-1]}"
        names = [name for name in own | known if not name.endswith((".help", ".class_path"))]
        raise UserError(f"--{key} is {what}{suggestion(key, names, '--')}")


def _lookup(nested: Nested, option: str) -> Any:
    place: Any = nested
    for part in option.split("."):
        place = place.get(part) if isinstance(place, dict) else None
    return place


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean ...?`` for the nearest known name, or the list of them where none is near."""
    known = sorted(known)
    by_last = {key.rsplit(".", 1)[-1]: key for key in known}
    begun = [key for key in known if key.startswith(name)]
    near = begun if len(begun) == 1 else get_close_matches(name, known, 1, 0.6)
    near = near or [by_last[last] for last in get_close_matches(name.rsplit(".", 1)[-1], by_last, 1, 0.7)]
    if near:
        return f"; did you mean {prefix}{near[0]}?"
    return f"; known are {', '.join(known)}" if known and len(known) <= 40 and not prefix else ""


@cache
def class_path(option: str, name: str) -> str:
    """The full dotted path of a class named for an option.

    Raises:
        UserError: If there is no such class.
    """
    if "." in name:
        if isinstance(_imported(name), type):
            return name
        raise UserError(f"{option} names the class {name!r}, which cannot be imported")
    base = _imported(CLASS_OPTIONS[option].base)
    found: dict[str, str] = {}
    for room in CLASS_OPTIONS[option].rooms:
        package = importlib.import_module(room)
        modules = [room]
        if room.startswith("grok_lightning"):
            modules += [f"{room}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
        for module in modules:
            for key, value in vars(importlib.import_module(module)).items():
                if isinstance(value, type) and issubclass(value, base) and not isabstract(value) and value is not base:
                    found.setdefault(key, f"{module}.{key}")
    if name not in found:
        raise UserError(f"{option} names the class {name!r}, which does not exist{suggestion(name, found)}")
    return found[name]


def _imported(path: str) -> Any:
    """What a dotted path names, or None."""
    module, _, last = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), last, None)
    except ImportError:
        return None


@cache
def _class_parser(option: str, name: str) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    kept = CLASS_OPTIONS[option]
    skip: set[Any] = {kept.skip} if kept.skip else set()
    parser.add_class_arguments(_imported(name), skip=skip | kept.hidden)
    return parser


def class_defaults(option: str, name: str) -> Nested:
    """The options of a class with their defaults, those that the program supplies left out."""
    return copy.deepcopy(_class_parser(option, name).get_defaults().as_dict())


def expected(option: str, whole: Nested, parser: ArgumentParser) -> str:
    """What an option accepts, in words."""
    for owner in CLASS_OPTIONS:
        if option.startswith(f"{owner}."):
            name = _class_of(owner, _lookup(whole, owner) or {})
            parser, option = _class_parser(owner, name), option.removeprefix(f"{owner}.")
            break
    for action in parser._actions:
        if action.dest == option:
            return _in_words(getattr(action, "_typehint", None) or action.type)
    return "another kind of value"


def _in_words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin is Union or (inner and origin is not None and origin.__module__ == "types"):
        return " or ".join(_in_words(kind) for kind in inner)
    if origin is not None and inner:
        return f"a list of {_in_words(inner[0]).removeprefix('an ').removeprefix('a ')}s"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def plain(value: Any) -> Any:
    """Tuples as lists, paths and other objects as text: what YAML, JSON and a checkpoint can hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    return value if isinstance(value, bool | int | float | str | type(None)) else str(value)
