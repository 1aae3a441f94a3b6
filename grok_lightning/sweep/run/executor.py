"""What the executors of a sweep share: the queue, signals, the tally, and stacks whose worker was lost."""

import signal
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from grok_lightning.callbacks.guards import watched
from grok_lightning.hardware.process import mute_lost_terminal
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run.failures import mark_dead
from grok_lightning.sweep.run.worker import Tally

MOST_DEATHS = 3
GRACE = 120.0  # seconds that workers have to save their checkpoints at the end


@dataclass
class QueuedStack:
    """A stack in the queue.

    Attributes:
        make: Makes its job, when its turn comes.
    """

    make: Callable[[], Stack]

    @cached_property
    def graph(self) -> str:
        """What is compiled; the job that is made to find it is not kept."""
        return self.make().graph


class Executor(ABC):
    """Trains the stacks of a sweep, several at a time.

    Args:
        look: Called about twice a second during training.
    """

    def __init__(self, look: Callable[[Tally], None]) -> None:
        self.look = look
        self.tally = Tally()
        self._queue: deque[QueuedStack] = deque()
        self._signals = 0
        self._losses: Counter[tuple[str, ...]] = Counter()

    def run(self, stacks: Iterable[Callable[[], Stack]]) -> Tally:
        """Train all stacks, until all are done or a signal or a full disk ends the sweep.

        Args:
            stacks: Functions that make the jobs, each called when its turn comes.

        Returns:
            Counts of runs.

        Raises:
            UserError: No Ray cluster can be reached, or a node of it does not share the storage.
            ConnectionError: The connection to the Ray cluster was lost.
        """
        self._queue.extend(map(QueuedStack, stacks))

        def count(signum: int, frame: Any) -> None:
            self._signals += 1
            self.tally.stopped = self.tally.stopped or signum
            mute_lost_terminal()

        handlers = {signum: signal.signal(signum, count) for signum in watched()}
        try:
            self._train()
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
        return self.tally

    @abstractmethod
    def _train(self) -> None:
        """Train the stacks of the queue, and stop all workers."""

    @property
    def _is_forced(self) -> bool:
        """Whether a second Ctrl-C asked to stop at once, without checkpoints."""
        return self._signals > 1 and self.tally.stopped == signal.SIGINT

    def _retry(self, job: Stack, event: str, reason: str) -> bool:
        """Count the loss of a stack's worker; the last one records the stack's unfinished runs as failed.

        Args:
            job: The stack.
            event: What happened to the worker.
            reason: By what it happened this time.

        Returns:
            Whether the stack is to be handed out again, to resume from its checkpoint.
        """
        key = tuple(job.hashes)
        self._losses[key] += 1
        if self._losses[key] < MOST_DEATHS:
            return True
        error = f"{event} {MOST_DEATHS} times, the last by {reason}"
        self.tally.add(mark_dead(job, error))
        return False
