"""Damaged contents of each file that a run, a sweep or a report leaves."""

import json
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

FIELDS = (
    *("status", "config_hash", "steps", "budget", "threshold", "memorize_step", "memorize_after", "grok_step"),
    *("grok_after", "sustained_grok_step", "seconds", "stack", "schema", "algebra", "algebra_identity"),
    *("final", "best", "config", "final.val/acc", "best.val/acc", "best.step", "config.data", "config.model"),
    *("config.trainer", "config.data.formula", "config.data.modulus", "config.data.class_path", "config.evaluation"),
    *("config.model.network", "config.seed_everything", "config.data.train_fraction", "config.model.optimizer.lr"),
)
COLUMNS = ("path", "status", "config_hash", "steps", "final.val/acc", "config.data.class_path", "curve.step",
           "curve.val/acc")  # fmt: skip
VALUES: tuple[Any, ...] = (
    *(-1, 10**299, -(10**299), 2**63, 1.5, 1e308, True, "text", "", "12", "１２", "\x00\x1b[31m\u202e\n", "x" * 5000),
    *([], [1], [[]], {}, {"a": 1}, {"a": {"b": []}}, None, [None, "x", {"y": 1}]),
)
UNREADABLE = {
    "nothing": b"",
    "NUL": b"\0\0\0",
    "not UTF-8": b"\xff\xfe{}",
    "cut": b'{"status": "finished", "steps": 1',
    "a list": b"[]",
    "10^400": b'{"status": "finished", "steps": 1%s}' % (b"0" * 400),
    "5,000 digits": b'{"config": {"data": {"modulus": %s}}}' % (b"9" * 5000),
    "1e400": b'{"status": "finished", "steps": 1e400, "budget": 1, "threshold": 0.99}',
    "NaN": b'{"status": NaN, "steps": NaN, "budget": Infinity, "threshold": -Infinity}',
    "brackets": b"[" * 100_000,
    "deep": b'{"a":' * 100 + b"1" + b"}" * 100,
    "a surrogate": b'{"status": "\\ud800", "\\ud800": 1}',
    "the same twice": b'{"final": {"val/acc": 1}, "final.val/acc": 2, "status": "finished"}',
    "no fields": b"{}",
}
METRICS_FILES = {
    "nothing": b"",
    "other header": b"a,b\n1,2\n",
    "no accuracies": b"step\n1\n2\n",
    "a column twice": b"step,val/acc,val/acc\n1,2,3\n",
    "text": b"step,train/acc,val/acc\n1,x,0.5\n",
    "text as step": b"step,train/acc,val/acc\nx,0.5,0.5\n",
    "NUL": b"step,train/acc,val/acc\n1,\x00,0.5\n",
    "not UTF-8": b"step,train/acc,val/acc\n1,\xff\xfe,0.5\n",
    "header not UTF-8": b"step,\xff\n1,2\n",
    "backwards": b"step,train/acc,val/acc\n20,0.5,0.5\n10,0.5,0.5\n",
    "the same step": b"step,train/acc,val/acc\n10,0.5,0.5\n10,0.5,0.5\n",
    "negative": b"step,train/acc,val/acc\n-1,0.5,0.5\n",
    "huge step": b"step,train/acc,val/acc\n1%s,0.5,0.5\n" % (b"0" * 400),
    "huge number": b"step,train/acc,val/acc\n1,1%s,0.5\n" % (b"0" * 5000),
    "other digits": "step,train/acc,val/acc\n１,0.5,0.5\n".encode(),
    "a quote": b'step,train/acc,val/acc\n1,"0.5,0.5\n',
    "cut": b"step,train/acc,val/acc\n1,0.5,0.5\n2,0.5",
    "empty lines": b"step,train/acc,val/acc\n\n\n1,0.5,0.5\n",
    "wide": b"step,train/acc,val/acc\n1,0.5,0.5,0.5\n",
}
CONFIGS = {
    "nothing": b"",
    "text": b"x",
    "a list": b"[1]",
    "NUL": b"\0",
    "not UTF-8": b"\xff\xfe",
    "itself": b"trainer: &a {max_steps: *a}",
    "deep": b"trainer: " + b"[" * 5000,
    "budget of text": b"trainer: {max_steps: many}",
    "budget of 300 digits": b"trainer: {max_steps: %s}" % (b"9" * 299),
    "infinite budget": b"trainer: {max_steps: .inf}",
    "a date": b"trainer: {max_steps: 200}\ndata: {formula: 2026-11-11, modulus: [1], x: {1: 2}}",
    "a list of data": b"trainer: {max_steps: 200}\ndata: [1, {a: 2}]",
    "an evaluation of text": b"trainer: {max_steps: 200}\nevaluation: {threshold: high}",
    "no evaluation": b"trainer: {max_steps: 200}\nevaluation: 3",
    "infinity": b"trainer: {max_steps: 200}\ndata: {modulus: .inf, formula: .nan}",
    "keys of all kinds": b"trainer: {max_steps: 200}\n1: 2\nnull: 3\ntrue: {2.5: x}",
    "a set": b"trainer: {max_steps: 200}\ndata: !!set {a}",
}


def of_field(content: dict[str, Any], field: str, value: Any) -> bytes:
    """A record with another value of one field, which may be nested."""
    *parents, last = field.split(".")
    if field.startswith(("final.", "best.")):
        parents, last = [field.partition(".")[0]], field.partition(".")[2]
    content = place = json.loads(json.dumps(content))
    for parent in parents:
        place = place[parent]
    place[last] = value
    return json.dumps(content).encode()


def archives(whole: bytes) -> dict[str, bytes]:
    """Damaged archives made of one that is whole."""
    table = pq.read_table(pa.BufferReader(whole))
    marks = table.schema.metadata
    found: dict[str, bytes] = {"nothing": b"", "text": b"PAR1 is none", "cut": whole[:-20], "scratched": scratch(whole)}

    def add(name: str, changed: pa.Table, metadata: dict[bytes, bytes] | None = None) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(changed.replace_schema_metadata(metadata or marks), sink)
        found[name] = sink.getvalue().to_pybytes()

    rows = len(table)
    for name in COLUMNS:
        place = table.column_names.index(name)
        add(f"without {name}", table.drop([name]))
        for kind, values in {
            "nulls": pa.nulls(rows),
            "lists": pa.array([[1]] * rows),
            "lists of text": pa.array([["a"]] * rows),
            "text": pa.array(["a"] * rows),
            "numbers": pa.array([-1] * rows),
            "booleans": pa.array([True] * rows),
            "structures": pa.array([{"a": 1}] * rows),
            "times": pa.array(pd.to_datetime(["2026-11-11"] * rows)),
            "bytes": pa.array([b"\xff["] * rows),
            "JSON": pa.array([b"[" * 5000] * rows),
        }.items():
            add(f"{name} of {kind}", table.set_column(place, name, values))
    lists = pa.array([[1, 2, 3], *[None] * (rows - 1)], pa.list_(pa.int64()))
    add("other lengths", table.set_column(table.column_names.index("curve.step"), "curve.step", lists))
    add("another table", pa.table({"a": [1]}))
    add("no mark", table, {b"a": b"b"})
    add("later version", table, {b"grok_lightning.runs": b"2\xff"})
    for plan in (
        b"",
        b"[]",
        b'{"config_hash": 3}',
        b'{"config_hash": ["a"], "b": [1, 2]}',
        b"[" * 9999,
        b'{"a": [[]]}',
    ):
        add(f"plan {plan[:20]!r}", table, marks | {b"grok_lightning.planned": plan})
    many = pa.array([None] * 30_000_000, pa.int64())
    add(
        "huge",
        pa.table({"path": pa.DictionaryArray.from_arrays(pa.array([0] * len(many), pa.int32()), ["a"]), "b": many}),
    )
    return found


def scratch(whole: bytes) -> bytes:
    """A file with some bytes in its middle overwritten."""
    middle = len(whole) // 2
    return whole[:middle] + bytes(60) + whole[middle + 60 :]
