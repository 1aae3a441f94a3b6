"""What ends a fit early: a signal, the divergence of every run, a training step that is compiled more than once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch._dynamo.utils import counters

from grok_lightning.hardware.compilation import Graph, Kind, remember
from grok_lightning.hardware.process import mute_lost_terminal
from grok_lightning.module import GrokModule

LOOK_EVERY = 50
# SIGHUP: the terminal is closed; SIGBREAK: Ctrl-Break on Windows, the only one that another process can send there
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
WATCHED = tuple(signal.Signals[name] for name in NAMES if hasattr(signal, name))


class StopRequested(Exception):
    """Ends a fit at a step boundary, after its checkpoint is saved.

    Args:
        signum: The signal that asked for it.
        step: The step that the checkpoint stands at.
    """

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} at step {step:,}")
        self.signum, self.step = signum, step


class Diverged(Exception):
    """Ends a fit in which every run has diverged.

    Args:
        step: The last step at which a run did.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"diverged: the loss was no longer finite at step {step}")
        self.step = step


class Recompiled(Exception):
    """Ends a fit whose training step was compiled more than once.

    Args:
        count: The number of compilations.
    """

    def __init__(self, count: int) -> None:
        super().__init__(
            f"the training step was compiled {count} times instead of once, because one of its inputs varies; "
            "leave model.compile out"
        )


class StopSignals:
    """Records the first of the signals in ``WATCHED`` while installed; a second SIGINT quits at once, without saving.

    Attributes:
        received: The signal recorded, or 0.
        kills: Whether a second SIGINT ends the process; else it raises KeyboardInterrupt, as a notebook expects.
    """

    kills = True

    def __init__(self) -> None:
        self.received = 0
        self._interrupted = False
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Installs the handlers (possible in the main thread only); again where Lightning has replaced them."""
        for signum in watched() if threading.current_thread() is threading.main_thread() else ():
            before = signal.signal(signum, self._note)
            self._previous.setdefault(signum, signal.SIG_DFL if before is None else before)

    def restore(self) -> None:
        """Restores the previous handlers."""
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT:
            if self._interrupted and not self.kills:
                raise KeyboardInterrupt
            if self._interrupted:
                os.write(2, b"\nquit at once without saving\n")
                os._exit(130)
            self._interrupted = True
        mute_lost_terminal()
        self.received = self.received or signum


@contextmanager
def interruptible() -> Iterator[None]:
    """Raises KeyboardInterrupt where Lightning would exit with status 1, and would ignore SIGINT from then on."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


def watched() -> list[signal.Signals]:
    """The signals of ``WATCHED`` that this system has, without a SIGHUP that is ignored: nohup has asked for that."""
    here = [signum for signum in WATCHED if signum in signal.valid_signals()]
    return [signum for signum in here if signum.name != "SIGHUP" or signal.getsignal(signum) is not signal.SIG_IGN]


def raise_if_diverged(pl_module: LightningModule) -> None:
    """Ends the fit if no run's loss is finite.

    Raises:
        Diverged: If every run has diverged.
    """
    diverged_at_R = cast(GrokModule, pl_module).diverged_at_R
    if bool((diverged_at_R >= 0).all()):
        raise Diverged(int(diverged_at_R.max()))


class DivergenceGuard(Callback):
    """Checks the losses after each call on a CPU; on a GPU, which a check would hold up, every 50 steps.

    ``Lifecycle`` checks at every evaluation too, because no training loss shows the effect of a run's last update.
    """

    def __init__(self) -> None:
        self._looked = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._looked = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.device.type == "cpu" or trainer.global_step - self._looked >= LOOK_EVERY:
            self._looked = trainer.global_step
            raise_if_diverged(pl_module)


class CompilationGuard(Callback):
    """Checks the number of compiled graphs after each call, and remembers the duration of the first compilation.

    Args:
        graph: The graph that is compiled.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._before = self._missed = 0
        self._began: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before, self._missed = _count_graphs(), _count_cache_misses()
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not pl_module.compiled:
            return
        compiled = _count_graphs() - self._before
        if compiled > 1:
            raise Recompiled(compiled)
        if self._began is not None:
            kind: Kind = "cold" if _count_cache_misses() > self._missed else "warm"
            if trainer.is_global_zero and compiled:
                remember(self.graph, kind, time.perf_counter() - self._began)
            self._began = None


def _count_graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def _count_cache_misses() -> int:
    """Number of graphs that torch's caches did not hold."""
    return int(counters["inductor"]["fxgraph_cache_miss"])
