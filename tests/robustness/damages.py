"""Files as a stranger, a crash or a bad disk may leave them: a case is a command and what is done to its files first.

Cases are plain values whose ``repr`` is the Python that makes them, so that a failing one can be printed and run again.
"""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

MARK = b"grok_lightning sha256 "  # before the checksum in the comment of a checkpoint's archive
Keys = tuple[Any, ...]


class _RunsCode:
    """Pickles as a call of a function of the planted module."""

    def __reduce__(self) -> tuple[Any, ...]:
        from evil_module import call

        return call, ()


def _deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


def _cycle() -> dict[str, Any]:
    cycle: dict[str, Any] = {"data": 1}
    cycle["model"] = cycle
    cycle["again"] = [cycle, [cycle]]
    return cycle


def _wide() -> list[Any]:
    level: list[Any] = ["ha"] * 9
    for _ in range(9):
        level = [level] * 9  # 9^10 leaves, a hundred lists
    return level


ODD: dict[str, Callable[[], Any]] = {  # values by name; they are made when a case is run
    "null": lambda: None,
    "true": lambda: True,
    "minus one": lambda: -1,
    "zero": lambda: 0,
    "10^400": lambda: 10**400,
    "5,000 digits": lambda: 10**5000,
    "2^63": lambda: 2**63,
    "a billion": lambda: 10**9,
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "text": lambda: "text",
    "empty text": lambda: "",
    "long text": lambda: "x" * 3_000_000,
    "control characters": lambda: "\x1b[2J\r\n\x00\x07\u202e",
    "surrogate": lambda: "\udcff\ud800",
    "unicode digits": lambda: "٤٢",
    "bytes": lambda: b"\x00\xff",
    "empty list": list,
    "empty mapping": dict,
    "list of mixed": lambda: [1, "a", None, {"b": [2.5]}],
    "mapping of numbers": lambda: {1: 2, None: 3, (4, 5): 6},
    "nested 400 deep": lambda: _deep(400),
    "nested 100,000 deep": lambda: _deep(100_000),
    "contains itself": _cycle,
    "billion laughs": _wide,
    "outside": lambda: "../../../../outside",
    "absolute": lambda: "/tmp/robustness-outside/run",
    "evil class": lambda: "evil_module.Net",
    "evil mapping": lambda: {"class_path": "evil_module.inner.Net", "init_args": {"a": 1}},
    "evil list": lambda: [{"class_path": "evil_module.Net"}],
    "acts when imported": lambda: "unittest.__main__.x",
    "tensor": lambda: torch.zeros(3),
    "scalar tensor": lambda: torch.tensor(2.5),
    "tensor without elements": lambda: torch.zeros(0, 4),
    "tensor of integers": lambda: torch.ones(1, 2, 3, dtype=torch.int8),
    "complex tensor": lambda: torch.ones(2, dtype=torch.complex64),
    "huge view": lambda: torch.zeros(1).expand(1 << 20, 1 << 20),
    "sparse tensor": lambda: torch.zeros(3, 3).to_sparse(),
    "tuple": lambda: (1, 2),
    "set": lambda: {1, 2},
}
PLAIN = (  # those that JSON and YAML can hold
    "null", "true", "minus one", "zero", "10^400", "5,000 digits", "2^63", "a billion", "nan", "infinity", "text",
    "empty text",
    "long text", "control characters", "surrogate", "unicode digits", "empty list", "empty mapping", "list of mixed",
    "nested 400 deep", "outside", "absolute", "evil class", "evil mapping", "evil list", "acts when imported",
)  # fmt: skip


class Shown:
    """A value whose ``repr`` leaves out what is at its default."""

    def __repr__(self) -> str:
        given = [each for each in fields(self) if getattr(self, each.name) != each.default or each.default is MISSING]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{each.name}={getattr(self, each.name)!r}' for each in given)})"


@dataclass(frozen=True, repr=False)
class Edit(Shown):
    """A changed value in nested mappings and lists.

    Args:
        keys: Where; a key that is not there is added.
        odd: Name of a value of ``ODD``; empty: the key is removed.
        literal: The value itself, if ``odd`` is ``literal``.
    """

    keys: Keys
    odd: str = ""
    literal: Any = None

    def apply(self, content: Any) -> Any:
        """Returns the content with this change."""
        value = self.literal if self.odd == "literal" else ODD[self.odd]() if self.odd else None
        if not self.keys:
            return value
        place = content
        for key in self.keys[:-1]:
            try:
                place = place[key]
            except (KeyError, IndexError, TypeError):
                return content  # an earlier edit has removed it
        last = self.keys[-1]
        try:
            if not self.odd:
                del place[last]
            elif isinstance(place, list) and last >= len(place):
                place.append(value)
            else:
                place[last] = value
        except (KeyError, IndexError, TypeError):
            pass
        return content


@dataclass(frozen=True, repr=False)
class Checkpoint(Shown):
    """A checkpoint with other content, and a right checksum.

    Args:
        path: The file.
        edits: Of its dictionary.
        compressed: Whether the archive's entries are deflated, which those of torch never are.
        zeros: MiB of zeros that it holds beside all else, as a tensor.
        code: Whether it holds an object that runs code when it is read.
        program: Whether the archive is replaced by one of other files.
    """

    path: str
    edits: tuple[Edit, ...] = ()
    compressed: bool = False
    zeros: int = 0
    code: bool = False
    program: bool = False

    def apply(self, work: Path) -> None:
        """Writes the file."""
        path = work / self.path
        content = torch.load(path, weights_only=False)
        for edit in self.edits:
            content = edit.apply(content)
        if self.code:
            content["extra"] = _RunsCode()
        if self.zeros:
            content["zeros"] = torch.zeros(self.zeros * 2**18)
        buffer = io.BytesIO()
        with suppress(RecursionError):  # nested too deeply to be written by Python at all: cut short then
            torch.save(content, buffer)
        if self.compressed or self.program:
            buffer = self._archive(buffer)
        path.write_bytes(seal(buffer.getvalue()))

    def _archive(self, saved: io.BytesIO) -> io.BytesIO:
        made = io.BytesIO()
        method = zipfile.ZIP_DEFLATED if self.compressed else zipfile.ZIP_STORED
        with zipfile.ZipFile(saved) as old, zipfile.ZipFile(made, "w", method) as new:
            for name in [] if self.program else old.namelist():
                new.writestr(name, old.read(name))
            if self.program:
                new.writestr("__main__.py", "import evil_module\n")
        return made


def seal(content: bytes) -> bytes:
    """An archive without a comment, with a checkpoint's checksum as its comment."""
    length = len(MARK) + 64
    sealed = content[:-2] + length.to_bytes(2, "little") + MARK
    return sealed + sha256(sealed).hexdigest().encode()


@dataclass(frozen=True, repr=False)
class Json(Shown):
    """A JSON file with other content."""

    path: str
    edits: tuple[Edit, ...]

    def apply(self, work: Path) -> None:
        """Writes the file."""
        path = work / self.path
        content = json.loads(path.read_text(encoding="utf-8"))
        for edit in self.edits:
            content = edit.apply(content)
        path.write_text(_dump(content), encoding="utf-8")


def _dump(content: Any) -> str:
    """JSON of anything: integers of any length, and what JSON cannot hold as text."""
    if isinstance(content, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_dump(value)}" for key, value in content.items()) + "}"
    if isinstance(content, list | tuple):
        return "[" + ", ".join(map(_dump, content)) + "]"
    if isinstance(content, int) and abs(content) > 10**300:
        return "1" + "0" * (4999 if abs(content) > 10**401 else 400)
    return json.dumps(content, default=repr)


@dataclass(frozen=True, repr=False)
class Content(Shown):
    """A file that is replaced by other bytes."""

    path: str
    content: bytes

    def apply(self, work: Path) -> None:
        """Writes the file."""
        path = work / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)


@dataclass(frozen=True, repr=False)
class Repeated(Shown):
    """A file of one text many times over, for what would be too long to print."""

    path: str
    before: str
    text: str
    times: int
    after: str = ""

    def apply(self, work: Path) -> None:
        """Writes the file."""
        path = work / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (self.text.replace("NUMBER", str(number)) for number in range(self.times))
        path.write_text(self.before + "".join(lines) + self.after, encoding="utf-8")


@dataclass(frozen=True, repr=False)
class Bytes(Shown):
    """A file whose bytes are damaged.

    Args:
        path: The file.
        kind: ``cut``, ``flip`` (one bit), ``zero`` (64 bytes), ``insert`` or ``double`` (the file twice).
        share: Where, as a share of the file.
        bit: Which bit, from 0 to 7.
        content: What is inserted.
        sealed: Whether the checksum of a checkpoint is made right again.
    """

    path: str
    kind: str
    share: float
    bit: int = 0
    content: bytes = b""
    sealed: bool = False

    def apply(self, work: Path) -> None:
        """Writes the file."""
        path = work / self.path
        data = bytearray(path.read_bytes())
        if self.sealed:
            data = data[: -len(MARK) - 64]
        place = min(int(self.share * len(data)), len(data) - 1)
        if self.kind == "cut":
            data = data[:place]
        elif self.kind == "flip":
            data[place] ^= 1 << self.bit
        elif self.kind == "zero":
            data[place : place + 64] = bytes(len(data[place : place + 64]))
        elif self.kind == "insert":
            data[place:place] = self.content
        else:
            data += bytes(data)
        path.write_bytes(seal(bytes(data)) if self.sealed else bytes(data))


@dataclass(frozen=True, repr=False)
class SilentBit(Shown):
    """A flipped bit of a column of a Parquet file, which gives another value and nothing but a checksum tells.

    Args:
        path: The file, of one group of rows.
        column: Name of the column.
    """

    path: str
    column: str

    def apply(self, work: Path) -> None:
        """Writes the file.

        Raises:
            ValueError: No bit of the column does that.
        """
        path = work / self.path
        data = bytearray(path.read_bytes())
        whole, group = pq.read_table(path), pq.ParquetFile(path).metadata.row_group(0)
        chunks = [group.column(number) for number in range(group.num_columns)]
        chunk = next(each for each in chunks if each.path_in_schema == self.column)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        for place in range(8 * start, 8 * (start + chunk.total_compressed_size)):
            data[place // 8] ^= 1 << place % 8
            with suppress(Exception):
                table = pq.ParquetFile(io.BytesIO(bytes(data)), page_checksum_verification=False).read()
                if table.num_rows == whole.num_rows and not table[self.column].equals(whole[self.column]):
                    path.write_bytes(bytes(data))
                    return
            data[place // 8] ^= 1 << place % 8
        raise ValueError(f"no bit of {self.column}")


@dataclass(frozen=True, repr=False)
class Special(Shown):
    """Something else in the place of a file: ``missing``, ``empty``, ``directory``, ``fifo``, ``loop`` or ``zeros``."""

    path: str
    kind: str

    def apply(self, work: Path) -> None:
        """Puts it there."""
        path = work / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if self.kind == "empty":
            path.touch()
        elif self.kind == "directory":
            path.mkdir()
        elif self.kind == "fifo":
            os.mkfifo(path)
        elif self.kind == "loop":
            path.symlink_to(path.name)
        elif self.kind == "zeros":
            path.symlink_to("/dev/zero")


COLUMNS: dict[str, Callable[[int], Any]] = {  # other columns of a Parquet file, by name, for a number of rows
    "nulls": lambda rows: pa.nulls(rows),
    "text": lambda rows: pa.array(["x"] * rows),
    "integers": lambda rows: pa.array([7] * rows),
    "huge integers": lambda rows: pa.array([2**64 - 1] * rows, pa.uint64()),
    "minus": lambda rows: pa.array([-1] * rows),
    "nan": lambda rows: pa.array([float("nan")] * rows),
    "booleans": lambda rows: pa.array([True] * rows),
    "bytes": lambda rows: pa.array([b"\xff\x00"] * rows),
    "lists": lambda rows: pa.array([[1.5, None]] * rows),
    "lists of lists": lambda rows: pa.array([[[1], []]] * rows),
    "empty lists": lambda rows: pa.array([[]] * rows, pa.list_(pa.float64())),
    "structs": lambda rows: pa.array([{"a": 1}] * rows),
    "times": lambda rows: pa.array([0] * rows, pa.timestamp("ns")),
    "decimals": lambda rows: pa.array([1] * rows).cast(pa.decimal128(38, 2)),
    "dictionary": lambda rows: pa.array(["[1]", "{"][: max(rows, 1)] * rows).slice(0, rows).dictionary_encode(),
    "long text": lambda rows: pa.array(["x" * 1_000_000] * rows),
    "control characters": lambda rows: pa.array(["\x1b[2J\n\x00"] * rows),
    "outside": lambda rows: pa.array(["../../../../outside"] * rows),
}


@dataclass(frozen=True, repr=False)
class Parquet(Shown):
    """A Parquet file with other columns.

    Args:
        path: The file.
        column: Which column, by its place.
        kind: ``remove``, ``twice``, ``rename``, ``rows`` (none), ``repeat`` (each row twice), or a name of ``COLUMNS``.
        metadata: Metadata of the file that is replaced, a key of it and its new value; empty: none.
    """

    path: str
    column: int = 0
    kind: str = ""
    metadata: tuple[bytes, bytes] | tuple[()] = ()

    def apply(self, work: Path) -> None:
        """Writes the file."""
        path = work / self.path
        table = pq.read_table(path)
        metadata = dict(table.schema.metadata or {})
        place = self.column % max(table.num_columns, 1)
        name = table.column_names[place]
        if self.kind == "remove":
            table = table.remove_column(place)
        elif self.kind == "twice":
            table = table.append_column(name, table.column(place))
        elif self.kind == "rename":
            table = table.rename_columns([*table.column_names[:place], "", *table.column_names[place + 1 :]])
        elif self.kind == "rows":
            table = table.slice(0, 0)
        elif self.kind == "repeat":
            table = pa.concat_tables([table, table])
        elif self.kind:
            table = table.set_column(place, name, COLUMNS[self.kind](table.num_rows))
        if self.metadata:
            key, value = self.metadata
            metadata[key] = value
        pq.write_table(table.replace_schema_metadata(metadata), path)


@dataclass(frozen=True, repr=False)
class NamedColumn(Shown):
    """``Parquet`` with a column by name.

    Args:
        path: The file.
        column: The column's name.
        kind: As for ``Parquet``.
    """

    path: str
    column: str
    kind: str

    def apply(self, work: Path) -> None:
        """Writes the file."""
        Parquet(self.path, pq.read_schema(work / self.path).names.index(self.column), self.kind).apply(work)


Damage = Checkpoint | Json | Content | Repeated | Bytes | Special | Parquet | NamedColumn


@dataclass(frozen=True, repr=False)
class Case(Shown):
    """A command after some damage.

    Args:
        command: The command line after the program's name.
        damages: What is done to the files of the template first.
        statuses: Exit statuses that are right.
        environment: Variables of the environment, with their values.
        same_as: A file whose content must be the same as without the damage.
    """

    command: tuple[str, ...]
    damages: tuple[Damage, ...] = ()
    statuses: tuple[int, ...] = (0, 1, 2, 3)
    environment: tuple[tuple[str, str], ...] = ()
    same_as: str = ""
