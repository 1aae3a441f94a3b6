"""Tries a case: prepares its files, runs it confined, and says what is wrong with the outcome."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confined import Limits, Outcome, find_fault, run_confined
from damages import Case, Shown
from plain_formulas import Modulo, Permutations, Tree, Unsupported, table_of
from template import base, fresh_copy, with_records, with_run


@dataclass(frozen=True, repr=False)
class FormulaCase(Shown):
    """A formula whose table is compared with one by plain Python.

    Args:
        text: The formula.
        algebra: ``mod 7``, say, or ``S3``.
        arity: Number of operands.
        tree: Its tree; None if it is to be found from the text.
        modest: Whether its memory is compared with what the table's own estimate says.
    """

    text: str
    algebra: str
    arity: int
    tree: Tree | None = None
    modest: bool = False


class Wrong(Exception):
    """A result that differs from the expected one."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with the outcome of a case.

    Attributes:
        case: The case.
        what: The fault; the same for equal faults.
        outcome: All that is known.
    """

    case: Any
    what: str
    outcome: Outcome

    def describe(self) -> str:
        """Several lines: the fault, how to repeat it, and the end of what was printed."""
        lines = [self.what, f"  repeat: python tests/robustness/fuzz.py --case {_quoted(repr(self.case))}"]
        shown = self.outcome.trace or self.outcome.err
        lines += [f"  | {line[:200]}" for line in shown.strip().splitlines()[-5:]]
        used = f"{self.outcome.seconds:.1f} s, {self.outcome.mebibytes} MiB"
        return "\n".join([*lines, f"  ({used}, status {self.outcome.status})"])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'" if len(text) < 3000 else "(too long; use --seed)"


def try_case(case: Case | FormulaCase, limits: Limits | None = None) -> Fault | None:
    """Runs a case.

    Returns:
        What is wrong with it, or None.
    """
    if isinstance(case, FormulaCase):
        work = fresh_copy(None)
        limits = limits or (Limits(seconds=20, mebibytes=2 * 171) if case.modest else Limits(mebibytes=200))
        outcome = run_confined(lambda: check_formula(case), work, limits)
        what = find_fault(outcome, limits, (0, 2))
        return Fault(case, what, outcome) if what else None
    limits = limits or Limits()
    work = fresh_copy(_template(case))
    expected = _reference(case) if case.same_as else b""
    for damage in case.damages:
        damage.apply(work)
    outside = _listing(base(), work)
    outcome = run_confined(action_of(case), work, limits)
    what = find_fault(outcome, limits, case.statuses)
    if not what and _listing(base(), work) != outside:
        what = "a file outside of the working directory has changed"
    if not what and expected and (work / case.same_as).read_bytes() != expected:
        what = f"{case.same_as} is not what it is without the damage"
    return Fault(case, what, outcome) if what else None


def _template(case: Case) -> Path | None:
    words = " ".join([*case.command, *(damage.path for damage in case.damages)])
    if any(word in words for word in ("report", "sweep", "read_records", "lightning_logs", "runs.parquet")):
        return with_records()
    return with_run() if ".ckpt" in words or "--ckpt_path" in words else None


def _reference(case: Case) -> bytes:
    """What a file is without the damage."""
    work = fresh_copy(_template(case))
    run_confined(action_of(case), work)
    content = (work / case.same_as).read_bytes()
    fresh = fresh_copy(_template(case))
    assert fresh == work
    return content


def _listing(directory: Path, without: Path) -> set[tuple[str, int]]:
    """Files of a directory and their sizes, but for a part of it and for the caches."""
    found = set()
    for folder, names, files in os.walk(directory):
        names[:] = [name for name in names if os.path.join(folder, name) != str(without)]
        if folder == str(directory):
            names[:] = [name for name in names if name in ("cases", "run", "records")]
        found |= {(os.path.join(folder, name), os.lstat(os.path.join(folder, name)).st_size) for name in files}
    return found


def action_of(case: Case) -> Callable[[], int]:
    """What a case runs, in its process: drawing of figures is left out, which takes most of the time."""

    def act() -> int:
        os.environ.update(dict(case.environment))
        leave_out_pictures()
        sys.argv = ["grok-lightning", *case.command]
        if case.command[:1] == ("load_run",):
            return _as_command(lambda: _load_run(case.command[1]))
        if case.command[:1] == ("read_records",):
            return _as_command(lambda: _read_records(case.command[1]))
        from grok_lightning.__main__ import main

        return main(list(case.command))

    return act


def leave_out_pictures() -> None:
    """Has matplotlib write empty files."""
    from matplotlib.figure import Figure

    def save(self: Figure, target: Any, *arguments: Any, **options: Any) -> None:
        target.write(b"") if hasattr(target, "write") else Path(target).write_bytes(b"")

    Figure.savefig = save  # type: ignore[method-assign]


def _as_command(call: Callable[[], Any]) -> int:
    from grok_lightning.errors import UserError

    try:
        call()
    except UserError as error:
        print(f"grok-lightning: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"grok-lightning: {error}", file=sys.stderr)
        return 1
    return 0


def _load_run(path: str) -> None:
    from grok_lightning import load_run

    load_run(path)


def _read_records(path: str) -> None:
    from grok_lightning import read_records

    read_records(path)


def check_formula(case: FormulaCase) -> int:
    """Compares the package's table of a formula with one by plain Python.

    Raises:
        Wrong: They differ, or a formula of the grammar is refused.
    """
    from formula_strategies import tree_of

    from grok_lightning.data.integers import IntegersMod
    from grok_lightning.data.operation import Operation
    from grok_lightning.data.permutations import SymmetricGroup
    from grok_lightning.errors import UserError

    plain: Modulo | Permutations
    if case.algebra == "S3":
        algebra, plain = SymmetricGroup(3), Permutations(3)
    else:
        modulus = int(case.algebra.removeprefix("mod "))
        algebra, plain = IntegersMod(modulus), Modulo(modulus)
    try:
        operation = Operation(case.text, algebra, None if case.tree is None else case.arity)
    except UserError as error:
        if case.tree is not None and len(case.text) <= 250 and "operand" not in str(error):
            try:
                table_of(case.tree, plain, case.arity)
            except (Unsupported, ZeroDivisionError):
                pass
            else:
                raise Wrong(f"refused: {error}") from None
        print(f"grok-lightning: {error}", file=sys.stderr)
        return 2
    if case.modest or any(re.search(rf"\b{name}\b", case.text) for name in algebra.constants):
        return 0
    found = tree_of(case.text) if case.tree is None else (case.tree, case.arity)
    if found is None:
        raise Wrong("accepted, although it is no formula")
    tree, arity = found
    if len(plain.operands) ** arity > 20_000:
        return 0
    try:
        expected = table_of(tree, plain, arity)
    except Unsupported:
        raise Wrong("accepted, although the algebra has no such operation") from None
    rows = zip(operation.operands_NK.tolist(), operation.results_N.tolist(), strict=True)
    table = [(tuple(row), result) for row, result in rows]
    if table != expected:
        raise Wrong(f"{len(table)} rows, {len(expected)} expected")
    return 0
