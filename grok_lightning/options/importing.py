"""Objects by their dotted names, also from the working directory, and the reason where one cannot be had."""

import importlib
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")

EXTRAS = {"pytorch_optimizer": "optimizers"}  # packages that shipped configs name, by the extra that installs them


class NotImported(Exception):
    """Why there is no object of a name, in one line; raised from what the import raised."""


def import_object(path: str) -> Any:
    """Imports an object by its dotted name.

    Modules are found where Python finds them, and then in the working directory (``WorkingDirectory``).

    Args:
        path: Such as ``my.TinyNet``.

    Raises:
        NotImported: There is no such module, importing it raises something, or it has nothing of that name.
    """
    if not DOTTED.fullmatch(path):
        raise NotImported("a dotted name is expected, MODULE.CLASS")
    name, _, last = path.rpartition(".")
    _add_finder(path)
    try:
        module = importlib.import_module(name)
        return getattr(module, last)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, AttributeError) and name in sys.modules and not hasattr(sys.modules[name], last)
        reason = _describe_missing(sys.modules[name], last) if missing else _describe_failure(name, error)
        raise NotImported(reason) from error


class WorkingDirectory:
    """Finds modules of the working directory that options name or that its own modules import, and no others.

    It comes after all other finders, so that a file never takes the place of a module of Python's or of an installed
    package. Nor is one found where a library looks for a package that is not installed, as torch does for triton.
    """

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Finds a top-level module (those below it are found by its package)."""
        if path is not None:
            return None
        try:
            here = Path.cwd()
            return PathFinder.find_spec(name, [str(here)]) if _asks_for_own(here) else None
        except OSError:  # the working directory is gone
            return None


def import_if_here(path: str) -> None:
    """Imports the module of a dotted name that may be a function's, if the working directory has it.

    Whoever asks for the name next, such as jsonargparse, finds it imported.
    """
    name = path.partition(".")[0]
    if name not in sys.modules and PathFinder.find_spec(name, [os.curdir]) is not None:
        with suppress(NotImported):
            import_object(path)


def _add_finder(path: str) -> None:
    if path.partition(".")[0] not in sys.modules:
        importlib.invalidate_caches()  # the file may be newer than what Python knows of the directory
    if not any(isinstance(finder, WorkingDirectory) for finder in sys.meta_path):
        sys.meta_path.append(WorkingDirectory())


def _asks_for_own(here: Path) -> bool:
    """Whether the import under way is one of this module, or of a file of the working directory."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(("<frozen importlib", importlib.__file__)):
        frame = frame.f_back
    file = Path(frame.f_code.co_filename)
    libraries = (*map(Path, {sys.prefix, sys.base_prefix}), Path(__file__).parents[1])
    installed = any(here in each.parents and each in file.parents for each in libraries)
    installed = installed or bool({"site-packages", "dist-packages"} & set(file.parts))
    return str(file) == __file__ or (here in file.parents and not installed)


def _describe_missing(module: ModuleType, name: str) -> str:
    """Says that a module has nothing of a name."""
    known = [key for key in vars(module) if not key.startswith("_")]
    file = getattr(module, "__file__", None)
    where = f" ({_show_path(file)})" if file else ""
    return f"the module {module.__name__}{where} has no {name}{_suggest(name, known)}{_hint_at_shadow(module)}"


def _hint_at_shadow(module: ModuleType) -> str:
    """Says that the file of that name in the working directory is another one."""
    here = Path(f"{module.__name__.partition('.')[0]}.py")
    own = getattr(module, "__file__", None)
    if not here.is_file() or (own is not None and Path(own).resolve() == here.resolve()):
        return ""
    return f"; {here} here is another file, which has the name of a module that Python finds first: rename it"


def _describe_failure(name: str, error: BaseException) -> str:
    """Says why a module cannot be imported: it does not exist, or something in it raised an error, and where."""
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        above, _, last = error.name.rpartition(".")
        parent = sys.modules.get(above)
        if parent is None:
            known = [entry.stem for entry in Path().iterdir() if entry.suffix == ".py" or entry.is_dir()]
            extra = EXTRAS.get(error.name)
            hint = _suggest(error.name, known) if extra is None else f"; pip install 'grok_lightning[{extra}]'"
            return f"there is no module {error.name}{hint}"
        known = [module.name for module in pkgutil.iter_modules(getattr(parent, "__path__", []))]
        return f"there is no module {last} in {above}{_suggest(last, known)}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_show_path(error.filename)}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    frames = [frame for frame in frames if not frame.filename.startswith("<frozen") and frame.filename != __file__]
    where = f"{_show_path(frames[-1].filename)}, line {frames[-1].lineno}" if frames else f"the module {name}"
    return f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}".removesuffix(": ")


def _suggest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _show_path(path: str) -> str:
    """A file's path, relative where it lies below the working directory."""
    try:
        return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path
    except (OSError, ValueError):
        return path
