"""Commands as processes of their own, forked from this one so that they begin at once, and what can be seen of them."""

import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 120.0  # seconds after which a process counts as hanging
ROOT = Path(__file__).parents[2]


class Hang(Exception):
    """Something that does not end."""


class Command:
    """A command of the program in a forked process.

    Args:
        arguments: The command line after the program's name.
        where: Its working directory.
        first: What the process does before the command.
        environment: Variables of its environment.
    """

    def __init__(
        self,
        *arguments: object,
        where: Path,
        first: Callable[[], object] | None = None,
        environment: Mapping[str, str] = {},
    ) -> None:
        self.arguments, self.where = [str(argument) for argument in arguments], where
        self.where.mkdir(parents=True, exist_ok=True)
        Command._count += 1
        self._printed = {name: where / f".{name}-{Command._count}" for name in ("out", "err")}
        self._status: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            self._live(first, environment)

    _count = 0

    def _live(self, first: Callable[[], object] | None, environment: Mapping[str, str]) -> None:
        status = 1
        try:
            os.chdir(self.where)
            os.environ.update(environment)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for target, path in enumerate(self._printed.values(), start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), target)
            sys.stdout, sys.stderr = (os.fdopen(target, "w", encoding="utf-8", closefd=False) for target in (1, 2))
            sys.argv = ["grok-lightning", *self.arguments]
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if first is not None:
                first()
            from grok_lightning.__main__ import main

            status = main(self.arguments)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            with suppress(BaseException):
                traceback.print_exc()
        finally:
            with suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is None

    def wait(self, patience: float = PATIENCE) -> int:
        """Waits for its end and returns its status, a negative number for a signal.

        Raises:
            Hang: It did not end; it has been killed.
        """
        deadline = time.monotonic() + patience
        while self.is_running:
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self._status = -signal.SIGKILL
                raise Hang(f"{' '.join(self.arguments)[:200]} was still running after {patience:.0f} s")
            time.sleep(0.005)
        assert self._status is not None
        return self._status

    def signal(self, signum: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.is_running:
            os.kill(self.pid, signum)

    def kill(self) -> int:
        """Kills it at once (kill -9) and returns its status, which is another one if it had ended."""
        self.signal(signal.SIGKILL)
        return self.wait()

    @property
    def out(self) -> str:
        """What it has printed."""
        return _text(self._printed["out"])

    @property
    def err(self) -> str:
        """What it has printed on stderr."""
        return _text(self._printed["err"])

    def complain(self, *statuses: int) -> str:
        """What is wrong with how it ended; empty if the status is one of these and an error is one line."""
        status = self.wait()
        lines = self.err.strip().splitlines()
        last = f": {lines[-1][:200]}" if lines else ""
        if "Traceback (most recent call last)" in self.err:
            return f"traceback{last}"
        if status not in statuses:
            return f"status {status}{last}"
        if status in (1, 2) and len(lines) != 1:
            return f"{len(lines)} lines of error{last}"
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class Fresh:
    """A command in an interpreter of its own.

    Attributes:
        status: Its exit status, a negative number for a signal; None if it was still running.
        out: What it printed.
        err: What it printed on stderr.
    """

    status: int | None
    out: str
    err: str


def run_fresh(
    *arguments: object,
    where: Path,
    python: tuple[str, ...] = (),
    limits: Callable[[], object] | None = None,
    environment: Mapping[str, str] = {},
    patience: float = PATIENCE,
) -> Fresh:
    """Runs a command in an interpreter of its own."""
    where.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *python, "-m", "grok_lightning", *map(str, arguments)]
    path = os.pathsep.join(part for part in (environment.get("PYTHONPATH", ""), str(ROOT)) if part)
    own = os.environ | dict(environment) | {"PYTHONPATH": path}
    with subprocess.Popen(
        command, cwd=where, env=own, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
        errors="replace", preexec_fn=limits, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Fresh(None, "", "")
    return Fresh(process.returncode, out, err)


@dataclass(frozen=True)
class Sample:
    """What a process holds at a moment.

    Attributes:
        resident: Memory in bytes.
        files: Open files.
        seconds: Processor time so far.
    """

    resident: int
    files: int
    seconds: float


def look_at(pid: int) -> Sample | None:
    """What a process holds; None if it has ended."""
    try:
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
        files = len(os.listdir(f"/proc/{pid}/fd"))
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return None
    if fields[0] == "Z":
        return None
    return Sample(resident, files, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))


def children_of(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError, IndexError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid and fields[0] != "Z":
                    found.append(int(entry))
    return found


def kill_quietly(pid: int) -> None:
    """Kill -9, if the process is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(happens: Callable[[], object], patience: float = PATIENCE, command: Command | None = None) -> bool:
    """Waits until something happens; False if it does not, or if a command ends before."""
    deadline = time.monotonic() + patience
    while not happens():
        if time.monotonic() > deadline or (command is not None and not command.is_running):
            return bool(happens())
        time.sleep(0.003)
    return True
