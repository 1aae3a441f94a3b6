"""Directories of runs: made by one process alone; what is replaced is never lost before the new run has begun."""

import errno
import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from grok_lightning.records import locks
from grok_lightning.records.claims import claim, settle, settle_all
from grok_lightning.records.locks import Locks, locks_of
from grok_lightning.records.record import CONFIG, run_directories

HOLD = """
import sys
from pathlib import Path
from grok_lightning.records.locks import locks_of
print(locks_of(Path(), "e").take(sys.argv[1]), flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process_holds(name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process has a lock of experiment e, in the directory worked in."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The directories of a finished run."""
    monkeypatch.chdir(tmp_path)
    directories = run_directories(Path(), "e", "a")
    for directory, name in zip(directories, (CONFIG, "last.ckpt"), strict=True):
        directory.mkdir(parents=True)
        (directory / name).write_text("old")
    return directories


def content() -> dict[str, str]:
    return {str(path): path.read_text() for path in Path().rglob("*") if path.is_file() and path.name != ".locks"}


def test_a_name_is_taken_once(old: tuple[Path, Path]) -> None:
    before = content()
    assert not claim(*old)
    assert content() == before
    assert claim(*run_directories(Path(), "e", "b"))
    assert not claim(*run_directories(Path(), "e", "b"))
    run_directories(Path(), "e", "c")[1].mkdir()
    assert not claim(*run_directories(Path(), "e", "c"))
    assert not run_directories(Path(), "e", "c")[0].exists()


def test_a_replaced_run_goes_when_the_new_one_has_its_config(old: tuple[Path, Path]) -> None:
    before = content()
    assert claim(*old, replace=True)
    assert sorted(content().values()) == ["old", "old"]
    settle(*old)  # a process that was killed here has not begun
    assert content() == before
    assert claim(*old, replace=True)
    (old[0] / CONFIG).write_text("new")
    settle(*old)
    assert content() == {str(old[0] / CONFIG): "new"}
    assert old[1].is_dir()


@pytest.mark.parametrize("method", ["rename", "mkdir"])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("error", [KeyboardInterrupt, PermissionError])
def test_a_claim_cut_short_loses_nothing(
    old: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, method: str, number: int, error: type[BaseException]
) -> None:
    before, calls = content(), 0
    original: Callable[..., object] = getattr(Path, method)

    def fail(self: Path, *arguments: object, **options: object) -> object:
        nonlocal calls
        calls += not options  # parents are made with options
        if calls == number + 1:
            raise error
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, method, fail)
        with pytest.raises(error):
            claim(*old, replace=True)
    settle_all(Path(), "e")
    assert content() == before
    assert not list(Path().rglob(".replaced-*"))


def test_what_another_process_has_set_aside_is_left_to_it(old: tuple[Path, Path]) -> None:
    before = content()
    assert claim(*old, replace=True)
    with another_process_holds("run a"):
        settle_all(Path(), "e")
        assert content() != before
    settle_all(Path(), "e")
    assert content() == before


def test_locks_of_two_runs_and_two_processes(old: tuple[Path, Path]) -> None:
    own = locks_of(Path(), "e")
    assert own is locks_of(Path().absolute(), "e")
    with another_process_holds("run a") as other:
        assert not own.take("run a")
        assert own.take("run b")
        assert not own.take("run b")  # nor twice by one process, whose threads POSIX does not keep apart
        own.release("run b")
        own.release("run a")  # another's
        assert not own.take("run a")
        other.kill()
        other.wait()
    assert own.take("run a")
    own.release("run a")
    with another_process_holds("run a"):  # with the file closed and opened again
        assert not own.take("run a")


def test_storage_without_locks_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    own = Locks(tmp_path / "locks")
    assert own.take("run a")
    own.release("run a")
    assert own.take("run a")


def test_a_system_without_locks_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "can_lock", lambda: False)
    own = Locks(tmp_path / "locks")
    assert own.take("run a")
    own.release("run a")
    assert own.take("run a")
    assert not own.path.exists()
