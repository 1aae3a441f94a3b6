"""Training of stacks in a local worker process or a Ray task."""

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from grok_lightning.callbacks.guards import StopRequested
from grok_lightning.cli import quiet
from grok_lightning.hardware.compilation import prepare
from grok_lightning.hardware.process import keep_freed_memory
from grok_lightning.options.classes import Nested
from grok_lightning.reading import parse_json
from grok_lightning.records.locks import Locks, lock_name, locks_of
from grok_lightning.records.notices import Notice
from grok_lightning.records.record import FAILED, RESULT, flatten
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run.failures import attempt, drop_unusable, find_full_disk, find_resumed, read_result

ENDED = ("done", "grokked", "memorized", "diverged", "failed")  # counts of a Tally
PREPARE = "null\n"  # sent instead of a job: prepare for compilation


@dataclass
class Tally:
    """Counts of runs, of a stack or of a whole sweep.

    Attributes:
        done: Runs that are over now and were not when the sweep began.
        trained: What these have taken of their budgets, added up.
        grokked, diverged, failed: Numbers of these.
        memorized: Number of runs that have memorized, of those without validation rows.
        busy: Runs that another process trains, or has resumed with other options.
        stopped: Signal that ended the training, or 0.
        full: The system's message when nothing more could be written, else an empty text.
        compiling: Workers that compile a graph for which others wait.
        waiting: Workers that wait for it.
    """

    done: int = 0
    trained: float = 0.0
    grokked: int = 0
    memorized: int = 0
    diverged: int = 0
    failed: int = 0
    busy: int = 0
    stopped: int = 0
    full: str = ""
    compiling: int = 0
    waiting: int = 0

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Add the outcome of one stack."""
        for name in (*ENDED, "busy", "trained"):
            setattr(self, name, getattr(self, name) + outcome.get(name, 0))
        self.full = self.full or outcome.get("full", "")

    def count(self, result: Nested | None) -> None:
        """Count the result of a run; without one it has failed, unless the training ended early."""
        if result is None and (self.stopped or self.full):
            return
        self.done += 1
        steps, budget = ((result or {}).get(name) for name in ("steps", "budget"))
        self.trained += min(1.0, steps / budget) if steps and budget else 1.0
        self.grokked += result is not None and result.get("grok_step") is not None
        if result is not None and flatten(result).get("counts.val") == 0:
            self.memorized += result.get("memorize_step") is not None
        self.diverged += result is not None and result["status"] == "diverged"
        self.failed += result is None or result["status"] == FAILED


class Ended:
    """Counts of the runs of a stack that are over while others are in training, as its notices have them.

    Args:
        job: The stack.
        runs: Indices of those that this process trains.
    """

    def __init__(self, job: Stack, runs: Sequence[int]) -> None:
        self.job, self.tally = job, Tally()
        self._left = [run for run in runs if job.hashes[run] not in job.over]
        self._over: int | None = None

    def count(self, over: int) -> dict[str, int]:
        """Read the results of runs that have ended, if the number of those that are over is another than before."""
        if over != self._over:
            self._over = over
            for run in list(self._left):
                result = read_result(self.job, run)
                if result is not None and not (result["status"] == FAILED and self.job.retry):  # of the last time
                    self._left.remove(run)
                    self.tally.count(result)
        return {name: getattr(self.tally, name) for name in ENDED}


def run_job(job: Stack) -> dict[str, Any]:
    """Train the runs of a stack that no other process trains.

    Args:
        job: The stack.

    Returns:
        Fields of a ``Tally``.
    """
    tally = Tally()
    places = job.places
    if job.threads:
        torch.set_num_threads(job.threads)
    locks = locks_of(places.root, places.experiment)
    try:
        taken = [run for run in range(len(job.hashes)) if _take(locks, job, run)]
    except OSError as error:
        return asdict(Tally(full=str(error)))
    tally.busy = len(job.hashes) - len(taken)
    todo = [run for run in taken if not _is_over(job, run)]
    notice, ended = Notice(places.notices), Ended(job, taken)

    def tell(name: str, members: list[str], **content: Any) -> None:
        known = {"experiment": job.experiment, "name": name, "members": members, "sweep": job.sweep}
        notice.write(**content, **known, ended=ended.count(content["over"]))

    try:
        for stack in _find_stacks(job, taken, todo):
            names = [config["run"] for config in stack.configs]
            _train_all(stack, partial(tell, names[0], names))
    except StopRequested as stop:
        tally.stopped = int(stop.signum)
    except OSError as error:
        if find_full_disk(error) is None:
            raise
        tally.full = f"{error.strerror} (below {str(places.root.absolute())!r})"
    finally:
        notice.remove()
        for run in taken:
            for name in _lock_names(job, run):
                locks.release(name)
    for run in taken:
        if job.hashes[run] not in job.over:
            result = read_result(job, run)
            if result is None and not (tally.stopped or tally.full) and find_resumed(job.take([run])):
                tally.busy += 1
            else:
                tally.count(result)
    return asdict(tally)


def _lock_names(job: Stack, run: int) -> tuple[str, str]:
    """Of a run's options, so that no other sweep trains them, and of its directory, so that no ``fit`` resumes it."""
    return f"hash {job.hashes[run]}", lock_name(job.configs[run]["run"])


def _take(locks: Locks, job: Stack, run: int) -> bool:
    """Take both locks of a run, or none."""
    options, directory = _lock_names(job, run)
    if not locks.take(options):
        return False
    if locks.take(directory):
        return True
    locks.release(options)
    return False


def _train_all(stack: Stack, tell: Callable[..., None]) -> None:
    """Train a stack, and then those runs of it alone whose results were damaged after they had ended."""
    attempt(stack, tell)
    if len(stack.configs) > 1:
        for single in [stack.take([run]) for run in range(len(stack.configs)) if read_result(stack, run) is None]:
            drop_unusable(single)
            attempt(single, tell)


def _is_over(job: Stack, run: int) -> bool:
    """Whether a run has a result, which another process may have written; removes a damaged one."""
    result = read_result(job, run)
    if result is None:
        with suppress(OSError):
            (job.record(run) / RESULT).unlink()
    return result is not None and not (result["status"] == FAILED and job.retry)


def _find_stacks(job: Stack, taken: list[int], todo: list[int]) -> list[Stack]:
    """Stacks to train: those that have checkpoints, and one of all runs that are in no checkpoint."""
    stacks, rest = [], todo
    own = {job.hashes[run]: run for run in taken}
    for members in sorted(job.places.read_members().values(), key=len):  # the smaller is the later one of two
        runs = [own[hashed] for hashed in members if hashed in own]
        if len(runs) == len(members) and set(runs) & set(rest):
            stack = job.take(runs)  # with those that are over, for a bit-identical resume
            if not drop_unusable(stack):
                stacks.append(stack)
                rest = [run for run in rest if run not in runs]
    if rest:
        drop_unusable(job.take(rest))
        stacks.append(job.take(rest))
    return stacks


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
        outcome = run_job(Stack(**parse_json(line)))
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


def to_line(job: Stack) -> str:
    """Encode a stack as a worker reads it."""
    return json.dumps(asdict(job)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
