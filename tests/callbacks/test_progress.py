"""The line of a fit: redrawn within the terminal's width, or printed at the start, at changes and once a minute."""

import io
from pathlib import Path
from unittest.mock import Mock

import pytest

from grok_lightning.callbacks import progress
from grok_lightning.callbacks.progress import ProgressLine
from grok_lightning.callbacks.states import RunStates


class Fit:
    """A fit whose clock is set by hand, with a progress line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_after: int = 0) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("grok_lightning.callbacks.speed.Speed.__init__.__defaults__", (lambda: self.now,))
        self.states = RunStates([Path()], [{"train": 100, "val": 100}], stop_after=stop_after)
        self.trainer = Mock(global_step=0, max_steps=10_000, is_global_zero=True, sanity_checking=False, callbacks=[])
        self.trainer.state.fn = "fit"
        self.line = ProgressLine(self.states, "addition/0")

    def evaluate(self, train: float, val: float) -> None:
        row = {"step": self.trainer.global_step, "train/acc": train, "val/acc": val}
        self.states.add(0, row | {"train/loss": 0.25, "val/loss": 2.5})
        self.line.on_validation_end(self.trainer, Mock())

    def train(self, seconds: int, rate: int = 10) -> None:
        for _ in range(seconds):
            self.now += 1
            self.trainer.global_step += rate
            self.line.on_train_batch_end(self.trainer, Mock(), None, None, 0)

    def begin(self) -> None:
        self.line.on_train_start(self.trainer, Mock())


@pytest.mark.parametrize(("stop_after", "left"), [(0, "14 min 40 s left"), (3, "at most 14 min 40 s left")])
def test_a_log_has_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stop_after: int, left: str
) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    fit = Fit(monkeypatch, stop_after)
    fit.begin()
    fit.evaluate(0.01, 0.02)
    fit.train(59)
    fit.train(61)
    fit.evaluate(1.0, 0.125)
    fit.line.on_train_end(fit.trainer, Mock())
    lines = capsys.readouterr().out.splitlines()
    start = "addition/0  memorizing  step 0/10,000  train   1.0%  val   2.0%  loss train 0.25, val 2.5"
    assert lines[0] == start
    assert [line.split("step ")[1].split(" ")[0] for line in lines] == [f"{n:,}/10,000" for n in (0, 600, 1200, 1200)]
    assert "memorized" in lines[3]
    assert lines[2].endswith(f"10 steps/s  {left}")
    assert not any(character in line for line in lines for character in "\r\x1b")


@pytest.mark.parametrize("columns", [0, 1, 5, 20, 40, 80, 200])
def test_the_redrawn_line_stays_within_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "_redrawn_stream", lambda: stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    fit = Fit(monkeypatch)
    fit.begin()
    fit.evaluate(1.0, 0.125)
    fit.train(30)
    fit.line.on_train_end(fit.trainer, Mock())
    drawn = stream.getvalue()
    assert drawn.endswith("\n")
    assert drawn.count("\n") == 1
    last = drawn.strip("\n").split("\r")[-1].rstrip()
    assert all(len(part) < max(columns or 80, 2) for part in drawn.strip("\n").split("\r"))
    assert ("16 min 10 s left" in last) == (columns in (0, 80, 200))
    assert ("|" in last) == (columns == 200)
    if columns >= 20:
        assert "3%" in last or "300/10,000" in last
