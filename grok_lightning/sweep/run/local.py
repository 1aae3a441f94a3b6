"""Worker processes on this machine: each trains one stack after another and is replaced when it dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import torch

from grok_lightning.reading import Malformed, parse_json
from grok_lightning.records.notices import read_notices
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run.executor import GRACE, Executor, QueuedStack
from grok_lightning.sweep.run.worker import PREPARE, Tally, to_line

# a worker; unlike with -m, a file of the working directory never takes the place of one of Python's modules
_PROGRAM = (
    "import sys; sys.path.append(sys.argv.pop()); import grok_lightning.sweep.run.worker as w; sys.exit(w.main())"
)
LOOK_AHEAD = 100  # stacks of the queue among which to look for one whose graph no worker compiles


@dataclass
class Worker:
    """A worker process.

    Attributes:
        process: The process.
        job: The stack that it trains; None while it is idle.
        prepared: Whether it was told to prepare for compilation.
    """

    process: subprocess.Popen[str]
    job: Stack | None = None
    prepared: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether the process takes no more jobs."""
        assert self.process.stdin is not None
        return self.process.stdin.closed

    def send(self, line: str) -> None:
        """Send a line to the process."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died, which is noticed where answers are read
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def close(self) -> None:
        """Close the pipes to and from the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()


class LocalExecutor(Executor):
    """Trains stacks in processes of this machine.

    Each graph is compiled once: the first worker with a graph goes ahead, and stacks of the same graph wait until it
    has taken its first step. Then the others find the graph in torch's cache.

    Args:
        workers: Number of processes.
        logs: Directory of their logs.
        look: Called about twice a second during training.
    """

    def __init__(self, workers: int, logs: Path, look: Callable[[Tally], None]) -> None:
        super().__init__(look)
        self.workers, self.logs = workers, logs
        self._workers: list[Worker] = []
        self._compiled: set[str] = set()  # graphs in torch's cache
        self._selector = DefaultSelector()

    def _train(self) -> None:
        try:
            for number in range(min(self.workers, len(self._queue))):
                self._workers.append(self._start_worker(number))
            self._work()
        finally:
            self._stop_workers()
            self._selector.close()

    def _work(self) -> None:
        passed_on = 0
        self._hand_out()
        while any(worker.job is not None for worker in self._workers):
            for key, _ in self._selector.select(0.5):
                self._read_answer(key.data)
            self._note_compiled()
            self._hand_out()
            if self._signals > passed_on:
                passed_on = self._signals
                for worker in self._workers:
                    worker.process.send_signal(signal.SIGKILL if self._is_forced else signal.SIGTERM)
            self.look(self.tally)

    def _start_worker(self, number: int) -> Worker:
        log = self.logs / f"worker-{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        if torch.cuda.is_available():
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            devices = visible.split(",") if visible else [str(place) for place in range(torch.cuda.device_count())]
            environment["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
        with log.open("a", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(Path(__file__).parents[3])],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8", env=environment,
                start_new_session=True,  # a terminal's Ctrl-C is for this process, which passes it on
            )  # fmt: skip
        worker = Worker(process)
        assert process.stdout is not None
        self._selector.register(process.stdout, EVENT_READ, worker)
        return worker

    def _hand_out(self) -> None:
        """Give each idle worker the first stack that need not wait for another worker's compilation."""
        for worker in self._workers:
            if worker.job is not None or worker.is_closed or self._signals or self.tally.full:
                continue
            graphs = {job.graph for _, job in self._find_compiling()}
            stacks = enumerate(islice(self._queue, LOOK_AHEAD))
            place = next((place for place, stack in stacks if stack.graph not in graphs), None)
            if place is not None:
                worker.job = self._queue[place].make()
                del self._queue[place]
                worker.send(to_line(worker.job))
            elif self._queue and not worker.prepared:
                worker.prepared = True
                worker.send(PREPARE)
        idle = sum(worker.job is None for worker in self._workers)
        self.tally.compiling = len(self._find_compiling())
        self.tally.waiting = min(idle, len(self._queue)) if self.tally.compiling else 0

    def _find_compiling(self) -> list[tuple[Worker, Stack]]:
        """Workers that compile a graph that is not in the cache yet, with their stacks."""
        jobs = [(worker, worker.job) for worker in self._workers if worker.job is not None]
        return [(worker, job) for worker, job in jobs if job.graph not in ("", *self._compiled)]

    def _note_compiled(self) -> None:
        """Note the graphs whose first worker has taken a step."""
        for worker, job in self._find_compiling():
            notices = read_notices(job.places.notices)
            own = [notice for name, notice in notices.items() if name.endswith(f"-{worker.process.pid}.json")]
            if own and not own[0].get("compiling", False):
                self._compiled.add(job.graph)

    def _read_answer(self, worker: Worker) -> None:
        """Read a worker's answer; start another worker if it has ended and stacks are left."""
        answers, job = worker.process.stdout, worker.job
        assert answers is not None
        line = answers.readline()
        outcome: dict[str, Any] = {}
        with suppress(Malformed):  # it died while it wrote
            outcome = parse_json(line) if line else {}
        if outcome and (self._signals or not outcome["stopped"]):  # a stack that is handed out again is counted then
            self.tally.add(outcome)
        worker.job = None
        if outcome and not outcome["stopped"]:
            if job is not None:
                self._compiled.add(job.graph)
            return
        self._selector.unregister(answers)
        status = worker.process.wait()
        worker.close()
        if job is None or self._signals:
            return
        reason = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if self._retry(job, "its process died", reason):
            self._queue.appendleft(QueuedStack(lambda: job))
        if self._queue:
            number = self._workers.index(worker)
            self._workers[number] = self._start_worker(number)

    def _stop_workers(self) -> None:
        """Stop all workers; those in training save their checkpoints when their input ends."""
        for worker in self._workers:
            worker.close()
        deadline = time.monotonic() + GRACE
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
