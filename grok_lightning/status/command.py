"""The command ``status``: where fits and sweeps stand, from any terminal, without touching them."""

import os
import sys
import time
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from math import isfinite
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from grok_lightning.errors import UserError, show
from grok_lightning.hardware.terminal import Redrawn, can_redraw, find_size
from grok_lightning.options.commands import command_parser, parse
from grok_lightning.records.planned import PLANNED
from grok_lightning.status.show import format_json, format_standings
from grok_lightning.status.standing import RUNNING, Standing, find_newest, find_standing, is_run, is_running

LOGS = "lightning_logs"
EVERY = "2"  # seconds


def _parser() -> ArgumentParser:
    parser = command_parser(
        "status",
        "Shows where fits and sweeps stand, from any terminal and without touching them: step, steps per second, "
        "training and validation accuracy, phase, and the time left once the rate is steady.",
        "addition division/0 --watch",
    )
    parser.add_argument(
        "experiments", type=str, nargs="*",
        help="Experiments, EXPERIMENT/RUN or folders; default: all that is running, else what ran last.",
    )  # fmt: skip
    parser.add_argument(
        "--all",
        type=bool,
        default=False,
        help="Show every run: of all experiments if none is named, and a sweep's finished ones.",
    )
    parser.add_argument("--watch", type=str | None, help="Show it anew every so many seconds (2), until Ctrl-C.")
    parser.add_argument("--json", type=bool, default=False, help="Print one line of JSON, with every run.")
    parser.add_argument("--root", type=str, default=".", help="Folder of lightning_logs and checkpoints.")
    return parser


def status_command(arguments: list[str]) -> int:
    """Runs ``status``.

    Args:
        arguments: The command line after ``status``.

    Returns:
        The exit status, 0; also after Ctrl-C, with which ``--watch`` ends.

    Raises:
        UserError: An experiment or an option does not exist.
    """
    options = parse(_parser(), _complete_watch(arguments))
    every, root = _read_seconds(options.watch), Path(options.root)
    if not root.is_dir():
        raise UserError(f"--root is {show(options.root)}, which is no folder; give that of lightning_logs")
    look = partial(_find, list(options.experiments or ()), root, options.all)
    if every is None:
        _print(look(), options)
        return 0
    try:
        _watch(look, options, every)
    except KeyboardInterrupt:
        return 0
    return 0


def _complete_watch(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the seconds after ``--watch`` where they are left out."""
    completed = []
    for place, argument in enumerate(arguments):
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        bare = argument == "--watch" and not _is_number(following)
        completed.append(f"--watch={EVERY}" if bare else argument)
    return completed


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_seconds(text: str | None) -> float | None:
    if text is None:
        return None
    if not _is_number(text) or not isfinite(float(text)) or not 0.1 <= float(text) <= 86_400:
        raise UserError(f"--watch is {show(text)}; a number of seconds from 0.1 to 86400 is expected")
    return float(text)


def _watch(look: partial[list[Standing]], options: Namespace, every: float) -> None:
    """Show it again and again."""
    screen = Redrawn(sys.stdout) if can_redraw(sys.stdout, several=True) and not options.json else None
    while True:
        if screen is None:
            _print(look(), options)
        else:
            columns = find_size(sys.stdout).columns
            screen.draw(format_standings(look(), options.all, columns) or [NOTHING])
        time.sleep(every)


NOTHING = "no runs here; grok-lightning fit --config addition trains one"


def _print(standings: list[Standing], options: Namespace) -> None:
    if options.json:
        print(format_json(standings), flush=True)
        return
    columns = find_size(sys.stdout).columns if sys.stdout.isatty() else None
    print("\n".join(format_standings(standings, options.all, columns)) or NOTHING, flush=True)


def _find(names: Sequence[str], root: Path, everything: bool = False) -> list[Standing]:
    """The experiments that are asked for; without names all, or those that run or ran last.

    Raises:
        UserError: One does not exist.
    """
    logs = root / LOGS
    if not names and everything:
        return [standing for each in _list_experiments(logs) if (standing := find_standing(each)).runs]
    if not names:
        return _find_default(logs)
    chosen: dict[Path, set[str] | None] = {}
    for name in names:
        for directory, run in _locate(name, logs):
            directory = Path(os.path.abspath(directory))
            known = chosen.get(directory, set())
            chosen[directory] = None if run is None or known is None else known | {run}
    return [find_standing(directory, only) for directory, only in chosen.items()]


def _locate(name: str, logs: Path) -> list[tuple[Path, str | None]]:
    """The directories of the experiments that a name or a folder stands for, and the run in it; None: all."""
    for place in (logs / name, Path(name)):
        named = name.strip("/") if place == Path(name) else name.strip("/.")  # . and .. are folders, no experiments
        try:
            there = bool(named) and place.is_dir()
        except (OSError, ValueError):  # too long, or a NUL
            there = False
        if not there:
            continue
        if is_run(place):
            absolute = Path(os.path.abspath(place))
            return [(absolute.parent, absolute.name)]
        below = place / LOGS if (place / LOGS).is_dir() else place
        if below.name == LOGS:
            return [(directory, None) for directory in _list_experiments(below)]
        return [(place, None)]
    raise UserError(_describe_missing(name, logs))


def _describe_missing(name: str, logs: Path) -> str:
    """That there is no such experiment or run, with those whose names are close."""
    experiments = _list_experiments(logs)
    known = [directory.name for directory in experiments]
    experiment, _, run = name.strip("/").partition("/")
    own: list[str] = []
    if run and experiment in known:
        own = [each.name for each in find_standing(logs / experiment).runs]
        near = [f"{experiment}/{each}" for each in get_close_matches(run, own, 3, 0.5)]
        what = f"experiment {show(experiment)} has no run {show(run)}"
    else:
        near = get_close_matches(experiment, known, 3, 0.5)
        what = f"there is no experiment {show(name)} in {str(logs)!r}, nor a folder of that name"
    if near:
        return f"{what}; did you mean {' or '.join(near)}?"
    names = known if experiment not in known else own
    return what + (f"; there are {', '.join(names)}" if 0 < len(names) <= 20 else "")


def _list_experiments(logs: Path) -> list[Path]:
    """The directories of experiments, by name."""
    try:
        with os.scandir(logs) as entries:
            return sorted(logs / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []


def _find_default(logs: Path) -> list[Standing]:
    """All that is running: of sweeps the whole, of fits those runs; else the run or the sweep that ran last."""
    experiments = _list_experiments(logs)
    found = []
    for directory in filter(is_running, experiments):
        standing = find_standing(directory)
        running = {run.name for run in standing.runs if run.state == RUNNING}
        if running:
            found.append(standing if standing.planned is not None else find_standing(directory, running))
    if found or not experiments:
        return found
    newest = max(experiments, key=find_newest)
    _, run = find_newest(newest)
    if not run:
        return []
    return [find_standing(newest, None if (newest / PLANNED).exists() else {run})]
