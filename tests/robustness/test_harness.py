"""The harness sees what it is there for: each kind of fault, and defects that are put back in."""

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("the harness needs Linux", allow_module_level=True)

from confined import EVIL, Limits, find_fault, plant, run_confined
from damages import ODD, Edit
from experiments import strike
from formula_strategies import formulas, tree_of
from fuzz import Round, find_mutant
from hypothesis import given
from mutants import MUTANTS, Mutant
from plain_formulas import Modulo, table_of, write
from processes import Command, children_of, look_at
from regressions import regressions
from trials import FormulaCase, try_case

SMALL = Limits(seconds=1, mebibytes=100)


def fault_of(action: Any, work: Path, limits: Limits = SMALL) -> str:
    return find_fault(run_confined(action, work, limits), limits, (0, 1, 2))


def say(status: int, text: str) -> Any:
    def act() -> int:
        print(text, file=sys.stderr)
        return status

    return act


def test_what_is_right_has_no_fault(tmp_path: Path) -> None:
    def write_inside() -> None:
        (tmp_path / "a").write_text("inside")

    for action in (lambda: 0, write_inside, say(2, "one line"), say(0, "a\nb")):
        assert fault_of(action, tmp_path) == ""


def test_each_kind_of_fault_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "1/2/3/4/5/6/work"
    work.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", list(sys.path))
    plant(tmp_path / "planted")

    def taken() -> int:
        return len(b"x" * (150 * 2**20)) * 0

    expected = {
        "traceback: ZeroDivisionError in test_harness.<lambda>": lambda: 1 // 0,
        "exit status 7": lambda: 7,
        "2 lines on stderr": say(2, "one\ntwo"),
        "0 lines on stderr": lambda: 2,
        "control characters in the message": say(2, "\x1b[2J"),
        "a line of 5,000 characters and more": say(2, "x" * 5000),
        "traceback printed": say(0, "Traceback (most recent call last):"),
        "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "took more than 100 MiB": taken,
        f"imported {EVIL}": lambda: __import__(EVIL) and 0,
    }
    for fault, action in expected.items():
        assert fault_of(action, work) == fault
    assert fault_of(lambda: (tmp_path / "outside").write_text("a"), work).startswith(
        "open outside of the working directory"
    )
    assert not (tmp_path / "outside").exists()
    assert fault_of(lambda: os.system("true"), work).startswith("os.system")


@pytest.mark.slow
def test_what_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless() -> None:
        while True:
            pass

    monkeypatch.setattr("confined.PATIENCE", 0.6)
    assert fault_of(signal.pause, tmp_path) == "hangs"
    assert fault_of(endless, tmp_path) == "more than 1 s of processor time"


@given(formulas())
def test_a_written_formula_is_read_as_the_same_tree(found: Any) -> None:
    text, _, tree, arity = found
    if tree is None:
        return
    again = tree_of(text)
    if again is None:  # it names no operand
        return
    names = ["x", "y", "z"]
    assert write(again[0], names) == write(tree, names)
    assert again[1] <= arity


def test_the_plain_evaluator_knows_what_tables_hold() -> None:
    division = table_of(("/", ("x", 0), ("x", 1)), Modulo(5), 2)
    assert len(division) == 20
    assert all(result * y % 5 == x for (x, y), result in division)


def test_edits_reach_into_mappings_and_lists() -> None:
    content = {"a": [1, {"b": 2}], "c": 3}
    for edit in (
        Edit(("a", 1, "b"), "nan"),
        Edit(("c",)),
        Edit(("a", 7), "null"),
        Edit(("x", "y"), "null"),
        Edit(("d",), "literal", 5),
    ):
        content = edit.apply(content)
    assert repr(content) == "{'a': [1, {'b': nan}, None], 'd': 5}"
    assert all(callable(make) for make in ODD.values())


FORMULAS = [each for each in MUTANTS if each.area == "formulas"]


@pytest.mark.parametrize("mutant", FORMULAS, ids=lambda each: each.name)
def test_a_known_case_finds_a_mutant(mutant: Mutant) -> None:
    cases = [each.case for each in regressions() if each.area == "formulas" and "memory" not in each.name]
    assert [try_case(case) for case in cases] == [None] * len(cases)
    with mutant.applied():
        assert any(map(try_case, cases))


def test_random_cases_find_a_mutant_and_the_case_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.SHRINKING", 1.5)
    mutant = next(each for each in FORMULAS if each.name == "exponents are reduced")
    with mutant.applied():
        found = (Round("formulas", set(), float("inf")).run(number, 10) for number in range(1, 30))
        fault = next((each for each in found if each is not None), None)
    assert fault is not None
    assert fault.what.startswith("traceback: Wrong")
    assert len(fault.case.text) < 40
    again = eval(repr(fault.case), {"FormulaCase": FormulaCase})
    assert try_case(again) is None
    with mutant.applied():
        assert try_case(again) is not None


def test_a_command_that_kills_itself_at_its_second_writing(tmp_path: Path) -> None:
    program = tmp_path / "writes"

    def write_three() -> None:
        strike(2, after=True)()
        for number in range(3):
            (tmp_path / "new").write_text(str(number))
            os.replace(tmp_path / "new", program)

    command = Command("--help", where=tmp_path, first=write_three)
    assert command.wait() == -signal.SIGKILL
    assert program.read_text() == "1"


def test_processes_are_looked_at(tmp_path: Path) -> None:
    command = Command("--help", where=tmp_path, first=signal.pause)
    sample = look_at(command.pid)
    assert sample is not None
    assert sample.resident > 2**20
    assert sample.files > 2
    assert command.pid in children_of(os.getpid())
    command.kill()
    assert look_at(command.pid) is None
    whole = Command("--help", where=tmp_path)
    assert whole.complain(0) == ""
    assert "usage" in whole.out
    assert Command("nothing", where=tmp_path).complain(0).startswith("status 2")


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutant", [each for each in MUTANTS if each not in FORMULAS], ids=lambda mutant: mutant.name.replace(" ", "-")
)
def test_every_other_mutant_is_found(mutant: Mutant) -> None:
    """By a known case or, within half a minute, by a random one."""
    assert not mutant.first or mutant.first in {each.name for each in regressions()}
    assert find_mutant(mutant, 49, 30.0, set())


@pytest.mark.slow
def test_a_small_soak_finds_nothing_wrong_with_killed_runs() -> None:
    import subprocess

    program = [
        sys.executable,
        str(Path(__file__).with_name("soak.py")),
        "--minutes",
        "0.15",
        "--only",
        "kills",
        "edited",
        "--seed",
        "3",
    ]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout
    assert re.search(r"kills: [1-9]\d* kills; [1-9]\d* runs equal", done.stdout)
