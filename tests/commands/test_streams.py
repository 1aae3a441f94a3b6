"""A closed pipe, closed streams and Ctrl-C end a command quietly; copied commands are quoted; variables are named."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from grok_lightning.__main__ import main, program
from grok_lightning.errors import MOST_OF_MESSAGE, UserError, in_one_line, show

PROGRAM = [sys.executable, "-m", "grok_lightning"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x\x1b[31m\n\u202e\ud800", r"'x\x1b[31m\n\u202e\ud800'"),
        ("a" * 60, repr("a" * 60)),
        ("a" * 5000, "'" + "a" * 59 + "...' (5,000 characters)"),
        (None, "null"),
        ([1, "b"], "[1, 'b']"),
    ],
)
def test_a_value_in_a_message(value: object, shown: str) -> None:
    assert show(value) == shown
    assert str(UserError(shown)) == shown


def test_a_message_is_one_line_of_bounded_length() -> None:
    text = f"--run is {'y' * 999} \x1b]0;title\x07 \u2066 a\n  b\u2028c \ud800 /a/path/{'z' * 100}"
    line = str(UserError(text))
    assert line.isprintable()
    assert "(999 characters)" in line
    assert "a b c" in line
    assert f"/a/path/{'z' * 100}" in line
    assert len(in_one_line("word " * 5000)) < MOST_OF_MESSAGE + 50


@pytest.mark.parametrize("name", ["LOCAL_RANK", "WORLD_SIZE", "NODE_RANK"])
@pytest.mark.parametrize("value", ["x", "-1", "１", "1" * 5000])
def test_a_variable_that_is_no_number_is_named(command, monkeypatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    for arguments in (["fit"], ["validate", "--ckpt_path", "none"]):
        status, _, err = command(*arguments)
        assert (status, err.count("\n")) == (2, 1)
        assert f"the environment variable {name} is" in err


@pytest.mark.parametrize("value", ["x", "[]", '{"a": 1}', '{"model.compile": 3}', "[" * 9999])
def test_what_a_parent_chose_is_checked(command, monkeypatch, value: str) -> None:
    monkeypatch.setenv("GROK_LIGHTNING_CHOSEN", value)
    status, _, err = command("fit", "--experiment", "e", "--run", "0")
    assert (status, err.count("\n")) == (2, 1)
    assert "the environment variable GROK_LIGHTNING_CHOSEN is" in err


def test_the_program_is_quoted_where_its_path_has_spaces(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["a place/it's/grok-lightning"])
    assert program() == """'a place/it'"'"'s/grok-lightning'"""


def test_ctrl_c_is_one_line_also_where_an_import_turns_it_into_another_error(capsys, monkeypatch) -> None:
    def broken(_: list[str]) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ImportError("half imported") from None

    monkeypatch.setattr("grok_lightning.__main__._dispatch", broken)
    assert main(["generate"]) == 130
    assert capsys.readouterr().err == "\ngrok-lightning: interrupted\n"


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (MemoryError("std::bad_alloc"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 524288 bytes."), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "memory"),
        (RuntimeError("can't start new thread"), "threads"),
    ],
)
def test_too_little_memory_is_one_line(capsys, monkeypatch, error: Exception, lacking: str) -> None:
    def starved(_: list[str]) -> int:
        raise error

    monkeypatch.setattr("grok_lightning.__main__._dispatch", starved)
    assert main(["report", "e"]) == 1
    line = f"grok-lightning: not enough {lacking} on this machine; what was saved before is whole\n"
    assert capsys.readouterr().err == line
    assert main(["report", "e", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


CLOSED = (" | true", " >&-", " >&- 2>&-", " 2>&1 | head -n 1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "closed"),
    [
        *((words, CLOSED) for words in (["--help"], ["configs"], ["configs", "addition"])),
        (["fit", "--help"], CLOSED[:2]),  # which is printed to stdout
        (["fit", "--x"], CLOSED[2:]),  # which is refused on stderr
    ],
)
def test_closed_streams_are_no_error(arguments: list[str], closed: tuple[str, ...]) -> None:
    for end in closed:
        script = " ".join([*PROGRAM, *arguments]) + end
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)
        assert "Traceback" not in done.stderr, script
        assert "Exception ignored" not in done.stderr, script
        assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize("failure", [RecursionError("too deep"), UserError("no such class"), OSError("no such file")])
def test_ctrl_c_is_one_line_whatever_an_import_makes_of_it(failure: Exception) -> None:
    script = f"""
import os, signal, sys
import grok_lightning.__main__ as program
def broken(_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        pass
    error = {type(failure).__name__}({str(failure)!r})
    raise error
from grok_lightning.errors import UserError
program._dispatch = broken
sys.argv = ["grok-lightning", "configs"]
program.run_and_exit()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "\ngrok-lightning: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["report", "e"], ["generate", "c", "1+1="], ["configs"], ["fit", "--help"]])
@pytest.mark.parametrize("seconds", [0.1, 0.3, 1.0, 2.0])
def test_ctrl_c_while_modules_are_imported(arguments: list[str], seconds: float, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    start = "import sys; from grok_lightning.__main__ import run_and_exit; print(flush=True); run_and_exit()"
    process = subprocess.Popen(
        [sys.executable, "-c", start, *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    process.stdout.readline()  # Python itself has started, whose own traceback would be none of ours
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert b"Traceback" not in err
    assert process.returncode in (0, 2, 130)
