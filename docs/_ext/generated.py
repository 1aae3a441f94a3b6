"""Pages that are written from the code when the site is built: every option, the shipped configs, the modules."""

import contextlib
import importlib
import inspect
import io
import pkgutil
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin
from unittest import mock

import docstring_parser
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer

import grok_lightning
from grok_lightning.__main__ import main

HERE = Path(__file__).parents[1]
SOURCE = Path(grok_lightning.__file__).parent
COMMANDS = {
    "sweep": "Many runs from one file; see [Sweeps](../howto/sweeps.md).",
    "report": "Tables and figures of a set of runs; see [Reports](../howto/reports.md).",
    "generate": "Answers of a trained model.",
    "inspect": "A page on what a network looks like inside; see [Inspect a checkpoint](../howto/inspect.md).",
    "data": "The splits of a run as files; see [Splits as files](../howto/splits.md). Beside options of `fit`:",
}
# the groups of fit's options: heading, what is said of it, the options (or the beginnings of their names)
GROUPS: list[tuple[str, str, tuple[str, ...]]] = [
    ("The run", "Its name, its seed, what it starts from.",
     ("seed_everything", "experiment", "run", "overwrite", "ckpt_path", "init_from", "init_parts", "threads",
      "config")),
    ("Model and training", "The module that trains: loss, schedule, noise. The network, the optimizer and gradient "
     "filters are classes with options of their own, below.", ("model.",)),
    ("Evaluation", "When a run is evaluated, and when it is over.", ("evaluation.", "measures")),
    ("Checkpoints", "What is saved, and when.", ("checkpoint.",)),
    ("Trainer", "Lightning's Trainer. Those marked * have another default than Lightning's.", ("trainer.",)),
]  # fmt: skip
CLASSES: list[tuple[str, str, str, str, frozenset[str]]] = [  # heading, option, room, base class, what is supplied
    ("Data", "data", "grok_lightning.data", "grok_lightning.data.SequenceDataModule", frozenset({"seeds"})),
    ("Networks", "model.network", "grok_lightning.models", "grok_lightning.models.SequenceModel",
     frozenset({"vocabulary", "length", "seeds", "padded"})),
    ("Optimizers", "model.optimizer", "grok_lightning.optim", "torch.optim.Optimizer", frozenset({"params"})),
    ("Gradient filters", "model.filters", "grok_lightning.optim", "grok_lightning.optim.GradientFilter", frozenset()),
    ("Constraints", "model.constraints", "grok_lightning.optim", "grok_lightning.optim.Constraint", frozenset()),
    ("Measures", "measures", "grok_lightning.measures", "grok_lightning.measures.Measure", frozenset()),
]  # fmt: skip
REQUIRED = "required"
TRAINER = inspect.signature(Trainer)
SUPPLIED = {"model.vocabulary", "model.length", "model.answer_length", "model.seeds", "model.padded"}


class Option(NamedTuple):
    """An option as the page shows it; ``changed`` marks a default that is not Lightning's."""

    name: str
    kind: str
    default: str
    meaning: str
    changed: bool = False


def parser_of(command: str) -> ArgumentParser:
    """The parser that ``grok-lightning COMMAND --help`` builds: of all parsers made on the way the largest."""
    made: list[ArgumentParser] = []
    original = ArgumentParser.__init__

    def noted(self: ArgumentParser, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)

    with (
        mock.patch.object(ArgumentParser, "__init__", noted),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.suppress(SystemExit),
    ):
        main([command, "--help"])
    return max(made, key=lambda parser: len(parser._actions))


def first_sentence(text: str) -> str:
    """The first sentence of a help text, on one line."""
    text = " ".join(text.split())
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"\s*\((type|default|required|known subclasses):.*$", "", text)
    return re.split(r"(?<=[^.A-Z ][.])\s+(?=[A-Z`0-9])", text, maxsplit=1)[0]


def type_words(hint: Any) -> str:
    """A type as it is written on a command line."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is None or hint is type(None):
        return "null"
    if hint is Any or hint is inspect.Parameter.empty:
        return "any"
    if getattr(origin, "__name__", "") == "Literal" or str(origin) == "typing.Literal":
        return ", ".join(str(value) for value in inner)
    if origin is not None and (str(origin) == "typing.Union" or getattr(origin, "__name__", "") == "UnionType"):
        return " or ".join(type_words(kind) for kind in inner)
    if origin in (list, tuple) or getattr(origin, "__name__", "") in ("Iterable", "Sequence"):
        return f"list of {type_words(inner[0])}" if inner else "list"
    if origin is not None and getattr(origin, "__name__", "") == "Callable":
        return "class"
    return str(getattr(hint, "__name__", hint)).replace("NoneType", "null")


def value_words(value: Any) -> str:
    """A default as it is written on a command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, dict):
        return str(value.get("class_path", "{}")).rsplit(".", 1)[-1]
    if hasattr(value, "as_dict"):
        return value_words(value.as_dict())
    return str(value)


def code(text: str) -> str:
    """Inline code in a cell of a Markdown table."""
    return f"`{text}`".replace("|", "\\|") if text else ""


def prose(text: str) -> str:
    """Text of a docstring in a cell of a Markdown table."""
    text = text.replace("``", "`").replace("|", "\\|")
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_<\[])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def table(options: Iterable[Option]) -> str:
    """Options with type and default, and what they mean; a phone shows the two one below the other."""
    lines = ["```{table}", ":class: options", "", "| option, type, default | meaning |", "|---|---|"]
    for option in options:
        facts = [prose(option.kind)]
        if option.default:
            facts.append("required" if option.default == REQUIRED else f"default {code(option.default)}")
        star = " \\*" if option.changed else ""
        lines.append(f"| {code(option.name)}{star}<br>{'; '.join(facts)} | {prose(option.meaning)} |")
    return "\n".join([*lines, "```"]) + "\n"


def actions_of(parser: ArgumentParser) -> dict[str, Any]:
    """The options of a parser by dotted name, without help and without groups of options."""
    names = {action.dest for action in parser._actions if not action.dest.endswith(".help")}
    hidden = SUPPLIED | {"help", "print_config", "print_shtab"}
    leaves = {name for name in names - hidden if not any(other.startswith(f"{name}.") for other in names)}
    return {action.dest: action for action in parser._actions if action.dest in leaves}


def option_of(action: Any) -> Option:
    """An option of a parser."""
    hint = getattr(action, "_typehint", None) or action.type
    kind = "str" if hint is None else type_words(hint)
    if isinstance(action.choices, list | tuple):
        kind = ", ".join(map(str, action.choices))
    meaning = first_sentence(action.help or "")
    if not action.option_strings:
        return Option(action.dest, kind, REQUIRED, meaning)
    return Option(f"--{action.dest}", kind, value_words(action.default), meaning)


def class_options(cls: type, supplied: frozenset[str], prefix: str) -> Iterator[Option]:
    """The options of a class, from its constructor and docstring, and those that it passes on to its bases."""
    seen = set(supplied)
    for owner in cls.__mro__:
        if "__init__" not in vars(owner) or not owner.__module__.startswith("grok_lightning"):
            continue
        documented = docstring_parser.parse(inspect.getdoc(owner) or "")
        meanings = {one.arg_name: one.description or "" for one in documented.params}
        hints = inspect.get_annotations(owner.__init__, eval_str=True)
        parameters = list(inspect.signature(owner.__init__).parameters.values())[1:]
        for each in parameters:
            if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL) and each.name not in seen:
                seen.add(each.name)
                kind = type_words(hints.get(each.name, Any))
                default = REQUIRED if each.default is each.empty else value_words(each.default)
                yield Option(f"{prefix}{each.name}", kind, default, first_sentence(meanings.get(each.name, "")))
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            return


def classes_in(room: str, base: str) -> dict[str, type]:
    """The classes of a room that an option can name, those that only others extend left out."""
    module, _, name = base.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    package = importlib.import_module(room)
    found: dict[str, type] = {}
    for each in pkgutil.iter_modules(package.__path__, f"{room}."):
        for key, value in vars(importlib.import_module(each.name)).items():
            own = inspect.isclass(value) and issubclass(value, kind) and value.__module__ == each.name
            if own and not inspect.isabstract(value) and not key.startswith("_"):
                found[key] = value
    return dict(sorted(found.items()))


def options_page() -> str:
    """Every option of every command."""
    left = actions_of(parser_of("fit"))
    of_fit = {*left} - {"overwrite"}
    text = [
        "# Options\n",
        "Every option of every command, written from the code when this site is built. On the command line options are "
        "dotted (`--model.network.layers 2`), in YAML they nest. `-` and `_` in names are the same.\n",
        "## fit\n",
        "`validate`, `test` and `predict` take the same options, as far as they make sense without training; `predict` "
        "also takes `--split` (train, val, test or all) and `--output` (the CSV file to write).\n",
    ]
    for heading, said, names in GROUPS:
        chosen = [key for name in names for key in left if key == name or (name[-1] == "." and key.startswith(name))]
        options = [option_of(left.pop(key)) for key in chosen]
        text += [f"### {heading}\n", f"{said}\n", table(changed_first(options))]
    rest = [action for key, action in left.items() if key != "data" and not key.startswith("data.")]
    if rest:
        text += ["### Others\n", table(map(option_of, rest))]
    text += [
        "## Classes and their options\n",
        "Options that name a class take its bare name, or the dotted path of a class of your own "
        "([how](../howto/own-classes.md)). Naming a class starts from its own defaults.\n",
    ]
    for heading, option, room, base, supplied in CLASSES:
        text.append(f"### {heading}: `--{option}`\n")
        for name, cls in classes_in(room, base).items():
            own = list(class_options(cls, supplied, f"--{option}."))
            text += [f"#### {name}\n", prose(first_sentence(inspect.getdoc(cls) or "")) + "\n"]
            text.append(table(own) if own else "No options.\n")
        if option == "model.optimizer":
            text.append(
                "Every optimizer of `torch.optim` can be named too, with its own options: `--model.optimizer SGD "
                "--model.optimizer.momentum 0.9`. Those keep one learning rate for a stack of runs. "
                "Schedulers: `--model.scheduler` takes those of `torch.optim.lr_scheduler` "
                "([how](../howto/own-optimizer.md)).\n"
            )
    for command, said in COMMANDS.items():
        actions = actions_of(parser_of(command))
        own = [action for key, action in actions.items() if command != "data" or key not in of_fit]
        text += [f"## {command}\n", f"{said}\n", table(map(option_of, own))]
    return "\n".join(text)


def changed_first(options: list[Option]) -> list[Option]:
    """Marks Trainer options with another default than Lightning's, and puts them first."""
    theirs = {f"--trainer.{name}": value_words(each.default) for name, each in TRAINER.parameters.items()}
    marked = [option._replace(changed=theirs.get(option.name, option.default) != option.default) for option in options]
    return sorted(marked, key=lambda option: not option.changed)


def configs_page() -> str:
    """Every shipped config and sweep with the first line of its header."""
    text = [
        "# Shipped configs\n",
        "Named by `--config`, `base:` and `grok-lightning sweep`; `grok-lightning configs` lists them too. Each states "
        "only what differs from the defaults; the files say what their source did and found, and what differs here.\n",
    ]
    sweeps = SOURCE.parent / "configs" / "sweeps"
    for heading, folder in (("Runs", sweeps.parent), ("Sweeps", sweeps)):
        text += [f"## {heading}\n", "| name | what it is |", "|---|---|"]
        for path in sorted(folder.rglob("*.yaml")):
            if folder == sweeps or sweeps not in path.parents:
                name = path.relative_to(folder).with_suffix("").as_posix()
                said = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
                text.append(f"| {code(name)} | {prose(said)} |")
        text.append("")
    return "\n".join(text)


def api_pages() -> dict[str, str]:
    """A page for each room and one for the modules beside them."""
    pages, beside = {}, []
    for each in pkgutil.iter_modules([str(SOURCE)], "grok_lightning."):
        name = each.name.rpartition(".")[2]
        if each.ispkg:
            package = importlib.import_module(each.name)
            said = (package.__doc__ or "").strip().splitlines()[0]
            modules = [module.name for module in pkgutil.iter_modules(package.__path__, f"{each.name}.")]
            pages[f"api/{name}.rst"] = _module_page(name, said, modules)
        elif not name.startswith("_"):
            beside.append(each.name)
    said = "What joins the rooms, and the modules that all of them use."
    return pages | {"api/top-level.rst": _module_page("top-level modules", said, beside)}


def _module_page(title: str, said: str, modules: list[str]) -> str:
    text = [title, "=" * len(title), "", said.replace("`", "``") if "``" not in said else said, ""]
    for module in modules:
        heading = module.removeprefix("grok_lightning.").rpartition(".")[2]
        text += [heading, "-" * len(heading), "", f".. automodule:: {module}", ""]
    return "\n".join(text)


def write(_app: Any = None) -> None:
    """Writes all pages; a page that has not changed is left alone, so that only changes are built again."""
    folder = HERE / "reference"
    pages = {"options.md": options_page(), "configs.md": configs_page()} | api_pages()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")
    for stale in {path for path in folder.glob("api/*.rst") if path.relative_to(folder).as_posix() not in pages}:
        stale.unlink()


def setup(app: Any) -> dict[str, bool]:
    """Registers with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
