"""What Linux has and macOS or Windows has not is taken away: everything but sweeps works as before."""

import ast
import errno
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from lightning.pytorch.accelerators import MPSAccelerator

import grok_lightning
from grok_lightning import files
from grok_lightning.__main__ import main
from grok_lightning.files import write_durably
from grok_lightning.hardware.process import keep_freed_memory
from grok_lightning.options import shipped
from grok_lightning.records.notices import Notice, read_notices
from grok_lightning.records.record import METRICS

Command = Callable[..., tuple[int, str, str]]
TOP = Path(grok_lightning.__file__).parent
HOME = Path(__file__).parents[2]
SOURCES = sorted(path for folder in (TOP, HOME / "benchmarks") for path in folder.rglob("*.py"))
NOT_ON_WINDOWS = ("fork", "sched_getaffinity", "sched_setaffinity", "killpg", "getuid", "setsid", "waitid", "mkfifo")
WINDOWS_SIGNALS = tuple(signal.Signals[f"SIG{name}"] for name in ("ABRT", "FPE", "ILL", "INT", "SEGV", "TERM"))


def hide_files(monkeypatch: pytest.MonkeyPatch, directories: bool) -> None:
    """Takes ``/proc`` away, and opening directories too, which Windows refuses."""

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
            if str(name).startswith("/proc"):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            if directories and function is real_open and os.path.isdir(path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
            return function(path, *args, **kwargs)

        return call

    real_open = os.open
    for owner, name in ((os, "open"), (os, "stat"), (os, "listdir"), (io, "open")):
        monkeypatch.setattr(owner, name, guarded(getattr(owner, name)))
    monkeypatch.setattr("builtins.open", io.open)


def refuse_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has handlers be taken for the signals of Windows alone, and one signal that Linux has be missing."""
    real = signal.signal

    def take(signum: int, handler: Any) -> Any:
        if signum not in WINDOWS_SIGNALS:
            raise ValueError("invalid signal value")
        return real(signum, handler)

    monkeypatch.setattr(signal, "signal", take)
    monkeypatch.setattr(signal, "valid_signals", lambda: set(WINDOWS_SIGNALS))
    monkeypatch.delattr(signal, "SIGHUP")


def leave_linux(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """Makes Python as it is on Windows or macOS, as far as this program can tell."""
    windows = platform == "win32"
    monkeypatch.setattr(sys, "platform", platform)
    hide_files(monkeypatch, directories=windows)
    for name in NOT_ON_WINDOWS if windows else ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    if windows:
        refuse_handlers(monkeypatch)
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)  # since Python 3.12 it asks Windows itself
        for module in ("fcntl", "resource"):
            monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_a_run_is_trained_continued_asked_and_reported_as_on_linux(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str
) -> None:
    short, long = ((*TINY, "--trainer.max_steps", steps) for steps in ("15", "25"))
    assert command("fit", *long, "--experiment", "whole")[0] == 0
    with monkeypatch.context() as changed:
        leave_linux(changed, platform)
        assert not keep_freed_memory()
        assert command("fit", *short, "--experiment", "parts")[0] == 0
        status, _, told = command("fit", "--experiment", "parts", "--run", "0", "--ckpt_path", "last", *long[-2:])
        assert (status, told) == (0, "")
        whole, parts = (tmp_path / "lightning_logs" / name / "0" / METRICS for name in ("whole", "parts"))
        assert parts.read_bytes() == whole.read_bytes()
        checkpoint = tmp_path / "checkpoints" / "parts" / "0" / "last.ckpt"
        assert command("generate", checkpoint, "3+5=")[0] == 0
        assert command("validate", "--ckpt_path", checkpoint, "--trainer.enable_progress_bar", "false")[0] == 0
        assert command("report", "parts", "whole", "--out", "report")[0] == 0
    assert (tmp_path / "report" / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert not list(tmp_path.rglob(f"{files.TEMPORARY}*"))


def test_a_sweep_says_what_it_needs_and_writes_nothing(
    command: Command, write_yaml: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_yaml({"base": "addition", "grid": {"seed_everything": "0..2"}})
    monkeypatch.setitem(sys.modules, "fcntl", None)
    for words in ([path], [path, "--dry-run"], ["status", path]):
        status, printed, told = command("sweep", *words)
        assert (status, printed) == (2, "")
        assert told.startswith("grok-lightning: sweep needs Linux or macOS")
        assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_every_module_is_imported_without_posix() -> None:
    program = """
import importlib, pkgutil, sys, warnings
sys.modules["fcntl"] = sys.modules["resource"] = None
import os
for name in ("fork", "sched_getaffinity", "killpg"):
    delattr(os, name)
import grok_lightning
for module in pkgutil.walk_packages(grok_lightning.__path__, "grok_lightning."):
    importlib.import_module(module.name)
sys.path.insert(0, sys.argv[1])
for module in pkgutil.iter_modules([sys.argv[1]]):
    importlib.import_module(module.name)
print(grok_lightning.__file__)
"""
    command = [sys.executable, "-c", program, str(HOME / "benchmarks")]
    ran = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=HOME)
    assert ran.returncode == 0, ran.stderr
    assert Path(ran.stdout.strip()) == TOP / "__init__.py"


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_directory_that_cannot_be_flushed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def flush(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    write_durably(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.fixture
def held_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Windows, where another program has the file open while seconds are left in the list."""
    left, real = [0.0], os.replace

    def replace(source: Path, target: Path) -> None:
        if left[0] > 0:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
        real(source, target)

    def sleep(seconds: float) -> None:
        left[0] -= seconds

    (tmp_path / "file").write_bytes(b"before")
    with monkeypatch.context() as changed:
        changed.setattr(os, "replace", replace)
        changed.setattr(files.time, "sleep", sleep)
        changed.setattr(os, "name", "nt")
        yield left


def test_a_file_that_is_read_for_a_moment_is_replaced_on_windows(tmp_path: Path, held_open: list[float]) -> None:
    held_open[0] = 0.5
    write_durably(tmp_path / "file", b"after")
    held_open[0] = 100
    with pytest.raises(PermissionError):
        write_durably(tmp_path / "file", b"never")
    assert os.listdir(tmp_path) == ["file"]
    with open(tmp_path / "file", "rb") as file:
        assert file.read() == b"after"


def test_workers_that_are_gone_are_noticed_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notice = Notice(tmp_path)
    notice.write(name="here", budget=10, runs=1, over=0, step=1, grokked=0, memorized=0)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    notice.path.with_name(notice.path.name.replace(str(os.getpid()), str(gone.pid))).write_bytes(
        notice.path.read_bytes()
    )
    hide_files(monkeypatch, directories=False)
    assert list(read_notices(tmp_path)) == [notice.path.name]


def test_configs_are_found_in_a_clone_without_symbolic_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "configs").write_bytes(b"../configs")  # what git on Windows makes of the link
    (tmp_path / "configs" / "sweeps").mkdir(parents=True)
    (tmp_path / "configs" / "own.yaml").write_bytes(b"# title\n")
    (tmp_path / "configs" / "sweeps" / "many.yaml").write_bytes(b"# title\n")
    assert {"addition", "division"} <= set(shipped.shipped_configs())
    monkeypatch.setattr(shipped, "files", lambda _: tmp_path / "package")
    assert list(shipped.shipped_configs()) == ["own"]
    assert list(shipped.shipped_sweeps()) == ["many"]


# --- text -------------------------------------------------------------------------------------------------------------


def without_encoding(source: str) -> list[str]:
    """Calls that read or write text in whatever encoding the system prefers, which on Windows is not UTF-8."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function, words = node.func, {keyword.arg: keyword.value for keyword in node.keywords}
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
        modes = [*node.args[:2], *([words["mode"]] if "mode" in words else [])]
        binary = any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)
        text = name in ("read_text", "write_text", "fdopen") or (name == "open" and owner != "os")
        text = (text and not binary) or "text" in words or "universal_newlines" in words
        if text and "encoding" not in words:
            found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(HOME)))
def test_text_files_name_their_encoding(path: Path) -> None:
    assert not without_encoding(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text()",
        "path.write_text(text)",
        "open(path)",
        "open(path, 'w')",
        "path.open('a', newline='')",
        "os.fdopen(1, 'w')",
        "subprocess.run(command, text=True)",
    ],
)
def test_text_without_encoding_is_noticed(call: str) -> None:
    assert len(without_encoding(call)) == 1


@pytest.mark.parametrize(
    "call",
    ["path.open('rb')", "os.open(path, 0)", "open(path, encoding='utf-8')", "path.read_bytes()", "run(command)"],
)
def test_other_calls_are_let_through(call: str) -> None:
    assert not without_encoding(call)


def test_a_console_that_lacks_characters_shows_question_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.yaml").write_text("# the gradient \u22a5 the weights, \u00d7 2\n", encoding="utf-8")
    monkeypatch.setattr(shipped, "_shipped", lambda: tmp_path)
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="cp1252"))
    assert main(["configs"]) == 0
    sys.stdout.flush()
    assert "the gradient ? the weights, \u00d7 2" in printed.getvalue().decode("cp1252")


# --- Apple's GPUs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accelerator", ["auto", "gpu", "mps"])
@pytest.mark.parametrize("option", ["--trainer.precision 64-true", "--model.loss_precision 64"])
def test_float64_on_mps_is_refused_in_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, accelerator: str, option: str
) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    status, _, told = command("fit", *TINY, *option.split(), "--trainer.accelerator", accelerator)
    assert status == 2
    assert told.startswith(f"grok-lightning: {option.split()[0]} is ")
    assert "MPS does not support; use 32" in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_float64_on_the_cpu_of_a_mac_is_fine(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    options = ["--trainer.precision", "64-true", "--model.loss_precision", "64", "--trainer.max_steps", "2"]
    assert command("fit", *TINY, *options)[0] == 0
