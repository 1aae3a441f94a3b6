"""Where the runs of an experiment stand, from its records, notices and locks; nothing is written or locked."""

import os
import re
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from grok_lightning.errors import in_one_line
from grok_lightning.reading import parse_yaml, read_bytes, read_json
from grok_lightning.records.after_grok import STABLE, describe_record
from grok_lightning.records.curves import read_curves
from grok_lightning.records.form import find_faults
from grok_lightning.records.locks import lock_name, locks_of
from grok_lightning.records.notices import FITS, FRESH, WORKERS, find_left, read_notices
from grok_lightning.records.planned import HASH, read_planned
from grok_lightning.records.record import CONFIG, FAILED, METRICS, RESULT, reaches
from grok_lightning.records.results import refresh
from grok_lightning.records.runs import hash_of_name
from grok_lightning.records.tasks import is_held_out, is_memorized_text

RUNNING, INTERRUPTED, DAMAGED = "running", "interrupted", "damaged"
OWNER = Path(".sweep") / "sweep.json"
COLUMNS = (
    "status", HASH, "steps", "budget", "threshold", "memorize_step", "grok_step", "final.train/acc", "final.val/acc",
    "config.data.class_path", "config.data.val_fraction", "counts.val", "after_grok.stable", "after_grok.collapsed",
)  # fmt: skip
MOST_CONFIG = 2**22
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Run:
    """Where a run stands.

    Attributes:
        name: Its name within the experiment.
        state: running, interrupted (by a signal, a crash or a kill: it can be resumed), damaged, or how it ended:
            finished (its budget is spent), stopped (earlier, at the threshold), diverged, failed.
        phase: "not memorized", "memorized" or "grokked"; empty if it has not been evaluated; "compiling" before its
            first step.
        step: Its last step; while it runs, of its newest notice; interrupted, of its last evaluation.
        budget: The most steps that it may take.
        rate: Steps per second while it runs.
        train, val: Accuracies of the last evaluation; None without one, or without such rows.
        left: Seconds left while it runs at a steady rate.
        at_most: Whether it may end earlier.
        grok_step: The step at which it grokked, of a run that is over.
        stable: Whether validation accuracy has stayed at ``level`` after the grok; None if that is not known.
        level: 95 %, or the threshold if that is lower.
        collapsed: Whether training accuracy has fallen below 90 % after memorizing; None if that is not known.
        hashed: Hash of its options, of a run that is over or of a sweep.
        fault: What is wrong with its record.
    """

    name: str
    state: str
    phase: str = ""
    step: int | None = None
    budget: int | None = None
    rate: float | None = None
    train: float | None = None
    val: float | None = None
    left: float | None = None
    at_most: bool = False
    grok_step: int | None = None
    stable: bool | None = None
    level: float = STABLE
    collapsed: bool | None = None
    hashed: str | None = None
    fault: str = ""


@dataclass(frozen=True)
class Standing:
    """Where the runs of an experiment stand.

    Attributes:
        name: The experiment.
        runs: Its runs; running ones first, then interrupted, damaged and failed ones, then those that ended.
        planned: Number of runs of its sweep; None for single fits.
        waiting: Number of these that have not begun.
        others: Names of runs that its sweep does not ask for, such as single fits and those of earlier files.
        file: File of the sweep, where it is known.
        unread: Why its directory cannot be read; empty if it can.
    """

    name: str
    runs: list[Run] = field(default_factory=list)
    planned: int | None = None
    waiting: int = 0
    others: tuple[str, ...] = ()
    file: str = ""
    unread: str = ""

    def count(self, *states: str) -> int:
        """The number of runs in these states; of a sweep, of those that it asks for."""
        return sum(run.state in states for run in self.runs if run.name not in self.others)


def find_standing(logs: Path, only: Collection[str] | None = None) -> Standing:
    """Find where the runs of an experiment stand.

    Args:
        logs: Directory of the experiment's records, ``lightning_logs/<experiment>``.
        only: Names of runs; default: all, and the plan of a sweep.
    """
    try:
        names, unfinished = _list_runs(logs)
    except OSError as error:
        return Standing(logs.resolve().name, unread=in_one_line(str(error.strerror or error)))
    # the locks before the results: a run that ends in between has released its lock after it wrote its result
    live = _Live(logs, unfinished)
    over = _read_finished(logs) if names else {}
    runs = list(over.values()) + _read_unfinished(logs, [name for name in unfinished if name not in over], live)
    chosen = [run for run in runs if only is None or run.name in only]
    chosen.sort(key=lambda run: (_RANK.get(run.state, len(_RANK)), sort_key(run.name)))
    plan = read_planned(logs) if only is None else None
    if plan is None:
        return Standing(logs.resolve().name, chosen)
    hashes = set(plan[HASH])
    own = {run.hashed: run.name for run in chosen if run.hashed in hashes}  # of several of one hash, one that is over
    others = tuple(run.name for run in chosen if own.get(run.hashed) != run.name)
    return Standing(logs.resolve().name, chosen, len(hashes), len(hashes) - len(own), others, _read_owner(logs))


_RANK = {RUNNING: 0, INTERRUPTED: 1, DAMAGED: 2, FAILED: 3}


def sort_key(name: str) -> list[tuple[int, int | str]]:
    """Key that sorts numbers in names by size."""
    parts = _DIGITS.split(name)
    return [(0, int(part)) if place % 2 and len(part) < 300 else (1, part) for place, part in enumerate(parts)]


def is_running(logs: Path) -> bool:
    """Whether a process trains a run of an experiment."""
    root = _root_of(logs)
    held = None if root is None else locks_of(root, logs.name).is_any_taken()
    return bool(held) or any(_is_believable(notice, held) for notice in _read_notices(logs).items())


def find_newest(logs: Path) -> tuple[float, str]:
    """Time of the last evaluation or result of an experiment's runs, and the name of that run; 0 without any."""
    newest = (0.0, "")
    with suppress(OSError):
        for name in _list_runs(logs)[0]:
            for file in (RESULT, METRICS):
                with suppress(OSError):
                    newest = max(newest, ((logs / name / file).stat().st_mtime, name))
    return newest


def is_run(directory: Path) -> bool:
    """Whether a directory is that of a run."""
    return any(os.path.exists(directory / file) for file in (RESULT, METRICS, CONFIG))


def _list_runs(logs: Path) -> tuple[list[str], list[str]]:
    """The names of the runs of an experiment, and of those without a result.

    Raises:
        OSError: The directory cannot be read.
    """
    names, unfinished = [], []
    with os.scandir(logs) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            there = [os.path.lexists(f"{entry.path}/{file}") for file in (RESULT, METRICS, CONFIG)]
            locked = not any(there) and entry.is_dir() and not os.access(entry.path, os.R_OK | os.X_OK)
            if any(there) or locked:
                names.append(entry.name)
            if not there[0] and (any(there) or locked):
                unfinished.append(entry.name)
    return names, unfinished


def _root_of(logs: Path) -> Path | None:
    """The folder of ``lightning_logs`` and ``checkpoints``; None for records in another place."""
    absolute = Path(os.path.abspath(logs))
    return absolute.parents[1] if len(absolute.parents) > 1 and absolute.parent.name == "lightning_logs" else None


def _read_notices(logs: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for folder in (FITS, WORKERS):
        with suppress(OSError):
            found |= read_notices(logs / folder)
    return found


def _is_believable(notice: tuple[str, Mapping[str, Any]], held: bool | None) -> bool:
    """Whether a notice shows that its process trains, where locks do not: another machine's may be unknown here."""
    host = notice[0].rpartition("-")[0]
    return held is None or host != socket.gethostname()


class _Live:
    """Which runs are being trained, and the notices of their processes."""

    def __init__(self, logs: Path, names: list[str]) -> None:
        notices = _read_notices(logs)
        root = _root_of(logs)
        locks = {lock_name(name): name for name in names}
        taken = None if root is None else locks_of(root, logs.name).find_taken(locks)
        self._notices = {member: notice for notice in notices.values() for member in _members(notice)}
        self._running = {locks[lock] for lock in taken or ()}
        for named in notices.items():
            if _is_believable(named, None if taken is None else False):
                self._running |= set(_members(named[1]))

    def __contains__(self, name: str) -> bool:
        return name in self._running

    def find_notice(self, name: str) -> dict[str, Any]:
        """The notice of the process that trains a run; empty if there is none."""
        return self._notices.get(name, {})


def _members(notice: Mapping[str, Any]) -> list[str]:
    members = notice.get("members") or [notice["name"]]
    return members if isinstance(members, list) else [members]


def _read_finished(logs: Path) -> dict[str, Run]:
    """Runs with a result, by name."""
    table = refresh(logs, COLUMNS, keep=False)
    faults = find_faults(table, ())
    damaged = table.attrs["faults"] | {str(table["run"].iloc[row]): fault for row, fault in faults.items()}
    found = {}
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        name = str(row["run"])
        if name in damaged:
            continue
        data = {key: row[f"config.data.{key}"] for key in ("class_path", "val_fraction")}
        validated = row["counts.val"] != 0 and not is_memorized_text(data)
        grokked = row["grok_step"] is not None and validated
        phase = _name_phase(row["memorize_step"] is not None, grokked) if row["status"] != FAILED else ""
        found[name] = Run(
            name,
            row["status"],
            phase,
            _to_int(row["steps"]),
            _to_int(row["budget"]),
            train=_to_share(row["final.train/acc"]),
            val=_to_share(row["final.val/acc"]) if validated else None,
            grok_step=_to_int(row["grok_step"]) if validated else None,
            stable=_to_flag(row["after_grok.stable"]) if grokked else None,
            level=min(STABLE, row["threshold"] or STABLE),
            collapsed=_to_flag(row["after_grok.collapsed"]),
            hashed=row[HASH] if isinstance(row[HASH], str) else None,
        )
    return found | {name: Run(name, DAMAGED, hashed=hash_of_name(name), fault=fault) for name, fault in damaged.items()}


def _read_unfinished(logs: Path, names: list[str], live: _Live) -> list[Run]:
    """Runs without a result."""
    curves = read_curves([str(logs / name) for name in names])
    evaluated = curves.groupby("run", sort=False)
    tables = (evaluated.head(1).set_index("run"), evaluated.tail(1).set_index("run"), evaluated.max())
    first, last, best = (table.to_dict("index") for table in tables)
    whole: dict[Any, pd.DataFrame] = dict(tuple(evaluated))
    found = []
    for name in names:
        path = str(logs / name)
        ends = first.get(path, {}), last.get(path, {}), best.get(path, {})
        found.append(_read_one(logs / name, live, *ends, whole.get(path)))
    return found


def _read_one(
    directory: Path,
    live: _Live,
    first: Mapping[Any, Any],
    last: Mapping[Any, Any],
    best: Mapping[Any, Any],
    curve: pd.DataFrame | None,
) -> Run:
    """A run without a result, from its first and last evaluation, its best metrics, all, its config and its notice."""
    name, notice = directory.name, live.find_notice(directory.name)
    running = name in live
    try:
        config = _read_config(directory)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        if not running:
            return Run(name, DAMAGED, hashed=hash_of_name(name), fault=in_one_line(f"{CONFIG}: {reason}"))
        config = {}
    validated = is_held_out(config, first)
    train, val = (_to_share(last.get(f"{split}/acc")) for split in ("train", "val"))
    reached = [
        reaches(float(best.get(f"{split}/acc", float("nan"))), None, config.get("threshold") or 0.99)
        for split in ("train", "val")
    ]
    threshold = float(config.get("threshold") or 0.99)
    record = {"threshold": threshold, "counts.val": None if validated else 0}
    after = describe_record(record, curve)
    step = max(_to_int(last.get("step")) or 0, notice.get("step", 0) if running else 0)
    fresh = running and bool(notice)
    phase = _name_phase(reached[0], reached[1] and validated) if last else ""
    return Run(
        name,
        RUNNING if running else INTERRUPTED,
        "compiling" if fresh and notice.get("compiling", False) else phase,
        step,
        notice.get("budget") if fresh else config.get("budget"),
        _find_rate(notice) if fresh else None,
        train,
        val if validated else None,
        find_left(notice) if fresh else None,
        bool(notice.get("at_most", False)),
        stable=after["stable"],
        level=min(STABLE, threshold),
        collapsed=after["collapsed"],
        hashed=hash_of_name(name),
    )


def _find_rate(notice: Mapping[str, Any]) -> float | None:
    return float(notice["rate"]) if notice.get("rate") and time.time() - notice["time"] < FRESH else None


def _read_config(directory: Path) -> dict[str, Any]:
    """Threshold, budget, and class and validation share of the data of a run.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no config.
    """
    text = read_bytes(directory / CONFIG, MOST_CONFIG).decode()
    sections = {head: section for head, section in _split_sections(text) if head in ("trainer", "evaluation", "data")}
    try:
        trainer, evaluation, data = (_parse(sections.get(name, "")) for name in ("trainer", "evaluation", "data"))
    except ValueError:  # a name in one section stands for a value in another
        trainer, evaluation, data = (
            _mapping(_mapping(parse_yaml(text)).get(name)) for name in ("trainer", "evaluation", "data")
        )
    threshold: Any = evaluation.get("threshold")
    budget = trainer.get("max_steps")
    if type(budget) is not int or not 0 <= budget < 2**53:
        raise ValueError("it has no trainer.max_steps")
    valid = isinstance(threshold, int | float) and 0 < threshold <= 1
    return {
        "threshold": float(threshold) if valid else None,
        "budget": budget,
        "class_path": data.get("class_path"),
        "val_fraction": data.get("val_fraction"),
    }


def _split_sections(text: str) -> Iterator[tuple[str, str]]:
    """The keys of a YAML file's outermost mapping, each with its text: parsing all would take most of the time."""
    for section in re.split(r"(?m)^(?=[^\s#-])", text):
        yield section.partition(":")[0], section


@lru_cache(4096)
def _parse(section: str) -> dict[str, Any]:
    """The mapping in a section; the runs of a sweep share most of them."""
    whole = _mapping(parse_yaml(section))
    return _mapping(next(iter(whole.values()), None))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _name_phase(memorized: bool, grokked: bool) -> str:
    return "grokked" if grokked else "memorized" if memorized else "not memorized"


def _to_int(value: Any) -> int | None:
    return None if value is None or not isfinite(value) else int(value)


def _to_flag(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _to_share(value: Any) -> float | None:
    return None if value is None or not isfinite(value) else float(value)


def _read_owner(logs: Path) -> str:
    """The file of a sweep; empty if it is not known."""
    try:
        return in_one_line(str(read_json(logs / OWNER)["file"]))
    except (OSError, ValueError, KeyError, TypeError):
        return ""
