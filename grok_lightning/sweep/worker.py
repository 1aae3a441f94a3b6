"""Trains the stacks it is handed: what a local process or a Ray task does."""

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from grok_lightning.callbacks.signals import StopRequested
from grok_lightning.cli import quiet
from grok_lightning.hardware.compilation import prepare
from grok_lightning.hardware.memory import keep_freed_memory
from grok_lightning.options.classes import Nested
from grok_lightning.records.record import FAILED, RESULT
from grok_lightning.sweep.failures import attempt, drop_useless, no_space, record_failure, result_of, without_result
from grok_lightning.sweep.places import Locks, Notice, Places
from grok_lightning.sweep.stack import Stack

__all__ = ["PREPARE", "Job", "as_line", "main", "record_failure", "run_job"]
PREPARE = "null\n"  # in place of a job: a compiled one will come
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
        over: The hashes of those that were over when the sweep began.
        graph: What is compiled, the same for equal graphs; empty where nothing is.
    """

    root: str
    experiment: str
    configs: list[Nested]
    hashes: list[str]
    retry: bool = False
    events: bool = True
    threads: int = 1
    over: list[str] = field(default_factory=list)
    graph: str = ""

    @property
    def places(self) -> Places:
        """The experiment's directories."""
        return Places(Path(self.root), self.experiment)


def run_job(job: Job) -> dict[str, Any]:
    """Trains a stack, or as much of it as no other process has.

    Args:
        job: The stack.

    Returns:
        ``done``: how many of its runs are over by now, and were not when the sweep began; ``grokked``, ``diverged``,
        ``failed``: how many of these did; ``busy``: how many another process has; ``stopped``: the signal that stopped
        it, else 0; ``full``: what the system said when no more could be written, else an empty text.
    """
    outcome: dict[str, Any] = NOTHING_DONE | {}
    places = job.places
    path = (places.own / "locks").absolute()
    if job.threads:
        torch.set_num_threads(job.threads)
    try:
        locks = _locks[path] = _locks.get(path) or Locks(path)
    except OSError as error:
        return outcome | {"full": str(error)}
    taken = [run for run, hashed in enumerate(job.hashes) if locks.take(hashed)]
    outcome["busy"] = len(job.hashes) - len(taken)
    todo = [run for run in taken if not _is_over(job, run)]
    notice = Notice(places.own / "workers")
    try:
        for stack in _stacks(job, taken, todo):
            tell = partial(notice.write, experiment=job.experiment, name=stack.configs[0]["run"])
            attempt(stack, tell)
            for single in without_result(stack):
                drop_useless(single)
                attempt(single, tell)
    except StopRequested as stop:
        outcome["stopped"] = int(stop.signum)
    except OSError as error:
        if no_space(error) is None:
            raise
        outcome["full"] = f"{error.strerror} (below {str(places.root.absolute())!r})"
    finally:
        notice.remove()
        for hashed in job.hashes:
            locks.release(hashed)
    _count(outcome, [result_of(places, job.configs[run]) for run in taken if job.hashes[run] not in job.over])
    return outcome


def _is_over(job: Job, run: int) -> bool:
    """Whether a run has its result by now, as another process may have seen to; a damaged one is removed."""
    result = result_of(job.places, job.configs[run])
    if result is None:
        with suppress(OSError):
            (job.places.of_run(job.configs[run]["run"])[0] / RESULT).unlink()
    return result is not None and not (result["status"] == FAILED and job.retry)


def _stacks(job: Job, taken: list[int], todo: list[int]) -> list[Stack]:
    """What is to be trained: the stacks whose checkpoints are there, and one of all runs that are in none."""
    whole = Stack(job.places, job.configs, job.hashes, job.events)
    stacks, rest = [], todo
    own = {job.hashes[run]: run for run in taken}
    for members in sorted(job.places.members().values(), key=len):  # the smaller is the later one of two
        runs = [own[hashed] for hashed in members if hashed in own]
        if len(runs) == len(members) and set(runs) & set(rest):
            stack = whole.take(runs)  # with those that are over: it goes on exactly as it would have
            if not drop_useless(stack):
                stacks.append(stack)
                rest = [run for run in rest if run not in runs]
    if rest:
        drop_useless(whole.take(rest))
        stacks.append(whole.take(rest))
    return stacks


def _count(outcome: dict[str, Any], results: list[Nested | None]) -> None:
    """Adds the results of runs to what a stack came to; one that could not be written is a failure."""
    ended_early = outcome["stopped"] or outcome["full"]
    for result in results:
        if result is None and ended_early:
            continue
        status = FAILED if result is None else result["status"]
        outcome["done"] += 1
        outcome["grokked"] += result is not None and result.get("grok_step") is not None
        for name in ("diverged", FAILED):
            outcome[name] += status == name


def main() -> int:
    """Reads jobs from stdin, one JSON object a line, and answers each with its outcome in one line on stdout.

    A line ``PREPARE`` has no answer: the process gets ready to compile while another one compiles the same.
    When stdin ends, because whoever hands out the jobs is gone, the fit that is under way is saved and left.
    """
    keep_freed_memory()
    quiet()
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed goes with the errors
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(jobs.put,), daemon=True).start()
    while line := jobs.get():
        if line == PREPARE:
            prepare()
            continue
        outcome = run_job(Job(**json.loads(line)))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning puts back the handler that a fit had taken over
        with suppress(BrokenPipeError):  # whoever handed it out is gone
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
