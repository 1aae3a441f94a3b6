"""The configs and sweeps that are installed with the package: found by name, listed and shown."""

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from grok_lightning.errors import UserError

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


def find_config(name: str) -> Path:
    """The YAML file of a fit.

    Args:
        name: Path of a file; or the name of a shipped config, with its folder or, where only one has it, without.

    Raises:
        UserError: If there is neither a file nor a shipped config of that name, or several of the latter.
    """
    if _exists(name):
        return Path(name)
    shipped = shipped_configs()
    matches = _matches(name, shipped, ("configs/",))
    if len(matches) == 1:
        return shipped[matches[0]]
    shown = repr(name if len(name) <= 80 else f"{name[:50]}...")
    if matches:
        raise UserError(f"--config {shown} is the name of several shipped configs; write {' or '.join(matches)}")
    raise UserError(f"--config {shown} is neither a file nor a shipped config{_suggestion(name, shipped)}")


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
    if _exists(name):
        return Path(name)
    shipped = shipped_sweeps()
    matches = _matches(name, shipped, (f"configs/{SWEEPS}/", f"{SWEEPS}/"))
    if len(matches) == 1:
        return shipped[matches[0]]
    if matches:
        raise UserError(f"it is the name of several shipped sweeps; write {' or '.join(matches)}")
    if len(name) < 1000 and Path(name).is_dir():
        raise UserError("it cannot be read: Is a directory")
    raise UserError(f"there is no such file, and no shipped sweep of that name{_suggestion(name, shipped)}")


def _exists(name: str) -> bool:
    try:
        return Path(name).exists() and not Path(name).is_dir()
    except OSError:  # a name too long for a file
        return False


def _matches(name: str, shipped: Collection[str], prefixes: tuple[str, ...]) -> list[str]:
    """The shipped names that a written one can mean: itself, else all with that stem."""
    written = Path(name).as_posix().removesuffix(".yaml")
    for prefix in prefixes:
        written = written.removeprefix(prefix)
    if written in shipped:
        return [written]
    return [key for key in shipped if key.rsplit("/", 1)[-1] == written]


def _suggestion(name: str, shipped: Collection[str]) -> str:
    """``; did you mean ...?`` for the nearest name with or without its folder, else how to list them."""
    stems = {key.rsplit("/", 1)[-1] for key in shipped}
    near = get_close_matches(Path(name).as_posix().removesuffix(".yaml")[:100], {*shipped, *stems}, 1, 0.6)
    if near:
        return f"; did you mean {' or '.join(_matches(near[0], shipped, ()))}?"
    return "; `grok-lightning configs` lists them"


def title_of(path: Path) -> str:
    """The first sentence of the comment that a config begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    text = " ".join(lines)
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


def _shown(name: str, known: Mapping[str, Path]) -> str:
    matches = _matches(name, known, ("configs/",))
    if len(matches) == 1:
        return known[matches[0]].read_text(encoding="utf-8").rstrip("\n")
    if matches:
        raise UserError(f"configs: {name!r} is the name of several; write {' or '.join(matches)}")
    raise UserError(f"configs: there is no shipped config or sweep {name!r}{_suggestion(name, known)}")


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
        print("\n\n".join([_shown(name, known) for name in arguments]))
    else:
        print("\n".join(_listing()))
    return 0
