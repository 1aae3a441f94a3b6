"""Whatever a file or an option holds, reading it ends soon, in little memory, with its content or one line."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import grok_lightning
from grok_lightning.reading import MOST_DEPTH, MOST_NODES, Malformed, parse_json, parse_yaml, read_bytes, read_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS, "more than 200,000 nodes"),
        ("a: &a [1, *a]", "contains itself"),
        ("&a {b: {c: *a}}", "contains itself"),
        ("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "nested more than 60 deep"),
        ("[" * 400_000, "nested more than 60 deep"),
        ("\n".join(f"k{n}: {n}" for n in range(MOST_NODES)), "more than 200,000 nodes"),
        (f"a: {'9' * 5000}", "more than 300 digits"),
        (f"a: {'9_' * 400}1", "more than 300 digits"),
        (f"a: 1{':59' * 500}", "more than 300 digits"),
        ("a: 1\nb: 2\na: 3", "the key 'a' occurs twice in one mapping, in lines 1 and 3"),
        ("c: {a: 1, a: 2}", "the key 'a' occurs twice"),
        ("a: [1", "cannot be read as YAML"),
        ("a: 1\n---\nb: 2", "cannot be read as YAML"),
        ("a: *b", "cannot be read as YAML"),
        ("a: !!python/object:os.system x", "cannot be read as YAML"),
        ("a: \x00", "cannot be read as YAML"),
        ("a: !!binary aGVsbG8=", "cannot be read as YAML"),
        ("a: !!set {b, c}", "cannot be read as YAML"),
        ("a: !!timestamp 2026-11-11", "cannot be read as YAML"),
        ("a: \ud800", "cannot be read as YAML"),
        ("? [1, 2]\n: 3\n? {a: 1}\n: 2", "cannot be read as YAML"),
    ],
)
def test_yaml_that_is_refused(text: str, reason: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(Malformed, match=reason) as raised:
        parse_yaml(text)
    assert "\n" not in str(raised.value)
    assert time.perf_counter() - begun < 20


@pytest.mark.parametrize("quote", ["'", '"'])
def test_long_text_is_no_number(quote: str) -> None:
    assert parse_yaml(f"a: {quote}{'9' * 5000}{quote}") == {"a": "9" * 5000}
    assert parse_yaml("a: &x {b: 1}\nc: {<<: *x, d: 2}\ne: *x") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}, "e": {"b": 1}}


def test_a_date_is_text() -> None:
    assert parse_yaml("a: 2026-11-11\n2026-99-99: 2026-11-11 10:11:12") == {
        "a": "2026-11-11",
        "2026-99-99": "2026-11-11 10:11:12",
    }


def test_long_text_of_digits_in_json() -> None:
    content = {"a": "9" * 5000, "b": [10**299, -(10**299), 1.5], "c": [[{}]] * 100}
    assert parse_json(json.dumps(content).encode()) == content


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**200), 10**200) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000, "nested more than 60 deep"),
        (b"[" * 61 + b"]" * 61, "nested more than 60 deep"),
        (b'{"a":' * 100_000, "nested more than 60 deep"),
        (b'{"a": 1' + b"0" * 400 + b"}", "more than 300 digits"),
        (b'{"a": 1', "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"", "cannot be read as JSON"),
    ],
)
def test_json_that_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        parse_json(content)


def test_nothing_else_reads_json_or_yaml() -> None:
    """Every other reader would have limits of its own, or none."""
    own = re.compile(
        r"\b(json\.(load|loads|JSONDecoder)|yaml\.(\w*load\w*|parse|scan|compose|\w*Loader)|DefaultLoader)\b"
    )
    top = Path(grok_lightning.__file__).parent
    found = {path.relative_to(top).as_posix() for path in top.rglob("*.py") if own.search(path.read_text("utf-8"))}
    assert found == {"reading.py"}


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="not a regular file"):
        read_bytes(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(Malformed, match="not a regular file"):
            read_yaml(tmp_path / "fifo")
        with pytest.raises(Malformed, match="not a regular file"):
            read_bytes("/dev/zero")
    (tmp_path / "large").write_bytes(bytes(100))
    with pytest.raises(Malformed, match="100 bytes; at most 99"):
        read_bytes(tmp_path / "large", 99)
