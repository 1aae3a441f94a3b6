"""Worker processes on this machine: handed one stack after the other, replaced when they die."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import torch

from grok_lightning.sweep.failures import bury
from grok_lightning.sweep.places import read_notices
from grok_lightning.sweep.tally import Tally
from grok_lightning.sweep.worker import PREPARE, Job, as_line

MOST_DEATHS = 3
GRACE = 120.0
LOOK_AHEAD = 100  # stacks in the queue among which one is looked for whose graph nobody compiles


@dataclass
class _Work:
    """A stack in the queue; its graph is known from the job, which is made for that and let go."""

    make: Callable[[], Job]
    _graph: str | None = None

    def job(self) -> Job:
        return self.make()

    def graph(self) -> str:
        if self._graph is None:
            self._graph = self.make().graph
        return self._graph


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    log: Path
    work: _Work | None = None
    job: Job | None = None
    prepared: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        assert self.process.stdin is not None
        return self.process.stdin.closed

    def send(self, line: str) -> None:
        """Sends a line to the process."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died, which is noticed where answers are read
            self.process.stdin.write(line)
            self.process.stdin.flush()


@dataclass
class LocalExecutor:
    """Runs stacks in processes of this machine.

    What is compiled is compiled once: the first worker with a graph goes ahead, and stacks of the same graph are held
    back until it has taken its first step. Then the others find the graph in torch's cache.

    Args:
        workers: How many processes.
        logs: Where what they print goes.
        look: Called about twice a second while they work.
    """

    workers: int
    logs: Path
    look: Callable[[Tally], None]
    tally: Tally = field(default_factory=Tally)

    def run(self, stacks: Iterable[Callable[[], Job]]) -> Tally:
        """Runs all stacks, or until a signal or a full disk ends it.

        Args:
            stacks: What makes each job when its turn comes.

        Returns:
            What they came to.
        """
        self._begin(stacks)
        handlers = {signum: signal.signal(signum, self._note) for signum in (signal.SIGINT, signal.SIGTERM)}
        self._staff = [self._hire(number) for number in range(min(self.workers, len(self._queue)))]
        try:
            self._work()
        finally:
            self._dismiss(self._staff)
            self._selector.close()
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
        return self.tally

    def _begin(self, stacks: Iterable[Callable[[], Job]]) -> None:
        self._queue: deque[_Work] = deque(map(_Work, stacks))
        self._compiled: set[str] = set()  # graphs that torch's cache holds by now
        self._deaths: dict[str, int] = {}
        self._selector, self._signals = DefaultSelector(), 0

    def _work(self) -> None:
        passed_on = 0
        self._hand_out()
        while any(worker.work is not None for worker in self._staff):
            for key, _ in self._selector.select(0.5):
                self._answered(key.data)
            self._note_compiled()
            self._hand_out()
            if self._signals > passed_on:
                passed_on = self._signals
                for worker in self._staff:
                    # a second Ctrl-C: at once, unsaved
                    hard = passed_on > 1 and self.tally.stopped == signal.SIGINT
                    worker.process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
            self.look(self.tally)

    def _hire(self, number: int) -> _Worker:
        log = self.logs / f"worker-{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        if torch.cuda.is_available():
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            devices = visible.split(",") if visible else [str(place) for place in range(torch.cuda.device_count())]
            environment["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
        with log.open("a", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "grok_lightning.sweep.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8", env=environment,
                start_new_session=True,  # a terminal's Ctrl-C is for this process, which passes it on
            )  # fmt: skip
        worker = _Worker(process, log)
        assert process.stdout is not None
        self._selector.register(process.stdout, EVENT_READ, worker)
        return worker

    def _hand_out(self) -> None:
        """Gives each idle worker the first stack that need not wait for another's compilation."""
        for worker in self._staff:
            if worker.work is not None or worker.is_closed or self._signals or self.tally.full:
                continue
            ready = (place for place, work in enumerate(islice(self._queue, LOOK_AHEAD)) if self._is_ready(work))
            place = next(ready, None)
            if place is None:
                if self._queue and not worker.prepared:
                    worker.prepared = True
                    worker.send(PREPARE)
                continue
            worker.work = self._queue[place]
            del self._queue[place]
            worker.job = worker.work.job()
            worker.send(as_line(worker.job))
        first = [worker for worker in self._staff if self._is_first(worker)]
        idle = sum(worker.work is None for worker in self._staff)
        self.tally.compiling, self.tally.waiting = len(first), min(idle, len(self._queue)) if first else 0

    def _is_ready(self, work: _Work) -> bool:
        graph = work.graph()
        return (
            not graph
            or graph in self._compiled
            or not any(worker.job is not None and worker.job.graph == graph for worker in self._staff)
        )

    def _is_first(self, worker: _Worker) -> bool:
        """Whether a worker compiles a graph that is in no cache yet."""
        return worker.job is not None and worker.job.graph not in ("", *self._compiled)

    def _note_compiled(self) -> None:
        """Notes the graphs whose first worker has taken a step."""
        for worker in self._staff:
            if worker.job is not None and self._is_first(worker):
                notices = read_notices(worker.job.places.own / "workers")
                own = [said for name, said in notices.items() if name.endswith(f"-{worker.process.pid}.json")]
                if own and not own[0].get("compiling", False):
                    self._compiled.add(worker.job.graph)

    def _answered(self, worker: _Worker) -> None:
        answers = worker.process.stdout
        assert answers is not None
        line = answers.readline()
        outcome = json.loads(line) if line else {}
        if outcome and (self._signals or not outcome["stopped"]):  # a stack that is handed out again is counted then
            self.tally.add(outcome)
        if outcome and not outcome["stopped"]:
            if worker.job is not None:
                self._compiled.add(worker.job.graph)
            worker.work = worker.job = None
            return
        self._selector.unregister(answers)
        status = worker.process.wait()
        _close(worker)
        work, job = worker.work, worker.job
        worker.work = worker.job = None
        if work is None or job is None or self._signals:
            return
        self._buried(work, job, status)
        if not self._queue:
            return
        number = self._staff.index(worker)
        self._staff[number] = self._hire(number)

    def _buried(self, work: _Work, job: Job, status: int) -> None:
        """Puts a dead worker's stack back, to go on from its checkpoint; but not for ever."""
        key = " ".join(job.hashes)
        self._deaths[key] = self._deaths.get(key, 0) + 1
        if self._deaths[key] < MOST_DEATHS:
            self._queue.appendleft(work)
            return
        ended = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        reason = f"its process died {MOST_DEATHS} times, the last by {ended}"
        self.tally.add(bury(job.places, job.configs, job.hashes, reason))

    def _dismiss(self, workers: list[_Worker]) -> None:
        """Ends workers: those that are at work when their input ends save first."""
        for worker in workers:
            _close(worker)
        deadline = time.monotonic() + GRACE
        for process in [worker.process for worker in workers]:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _note(self, signum: int, frame: Any) -> None:
        self._signals += 1
        self.tally.stopped = self.tally.stopped or signum


def _close(worker: _Worker) -> None:
    """Closes what leads to a worker."""
    for pipe in (worker.process.stdin, worker.process.stdout):
        with suppress(BrokenPipeError):
            if pipe is not None:
                pipe.close()
