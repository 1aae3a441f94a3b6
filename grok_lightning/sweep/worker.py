"""Trains the stacks it is handed: what a local process or a Ray task does."""

import errno
import gc
import json
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from grok_lightning.callbacks.checkpoints import LAST
from grok_lightning.callbacks.signals import StopRequested
from grok_lightning.checkpoint import load
from grok_lightning.classes import Nested
from grok_lightning.cli import quiet
from grok_lightning.errors import UserError
from grok_lightning.record import RESULT, write_json
from grok_lightning.sweep.places import Locks, Notice, Places
from grok_lightning.sweep.stack import Stack, close_up, train

NOTHING_RECORDED = (
    "steps", "budget", "threshold", "memorize_step", "memorize_after", "grok_step", "grok_after", "sustained_grok_step",
    "best", "commutative_fraction", "seconds", "steps_per_second", "device", "precision",
)  # fmt: skip
NOTHING_DONE = {"done": 0, "grokked": 0, "diverged": 0, "failed": 0, "busy": 0, "stopped": 0, "full": ""}
_locks: dict[Path, Locks] = {}


@dataclass(frozen=True)
class Job:
    """A stack as it is handed to a worker, in what JSON can hold.

    Attributes:
        root: Where ``lightning_logs`` and ``checkpoints`` lie.
        experiment: Its name.
        configs: The resolved configs of its runs.
        hashes: Their hashes.
        retry: Whether runs that have failed are tried again.
        events: Whether the runs get TensorBoard events and a figure.
        threads: Of the CPU; 0 for torch's own choice.
    """

    root: str
    experiment: str
    configs: list[Nested]
    hashes: list[str]
    retry: bool = False
    events: bool = True
    threads: int = 1

    @property
    def places(self) -> Places:
        """The experiment's directories."""
        return Places(Path(self.root), self.experiment)


def run_job(job: Job) -> dict[str, Any]:
    """Trains a stack, or as much of it as no other process has.

    Args:
        job: The stack.

    Returns:
        ``done``: how many of its runs are over; ``grokked``, ``diverged``, ``failed``: how many of these did;
        ``busy``: how many another process has; ``stopped``: the signal that stopped it, else 0; ``full``: what the
        system said when no more could be written, else an empty text.
    """
    outcome: dict[str, Any] = NOTHING_DONE | {}
    places = job.places
    path = places.own / "locks"
    if job.threads:
        torch.set_num_threads(job.threads)
    try:
        locks = _locks.setdefault(path, Locks(path)) if path not in _locks else _locks[path]
    except OSError as error:
        return outcome | {"full": str(error)}
    taken = [run for run, hashed in enumerate(job.hashes) if locks.take(hashed)]
    outcome["busy"] = len(job.hashes) - len(taken)
    stack = Stack(places, job.configs, job.hashes, job.events)
    notice = Notice(places.own / "workers")
    try:
        for runs in _parts(job, taken):
            _train(stack.take(runs), notice)
            for name in [job.configs[run]["run"] for run in runs]:
                _count(outcome, places.of_run(name)[0])
    except StopRequested as stop:
        outcome["stopped"] = int(stop.signum)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
            raise
        outcome["full"] = str(error)
    finally:
        notice.remove()
        for hashed in job.hashes:
            locks.release(hashed)
    return outcome


def _count(outcome: dict[str, Any], directory: Path) -> None:
    """Adds a run's result to what a stack came to."""
    result = json.loads((directory / RESULT).read_text())
    outcome["done"] += 1
    outcome["grokked"] += result["grok_step"] is not None
    for status in ("diverged", "failed"):
        outcome[status] += result["status"] == status


def _parts(job: Job, taken: list[int]) -> list[list[int]]:
    """The runs that are to be trained, as stacks: those whose checkpoints are there, and one of all that have none."""
    parts = []
    rest = [run for run in taken if not _is_over(job, run)]
    own = {job.hashes[run]: run for run in taken}
    for members in sorted(job.places.members().values(), key=len):  # the smaller is the later one of two
        runs = [own[hashed] for hashed in members if hashed in own]
        if len(runs) == len(members) and set(runs) & set(rest):
            parts.append(runs)  # those that are over included: their stack goes on exactly as it would have
            rest = [run for run in rest if run not in runs]
    return [*parts, rest] if rest else parts


def _is_over(job: Job, run: int) -> bool:
    """Whether a run has its result by now, as another process may have seen to."""
    path = job.places.of_run(job.configs[run]["run"])[0] / RESULT
    try:
        return not (json.loads(path.read_text())["status"] == "failed" and job.retry)
    except (OSError, ValueError, KeyError):
        return False


def _train(stack: Stack, notice: Notice) -> None:
    """Trains a stack; one that fails is halved until the runs that fail are alone, and their error is their record."""
    shown = {"experiment": stack.places.experiment, "name": stack.configs[0]["run"]}
    try:
        _drop_useless(stack)
        train(stack, lambda **content: notice.write(**shown, **content))
        return
    except (StopRequested, OSError):
        raise
    except Exception as error:
        if len(stack.configs) == 1:
            record_failure(stack.places, stack.configs[0], stack.hashes[0], error)
            return
        trace = traceback.format_exc()
    print(trace, file=sys.stderr, flush=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for half in _halves(stack):
        _train(half, notice)


def _halves(stack: Stack) -> list[Stack]:
    """A stack's two halves, each with its part of the checkpoint if there is one."""
    runs = len(stack.configs)
    parts = [list(range(runs // 2)), list(range(runs // 2, runs))]
    if (stack.directory / LAST).exists():
        first = close_up(stack, parts[0], keep=True)
        return [first, close_up(stack, parts[1])]
    shutil.rmtree(stack.directory, ignore_errors=True)
    return [stack.take(part) for part in parts]


def _drop_useless(stack: Stack) -> None:
    """Removes a checkpoint that cannot be read, or whose records have gone: the stack begins anew."""
    path = stack.directory / LAST
    if not path.exists():
        return
    try:
        load(path)
        gone = [config["run"] for config in stack.configs if not stack.places.of_run(config["run"])[0].is_dir()]
        reason = f"the record of {gone[0]} is gone" if gone else ""
    except UserError as error:
        reason = str(error)
    if reason:
        print(f"{reason}; {path.parent} begins anew", file=sys.stderr, flush=True)
        path.unlink()


def record_failure(places: Places, config: Nested, hashed: str, error: BaseException | str) -> None:
    """Writes the ``result.json`` of a run that failed: the error, and where it came from."""
    directory = places.of_run(config["run"])[0]
    trace = error if isinstance(error, str) else "".join(traceback.format_exception(error))
    name = "" if isinstance(error, str | UserError) else f"{type(error).__name__}: "
    result = {"status": "failed", "error": f"{name}{' '.join(str(error).split())}"[:500], "traceback": trace}
    rest = dict.fromkeys(NOTHING_RECORDED)
    write_json(directory / RESULT, result | rest | {"config": config, "config_hash": hashed})


def main() -> int:
    """Reads jobs from stdin, one JSON object a line, and answers each with its outcome in one line on stdout.

    When stdin ends, because whoever hands out the jobs is gone, the fit that is under way is saved and left.
    """
    quiet()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed goes with the errors
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(jobs.put,), daemon=True).start()
    while line := jobs.get():
        outcome = run_job(Job(**json.loads(line)))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning puts back the handler that a fit had taken over
        print(json.dumps(outcome), file=answers, flush=True)
        if outcome["stopped"]:
            return 128 + int(outcome["stopped"])
    return 0


def _listen(take: Callable[[str], None]) -> None:
    for line in sys.stdin:
        take(line)
    take("")
    os.kill(os.getpid(), signal.SIGTERM)


def as_line(job: Job) -> str:
    """A job as a worker reads it."""
    return json.dumps(asdict(job)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
