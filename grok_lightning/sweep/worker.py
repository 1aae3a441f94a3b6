"""Training of stacks in a local worker process or a Ray task."""

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

from grok_lightning.callbacks.guards import StopRequested
from grok_lightning.cli import quiet
from grok_lightning.hardware.compilation import prepare
from grok_lightning.hardware.memory import keep_freed_memory
from grok_lightning.options.classes import Nested
from grok_lightning.records.record import FAILED, RESULT
from grok_lightning.sweep.failures import (
    attempt,
    drop_unusable,
    find_full_disk,
    find_without_result,
    read_result,
)
from grok_lightning.sweep.places import Locks, Notice, Places
from grok_lightning.sweep.stack import Stack

PREPARE = "null\n"  # sent instead of a job: prepare for compilation
NOTHING_DONE = {"done": 0, "grokked": 0, "diverged": 0, "failed": 0, "busy": 0, "stopped": 0, "full": ""}
_locks: dict[Path, Locks] = {}


@dataclass(frozen=True)
class Job:
    """A stack as it is sent to a worker; all fields can be stored as JSON.

    Attributes:
        root: Directory of ``lightning_logs`` and ``checkpoints``.
        experiment: Name of the experiment.
        configs: Resolved configs of its runs.
        hashes: Hashes of its runs.
        retry: Whether to run failed runs again.
        events: Whether to write TensorBoard events and a figure of each run.
        threads: CPU threads; 0: torch's default.
        over: Hashes of the runs that were over when the sweep began.
        graph: Key of the compiled graph, the same for equal graphs; empty without compilation.
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
        """Directories of the experiment."""
        return Places(Path(self.root), self.experiment)


def run_job(job: Job) -> dict[str, Any]:
    """Train the runs of a stack that no other process trains.

    Args:
        job: The stack.

    Returns:
        ``done``: number of its runs that are over now and were not when the sweep began; ``grokked``, ``diverged``,
        ``failed``: numbers of these; ``busy``: number that another process trains; ``stopped``: the signal that stopped
        it, else 0; ``full``: the system's message when nothing more could be written, else an empty text.
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
        for stack in _find_stacks(job, taken, todo):
            tell = partial(notice.write, experiment=job.experiment, name=stack.configs[0]["run"])
            attempt(stack, tell)
            for single in find_without_result(stack):
                drop_unusable(single)
                attempt(single, tell)
    except StopRequested as stop:
        outcome["stopped"] = int(stop.signum)
    except OSError as error:
        if find_full_disk(error) is None:
            raise
        outcome["full"] = f"{error.strerror} (below {str(places.root.absolute())!r})"
    finally:
        notice.remove()
        for hashed in job.hashes:
            locks.release(hashed)
    _count_results(outcome, [read_result(places, job.configs[run]) for run in taken if job.hashes[run] not in job.over])
    return outcome


def _is_over(job: Job, run: int) -> bool:
    """Whether a run has a result, which another process may have written; removes a damaged one."""
    result = read_result(job.places, job.configs[run])
    if result is None:
        with suppress(OSError):
            (job.places.of_run(job.configs[run]["run"])[0] / RESULT).unlink()
    return result is not None and not (result["status"] == FAILED and job.retry)


def _find_stacks(job: Job, taken: list[int], todo: list[int]) -> list[Stack]:
    """Stacks to train: those that have checkpoints, and one of all runs that are in no checkpoint."""
    whole = Stack(job.places, job.configs, job.hashes, job.events)
    stacks, rest = [], todo
    own = {job.hashes[run]: run for run in taken}
    for members in sorted(job.places.members().values(), key=len):  # the smaller is the later one of two
        runs = [own[hashed] for hashed in members if hashed in own]
        if len(runs) == len(members) and set(runs) & set(rest):
            stack = whole.take(runs)  # with those that are over, for a bit-identical resume
            if not drop_unusable(stack):
                stacks.append(stack)
                rest = [run for run in rest if run not in runs]
    if rest:
        drop_unusable(whole.take(rest))
        stacks.append(whole.take(rest))
    return stacks


def _count_results(outcome: dict[str, Any], results: list[Nested | None]) -> None:
    """Add the results of runs to the outcome of a stack; a result that could not be written is a failure."""
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
    """Read jobs from stdin, one JSON object per line, and write the outcome of each to stdout, one per line.

    The line ``PREPARE`` has no answer: the process prepares to compile while another one compiles the same graph.
    When stdin ends, because the sweep has ended, the current fit saves a checkpoint and ends.
    """
    keep_freed_memory()
    quiet()
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # other output goes to the log
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(jobs.put,), daemon=True).start()
    while line := jobs.get():
        if line == PREPARE:
            prepare()
            continue
        outcome = run_job(Job(**json.loads(line)))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning restores the handler that a fit replaced
        with suppress(BrokenPipeError):  # the sweep has ended
            print(json.dumps(outcome), file=answers, flush=True)
        if outcome["stopped"]:
            return 128 + int(outcome["stopped"])
    return 0


def _listen(take: Callable[[str], None]) -> None:
    for line in sys.stdin:
        take(line)
    take("")
    os.kill(os.getpid(), signal.SIGTERM)


def to_line(job: Job) -> str:
    """Encode a job as a worker reads it."""
    return json.dumps(asdict(job)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
