"""Reading of YAML and JSON from files and options: bounded in size, depth and time, whatever they hold."""

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 64 * 2**20  # of any file
MOST_YAML_BYTES = 4 * 2**20
MOST_NODES = 200_000  # of YAML, with aliases written out
MOST_DEPTH = 60
MOST_DIGITS = 300  # of an integer: every float is below 10^309

_LONG_INTEGER = re.compile(rb"[0-9]{%d}" % (MOST_DIGITS + 1))
_CONSTANTS = {"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}
_JSON = json.JSONDecoder(parse_constant=_CONSTANTS.get)
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where PyYAML has it


class Malformed(ValueError):
    """Content that is not what it should be. The message says in one line what is wrong."""


def read_bytes(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """Reads a regular file, in half the time that the built-in ``open`` takes.

    Args:
        path: File.
        most: The most bytes that it may have.

    Raises:
        OSError: It cannot be read.
        Malformed: It is no regular file (a pipe, a device, a directory), or is larger than ``most``.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Malformed("it is not a regular file")
        if status.st_size > most:
            raise Malformed(f"it has {status.st_size:,} bytes; at most {most:,} are read")
        return b"".join(iter(lambda: os.read(descriptor, 1 << 16), b""))
    finally:
        os.close(descriptor)


def read_json(path: str | Path) -> Any:
    """Reads a JSON file; NaN is read as None.

    Raises:
        OSError: It cannot be read.
        Malformed: It is no JSON, nested too deeply, or holds an integer of more than ``MOST_DIGITS`` digits.
    """
    return parse_json(read_bytes(path))


def parse_json(content: bytes) -> Any:
    """Reads JSON as ``read_json`` does.

    Raises:
        Malformed: As there.
    """
    if _LONG_INTEGER.search(content):
        raise Malformed(f"it holds a number of more than {MOST_DIGITS} digits")
    try:
        return _JSON.decode(content.decode())
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    except ValueError as error:
        raise Malformed(f"it cannot be read as JSON: {_in_one_line(error)}") from None


def read_yaml(path: str | Path) -> Any:
    """Reads a YAML file.

    Raises:
        OSError: It cannot be read.
        Malformed: As ``parse_yaml``; or it is no regular file, or larger than ``MOST_YAML_BYTES``.
    """
    try:
        return parse_yaml(read_bytes(path, MOST_YAML_BYTES).decode())
    except UnicodeDecodeError as error:
        raise Malformed(f"it cannot be read as YAML: {_in_one_line(error)}") from None


def parse_yaml(text: str) -> Any:
    """Reads YAML in which nothing is dropped in silence and nothing grows beyond its text.

    Raises:
        Malformed: It is no YAML, is nested more than ``MOST_DEPTH`` deep, contains itself, has more than
            ``MOST_NODES`` nodes (aliases written out), a number of more than ``MOST_DIGITS`` digits, or a key twice in
            one mapping.
    """
    try:
        _check_events(text)
        return yaml.load(text, _Parser)
    except Malformed:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise Malformed(f"it cannot be read as YAML: {_in_one_line(error)}") from None


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
                f"the key {event.value!r} stands twice in one mapping, in lines {self.lines[key]} and {line}"
            )
        self.lines[key] = line


def _check_events(text: str) -> None:
    """Goes through the text once, before anything is built from it."""
    opened: list[_Collection] = [_Collection(None, False)]
    sizes: dict[str, int] = {}  # of what has an anchor
    events: Any = yaml.parse(text, _Parser)
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            if len(opened) > MOST_DEPTH:
                raise Malformed(f"it is nested more than {MOST_DEPTH} deep (line {line})")
            opened.append(_Collection(event.anchor, isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = opened.pop()
            opened[-1].add(closed.size)
            if closed.anchor:
                sizes[closed.anchor] = closed.size
        elif isinstance(event, yaml.AliasEvent):
            if any(collection.anchor == event.anchor for collection in opened):
                raise Malformed(f"it contains itself (alias {event.anchor!r}, line {line})")
            opened[-1].add(sizes.get(str(event.anchor), 1))
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MOST_DIGITS and _is_number(event):
                raise Malformed(f"it holds a number of more than {MOST_DIGITS} digits (line {line})")
            opened[-1].add_key(event)
            opened[-1].add(1)
        if opened[-1].size > MOST_NODES:
            raise Malformed(f"it has more than {MOST_NODES:,} nodes, aliases written out")


def _is_number(event: Any) -> bool:
    """Whether a scalar of digits is written without quotes: decimal, hexadecimal, or in the sixties of YAML 1.1."""
    return not event.style and re.fullmatch(r"[-+0-9a-fA-FxXoO_:.]+", event.value) is not None


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:150]
