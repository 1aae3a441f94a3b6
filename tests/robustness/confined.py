"""Runs something in a forked process with limits of memory and time, and reports what it did beyond its answer.

The process is a copy of this one, with everything imported already, so that a command takes some 50 ms instead of
seconds, and nothing that it does to itself outlives it. Linux only.
"""

import ctypes
import errno
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEBIBYTE = 1024**2
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they reorder what is shown
_LIBC = ctypes.CDLL(None)
PATIENCE = 5.0  # seconds without processor time after which a process hangs
EVIL = "evil_module"  # stands on sys.path; nothing of a stranger may import it, nor a module that acts when imported
PLANTED = (EVIL, f"{EVIL}.inner", "unittest.__main__", "this", "antigravity")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = {  # audit events, and which of their arguments are paths that change
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.symlink": (1,), "os.link": (1,),
    "os.chmod": (0,), "os.truncate": (0,), "os.utime": (0,), "shutil.rmtree": (0,), "shutil.move": (0, 1),
}  # fmt: skip
_STARTING = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "webbrowser.open")


@dataclass(frozen=True)
class Limits:
    """What a confined process may take.

    Attributes:
        seconds: Processor time. Besides, whatever takes none of it for five seconds hangs.
        mebibytes: Memory beyond that of this process.
    """

    seconds: float = 6.0
    mebibytes: int = 320


@dataclass
class Outcome:
    """What a confined process did.

    Attributes:
        status: Its exit status; None if it raised, was killed or took too long.
        out: What it printed.
        err: What it printed on stderr.
        raised: The exception that nothing caught, ``ValueError in yamls.undotted``; empty if there was none.
        trace: Its traceback.
        death: The signal or the limit that ended it; empty if none did.
        offences: Files touched outside its directory, programs started, planted modules imported.
        seconds: Processor time.
        mebibytes: Most memory beyond that of this process.
    """

    status: int | None = None
    out: str = ""
    err: str = ""
    raised: str = ""
    trace: str = ""
    death: str = ""
    offences: list[str] = field(default_factory=list)
    seconds: float = 0.0
    mebibytes: int = 0


def run_confined(action: Callable[[], Any], work: Path, limits: Limits | None = None) -> Outcome:
    """Runs an action in a process of its own.

    Args:
        action: What to run; its value, if it is a number, is the exit status.
        work: Its working directory, the only one that it may change.
        limits: What it may take; the default is that of ``Limits``.
    """
    limits = limits or Limits()
    channels = [os.memfd_create(name) for name in ("out", "err", "report")]
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        _LIBC.malloc_trim(0)  # a fit has had this process keep what it frees: the forked one would use it again
        before = _kibibytes("RssAnon")
        pid = os.fork()
        if not pid:
            _be_confined(action, work.resolve(), limits, channels)
        status, usage, late = _wait(pid, PATIENCE)
        out, err, report = (_content(channel) for channel in channels)
        outcome = Outcome(out=out, err=err)
        outcome.seconds = usage.ru_utime + usage.ru_stime
        if late:
            outcome.death = "hangs"
        elif os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            outcome.death = f"more than {limits.seconds:.0f} s of processor time" if name == "SIGXCPU" else name
        for line in report.splitlines():
            key, value = json.loads(line)
            if key == "memory":
                before += value
            elif key == "offence":
                outcome.offences += [value] if value not in outcome.offences else []
            else:
                setattr(outcome, key, value)
        outcome.mebibytes = max(0, (usage.ru_maxrss - before) // 1024)
        return outcome
    finally:
        for channel in channels:
            os.close(channel)


def _content(channel: int) -> str:
    os.lseek(channel, 0, os.SEEK_SET)
    with open(channel, encoding="utf-8", errors="replace", closefd=False) as file:
        return file.read(4 * MEBIBYTE)


def _kibibytes(*fields: str) -> int:
    """Memory of this process: ``RssAnon`` is its own, ``RssFile`` that of mapped files such as libraries."""
    with open("/proc/self/status", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(fields))


def _wait(pid: int, patience: float) -> tuple[int, resource.struct_rusage, bool]:
    """The status of a process, what it used, and whether it was killed because it did nothing for some seconds."""
    descriptor = os.pidfd_open(pid)
    late = False
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        used, since = -1, time.monotonic()
        while not late and not poll.poll(500):
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            now = int(fields[11]) + int(fields[12])
            if now != used:  # a busy machine may make it wait, but not for so long
                used, since = now, time.monotonic()
            late = time.monotonic() - since > patience
    finally:
        os.close(descriptor)
        if late or sys.exc_info()[0] is not None:
            os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return status, usage, late


def _be_confined(action: Callable[[], Any], work: Path, limits: Limits, channels: list[int]) -> None:
    """The whole life of the forked process."""
    report = channels[2]

    def tell(key: str, value: Any) -> None:
        os.write(report, json.dumps([key, value]).encode() + b"\n")

    try:
        os.chdir(work)
        empty = os.open(os.devnull, os.O_RDONLY)
        for target, source in enumerate((empty, channels[0], channels[1])):
            os.dup2(source, target)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="replace", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="replace", closefd=False)
        _limit(limits)
        sys.addaudithook(_Watch(work, tell))
        began = set(sys.modules)
        status: Any = None
        try:
            status = action()
        except SystemExit as error:
            status = error.code or 0
        except BaseException as error:
            tell("raised", f"{type(error).__name__} in {_place(error)}")
            tell("trace", "".join(traceback.format_exception(error))[-6000:])
        else:
            status = status or 0
        for name in PLANTED:
            if name in sys.modules and name not in began:
                tell("offence", f"imported {name}")
        tell("memory", _kibibytes("RssFile", "RssShmem"))  # no memory of its own, as far as it is in use now
        if status is not None:
            tell("status", status if isinstance(status, int) else 1)
    except BaseException as error:  # not even its report could be written
        os.write(report, json.dumps(["raised", f"{type(error).__name__} at the end of the process"]).encode() + b"\n")
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, MemoryError):
                continue
        os._exit(0)


def _limit(limits: Limits) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    # address space is reserved more freely than memory is used: this only keeps the machine from harm
    most = size + (2 * limits.mebibytes + 512) * MEBIBYTE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * MEBIBYTE, 256 * MEBIBYTE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = int(limits.seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)


def _place(error: BaseException) -> str:
    """The innermost function of this package, or else of any, in which an exception was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}grok_lightning{os.sep}" in frame.filename] or frames
    return f"{Path(own[-1].filename).stem}.{own[-1].name}" if own else "an unknown place"


class _Watch:
    """An audit hook that refuses, and tells, what is done outside of a directory, and programs that are started."""

    def __init__(self, work: Path, tell: Callable[[str, Any], None]) -> None:
        self.work, self.tell, self.busy = str(work), tell, False
        self.cache = os.path.realpath(
            os.environ.get("TORCHINDUCTOR_CACHE_DIR", self.work)
        )  # made when torch is imported

    def hide(self, path: str) -> str:
        """A path without what differs from one run of the harness to the next."""
        return path.replace(str(Path(self.work).parents[5]), "BASE")[-100:]

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.busy:
            return
        self.busy = True
        try:
            self._look(event, arguments)
        finally:
            self.busy = False

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and bool({*mode} & {*"wax+"})) or (flags or 0) & _WRITING
            paths: Iterable[Any] = [path] if writes else []
        elif event in _CHANGING:
            paths = [arguments[place] for place in _CHANGING[event]]
        elif event in _STARTING:
            self.tell("offence", f"{event} {arguments[0]!s:.100}")
            raise PermissionError(errno.EACCES, f"{event} is not allowed here")
        else:
            return
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike):
                real = os.path.realpath(os.fsdecode(path))
                inside = any(f"{real}{os.sep}".startswith(f"{place}{os.sep}") for place in (self.work, self.cache))
                if not inside and not real.startswith(("/dev/", "/proc/self/", "/memfd:")):
                    self.tell("offence", f"{event} outside of the working directory: {self.hide(real)}")
                    raise PermissionError(errno.EACCES, "nothing may be written there", real)


def find_fault(outcome: Outcome, limits: Limits | None = None, statuses: tuple[int, ...] = (0, 1, 2, 3)) -> str:
    """What is wrong with an outcome; empty if nothing is.

    Right is success, or one line on stderr and a status that says so; within the limits, and without an offence.

    Args:
        outcome: What a command did.
        limits: What it might take.
        statuses: The exit statuses that are right here.
    """
    limits = limits or Limits()
    if outcome.offences:
        return outcome.offences[0]
    if outcome.death:
        return outcome.death
    if outcome.raised:
        return f"traceback: {outcome.raised}"
    if outcome.mebibytes > limits.mebibytes:
        return f"took more than {limits.mebibytes} MiB"
    if "Traceback (most recent call last)" in outcome.err:
        return "traceback printed"
    if outcome.status is None or outcome.status not in statuses:
        return f"exit status {outcome.status}"
    if outcome.status == 0:
        return ""
    lines = outcome.err.strip("\n").splitlines()
    if len(lines) != 1:
        return f"{len(lines)} lines on stderr"
    if len(lines[0]) > 1200:
        return f"a line of {len(lines[0]) // 1000},000 characters and more"
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in _DIRECTIONS for character in lines[0]):
        return "control characters in the message"
    return ""


def plant(directory: Path) -> None:
    """Puts a module on sys.path that nothing of a stranger may import."""
    package = directory / EVIL
    package.mkdir(parents=True, exist_ok=True)
    source = "import torch\nclass Net(torch.nn.Module):\n    pass\ndef call(*arguments, **options):\n    return Net()\n"
    for name in ("__init__.py", "inner.py"):
        (package / name).write_text(source, encoding="utf-8")
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def seconds_left(deadline: float) -> float:
    """Seconds until a moment of ``time.monotonic``, at least 0."""
    return max(0.0, deadline - time.monotonic())
