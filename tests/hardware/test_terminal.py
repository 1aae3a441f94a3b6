"""What is drawn never takes more room than the terminal has, whatever size it reports or is changed to."""

import io
import os
import pty
import re
import select
import struct
from collections.abc import Iterator

import pytest

from grok_lightning.hardware.terminal import (
    Redrawn,
    can_redraw,
    find_size,
    fit_line,
    format_duration,
    format_rate,
)

ESCAPES = re.compile(r"\x1b\[[0-9]*[A-Z]")


class Terminal:
    """A pseudo-terminal of a given size."""

    def __init__(self) -> None:
        self.own, theirs = pty.openpty()
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")

    def resize(self, columns: int, rows: int = 24) -> None:
        import fcntl
        import termios

        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> str:
        text = b""
        while select.select([self.own], [], [], 0.05)[0]:
            text += os.read(self.own, 1 << 16)
        return text.decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    for name in ("COLUMNS", "LINES", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    made = Terminal()
    yield made
    made.stream.close()
    os.close(made.own)


@pytest.mark.parametrize("columns", [0, 1, 5, 20, 80, 500])
def test_lines_are_cut_to_the_terminal(terminal: Terminal, columns: int) -> None:
    terminal.resize(columns, 6)
    room = columns or 80
    screen = Redrawn(terminal.stream)
    for _ in range(2):
        screen.draw(["x" * 300] * 20)
        lines = ESCAPES.sub("", terminal.read()).split("\r\n")[:-1]
        assert len(lines) == 5  # the cursor needs the sixth
        assert all(len(line.lstrip("\r")) <= max(1, room - 1) for line in lines)
    screen = Redrawn(terminal.stream)
    for _ in range(3):
        screen.draw_line("y" * 300)
        written = terminal.read()
        assert set(written) == {"\r", "y"}
        assert len(written) - 1 <= max(1, room - 1)


def test_a_size_of_zero_is_unknown_and_columns_take_precedence(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.resize(0, 0)
    assert find_size(terminal.stream) == (80, 24)
    terminal.resize(20, 7)
    assert find_size(terminal.stream) == (20, 7)
    for given, columns in (("0", 20), ("x", 20), ("-5", 20), ("100", 100), ("9" * 30, 20)):
        with monkeypatch.context() as patch:  # pytest's own line must not be as wide
            patch.setenv("COLUMNS", given)
            assert find_size(terminal.stream) == (columns, 7)


def test_what_was_longer_is_covered(terminal: Terminal) -> None:
    terminal.resize(80)
    screen = Redrawn(terminal.stream)
    screen.draw_line("a long line")
    screen.draw_line("short")
    assert terminal.read() == "\ra long line\rshort      "


def test_lines_that_a_narrower_terminal_has_broken_are_replaced(terminal: Terminal) -> None:
    terminal.resize(80)
    screen = Redrawn(terminal.stream)
    screen.draw(["x" * 70, "y"])
    terminal.read()
    terminal.resize(20)
    screen.draw(["z"])
    assert terminal.read().startswith("\x1b[5F\x1b[J")  # 70 characters are four lines of 20 by now


def test_dumb_terminals_files_and_cells_of_notebooks_are_not_redrawn(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert can_redraw(terminal.stream, several=True)
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert can_redraw(terminal.stream)
    assert not can_redraw(terminal.stream, several=True)
    monkeypatch.setenv("TERM", "dumb")
    assert not can_redraw(terminal.stream)
    assert not can_redraw(io.StringIO())


def test_the_longest_form_that_fits_is_chosen() -> None:
    forms = ["four and more", "three", "1"]
    assert [fit_line(forms, columns) for columns in (14, 13, 6, 5, 1)] == [forms[0], "three", "three", "1", "1"]


def test_durations_and_rates_in_words() -> None:
    shown = [format_duration(seconds) for seconds in (0.4, 59.6, 61, 3599.7, 7500, 90_000)]
    assert shown == ["0 s", "1 min 00 s", "1 min 01 s", "1 h 00 min", "2 h 05 min", "1 d 1 h"]
    assert [format_rate(rate) for rate in (3120, 9.96, 4.25, 0.4, 0)] == [
        *("3,120 steps/s", "10 steps/s", "4.2 steps/s", "2.5 s/step", ""),
    ]
