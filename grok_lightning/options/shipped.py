"""The configs and sweeps that are installed with the package: found by name, listed and shown."""

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from importlib.resources import files
from itertools import takewhile
from pathlib import Path

from grok_lightning.errors import UserError, show

SWEEPS = "sweeps"
_DESCRIPTION = "README.md"  # one line in each folder
USAGE = """\
usage: grok-lightning configs [NAME ...]

Lists the installed configs and sweeps, one line each; with names, prints their files."""


def _shipped() -> Path:
    """Folder of the configs: in the package, or beside it in a clone without symbolic links (git on Windows)."""
    package = Path(str(files("grok_lightning")))
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def shipped_configs() -> dict[str, Path]:
    """The configs installed with the package.

    Returns:
        Each file by its name: its stem, behind the folder of its source where it lies in one (``power2022/division``).
        The everyday ones, which lie in no folder, come first.
    """
    return {name: path for name, path in _named(_shipped()).items() if not name.startswith(f"{SWEEPS}/")}


def shipped_sweeps() -> dict[str, Path]:
    """The sweeps installed with the package, by name, as those of ``shipped_configs``."""
    return _named(_shipped() / SWEEPS)


def _named(folder: Path) -> dict[str, Path]:
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
    return dict(sorted(found.items(), key=lambda item: ("/" in item[0], item[0].split("/"))))


def find_config(name: str, option: str = "--config") -> Path:
    """The YAML file of a fit.

    Args:
        name: Path of a file; or the name of a shipped config, with its folder or, where only one has it, without.
        option: What gives it, for the error.

    Raises:
        UserError: If there is neither a file nor a shipped config of that name, or several of the latter.
    """
    if _is_file(name):
        return Path(name)
    shown = repr(name if len(name) <= 80 else f"{name[:50]}...")
    return _find(name, shipped_configs(), f"{option} {shown} is neither a file nor a shipped config")


def experiment_of(path: Path) -> str:
    """The experiment of a config file: its stem, or ``power2022-division`` for a shipped one in a folder."""
    for name, shipped in shipped_configs().items():
        if shipped.resolve() == path.resolve():
            return name.replace("/", "-")
    return path.stem


def find_sweep(name: str) -> Path:
    """The YAML file of a sweep.

    Args:
        name: Path of a file; or the name of a shipped sweep, with its folder or, where only one has it, without.

    Raises:
        UserError: If there is neither a file nor a shipped sweep of that name, or several of the latter, or a folder.
    """
    if _is_file(name):
        return Path(name)
    if len(name) < 1000 and Path(name).is_dir() and not _matches(name, shipped_sweeps()):
        raise UserError("it cannot be read: Is a directory")
    return _find(name, shipped_sweeps(), "there is no such file, and no shipped sweep of that name")


def _is_file(name: str) -> bool:
    try:
        return Path(name).exists() and not Path(name).is_dir()
    except OSError:  # a name too long for a file
        return False


def _find(name: str, shipped: Mapping[str, Path], absent: str) -> Path:
    """The shipped file of a name.

    Raises:
        UserError: If there is none, with the words of ``absent``, or if there are several.
    """
    matches = _matches(name, shipped)
    if len(matches) == 1:
        return shipped[matches[0]]
    if matches:
        raise UserError(f"{show(name)} is the name of several shipped files; write {' or '.join(matches)}")
    known = {*shipped, *(key.rsplit("/", 1)[-1] for key in shipped)}
    near = get_close_matches(_written(name)[:100], known, 1, 0.6)
    if near:
        raise UserError(f"{absent}; did you mean {' or '.join(_matches(near[0], shipped))}?")
    raise UserError(f"{absent}; `grok-lightning configs` lists them")


def _matches(name: str, shipped: Collection[str]) -> list[str]:
    """The shipped names that a written one can mean: itself, else all with that stem."""
    written = _written(name)
    written = written if written in shipped else written.removeprefix(f"{SWEEPS}/")
    return [written] if written in shipped else [key for key in shipped if key.rsplit("/", 1)[-1] == written]


def _written(name: str) -> str:
    return Path(name).as_posix().removesuffix(".yaml").removeprefix("configs/")


def title_of(path: Path) -> str:
    """The first sentence of the comment that a config begins with."""
    comment = takewhile(lambda line: line.startswith("# "), path.read_text(encoding="utf-8").splitlines())
    text = " ".join(line.removeprefix("# ") for line in comment)
    sentence = re.match(r".+?[.?](?=\s|$)", text)
    return sentence[0] if sentence else text


def _listing() -> Iterator[str]:
    """Lines: a folder, what it holds, and its configs with their titles; the everyday configs first."""
    home = _shipped()
    width = max((len(path.stem) for path in _named(home).values()), default=0)
    yield "Everyday: grok-lightning fit --config NAME. Those in a folder: --config FOLDER/NAME."
    here = home
    for path in [*shipped_configs().values(), *shipped_sweeps().values()]:
        if path.parent != here:
            here = path.parent
            described = here / _DESCRIPTION
            text = described.read_text(encoding="utf-8").strip() if described.exists() else ""
            yield ""
            yield f"{here.relative_to(home).as_posix()}: {text}".removesuffix(": ")
        yield f"  {path.stem:<{width}}  {title_of(path)}".rstrip()


def configs_command(arguments: list[str]) -> int:
    """Runs ``configs``: lists what is shipped, or prints the files of the names given.

    Args:
        arguments: What follows ``configs`` on the command line.

    Returns:
        The exit status, 0.

    Raises:
        UserError: If an argument is no shipped config or sweep, or the name of several; nothing has been printed then.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(USAGE)
    elif arguments:
        known = shipped_configs() | {f"{SWEEPS}/{name}": path for name, path in shipped_sweeps().items()}
        files = [_find(name, known, f"configs: there is no shipped config or sweep {show(name)}") for name in arguments]
        print("\n\n".join(file.read_text(encoding="utf-8").rstrip("\n") for file in files))
    else:
        print("\n".join(_listing()))
    return 0
