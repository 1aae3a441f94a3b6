"""The command in processes of its own that begin at once: each is forked from one that has imported the package.

A test whose subject is the start itself (imports, streams, the working directory) starts ``python -m grok_lightning``.
"""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from multiprocessing.context import BaseContext
from pathlib import Path

_IMPORTED = ["grok_lightning.__main__", "grok_lightning.fit", "grok_lightning.options.parsing", "forked"]


def _server() -> BaseContext:
    """The context whose server is started with the first process, and ends with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def run_command(arguments: list[str]) -> None:
    """Runs a command as ``grok-lightning`` does, and exits."""
    from grok_lightning.__main__ import run_and_exit

    sys.argv = ["grok-lightning", *arguments]
    run_and_exit()


def run_code(code: str) -> None:
    """Runs code as ``python -c`` does."""
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def _live(
    where: str, environment: Mapping[str, str], printed: list[str], first: Callable[[], object] | None,
    what: Callable[..., object], *given: object,
) -> None:  # fmt: skip
    os.chdir(where)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), target)
    sys.stdout, sys.stderr = (os.fdopen(target, "w", encoding="utf-8", closefd=False) for target in (1, 2))
    if first is not None:
        first()
    what(*given)


class Forked:
    """A process with the part of ``subprocess.Popen`` that tests use; what it prints goes to files.

    Args:
        what: What it does: a function of a module.
        given: Its arguments.
        first: What is done before; a function of a module.
        patience: Seconds after which its end is no longer waited for.
    """

    def __init__(
        self, what: Callable[..., object], *given: object, first: Callable[[], object] | None = None,
        patience: float = 280.0,
    ) -> None:  # fmt: skip
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._printed = [Path(folder, name) for name in ("out", "err")]
        self.patience = patience
        given = (os.getcwd(), dict(os.environ), [str(path) for path in self._printed], first, what, *given)
        self._process = _server().Process(target=_live, args=given, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, a negative number for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end.

        Raises:
            TimeoutExpired: It has not ended; it has been killed.
        """
        self._process.join(self.patience if timeout is None else timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise subprocess.TimeoutExpired("a forked process", self.patience if timeout is None else timeout)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it printed, on stdout and on stderr, once it has ended."""
        self.wait(timeout)
        return self.out, self.err

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._printed[0].read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        """What it has printed on stderr so far."""
        return self._printed[1].read_text(encoding="utf-8", errors="replace")

    def send_signal(self, signum: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self._process.exitcode is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Kills it (kill -9)."""
        self.send_signal(signal.SIGKILL)


def start(*arguments: object, first: Callable[[], object] | None = None) -> Forked:
    """Starts a command."""
    return Forked(run_command, list(map(str, arguments)), first=first)


def run(*arguments: object) -> Forked:
    """Runs a command to its end."""
    process = start(*arguments)
    process.wait()
    return process
