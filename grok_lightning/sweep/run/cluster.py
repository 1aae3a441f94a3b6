"""Ray tasks on a running cluster: one for each stack, handed out again when their worker or node is lost."""

import logging
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from grok_lightning.cli import quiet
from grok_lightning.errors import UserError, show
from grok_lightning.sweep.places import OWNER
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run.executor import GRACE, Executor
from grok_lightning.sweep.run.worker import Tally, run_job

REACHABLE = 5.0  # seconds until an address counts as one where nothing listens
IN_FLIGHT = 4  # tasks handed to Ray for each CPU or GPU, so that the next ones are there before it asks
PATIENCE = 60.0  # seconds until a new file is seen on all nodes: NFS caches for as long that it was missing
LEASE = 120.0  # seconds until an NFS server gives up the locks of a lost node


def connect() -> None:
    """Connect to the Ray cluster that runs here or that ``RAY_ADDRESS`` names; does not start one.

    Raises:
        UserError: Ray is not installed, the address is invalid, or no cluster can be reached.
    """
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # how often a refused token is tried again, a second apart
    try:
        import ray
    except ImportError:
        raise UserError(
            "--executor is ray, which is not installed here; pip install 'grok_lightning[ray]', or use local"
        ) from None
    if ray.is_initialized():
        return
    _refuse_address(ray)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _silent():
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds: no cluster, other versions of Ray or Python, a token refused
        ray.shutdown()
        raise _unreachable(error) from None
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress what native code writes to standard error."""
    kept = os.dup(2)
    with Path(os.devnull).open("w", encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _refuse_address(ray: Any) -> None:
    """Refuse an invalid address, or one where nothing listens: Ray itself would try for minutes."""
    given = os.environ.get("RAY_ADDRESS", "")
    if given not in ("", "auto") and not re.fullmatch(r"[^/]+:[0-9]+", given):
        raise UserError(f"RAY_ADDRESS is {show(given)}; HOST:PORT of a cluster that runs is expected, or nothing")
    with suppress(AttributeError, TypeError):  # private to Ray, may change
        try:
            host, port = ray._private.services.get_ray_address_from_environment("auto", None).rsplit(":", 1)
            socket.create_connection((host.strip("[]"), int(port)), REACHABLE).close()
        except OSError as error:
            raise _unreachable(error) from None


def _unreachable(error: Exception) -> UserError:
    text = f"{error} {error.__cause__}"
    if "AuthToken" in text or "authentication token" in text:
        return UserError(
            "--executor is ray, whose cluster refused the token; set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token "
            "from its head node"
        )
    reason = f"no cluster can be reached ({_shorten(error)})"
    return UserError(f"--executor is ray, but {reason}; start one with `ray start --head`")


def _shorten(error: Exception) -> str:
    """Shorten an error of Ray to its first sentence."""
    return " ".join(str(error).split("\n")[0].split(". ")[0].split())[:150].rstrip(".")


def train_on_node(job: Stack, here: str, again: bool) -> dict[str, Any]:
    """Train a stack in a Ray task, on any node.

    Args:
        job: The stack.
        here: Directory that relative paths in configs start from.
        again: Whether another task began the stack, whose locks may outlive it for a while.

    Returns:
        What ``run_job`` returns, or a dictionary with only ``unseen``: which path this node does not see.
    """
    quiet()
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]  # Ray's workers inherit their node's number, which Lightning would take for their rank
    rank_zero_only.rank = 0  # type: ignore[attr-defined]
    owner = job.places.own / OWNER
    if not (_wait_for(owner) and _wait_for(Path(here))):
        return {"unseen": f"node {socket.gethostname()} does not see {str(owner)!r}"}
    os.chdir(here)
    outcome = run_job(job)
    deadline = time.monotonic() + LEASE
    while again and outcome["busy"] and not outcome["stopped"] and time.monotonic() < deadline:
        time.sleep(5)
        outcome = run_job(job)
    return outcome


def _wait_for(path: Path) -> bool:
    """Whether a path exists within ``PATIENCE`` seconds."""
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


class RayExecutor(Executor):
    """Trains stacks as tasks of a Ray cluster.

    Args:
        workers: Largest number of tasks at a time; None: as many as the cluster has CPUs, or GPUs.
        look: Called about twice a second during training.
    """

    def __init__(self, workers: int | None, look: Callable[[Tally], None]) -> None:
        super().__init__(look)
        self.workers = workers
        self._in_flight: dict[Any, Stack] = {}
        self._resources: dict[str, float] = {}
        self._counted = -inf

    def _train(self) -> None:
        connect()
        import ray

        self._ray = ray
        # without Ray's own retries: they count neither exceptions nor signals, and locks of a lost node may linger
        self._tasks = [ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(train_on_node) for gpus in (0, 1)]
        # Ray prints remarks of its own
        with Path(os.devnull).open("w", encoding="utf-8") as nothing, redirect_stdout(nothing):
            try:
                self._work()
            except ray.exceptions.RayError as error:  # those of tasks are caught before: the cluster itself is gone
                gone = f"the Ray cluster is gone ({_shorten(error)})"
                raise ConnectionError(f"{gone}; start it and the sweep again, which goes on") from None
            finally:
                with suppress(ray.exceptions.RayError):
                    self._cancel_all()
                ray.shutdown()

    def _work(self) -> None:
        looked = -inf
        while not self._signals:
            if time.monotonic() - self._counted > 10:  # on the nodes that there are now
                self._resources, self._counted = self._ray.cluster_resources(), time.monotonic()
            slots = self._resources.get("GPU") or self._resources.get("CPU", 0)
            most = self.workers or max(1, IN_FLIGHT * int(slots))
            while self._queue and not self.tally.full and len(self._in_flight) < most:
                job = self._queue.popleft().make()
                self._hand_out(replace(job, root=str(Path(job.root).absolute()), threads=min(job.threads, 1)))
            if not self._in_flight:
                return
            for job, outcome in self._collect():
                self._handle(job, outcome)
            if time.monotonic() - looked >= 0.5:
                self.look(self.tally)
                looked = time.monotonic()

    def _hand_out(self, job: Stack) -> None:
        on_gpu = self._resources.get("GPU", 0) > 0 and job.configs[0]["trainer"]["accelerator"] != "cpu"
        again = tuple(job.hashes) in self._losses
        self._in_flight[self._tasks[on_gpu].remote(job, os.getcwd(), again)] = job

    def _collect(self) -> list[tuple[Stack, dict[str, Any] | Exception]]:
        """Results and errors of tasks that ended within the last moment."""
        ready, _ = self._ray.wait(list(self._in_flight), timeout=0.5)
        if ready:
            ready, _ = self._ray.wait(list(self._in_flight), num_returns=len(self._in_flight), timeout=0)
        found: list[tuple[Stack, dict[str, Any] | Exception]] = []
        for task in ready:
            job = self._in_flight.pop(task)
            try:
                found.append((job, self._ray.get(task)))
            except self._ray.exceptions.RayError as error:
                found.append((job, error))
        return found

    def _handle(self, job: Stack, outcome: dict[str, Any] | Exception) -> None:
        """Count the outcome of a task, or hand its stack out again if its worker was lost."""
        if isinstance(outcome, self._ray.exceptions.LocalRayletDiedError):
            raise outcome
        if isinstance(outcome, Exception):
            cause = getattr(outcome, "cause", None)
            reason = "" if cause is None else f"{type(cause).__name__}: {cause}\n"
            reason += re.sub("\x1b\\[[0-9;]*m", "", str(outcome))  # without the colors of Ray's tracebacks
        elif "unseen" in outcome:
            raise UserError(f"{outcome['unseen']}, which is here; --root must lead to storage that all nodes share")
        elif outcome["stopped"]:  # counted when it is handed out again
            reason = signal.Signals(outcome["stopped"]).name
        else:
            self.tally.add(outcome)
            return
        if self._retry(job, "its worker was lost", reason):
            self._hand_out(job)

    def _cancel_all(self) -> None:
        """Have the tasks in flight save and end; after a second Ctrl-C they end at once, without checkpoints."""
        deadline, forced = time.monotonic() + GRACE, False
        for task in self._in_flight:
            self._ray.cancel(task)
        while self._in_flight and time.monotonic() < deadline:
            for _, outcome in self._collect():
                if isinstance(outcome, dict):
                    self.tally.add(outcome)
            self.look(self.tally)
            if not forced and self._is_forced:
                deadline, forced = time.monotonic() + 10, True
                for task in self._in_flight:
                    self._ray.cancel(task, force=True)
