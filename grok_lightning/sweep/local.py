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
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import torch

from grok_lightning.sweep.failures import bury
from grok_lightning.sweep.tally import Tally
from grok_lightning.sweep.worker import Job, as_line

MOST_DEATHS = 3
GRACE = 120.0


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    log: Path
    work: Callable[[], Job] | None = None
    job: Job | None = None


@dataclass
class LocalExecutor:
    """Runs stacks in processes of this machine.

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
        self._queue = deque(stacks)
        self._deaths: dict[str, int] = {}
        self._selector, self._signals = DefaultSelector(), 0
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

    def _work(self) -> None:
        for worker in self._staff:
            self._hand_out(worker)
        passed_on = 0
        while any(worker.work is not None for worker in self._staff):
            for key, _ in self._selector.select(0.5):
                self._answered(key.data)
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

    def _hand_out(self, worker: _Worker) -> None:
        worker.work = worker.job = None
        if not self._queue or self._signals or self.tally.full:
            return
        worker.work = self._queue.popleft()
        worker.job = worker.work()
        assert worker.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died, which is noticed where answers are read
            worker.process.stdin.write(as_line(worker.job))
            worker.process.stdin.flush()

    def _answered(self, worker: _Worker) -> None:
        answers = worker.process.stdout
        assert answers is not None
        line = answers.readline()
        outcome = json.loads(line) if line else {}
        if outcome and (self._signals or not outcome["stopped"]):  # a stack that is handed out again is counted then
            self.tally.add(outcome)
        if outcome and not outcome["stopped"]:
            self._hand_out(worker)
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
        self._hand_out(self._staff[number])

    def _buried(self, work: Callable[[], Job], job: Job, status: int) -> None:
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
