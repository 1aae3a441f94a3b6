"""Defects put back in: the harness must find each of them.

A mutant changes the program for a while, in this process, from which the processes of the cases are forked. One whose
place is not in this tree is skipped, and said to be.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Undo = Callable[[], None]


class NotHere(Exception):
    """The program has no such place."""


@dataclass(frozen=True)
class Mutant:
    """A defect.

    Args:
        name: What it is.
        area: The area of the fuzzer that must find it.
        apply: Puts it in; returns what takes it out again.
        first: Name of the known case that is tried first, the one which finds it soonest.
    """

    name: str
    area: str
    apply: Callable[[], list[Undo]]
    first: str = ""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The program with this defect.

        Raises:
            NotHere: The program has no place for it.
        """
        undo = self.apply()
        try:
            yield
        finally:
            for step in reversed(undo):
                step()


def find(path: str) -> tuple[Any, str, Any]:
    """The owner, the name and the value of ``package.module:name.attribute``.

    Raises:
        NotHere: There is none.
    """
    module, _, names = path.partition(":")
    *owners, last = names.split(".")
    try:
        owner: Any = importlib.import_module(module)
        for name in owners:
            owner = getattr(owner, name)
        return owner, last, owner.__dict__[last]
    except (ImportError, AttributeError, KeyError):
        raise NotHere(path) from None


def replace(path: str, make: Callable[[Any], Any]) -> list[Undo]:
    """Replaces a function of the program, under every name by which a module has imported it."""
    owner, last, original = find(path)
    changed = make(original)
    places = [(owner, last)]
    if not isinstance(owner, type):
        for module in [module for name, module in sys.modules.items() if name.startswith("grok_lightning")]:
            places += [(module, name) for name, value in vars(module).items() if value is original]
    undo: list[Undo] = []
    for place, name in dict.fromkeys(places):
        setattr(place, name, changed)
        undo.append(partial(setattr, place, name, original))
    return undo


def wherever(*changes: Callable[[], list[Undo]]) -> list[Undo]:
    """Those of several changes for which the program has a place.

    Raises:
        NotHere: It has none for any of them.
    """
    undo: list[Undo] = []
    missing: list[NotHere] = []
    for change in changes:
        try:
            undo += change()
        except NotHere as place:
            missing.append(place)
    if len(missing) == len(changes):
        raise missing[0]
    return undo


class _NeverRaised(Exception):
    """Stands in for an exception that a module no longer catches."""


def uncaught(module: str, *names: str) -> list[Undo]:
    """Has a module's handlers of some built-in exceptions catch nothing."""
    try:
        place = importlib.import_module(module)
    except ImportError:
        raise NotHere(module) from None
    undo: list[Undo] = []
    for name in names:
        setattr(place, name, _NeverRaised)
        undo.append(partial(delattr, place, name))
    return undo


class _Agrees(bytes):
    """A checksum that equals any other."""

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


class _Hash:
    """Stands in for a hash of which nothing depends on the content."""

    def __init__(self, *_: Any) -> None: ...

    def update(self, _: Any) -> None:
        """Takes content."""

    def hexdigest(self) -> "_Hash":
        """Itself, to be encoded."""
        return self

    def digest(self) -> bytes:
        """A checksum."""
        return _Agrees(b"0" * 32)

    def encode(self) -> bytes:
        """A checksum."""
        return _Agrees(b"0" * 64)


def _no_checksum() -> list[Undo]:
    owner, _, module = find("grok_lightning.records.checkpoint:hashlib")

    class Stub:
        sha256 = _Hash

    owner.hashlib = Stub
    return [partial(setattr, owner, "hashlib", module)]


def _any_pickle() -> list[Undo]:
    import torch

    original = torch.load

    def load(*arguments: Any, **options: Any) -> Any:
        return original(*arguments, **options | {"weights_only": False})

    unchecked = replace(f"{FORM}:check_archive", lambda _: lambda content: None)  # which looks at pickles too
    torch.load = load
    return [*unchecked, partial(setattr, torch, "load", original)]


def _any_page() -> list[Undo]:
    import pyarrow.parquet as pq

    original = pq.ParquetFile

    class Unchecked(original):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options | {"page_checksum_verification": False})

    pq.ParquetFile = Unchecked
    return [partial(setattr, pq, "ParquetFile", original)]


def _last_wins() -> list[Undo]:
    import yaml

    def of_path(_: Any) -> Callable[[Any], Any]:
        return lambda path: yaml.safe_load(Path(path).read_text(encoding="utf-8"))

    return wherever(
        lambda: replace("grok_lightning.options.yamls:read_yaml", of_path),
        lambda: replace("grok_lightning.reading:read_yaml", of_path),
    )


def _as_jsonargparse_says() -> list[Undo]:
    owner, _, original = find("grok_lightning.options.values:NOT_ACCEPTED")
    owner.NOT_ACCEPTED = _NeverRaised
    return [partial(setattr, owner, "NOT_ACCEPTED", original)]


def _remainders_of_c() -> list[Undo]:
    def as_in_c(_: Any) -> Callable[..., Any]:
        return lambda self, dividend, divisor: (
            dividend - divisor * (abs(dividend) // divisor) * (2 * (dividend > 0) - 1)
        )

    owners = (f"{INTEGERS}:IntegersMod", "grok_lightning.data.algebra:Algebra")
    return wherever(*(partial(replace, f"{owner}.remainder", as_in_c) for owner in owners))


INTEGERS, PERMUTATIONS = "grok_lightning.data.integers", "grok_lightning.data.permutations"
FORM = "grok_lightning.records.checkpoint_form"
MUTANTS = (
    Mutant(
        "the checksum of a checkpoint is not compared", "checkpoints", _no_checksum,
        first="checkpoint: a flipped bit",
    ),
    Mutant(
        "checkpoints may hold objects that run code", "checkpoints", _any_pickle,
        first="checkpoint: an object that runs code",
    ),
    Mutant(
        "what torch says about a damaged archive is not caught", "checkpoints",
        lambda: uncaught("grok_lightning.records.checkpoint", "Exception", "ValueError"),
        first="checkpoint: the config is a number",
    ),
    Mutant(
        "checkpoints may be compressed", "checkpoints",
        lambda: replace(f"{FORM}:check_archive", lambda _: lambda content: None),
        first="checkpoint: deflated, 450 MiB of zeros",
    ),
    Mutant(
        "the types in a checkpoint are not checked", "checkpoints",
        lambda: replace(f"{FORM}:check_form", lambda _: lambda checkpoint, size: None),
        first="checkpoint: the config is a number",
    ),
    Mutant(
        "a checkpoint may name any class", "checkpoints",
        lambda: replace("grok_lightning.options.trust:_refuse_classes", lambda _: lambda *arguments: None),
    ),
    Mutant(
        "names of runs are not checked", "options",
        lambda: replace("grok_lightning.records.runs:check_name", lambda _: lambda option, name, *more: name),
    ),
    Mutant("errors of jsonargparse are shown as they are", "options", _as_jsonargparse_says),
    Mutant("of a key that stands twice the last is taken", "yaml", _last_wins, first="fit: billion laughs"),
    Mutant(
        "the pages of an index are not verified", "records", _any_page,
        first="index.parquet: a flipped bit that gives another number",
    ),
    Mutant(
        "one bad result.json ends a report", "records",
        lambda: uncaught("grok_lightning.records.results", "ValueError", "RecursionError", "OSError"),
        first="result.json: 100,000 brackets",
    ),
    Mutant(
        "the types in a record are not checked", "records",
        lambda: replace("grok_lightning.records.form:find_faults", lambda _: lambda table, *more: {}),
        first="result.json: schema is list of mixed",
    ),
    Mutant(
        "exponents are reduced", "formulas",
        lambda: replace(f"{INTEGERS}:IntegersMod.power", lambda power: lambda self, base, n: power(self, base,
        n % self.modulus)),
    ),
    Mutant("remainders have the sign of the dividend", "formulas", _remainders_of_c),
    Mutant(
        "permutations act from the left", "formulas",
        lambda: replace(f"{PERMUTATIONS}:SymmetricGroup.binary", lambda f: lambda self, symbol, a, b:
        f(self, symbol, b, a)),
    ),
    Mutant(
        "literals are not reduced", "formulas",
        lambda: replace(f"{INTEGERS}:IntegersMod.literal", lambda _: lambda self, value: value),
    ),
)  # fmt: skip
