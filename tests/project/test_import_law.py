"""Each room imports only rooms on lower floors, and no module is part of a circle."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import grok_lightning

PACKAGE = "grok_lightning"
TOP = Path(grok_lightning.__file__).parent
FLOORS = (
    ("batch", "errors", "provided", "randomness"),
    ("files", "reading"),
    ("hardware", "records", "data", "models", "optim", "objective", "statistics"),
    ("training", "figures", "groups", "forecast"),
    ("measures",),
    ("module",),
    ("callbacks",),
    ("inspection",),
    ("options",),
    ("build",),
    ("run",),
    ("starting",),
    ("cli", "generate", "export", "splits", "inspecting"),
    ("fit",),
    ("experiment",),
    ("sweep", "report", "status"),
    ("speedrun",),
    ("__init__", "__main__"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


class Import(NamedTuple):
    target: str
    for_types: bool


def name_of(path: Path) -> str:
    parts = (PACKAGE, *path.relative_to(TOP).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(TOP.rglob("*.py"))}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(source: str, module: str, modules: set[str], is_package: bool = False) -> Iterator[Import]:
    """The modules of this package that a source imports, wherever in it."""
    tree = ast.parse(source)
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            above = parents[: len(parents) - node.level + is_package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            inner = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in modules else base for name in inner]
        for name in names:
            if name.split(".")[0] == PACKAGE:
                yield Import(name, node in typing_only)


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a module imports against the law."""
    room = room_of(module)
    if room not in FLOOR:
        return [f"{module}: the room {room!r} stands on no floor; place it on one in FLOORS"]
    found = []
    for target, _ in imports(source, module, set(FILES), is_package):
        other = room_of(target)
        if other == room:
            continue
        if other not in FLOOR:
            found.append(f"{module} imports {target}, whose room {other!r} stands on no floor; place it in FLOORS")
        elif FLOOR[other] >= FLOOR[room]:
            found.append(f"{module} (floor {FLOOR[room]}) must not import {target} (floor {FLOOR[other]})")
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A circle of imports, its first module repeated at the end; empty if there is none."""
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module not in done:
            for target in sorted(graph.get(module, ())):
                if found := walk(target, [*way, module]):
                    return found
            done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := walk(module, []))), [])


def test_modules_import_only_lower_floors() -> None:
    broken = [violations(path.read_text(), name, path.name == "__init__.py") for name, path in FILES.items()]
    assert [violation for found in broken for violation in found] == []


def test_no_circles() -> None:
    graph = {
        module: {
            found.target
            for found in imports(path.read_text(), module, set(FILES), path.name == "__init__.py")
            if not found.for_types
        }
        for module, path in FILES.items()
    }
    assert sum(map(len, graph.values())) > len(graph) / 2, "hardly any import was found"
    assert not circle(graph)


FORBIDDEN = [
    ("data.split", "from grok_lightning.models import Transformer"),
    ("data.split", "import grok_lightning.module"),
    ("optim.adamw", "def late():\n    from grok_lightning.records.record import flatten"),
    ("records.record", "from grok_lightning import module"),
    ("models.base", "from ..data import batches"),
    ("batch", "from grok_lightning.errors import UserError"),
    ("figures.curves", "from grok_lightning.training.norms import PARTS"),
    ("options", "import torch, grok_lightning.run as runs"),
    ("callbacks.progress", "if True:\n    from grok_lightning import cli"),
    ("callbacks.progress", "if TYPE_CHECKING:\n    from grok_lightning.cli import GrokCLI"),
    ("module", "from grok_lightning.callbacks import schedule"),
    ("generate", "from grok_lightning.__main__ import main"),
    ("errors", "from grok_lightning.files import sweep"),
    ("attic", "import torch"),
    ("module", "from grok_lightning.attic import relic"),
]
LAWFUL = [
    ("models.base", "from grok_lightning.batch import Beginnings"),
    ("data.split", "from grok_lightning.data.algebra import Column\nfrom grok_lightning.randomness import mix"),
    ("module", "from grok_lightning.training.norms import PARTS\nfrom .data import batches"),
    ("cli", "from grok_lightning import run, module"),
    ("__main__", "from grok_lightning.cli import GrokCLI"),
    ("errors", "import torch\nfrom grok_lightning_extra import data"),
]


def test_forbidden_imports_are_noticed_and_lawful_ones_let_through() -> None:
    for module, source in FORBIDDEN:
        assert len(violations(source, f"{PACKAGE}.{module}")) == 1, (module, source)
    for module, source in LAWFUL:
        assert violations(source, f"{PACKAGE}.{module}") == [], (module, source)


def test_relative_imports_are_resolved() -> None:
    source = "from . import algebra\nfrom .split import Split\nfrom ..records import record"
    expected = {"grok_lightning.data.algebra", "grok_lightning.data.split", "grok_lightning.records.record"}
    assert {found.target for found in imports(source, "grok_lightning.data.batches", set(FILES))} == expected
    assert {found.target for found in imports(source, "grok_lightning.data", set(FILES), is_package=True)} == expected


def test_circles_are_noticed() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"a"}}) == ["a", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_for_types_are_told_apart() -> None:
    source = "if TYPE_CHECKING:\n    from grok_lightning import cli\nelse:\n    from grok_lightning import run"
    found = set(imports(source, "grok_lightning.generate", set(FILES)))
    assert found == {Import("grok_lightning.cli", True), Import("grok_lightning.run", False)}
