"""A signal is noted and acted on later; a second Ctrl-C is not."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from grok_lightning.callbacks.guards import WATCHED, StopRequested, StopSignals
from grok_lightning.callbacks.progress import unharmed
from grok_lightning.hardware.process import mute_lost_terminal


class Quit(BaseException):
    """Stands for the end of the process."""


def own_handler(signum: int, frame: object) -> None:
    raise AssertionError(f"signal {signum} reached the handler that was there before")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {signum: signal.signal(signum, own_handler) for signum in WATCHED}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[StopSignals]:
    def leave(status: int) -> None:
        raise Quit(status)

    monkeypatch.setattr(os, "_exit", leave)
    signals = StopSignals()
    signals.install()
    yield signals
    signals.restore()


def send(*signums: int) -> None:
    for signum in signums:
        os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", WATCHED)
def test_a_signal_is_noted_and_nothing_else_happens(signals: StopSignals, signum: int) -> None:
    assert signals.received == 0
    send(signum)
    assert signals.received == signum


@pytest.mark.parametrize(
    "sent",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM, signal.SIGTERM),
    ],
)
def test_the_first_signal_counts(signals: StopSignals, sent: tuple[int, ...]) -> None:
    send(*sent)
    assert signals.received == sent[0]


@pytest.mark.parametrize(
    "before",
    [
        (signal.SIGINT,),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
    ],
)
def test_a_second_interrupt_quits_at_once(
    signals: StopSignals, capfd: pytest.CaptureFixture[str], before: tuple[int, ...]
) -> None:
    send(*before)
    with pytest.raises(Quit, match="130"):
        send(signal.SIGINT)
    assert "without saving" in capfd.readouterr().err


def test_restoring_puts_the_old_handlers_back(signals: StopSignals) -> None:
    assert all(signal.getsignal(signum) != own_handler for signum in WATCHED)
    signals.install()
    signals.restore()
    assert all(signal.getsignal(signum) is own_handler for signum in WATCHED)
    signals.restore()
    assert all(signal.getsignal(signum) is own_handler for signum in WATCHED)


def test_handlers_that_lightning_has_put_in_place_are_replaced(signals: StopSignals) -> None:
    for signum in WATCHED:
        signal.signal(signum, lambda *_: None)
    signals.install()
    send(signal.SIGTERM)
    assert signals.received == signal.SIGTERM
    signals.restore()
    assert all(signal.getsignal(signum) is own_handler for signum in WATCHED)


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = StopSignals()
    signals.install()
    send(signal.SIGHUP)
    assert (signals.received, signal.getsignal(signal.SIGHUP)) == (0, signal.SIG_IGN)
    signals.restore()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_closed_terminal_is_printed_to_without_harm(capfd: pytest.CaptureFixture[str]) -> None:
    controller, terminal = os.openpty()
    kept = os.dup(1)
    os.dup2(terminal, 1)
    os.close(controller)
    try:
        with pytest.raises(OSError, match="Input/output"):
            os.write(1, b"lost")
        with unharmed():
            os.write(1, b"lost")
        assert os.write(1, b"not harmed") == 10
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(terminal)
    mute_lost_terminal()
    os.write(1, b"heard")
    assert capfd.readouterr().out == "heard"


def test_off_the_main_thread_nothing_is_taken_over() -> None:
    failures: list[Exception] = []
    signals = StopSignals()

    def elsewhere() -> None:
        try:
            signals.install()
            signals.restore()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert not failures
    assert all(signal.getsignal(signum) is own_handler for signum in WATCHED)


def test_a_stop_says_which_signal_and_which_step() -> None:
    stop = StopRequested(signal.SIGTERM, 12_345)
    assert (stop.signum, stop.step) == (signal.SIGTERM, 12_345)
    assert str(stop) == "stopped by SIGTERM at step 12,345"
