#!/usr/bin/env python
"""Tries what nobody would write: formulas, command lines, YAML, checkpoints and records, drawn by hypothesis.

Right is success or one line of error; never a traceback, a hang, more memory than a case may take, a file outside of
the working directory, or an import of a module that a stranger's file names. Defects that were found before are tried
first. Linux only.

    python tests/robustness/fuzz.py                        ten minutes
    python tests/robustness/fuzz.py --minutes 1 --only yaml records --seed 7
    python tests/robustness/fuzz.py --mutants              puts defects back in: each must be found
    python tests/robustness/fuzz.py --case "Case(...)"     repeats one that was printed
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import damages
import regressions
import strategies
import torch
import trials
from confined import seconds_left
from formula_strategies import formulas
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy
from mutants import MUTANTS, Mutant, NotHere
from template import base, with_records
from trials import Fault, FormulaCase, try_case

AREAS: dict[str, SearchStrategy[Any]] = {
    "formulas": formulas().map(lambda found: FormulaCase(found[0], found[1], found[3], found[2])),
    "options": strategies.command_lines(),
    "yaml": strategies.yaml_files(),
    "checkpoints": strategies.checkpoints(),
    "records": strategies.records(),
}
ROUND, SHRINKING = 40, 20.0  # examples in a round; seconds that a failing one may be made smaller


class _Found(Exception):
    """A fault that is not known yet."""


class Round:
    """Some examples of an area, and a smaller form of the first that fails in a way that is not known yet.

    Args:
        area: Name of the area.
        known: Faults that do not count.
        deadline: When to end, by ``time.monotonic``.
    """

    def __init__(self, area: str, known: set[str], deadline: float) -> None:
        self.area, self.known, self.deadline = area, known, deadline
        self.fault: Fault | None = None
        self.tried = 0
        self._failing: dict[str, Fault] = {}
        self._shrunk_by = 0.0

    def run(self, number: int, examples: int = ROUND) -> Fault | None:
        """Tries examples; a seed gives the same ones each time, but for those that time cuts off."""

        @seed(number)
        @settings(
            max_examples=examples, database=None, deadline=None, phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck), print_blob=False, report_multiple_bugs=False,
        )  # fmt: skip
        @given(AREAS[self.area])
        def attempt(case: Any) -> None:
            if self._fails(case):
                raise _Found

        with suppress(_Found, Flaky):
            attempt()
        return self.fault

    def _fails(self, case: Any) -> bool:
        """Whether a case fails as the first failing one did; afterwards cases are tried for a while only."""
        text = repr(case)
        if text not in self._failing:
            if not seconds_left(self._shrunk_by if self.fault else self.deadline):
                return False
            self.tried += 1
            found = try_case(case)
            if found is None or found.what in self.known or (self.fault and found.what != self.fault.what):
                return False
            if self.fault is None:
                self._shrunk_by = time.monotonic() + SHRINKING
            self._failing[text] = found
        if self.fault is None or len(text) <= len(repr(self.fault.case)):
            self.fault = self._failing[text]
        return True


def try_regressions(areas: list[str], report: Callable[[str], None], deadline: float = float("inf")) -> list[Fault]:
    """Tries the defects that were found before."""
    faults: list[Fault] = []
    tried = 0
    for each in regressions.regressions():
        if each.area not in areas:
            continue
        if not seconds_left(deadline):
            report("the time is over: not all known cases were tried")
            break
        tried += 1
        fault = try_case(each.case, each.limits)
        if fault is not None:
            faults.append(fault)
            report(f"DEFECT {each.area}: {each.name}: {fault.describe()}")
    report(f"known cases: {tried:,} tried, {len(faults):,} defects")
    return faults


def fuzz(areas: list[str], number: int, deadline: float, report: Callable[[str], None]) -> list[Fault]:
    """Tries random cases of each area in turn until the time is over."""
    faults: list[Fault] = []
    known: dict[str, set[str]] = {area: set() for area in areas}
    tried = dict.fromkeys(areas, 0)
    while seconds_left(deadline):
        for area in areas:
            if not seconds_left(deadline):
                break
            number += 1
            each = Round(area, known[area], deadline)
            fault = each.run(number)
            tried[area] += each.tried
            if fault is not None:
                faults.append(fault)
                known[area].add(fault.what)
                report(f"DEFECT {area} (--only {area} --seed {number - 1}): {fault.describe()}")
    for area in areas:
        report(f"{area}: {tried[area]:,} random cases, {len(known[area]):,} kinds of defects")
    return faults


def find_mutant(mutant: Mutant, number: int, seconds: float, known: set[str]) -> str:
    """Looks for a defect that was put back in: in the known cases that pass without it, then in random ones.

    Args:
        mutant: The defect.
        number: Seed.
        seconds: How long random cases may take.
        known: Names of known cases that fail without it, and faults of random ones.

    Returns:
        What found it; empty if nothing did.
    """
    with mutant.applied():
        for each in sorted(regressions.regressions(), key=lambda each: each.name != mutant.first):
            if each.area == mutant.area and each.name not in known:
                fault = try_case(each.case, each.limits)
                if fault is not None:
                    return f"{each.name}: {fault.what}"
    deadline, known, tried = time.monotonic() + seconds, set(known), 0
    while seconds_left(deadline):
        number += 1
        with mutant.applied():
            round_ = Round(mutant.area, known, deadline)
            fault = round_.run(number)
        tried += round_.tried
        if fault is not None and try_case(fault.case) is None:
            return f"random case {tried:,}: {fault.what}"
        known |= {fault.what} if fault else set()
    return ""


def try_mutants(areas: list[str], number: int, report: Callable[[str], None], seconds: float = 60.0) -> int:
    """Puts each defect back in; returns how many were not found."""
    known: dict[str, set[str]] = {}
    for area in areas:
        failing = [each for each in regressions.regressions() if each.area == area]
        known[area] = {each.name for each in failing if try_case(each.case, each.limits) is not None}
        deadline = time.monotonic() + seconds / 2
        while seconds_left(deadline):
            number += 1
            fault = Round(area, known[area], deadline).run(number)
            known[area] |= {fault.what} if fault else set()
    missed = 0
    for mutant in MUTANTS:
        if mutant.area not in areas:
            continue
        try:
            found = find_mutant(mutant, number, seconds, known[mutant.area])
        except NotHere as place:
            report(f"skipped  {mutant.name}: there is no {place} in this tree")
            continue
        missed += not found
        report(f"{'found' if found else 'MISSED':8} {mutant.name}" + (f" ({found})" if found else ""))
    return missed


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for known and random cases together")
    parser.add_argument("--only", nargs="+", choices=AREAS, default=list(AREAS), metavar="AREA", help=", ".join(AREAS))
    parser.add_argument("--seed", type=int, default=None, help="of the random cases; default: another one each time")
    parser.add_argument("--known", action="store_true", help="try the known cases alone")
    parser.add_argument("--random", action="store_true", help="leave the known cases out")
    parser.add_argument("--mutants", action="store_true", help="put defects back in, each of which must be found")
    parser.add_argument("--case", help="repeat a case as it was printed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base()
    with_records()
    if options.case:
        names = {**vars(damages), **vars(trials), **vars(regressions)}
        fault = try_case(eval(options.case, names))
        print(fault.describe() if fault else "nothing is wrong")
        return 1 if fault else 0
    number = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {number}", flush=True)

    def report(line: str) -> None:
        print(line, flush=True)

    if options.mutants:
        return 1 if try_mutants(options.only, number, report) else 0
    deadline = time.monotonic() + 60 * options.minutes
    faults = [] if options.random else try_regressions(options.only, report, deadline)
    if not options.known:
        faults += fuzz(options.only, number, deadline, report)
    print(f"{len(faults):,} defects" if faults else "no defect")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
