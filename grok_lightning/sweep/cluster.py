"""Ray tasks on a cluster that runs: one for each stack, handed out again when their worker or node is lost."""

import os
import re
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from grok_lightning.cli import quiet
from grok_lightning.errors import UserError
from grok_lightning.sweep.connection import connect, shortened
from grok_lightning.sweep.failures import bury
from grok_lightning.sweep.tally import Tally
from grok_lightning.sweep.worker import Job, run_job

MOST_DEATHS = 3
GRACE = 120.0
IN_FLIGHT = 4  # tasks handed to Ray for each CPU or GPU: those it starts next are there before it asks
OWNER = "sweep.json"
PATIENCE = 60.0  # seconds until a new file is seen on all nodes: NFS remembers for as long what was not there
LEASE = 120.0  # seconds until a lost node's locks are given up by an NFS server


def train_on_node(job: Job, here: str, again: bool) -> dict[str, Any]:
    """What a task does: ``run_job``, on whichever node it is.

    Args:
        job: The stack.
        here: The directory that relative paths in configs start from.
        again: Whether another task began it, whose locks may outlive it for a while.

    Returns:
        What ``run_job`` returns, or ``unseen``: what this node cannot see.
    """
    quiet()
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]  # Ray's workers inherit their node's number, by which Lightning would take them for ranks
    rank_zero_only.rank = 0  # type: ignore[attr-defined]
    owner = job.places.own / OWNER
    if not (_seen(owner) and _seen(Path(here))):
        return {"unseen": f"node {socket.gethostname()} does not see {str(owner)!r}"}
    os.chdir(here)
    outcome = run_job(job)
    deadline = time.monotonic() + LEASE
    while again and outcome["busy"] and not outcome["stopped"] and time.monotonic() < deadline:
        time.sleep(5)
        outcome = run_job(job)
    return outcome


def _seen(path: Path) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


@dataclass
class RayExecutor:
    """Runs stacks as tasks of a Ray cluster.

    Args:
        workers: At most that many tasks at a time; None for as many as the cluster has CPUs, or GPUs.
        look: Called about twice a second while they work.
    """

    workers: int | None
    look: Callable[[Tally], None]
    tally: Tally = field(default_factory=Tally)

    def run(self, stacks: Iterable[Callable[[], Job]]) -> Tally:
        """Runs all stacks, or until a signal or a full disk ends it.

        Args:
            stacks: What makes each job when its turn comes.

        Returns:
            What they came to.

        Raises:
            UserError: If no cluster can be reached, or a node of it does not share the storage.
            ConnectionError: If the cluster goes away.
        """
        connect()
        import ray

        self._ray = ray
        # not Ray's own retries: they count neither exceptions nor signals, and locks of a lost node may linger
        self._tasks = [ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(train_on_node) for gpus in (0, 1)]
        self._queue = deque(stacks)
        self._flying: dict[Any, Job] = {}
        self._deaths: dict[str, int] = {}
        self._resources: dict[str, float] = {}
        self._counted = -inf
        self._signals = 0
        handlers = {signum: signal.signal(signum, self._note) for signum in (signal.SIGINT, signal.SIGTERM)}
        # where Ray prints what it has noticed
        with Path(os.devnull).open("w", encoding="utf-8") as nothing, redirect_stdout(nothing):
            try:
                self._work()
            except ray.exceptions.RayError as error:  # not a task's, which are dealt with: the cluster itself is gone
                gone = f"the Ray cluster is gone ({shortened(error)})"
                raise ConnectionError(f"{gone}; start it and the sweep again, which goes on") from None
            finally:
                with suppress(ray.exceptions.RayError):
                    self._call_off()
                ray.shutdown()
                for signum, handler in handlers.items():
                    signal.signal(signum, handler)
        return self.tally

    def _work(self) -> None:
        looked = -inf
        while not self._signals:
            while self._queue and not self.tally.full and len(self._flying) < self._most():
                job = self._queue.popleft()()
                self._hand_out(replace(job, root=str(Path(job.root).absolute()), threads=min(job.threads, 1)))
            if not self._flying:
                return
            for job, outcome in self._landed():
                self._ended(job, outcome)
            if time.monotonic() - looked >= 0.5:
                self.look(self.tally)
                looked = time.monotonic()

    def _most(self) -> int:
        """How many tasks may be in flight, with the nodes that there are now."""
        if time.monotonic() - self._counted > 10:
            self._resources, self._counted = self._ray.cluster_resources(), time.monotonic()
        slots = self._resources.get("GPU") or self._resources.get("CPU", 0)
        return self.workers or max(1, IN_FLIGHT * int(slots))

    def _hand_out(self, job: Job) -> None:
        on_gpu = self._resources.get("GPU", 0) > 0 and job.configs[0]["trainer"]["accelerator"] != "cpu"
        again = _key(job) in self._deaths
        self._flying[self._tasks[on_gpu].remote(job, os.getcwd(), again)] = job

    def _landed(self) -> list[tuple[Job, dict[str, Any] | Exception]]:
        """What has come of tasks within the last moment."""
        ready, _ = self._ray.wait(list(self._flying), timeout=0.5)
        if ready:
            ready, _ = self._ray.wait(list(self._flying), num_returns=len(self._flying), timeout=0)
        found: list[tuple[Job, dict[str, Any] | Exception]] = []
        for task in ready:
            job = self._flying.pop(task)
            try:
                found.append((job, self._ray.get(task)))
            except self._ray.exceptions.RayError as error:
                found.append((job, error))
        return found

    def _ended(self, job: Job, outcome: dict[str, Any] | Exception) -> None:
        if isinstance(outcome, self._ray.exceptions.LocalRayletDiedError):
            raise outcome
        if isinstance(outcome, Exception):
            self._lost(job, _told(outcome))
        elif "unseen" in outcome:
            raise UserError(f"{outcome['unseen']}, which is here; --root must lead to storage that all nodes share")
        elif outcome["stopped"]:  # counted when it is handed out again
            self._lost(job, signal.Signals(outcome["stopped"]).name)
        else:
            self.tally.add(outcome)

    def _lost(self, job: Job, reason: str) -> None:
        """Hands a stack out again, to go on from its checkpoint; but not for ever."""
        self._deaths[_key(job)] = self._deaths.get(_key(job), 0) + 1
        if self._deaths[_key(job)] < MOST_DEATHS:
            self._hand_out(job)
        else:
            reason = f"its worker was lost {MOST_DEATHS} times, the last by {reason}"
            self.tally.add(bury(job.places, job.configs, job.hashes, reason))

    def _call_off(self) -> None:
        """Makes what is still in flight save and end; on a second Ctrl-C it ends at once, unsaved."""
        deadline, hard = time.monotonic() + GRACE, False
        for task in self._flying:
            self._ray.cancel(task)
        while self._flying and time.monotonic() < deadline:
            for _, outcome in self._landed():
                if isinstance(outcome, dict):
                    self.tally.add(outcome)
            self.look(self.tally)
            if not hard and self._signals > 1 and self.tally.stopped == signal.SIGINT:
                deadline, hard = time.monotonic() + 10, True
                for task in self._flying:
                    self._ray.cancel(task, force=True)

    def _note(self, signum: int, frame: Any) -> None:
        self._signals += 1
        self.tally.stopped = self.tally.stopped or signum


def _told(error: Exception) -> str:
    """What went wrong in a task, without the colors of Ray's tracebacks."""
    cause = getattr(error, "cause", None)
    first = "" if cause is None else f"{type(cause).__name__}: {cause}\n"
    return first + re.sub("\x1b\\[[0-9;]*m", "", str(error))


def _key(job: Job) -> str:
    return " ".join(job.hashes)
