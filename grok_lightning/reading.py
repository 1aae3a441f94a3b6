"""Reading of YAML and JSON from files and options: bounded in size, depth and time, whatever they hold."""

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, ClassVar

import yaml

from grok_lightning.errors import UserError, show

MOST_BYTES = 64 * 2**20  # of any file
MOST_JSON_BYTES = 16 * 2**20
MOST_YAML_BYTES = 4 * 2**20
MOST_NODES = 200_000  # of YAML, with aliases written out
MOST_DEPTH = 60
MOST_DIGITS = 300  # of an integer: every float is below 10^309

_LONG_INTEGER = re.compile(rb"[0-9]{%d}" % (MOST_DIGITS + 1))
_CONSTANTS = {"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}
_JSON = json.JSONDecoder(parse_constant=_CONSTANTS.get)
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where PyYAML has it


class Malformed(UserError, ValueError):
    """Content that is not what it should be.

    Attributes:
        reason: What is wrong with it, in one line, without the file's name.
    """

    def __init__(self, reason: str, path: str | Path | None = None) -> None:
        super().__init__(reason if path is None else f"{str(path)!r}: {reason}")
        self.reason = reason


class Excessive(Malformed):
    """Content that is nested too deeply, contains itself, or is larger than what is read."""


def read_bytes(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """Reads a regular file, in half the time that the built-in ``open`` takes.

    Args:
        path: File.
        most: The most bytes that it may have.

    Raises:
        OSError: It cannot be read.
        Malformed: It is no regular file (a pipe, a device, a directory), or is larger than ``most``; or no file can
            have such a name.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except ValueError as error:  # a NUL in its name
        raise Malformed(f"there can be no such file: {error}", path) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Malformed("it is not a regular file", path)
        if status.st_size > most:
            raise Excessive(f"it has {status.st_size:,} bytes; at most {most:,} are read", path)
        return b"".join(iter(lambda: os.read(descriptor, 1 << 16), b""))
    finally:
        os.close(descriptor)


def read_json(path: str | Path) -> Any:
    """Reads a JSON file; NaN is read as None.

    Raises:
        OSError: It cannot be read.
        Malformed: As ``parse_json``; or it is no regular file, or larger than ``MOST_JSON_BYTES``.
    """
    content = read_bytes(path, MOST_JSON_BYTES)
    try:
        return parse_json(content)
    except Malformed as error:
        raise type(error)(error.reason, path) from None


def parse_json(content: bytes | str) -> Any:
    """Reads JSON as ``read_json`` does.

    Raises:
        Malformed: It is no JSON, is nested more than ``MOST_DEPTH`` deep, or holds an integer of more than
            ``MOST_DIGITS`` digits.
    """
    try:
        content = content.encode() if isinstance(content, str) else content
        text = content.decode()
        decoder = _JSON
        if _LONG_INTEGER.search(content):  # perhaps in text; numbers are looked at one by one only then
            decoder = json.JSONDecoder(parse_constant=_CONSTANTS.get, parse_int=_parse_integer)
        value = decoder.decode(text)
    except Malformed:
        raise
    except RecursionError:
        raise Excessive(f"it is nested more than {MOST_DEPTH} deep") from None
    except ValueError as error:
        raise Malformed(f"it cannot be read as JSON: {_shorten(error)}") from None
    if content.count(b"[") + content.count(b"{") > MOST_DEPTH:
        _check_depth(value)
    return value


def _parse_integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS + 1:
        raise Excessive(f"it holds a number of more than {MOST_DIGITS} digits")
    return int(digits)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        level = [collection for collection in level if isinstance(collection, dict | list)]
        if not level:
            return
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    raise Excessive(f"it is nested more than {MOST_DEPTH} deep")


def read_yaml(path: str | Path) -> Any:
    """Reads a YAML file.

    Raises:
        OSError: It cannot be read.
        Malformed: As ``parse_yaml``; or it is no regular file, or larger than ``MOST_YAML_BYTES``.
    """
    content = read_bytes(path, MOST_YAML_BYTES)
    try:
        return parse_yaml(content.decode())
    except UnicodeDecodeError as error:
        raise Malformed(f"it cannot be read as YAML: {_shorten(error)}", path) from None
    except Malformed as error:
        raise type(error)(error.reason, path) from None


def parse_yaml(text: str) -> Any:
    """Reads YAML in which nothing is dropped in silence and nothing grows beyond its text.

    Values are null, true and false, numbers, text, lists and mappings, as in JSON: a date is text.

    Raises:
        Malformed: It is no YAML, is nested more than ``MOST_DEPTH`` deep, contains itself, has more than
            ``MOST_NODES`` nodes (aliases written out), a number of more than ``MOST_DIGITS`` digits, a key twice in
            one mapping, or a value of another kind than those.
    """
    check_yaml(text)
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise Malformed(f"it cannot be read as YAML: {_shorten(error)}") from None


def check_yaml(text: str) -> None:
    """Goes through YAML once, without building anything from it.

    Raises:
        Malformed: As ``parse_yaml``.
    """
    try:
        _check_events(text)
    except Malformed:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise Malformed(f"it cannot be read as YAML: {_shorten(error)}") from None


class _Loader(_BASE):
    """Builds what JSON can hold, and nothing else."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in _BASE.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar = {
        tag: build
        for tag, build in _BASE.yaml_constructors.items()
        if tag is None or tag.rsplit(":", 1)[-1] in ("null", "bool", "int", "float", "str", "seq", "map")
    }


class _Collection:
    """A mapping or sequence that is being read."""

    def __init__(self, anchor: str | None, is_mapping: bool) -> None:
        self.anchor, self.is_mapping = anchor, is_mapping
        self.size, self.children = 1, 0
        self.lines: dict[tuple[Any, str], int] = {}  # of its keys

    def add(self, size: int) -> None:
        self.size += size
        self.children += 1

    def add_key(self, event: Any) -> None:
        """Notes a scalar where a key stands: PyYAML keeps the last of two and drops the other in silence."""
        if not self.is_mapping or self.children % 2:
            return
        key, line = (event.tag, event.value), event.start_mark.line + 1
        if key in self.lines:
            raise Malformed(
                f"the key {show(event.value)} occurs twice in one mapping, in lines {self.lines[key]} and {line}"
            )
        self.lines[key] = line


def _check_events(text: str) -> None:
    opened: list[_Collection] = [_Collection(None, False)]
    sizes: dict[str, int] = {}  # of what has an anchor
    events: Any = yaml.parse(text, _BASE)
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            if len(opened) > MOST_DEPTH:
                raise Excessive(f"it is nested more than {MOST_DEPTH} deep (line {line})")
            opened.append(_Collection(event.anchor, isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = opened.pop()
            opened[-1].add(closed.size)
            if closed.anchor:
                sizes[closed.anchor] = closed.size
        elif isinstance(event, yaml.AliasEvent):
            if any(collection.anchor == event.anchor for collection in opened):
                raise Excessive(f"it contains itself (alias {show(event.anchor)}, line {line})")
            opened[-1].add(sizes.get(str(event.anchor), 1))
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MOST_DIGITS and _is_number(event):
                raise Excessive(f"it holds a number of more than {MOST_DIGITS} digits (line {line})")
            opened[-1].add_key(event)
            opened[-1].add(1)
        if opened[-1].size > MOST_NODES:
            raise Excessive(f"it has more than {MOST_NODES:,} nodes, aliases written out")


def _is_number(event: Any) -> bool:
    """Whether a scalar of digits is written without quotes: decimal, hexadecimal, or in the sixties of YAML 1.1."""
    return not event.style and re.fullmatch(r"[-+]?(?:0x[0-9a-fA-F_]+|[0-9][0-9_:.]*)", event.value) is not None


def _shorten(error: BaseException) -> str:
    return " ".join(str(error).split())[:150]
