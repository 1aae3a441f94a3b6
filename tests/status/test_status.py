"""``status`` says where runs stand from their files and locks, and leaves all of them as they are."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from forked import start

from grok_lightning.records.locks import Locks, can_lock, lock_name, locks_of
from grok_lightning.records.notices import FITS, Notice
from grok_lightning.records.planned import save_planned
from grok_lightning.records.record import write_json, write_metrics
from grok_lightning.status.show import format_standings
from grok_lightning.status.standing import Run, Standing, find_standing, sort_key

Command = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.skipif(not can_lock(), reason="needs POSIX locks")

CONFIG = "trainer:\n  max_steps: 1000\ndata:\n  class_path: a.B\n  val_fraction: null\nevaluation:\n  threshold: 0.9\n"
LONG = "seed=0__train_fraction=0.4__0123456789abcdef"
HOLD = """
import sys
from pathlib import Path
from grok_lightning.records.locks import lock_name, locks_of
assert all(locks_of(Path(), sys.argv[1]).take(lock_name(name)) for name in sys.argv[2:])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def unfinished(name: str, *accuracies: tuple[int, float, float], config: str = CONFIG, experiment: str = "e") -> Path:
    """A run without a result: step, training and validation accuracy of its evaluations."""
    directory = Path("lightning_logs", experiment, name)
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(config)
    write_metrics(directory, [{"step": step, "train/acc": train, "val/acc": val} for step, train, val in accuracies])
    return directory


def finished(name: str, status: str = "stopped", grok: int | None = 300, experiment: str = "e", **fields: Any) -> Path:
    """A run with a result."""
    directory = unfinished(name, (0, 0.1, 0.1), (500, 1.0, 0.95), experiment=experiment)
    result = {"status": status, "steps": 500, "budget": 1000, "threshold": 0.9, "memorize_step": 100, "grok_step": grok}
    result |= {
        "final": {"train/acc": 1.0, "val/acc": 0.95},
        "config_hash": name[-16:],
        "config": {"data": {"class_path": "a.B"}},
    }
    write_json(directory / "result.json", result | fields)
    return directory


class Holder:
    """A process that holds the locks of runs, as one that trains them does."""

    def __init__(self, experiment: str, *runs: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, experiment, *runs], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def hold() -> Any:
    holders: list[Holder] = []

    def make(*names: str) -> Holder:
        holders.append(Holder(*names))
        return holders[-1]

    yield make
    for holder in holders:
        holder.kill()


def notify(pid: int, *members: str, host: str | None = None, age: float = 0.0, **fields: Any) -> Path:
    """The notice of a process."""
    content = {"name": members[0], "members": list(members), "step": 700, "budget": 1000, "rate": 10.0, "steady": True}
    content |= {"runs": len(members), "over": 0, "grokked": 0, "memorized": 0, "time": time.time() - age, **fields}
    path = Path("lightning_logs/e", FITS, f"{host or socket.gethostname()}-{pid}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def runs_of(experiment: str = "e") -> dict[str, Run]:
    return {run.name: run for run in find_standing(Path("lightning_logs", experiment)).runs}


def test_locks_of_others_are_seen_and_not_taken(hold: Any) -> None:
    holder = hold("e", "a", "b")
    locks = Locks(locks_of(Path(), "e").path)  # as another process would open it
    names = [lock_name(name) for name in "abc"]
    assert locks.find_taken(names) == {lock_name("a"), lock_name("b")}
    assert locks.is_any_taken()
    assert locks.take(lock_name("c"))
    assert locks.find_taken(names) == set(names)  # asking gives up no lock of one's own
    assert not locks.take(lock_name("a"))
    locks.release(lock_name("c"))
    holder.kill()
    assert locks.find_taken(names) == set()
    assert locks.is_any_taken() is False
    assert Locks(Path("nowhere/.locks")).find_taken(names) == set()


def test_a_run_runs_as_long_as_its_process_lives(hold: Any) -> None:
    unfinished("0", (0, 0.1, 0.1), (500, 1.0, 0.5))
    holder = hold("e", "0")
    notify(holder.process.pid, "0")
    found = runs_of()["0"]
    assert (found.state, found.phase, found.step, found.budget) == ("running", "memorized", 700, 1000)
    assert (found.rate, found.train, found.val) == (10.0, 1.0, 0.5)
    assert found.left == pytest.approx(30, abs=5)
    holder.kill()  # as kill -9 does
    found = runs_of()["0"]
    assert (found.state, found.step, found.rate, found.left) == ("interrupted", 500, None, None)


def test_a_process_with_the_id_of_one_that_was_killed_does_not_count() -> None:
    unfinished("0", (0, 0.1, 0.1))
    notify(os.getpid(), "0")
    assert runs_of()["0"].state == "interrupted"


@pytest.mark.parametrize(("age", "state"), [(1.0, "running"), (300.0, "interrupted")])
def test_a_run_of_another_machine_runs_as_long_as_its_notice_is_fresh(age: float, state: str) -> None:
    unfinished("0", (0, 0.1, 0.1))
    notify(1, "0", host="elsewhere", age=age)
    assert runs_of()["0"].state == state


def test_a_suspended_process_has_no_rate(hold: Any) -> None:
    unfinished("0", (0, 0.1, 0.1))
    notify(hold("e", "0").process.pid, "0", age=100.0)
    assert (runs_of()["0"].state, runs_of()["0"].rate, runs_of()["0"].left) == ("running", None, None)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"status": 3}', b'{"status": "stopped", "steps": "x"}']
)
def test_a_damaged_result_is_named_and_the_others_are_shown(command: Command, content: bytes) -> None:
    (finished("0") / "result.json").write_bytes(content)
    finished("1")
    status, out, err = command("status", "e")
    assert (status, err) == (0, "")
    assert "e/0" in out
    assert "e/0 is damaged: " in out
    assert "e/1  stopped" in out


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a: [", b"trainer: 3\n", b"&a [*a]", b"x" * 10])
def test_damaged_files_of_an_unfinished_run_are_no_traceback(command: Command, name: str, content: bytes) -> None:
    (unfinished("0", (0, 0.1, 0.1)) / name).write_bytes(content)
    status, out, err = command("status", "e")
    assert (status, err) == (0, "")
    assert ("e/0 is damaged: config.yaml: " in out) == (name == "config.yaml")


def test_a_config_whose_sections_share_values_is_read() -> None:
    config = "trainer:\n  max_steps: &n 77\nevaluation:\n  every: *n\n  threshold: 0.5\n"
    unfinished("0", (0, 0.6, 0.1), config=config)
    assert (runs_of()["0"].budget, runs_of()["0"].phase) == (77, "memorized")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs permissions that are enforced")
def test_what_cannot_be_read_is_said(command: Command) -> None:
    finished("0").chmod(0)
    assert "e/0 is damaged: " in command("status", "e")[1]
    Path("lightning_logs/e/0").chmod(0o700)
    Path("lightning_logs/e").chmod(0)
    assert "e cannot be read: Permission denied" in command("status", "e")[1]
    Path("lightning_logs/e").chmod(0o700)


def test_nothing_is_touched(command: Command) -> None:
    finished("0")
    unfinished("1", (0, 0.1, 0.1))
    Path("checkpoints/e").mkdir(parents=True)

    def look() -> dict[str, Any]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in Path().rglob("*")}

    before = look()
    for arguments in (["e"], [], ["e", "--json"], ["e", "--all"], ["e/0"]):
        assert command("status", *arguments)[0] == 0
    assert look() == before


def test_names_are_sorted_by_number_and_by_what_runs(hold: Any) -> None:
    for name in ("10", "9", "b"):
        finished(name)
    finished("2", "failed", None)
    for name in ("11", "3"):
        unfinished(name, (0, 0.1, 0.1))
    hold("e", "11")
    assert list(runs_of()) == ["11", "3", "2", "9", "10", "b"]
    assert sorted(["a10", "a9", "x", "", "²", "a9b"], key=sort_key) == ["", "a9", "a9b", "a10", "x", "²"]


def test_without_a_name_what_runs_is_shown_else_what_ran_last(command: Command, hold: Any) -> None:
    assert "no runs here" in command("status")[1]
    for place, experiment in enumerate(("old", "new")):
        directory = finished("0", experiment=experiment)
        for path in directory.iterdir():
            os.utime(path, (1000 + place, 1000 + place))
    assert command("status")[1].splitlines()[1].split()[0] == "new/0"
    unfinished("1", (0, 0.1, 0.1), experiment="old")
    holder = hold("old", "1")
    assert [line.split()[0] for line in command("status")[1].splitlines()[1:]] == ["old/1"]
    holder.kill()
    assert command("status")[1].splitlines()[1].split()[:2] == ["old/1", "interrupted"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("adition", "did you mean addition?"),
        ("addition/12", "did you mean addition/2 or addition/1?"),
        ("zzz", "; there are addition"),
        ("a\0b", "no experiment"),
        ("x" * 5000, "no experiment"),
        ("mein Versuch/ä", "no experiment"),
    ],
)
def test_a_name_that_does_not_exist_is_one_line_with_close_ones(command: Command, name: str, hint: str) -> None:
    for run in ("1", "2"):
        finished(run, experiment="addition")
    status, out, err = command("status", name)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert hint in err


def test_folders_and_roots_are_taken_for_names(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished("a b/c".replace("/", "_"), experiment="mein Versuch ä")
    finished("1", experiment="other")
    expected = command("status", "mein Versuch ä")[1]
    assert "mein Versuch ä/a b_c  stopped" in expected
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.move("lightning_logs", moved)
    for arguments in (
        ["mein Versuch ä", "--root", "moved"],
        ["moved/lightning_logs/mein Versuch ä"],
        [str(moved / "lightning_logs" / "mein Versuch ä"), "moved/lightning_logs/mein Versuch ä/"],
        ["moved/lightning_logs/mein Versuch ä/a b_c"],
    ):
        assert command("status", *arguments)[1] == expected
    for arguments in (["moved"], ["--root", "moved", "--all"]):
        shown = command("status", *arguments)[1]
        assert all(name in shown for name in ("other/1", "mein Versuch ä/a b_c"))
    monkeypatch.chdir(moved)
    assert command("status", ".")[1] == shown
    assert "--root is 'moved', which is no folder" in command("status", "--root", "moved")[2]


def test_a_sweep_is_counted_and_what_ended_is_summarized(command: Command, hold: Any) -> None:
    hashes = [f"{number:016x}" for number in range(30)]
    names = [f"seed={number}{'-' if number % 2 else '__'}{hashed}" for number, hashed in enumerate(hashes)]
    Path("lightning_logs/e").mkdir(parents=True)
    save_planned(Path("lightning_logs/e"), hashes, ["seed_everything"], {"seed_everything": list(range(30))})
    for name in names[:10]:
        finished(name, after_grok={"stable": name not in names[:2], "collapsed": False})
    finished(names[10], "diverged", None)
    finished(names[11], "failed", None)
    for name in names[12:16]:
        unfinished(name, (0, 0.1, 0.1))
    holder = hold("e", *names[12:15])
    out = command("status", "e")[1]
    assert out.splitlines()[0] == "e: 11 of 30 done, 3 running, 14 waiting, 1 failed, 1 interrupted"
    assert [line.split()[1] for line in out.splitlines()[2:7]] == ["running"] * 3 + ["interrupted", "failed"]
    summary = "e: 10 stopped, 1 diverged: 10 grokked, 1 memorized, 2 below 90% later; "  # the threshold
    summary += "median grok step 300 (--all shows them)"
    assert out.splitlines()[7:] == [summary]
    everything = command("status", "e", "--all")[1].splitlines()
    assert len(everything) == 2 + 16
    assert sum(line.split()[-3:] == ["grokked", "below", "90%"] for line in everything) == 2
    holder.kill()
    assert "no process trains it; go on with grok-lightning sweep e" in command("status", "e")[1]
    found = json.loads(command("status", "e", "--json")[1])["experiments"][0]
    assert (found["planned"], found["waiting"], len(found["runs"])) == (30, 14, 16)
    assert found["counts"] == {"interrupted": 4, "failed": 1, "stopped": 10, "diverged": 1}
    finished("0", config_hash="f" * 16)
    finished("seed=50__" + "e" * 16)  # of an earlier file
    finished("1", config_hash=hashes[0])  # a second time
    assert command("status", "e")[1].startswith(
        "e: 11 of 30 done, 0 running, 14 waiting, 1 failed, 4 interrupted, 3 not of its file; no process"
    )


def test_accuracies_are_rounded_down_and_training_rows_are_no_validation(command: Command) -> None:
    unfinished("0", (0, 0.1, 0.1), (500, 0.99999, 0.9896))
    assert command("status", "e")[1].split()[-3:] == ["99.9%", "98.9%", "grokked"]
    rows = [{"step": 0, "train/loss": 3.0, "train/acc": 0.1, "val/loss": 3.0, "val/acc": 0.1}]
    rows.append({"step": 500, "train/loss": 0.0, "train/acc": 1.0, "val/loss": 0.0, "val/acc": 1.0})
    write_metrics(Path("lightning_logs/e/0"), rows)  # an ordinary DataModule without validation rows
    assert command("status", "e")[1].split()[-2:] == ["100.0%", "memorized"]
    rows[0]["val/loss"] = 3.1
    write_metrics(Path("lightning_logs/e/0"), rows)
    assert command("status", "e")[1].split()[-3:] == ["100.0%", "100.0%", "grokked"]
    finished("1", counts={"train": 9, "val": 0, "test": 0})
    assert command("status", "e/1")[1].split()[-2:] == ["100.0%", "memorized"]


@pytest.mark.parametrize("columns", [1, 5, 20, 40, 60, 80, 120])
def test_lines_fit_the_terminal(columns: int) -> None:
    runs = [
        Run(
            LONG,
            "running",
            "not memorized",
            10,
            10**6,
            3.14,
            0.5,
            0.1,
            9999.0,
            True,
        ),
        Run("x", "damaged", fault="it is not what it should be, for reasons that take a while to tell"),
    ]
    standings = [Standing("experiment", runs, 40, 38), Standing("gone", unread="Permission denied")]
    lines = format_standings(standings, False, columns)
    assert all(len(line) <= max(columns - 1, 4) for line in lines)
    whole = format_standings(standings)
    assert any(line.startswith(f"experiment/{LONG}  running") for line in whole)
    assert "max 2 h 46 min" in "\n".join(whole)
    if columns >= 20:
        assert "running" in "".join(lines)


@pytest.mark.parametrize("seconds", ["x", "0", "-1", "nan", "inf", "1e9"])
def test_watch_wants_seconds(command: Command, seconds: str) -> None:
    status, out, err = command("status", f"--watch={seconds}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "--watch is" in err


@pytest.mark.parametrize("arguments", [["--watch"], ["--watch", "3"], ["--watch", "e"], ["e", "--watch"]])
def test_watch_shows_it_again_until_interrupted(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    finished("0")
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("grok_lightning.status.command.time.sleep", sleep)
    status, out, err = command("status", *arguments)
    assert (status, err, out.count("e/0")) == (0, "", 3)
    assert waited == [3.0 if "3" in arguments else 2.0] * 3
    assert "\x1b" not in out


def test_notices_that_are_none_are_left_out(hold: Any) -> None:
    unfinished("0", (0, 0.1, 0.1))
    hold("e", "0")
    folder = Path("lightning_logs/e", FITS)
    folder.mkdir(parents=True)
    for place, content in enumerate((b"", b"[]", b'{"name": 1}', b"\xff", b"{" * 10_000)):
        (folder / f"{socket.gethostname()}-{os.getpid() + place}.json").write_bytes(content)
    for fields in ({"members": 3}, {"steady": "yes"}, {"began": "x"}, {"rate": 1e300}):
        notify(os.getpid(), "0", **fields)
        assert runs_of()["0"].rate is None


def test_a_fit_leaves_a_notice_while_it_trains_and_nothing_afterwards(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    whole = Notice.try_remove

    def try_remove(self: Notice) -> None:
        seen.append((json.loads(self.path.read_text()) if self.path.exists() else None, runs_of()["0"].state))
        whole(self)

    monkeypatch.setattr(Notice, "try_remove", try_remove)
    status, out, _ = command("fit", *TINY, "--trainer.max_steps", "4", "--experiment", "e", "--run", "0")
    assert status == 0
    notice = next(content for content, _ in seen if content is not None)
    assert (notice["experiment"], notice["members"], notice["at_most"]) == ("e", ["0"], False)
    assert not Path("lightning_logs/e/.sweep").exists()
    assert runs_of()["0"].state == "finished"
    assert "\r" not in out
    assert "\x1b" not in out


def test_a_notice_that_cannot_be_written_does_not_end_a_fit(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Notice, "write", fail)
    assert command("fit", *TINY, "--trainer.max_steps", "4", "--experiment", "e", "--run", "0")[0] == 0


@pytest.mark.slow
def test_a_fit_that_is_killed_is_interrupted(command: Command) -> None:
    process = start("fit", *TINY, "--trainer.max_steps", "1000000", "--experiment", "e", "--run", "0")
    try:
        deadline = time.monotonic() + 120
        while not (Path("lightning_logs/e/0").is_dir() and (runs_of().get("0") or Run("", "")).step):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "e/0  running" in command("status")[1]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert "e/0  interrupted" in command("status")[1]


VARIED = "train_fraction=0.5__seed="
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "status.md"


def test_the_table_of_its_page_is_what_is_shown() -> None:
    ended = [Run(str(number), "stopped", "grokked", grok_step=1400) for number in range(6)]
    ended.append(Run("6", "finished", "memorized"))
    live = [
        Run(f"{VARIED}1__0f3b9c2a77d4e815", "running", "memorized", 1200, 6000, 240.0, 1.0, 0.981, 20.0, True),
        Run(f"{VARIED}2__5d81c03e92bb4a07", "running", "memorized", 800, 6000, 238.0, 0.992, 0.31),
    ]
    single = Run("0", "running", "memorized", 3400, 10_000, 312.0, 1.0, 0.123, 21.0)
    standings = [Standing("fractions", [*live, *ended], 15, 6), Standing("division", [single])]
    shown = "\n".join(format_standings(standings))
    assert f"```\n{shown}\n```" in PAGE.read_text(encoding="utf-8"), shown


def test_the_commands_of_its_page_run(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    for experiment in ("addition", "division"):
        finished("0", experiment=experiment)
    monkeypatch.setattr("grok_lightning.status.command.time.sleep", interrupt)
    (block,) = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line.partition("#")[0].split() for line in block.splitlines()]
    assert len(lines) == 3
    for words in lines:
        assert words[:2] == ["grok-lightning", "status"]
        status, out, err = command(*words[1:])
        assert (status, err) == (0, "")
        assert "/0  stopped" in out


@pytest.mark.parametrize(
    ("grokked", "others", "words"),
    [
        ([4600, 9700], 0, "2 grokked; median grok step 7,150"),
        ([4600], 2, "1 grokked, 2 memorized; median grok step not reached"),
        ([4600, 9700, 1000], 1, "3 grokked, 1 memorized; median grok step 7,150"),
        ([], 2, "2 memorized"),
    ],
)
def test_the_median_grok_step_counts_runs_that_did_not_grok(grokked: list[int], others: int, words: str) -> None:
    runs = [Run(f"{step}", "finished", "grokked", 20_000, 20_000, val=1.0, grok_step=step) for step in grokked]
    runs += [Run(f"late-{number}", "finished", "memorized", 20_000, 20_000, val=0.1) for number in range(others)]
    assert f"{words} (--all shows them)" in format_standings([Standing("e", runs, planned=9)])[-1]
    text = [Run("text", "finished", "memorized", 90, 90)]  # nothing held out: no run that did not grok
    median = words.partition("; ")[2]
    assert median in format_standings([Standing("e", runs + text, planned=9)])[-1]
