"""The table of results says what the runs' own files say, whatever the index has gone through."""

import errno
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grok_lightning.index import parquet, read_records, refresh
from grok_lightning.record import RESULT, append_metrics, flatten, run_directories, write_json

INDEX = Path(".sweep") / "index.parquet"

WORDS = [
    "",
    "a",
    "é ☃ 𝄞",
    "5",
    "1.0",
    "null",
    "NaN",
    "[1]",
    'quo"te\n\t\\',
    "nul\0",
    "\udc80 half of a pair",
    "x" * 300,
]
SCALARS = {
    "null": lambda rng: None,
    "truth": lambda rng: rng.random() < 0.5,
    "integer": lambda rng: rng.choice([0, 1, -5, 2**31, 2**53, 2**63 - 1, -(2**63)]),
    "huge": lambda rng: rng.choice([2**63, -(2**63) - 1, 2**64, 10**40]),
    "number": lambda rng: rng.choice([0.0, -0.0, 1.0, 0.1, 5e-324, 1.7976931348623157e308, math.inf, rng.random()]),
    "text": lambda rng: rng.choice(WORDS),
    "list": lambda rng: rng.choice([[], [0.9, 0.98], [1], [1.0], [None, True, "x"], [{"a": [1]}], [[]]]),
    "empty": lambda rng: {},
}
KEYS = ["steps", "final.val/acc", "config.model.ü", ".run", ".", "", "a b", "run ", "size", "mtime_ns", "fields"]
MIXTURES = [
    *([kind] for kind in SCALARS),
    *([kind, "null"] for kind in SCALARS),
    ["integer", "number"],
    ["truth", "integer"],
    ["integer", "huge"],
    ["integer", "text"],
    ["number", "null", "text"],
    list(SCALARS),
]


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Some mapping that flattens to this one."""
    content: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, last = key.split(".")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return content


def any_result(rng: random.Random, missing: float = 0.2) -> dict[str, Any]:
    """A result with a field for each mixture of types and for each strange name, some left out."""
    fields = [(f"{place}.of {' '.join(kinds)}", kinds) for place, kinds in enumerate(MIXTURES)]
    fields += [(f"config.{key}", ["integer"]) for key in KEYS] + [(key, ["number", "null"]) for key in KEYS]
    return nested({name: SCALARS[rng.choice(kinds)](rng) for name, kinds in fields if rng.random() >= missing})


def write(directory: Path, content: dict[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / RESULT).write_text(json.dumps(content))


def same(found: Any, expected: Any, dtype: Any) -> bool:
    if expected is None:
        return found is None or found is pd.NA or (isinstance(found, float) and math.isnan(found))
    if isinstance(found, float) and isinstance(expected, int) and dtype == "float64":
        return found == expected
    return type(found) is type(expected) and repr(found) == repr(expected)


def assert_says(table: pd.DataFrame, contents: dict[str, dict[str, Any]]) -> None:
    """A table of ``refresh`` has these runs' fields as they are, and no others."""
    flat = {run: flatten(contents[run]) for run in sorted(contents)}
    names = list(dict.fromkeys(name for fields in flat.values() for name in fields))
    assert list(table.columns) == [*names, "run"]
    assert table["run"].tolist() == list(flat)
    for name in names:
        column = table[name]
        for found, (run, fields) in zip(column.tolist(), flat.items(), strict=True):
            assert same(found, fields.get(name), column.dtype), (run, name, found, fields.get(name), column.dtype)


def assert_same_table(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert one.attrs == other.attrs


def from_nothing(directory: Path) -> pd.DataFrame:
    (directory / INDEX).unlink(missing_ok=True)
    return refresh(directory)


@pytest.mark.parametrize("seed", range(4))
def test_the_table_says_exactly_what_the_files_say(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grok_lightning.index.reading.ROWS_AT_ONCE", [2048, 1, 7, 3][seed])
    rng = random.Random(seed)
    contents = {f"{run:03}": any_result(rng, missing=0.2 * seed) for run in range(40)}
    for run, content in contents.items():
        write(tmp_path / run, content)
    built = refresh(tmp_path)
    assert_says(built, contents)
    assert (tmp_path / INDEX).is_file()
    assert_same_table(refresh(tmp_path), built)


@pytest.mark.parametrize("seed", range(4))
def test_a_table_brought_up_to_date_is_the_table_built_from_nothing(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    contents: dict[str, dict[str, Any]] = {}
    for _ in range(12):
        for _ in range(rng.choice([0, 1, 5])):
            run = str(rng.randrange(12))
            contents[run] = any_result(rng, missing=0.8)
            write(tmp_path / run, contents[run])
        for run in rng.sample(sorted(contents), min(len(contents), rng.choice([0, 1, 8]))):
            (tmp_path / run / RESULT).unlink()
            del contents[run]
        asked = rng.sample([name for content in contents.values() for name in flatten(content)] or ["x"], 1)
        if rng.random() < 0.5:
            part = refresh(tmp_path, asked)
            assert_same_table(part, refresh(tmp_path)[[*asked, "run"]] if contents else part)
        table = refresh(tmp_path)
        assert_says(table, contents)
        assert_same_table(table, from_nothing(tmp_path))


def test_types_are_those_that_users_expect(tmp_path: Path) -> None:
    columns: dict[str, tuple[list[Any], str]] = {
        "whole": ([1, 2, 1], "int64"),
        "whole or null": ([2**62 + 1, None, 1], "Int64"),
        "number": ([0.5, 1.5, 0.5], "float64"),
        "number or null": ([0.5, None, 1.5], "float64"),
        "whole or broken": ([1, 0.5, None], "float64"),
        "too large for a number": ([2**53 + 1, 0.5, None], "object"),
        "truth": ([True, False, True], "bool"),
        "truth or null": ([True, None, True], "boolean"),
        "text": (["5", "x", "5"], "str"),
        "text or null": (["5", None, "x"], "str"),
        "list": ([[1], [1, 2], []], "object"),
        "text or number": (["5", 5, 5.0], "object"),
        "null": ([None, None, None], "object"),
    }
    for run in range(3):
        write(tmp_path / str(run), {name: values[run] for name, (values, _) in columns.items()})
    for _ in ("built", "read"):
        table = refresh(tmp_path)
        assert {name: str(table[name].dtype) for name in columns} == {
            name: dtype for name, (_, dtype) in columns.items()
        }
        assert (table["text"] == "5").tolist() == [True, False, True]
        assert table.groupby("text")["whole"].sum().to_dict() == {"5": 2, "x": 2}
        assert table[table["whole or null"] < 5]["run"].tolist() == ["2"]
        assert table["text"].tolist() == ["5", "x", "5"]


def test_numbers_that_json_does_not_have_are_null_or_infinite(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / RESULT).write_text('{"a": NaN, "b": [NaN, -Infinity], "c": Infinity}')
    for _ in ("built", "read"):
        table = refresh(tmp_path)
        assert [table[name][0] for name in "abc"] == [None, [None, -math.inf], math.inf]


def experiment(directory: Path, runs: int = 6) -> dict[str, dict[str, Any]]:
    contents = {str(run): {"status": "finished", "steps": run, "final": {"val/acc": run / 7}} for run in range(runs)}
    for run, content in contents.items():
        write(directory / run, content)
    return contents


def test_only_what_has_changed_is_read(tmp_path: Path) -> None:
    contents = experiment(tmp_path)
    refresh(tmp_path)
    for run in ("1", "2"):
        path = tmp_path / run / RESULT
        before = path.stat()
        path.write_text(path.read_text().replace("finished", "diverged"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (run == "2")))
    contents["2"]["status"] = "diverged"
    assert_says(refresh(tmp_path), contents)


def test_the_index_is_left_alone_if_nothing_has_changed(tmp_path: Path) -> None:
    experiment(tmp_path)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / RESULT).write_text('{"status": "fin')
    refresh(tmp_path)
    before = (tmp_path / INDEX).stat()
    refresh(tmp_path)
    refresh(tmp_path, ["steps", "nothing"])
    read_records(tmp_path)
    assert (tmp_path / INDEX).stat().st_ino == before.st_ino
    assert (tmp_path / INDEX).stat().st_mtime_ns == before.st_mtime_ns


def test_columns_are_returned_as_asked(tmp_path: Path) -> None:
    experiment(tmp_path)
    for _ in ("built", "read"):
        table = refresh(tmp_path, ["steps", "never was", "final.val/acc"])
        assert list(table.columns) == ["steps", "never was", "final.val/acc", "run"]
        assert table["steps"].tolist() == list(range(6))
        assert table["never was"].tolist() == [None] * 6
    assert list(refresh(tmp_path, []).columns) == ["run"]


def test_nothing_is_a_table_too_and_leaves_nothing(tmp_path: Path) -> None:
    for directory in (tmp_path / "none", tmp_path):
        assert len(refresh(directory)) == 0
        assert list(refresh(directory, ["steps"]).columns) == ["steps", "run"]
        assert list(read_records(directory).columns) == ["path"]
    assert not list(tmp_path.iterdir())


def test_a_half_written_result_is_left_out_and_named(tmp_path: Path) -> None:
    contents = experiment(tmp_path, 3)
    whole = json.dumps(contents["1"] | {"error": "é"}, ensure_ascii=False).encode()
    rest = {run: content for run, content in contents.items() if run != "1"}
    for size in range(len(whole)):
        (tmp_path / "1" / RESULT).write_bytes(whole[:size])
        table = refresh(tmp_path)
        assert_says(table, rest)
        assert table.attrs["damaged"] == ["1"]
        assert refresh(tmp_path, ["steps"]).attrs["damaged"] == ["1"]
    assert read_records(tmp_path).attrs["damaged"] == [str(tmp_path / "1")]
    assert read_records(tmp_path / "1").attrs["damaged"] == [str(tmp_path / "1")]
    (tmp_path / "1" / RESULT).write_bytes(whole)
    table = refresh(tmp_path)
    assert_says(table, contents | {"1": contents["1"] | {"error": "é"}})
    assert table.attrs["damaged"] == []


@pytest.mark.parametrize(
    "content",
    ["[]", "5", "[" * 100_000, '{"\\ud800": 1}', '{"a.b": 1, "a": {"b": 2}}', f'{{"a": {"9" * 5000}}}', "\udcff"],
    ids=["list", "number", "deep", "name", "twice", "digits", "bytes"],
)
def test_what_is_no_result_is_left_out_and_named(tmp_path: Path, content: str) -> None:
    contents = experiment(tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / RESULT).write_bytes(content.encode(errors="surrogateescape"))
    table = refresh(tmp_path)
    assert_says(table, contents)
    assert table.attrs["damaged"] == ["bad"]


def test_a_result_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    contents = experiment(tmp_path)
    (tmp_path / "folder" / RESULT).mkdir(parents=True)
    (tmp_path / "circle").symlink_to("circle")
    table = refresh(tmp_path)
    assert_says(table, contents)
    assert table.attrs["damaged"] == ["circle", "folder"]


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    rng = random.Random(0)
    contents = {str(run): any_result(rng) for run in range(10)}
    for run, content in contents.items():
        write(tmp_path / run, content)
    expected = refresh(tmp_path)
    good = (tmp_path / INDEX).read_bytes()
    cut = [good[:size] for size in (0, 1, 4, len(good) // 2, len(good) - 1)]
    zeros = [good[: len(good) // 3] + bytes(len(good) // 3) + good[2 * len(good) // 3 :], bytes(len(good))]
    flipped = []
    for place in rng.sample(range(len(good)), 20):
        flipped.append(bytearray(good))
        flipped[-1][place] ^= 1 << rng.randrange(8)
    for bad in [*cut, *zeros, *flipped, b"PAR1" + rng.randbytes(100) + b"PAR1"]:
        (tmp_path / INDEX).write_bytes(bad)
        assert_same_table(refresh(tmp_path), expected)
        assert_same_table(refresh(tmp_path), expected)


def test_an_index_of_another_format_is_made_anew(tmp_path: Path) -> None:
    expected = [experiment(tmp_path), refresh(tmp_path)][1]
    table = pq.read_table(tmp_path / INDEX)
    wrong = table.set_column(table.column_names.index("steps"), "steps", pa.array([-1] * 6))
    for metadata in ({b"grok_lightning.index": b"0"}, {}):
        pq.write_table(wrong.replace_schema_metadata(metadata), tmp_path / INDEX)
        assert_same_table(refresh(tmp_path), expected)
        assert pq.read_table(tmp_path / INDEX)["steps"].to_pylist() == list(range(6))


def test_any_tool_reads_the_index(tmp_path: Path) -> None:
    experiment(tmp_path)
    refresh(tmp_path)
    table = pq.read_table(tmp_path / INDEX)
    assert table["final.val/acc"].to_pylist() == [run / 7 for run in range(6)]
    assert table["status"].to_pylist() == ["finished"] * 6


def test_texts_of_runs_that_have_gone_leave_the_index(tmp_path: Path) -> None:
    experiment(tmp_path)
    for attempt in range(5):
        write(tmp_path / "0", {"status": "failed", "error": f"error {attempt}", "list": [attempt]})
        refresh(tmp_path)
    content = (tmp_path / INDEX).read_bytes()
    assert b"error 4" in content
    assert b"error 3" not in content


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS, errno.EACCES], ids=["full", "read-only", "not ours"])
def test_where_no_index_can_be_written_the_table_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(reason, os.strerror(reason), path)

    contents = experiment(tmp_path)
    monkeypatch.setattr(parquet, "write_durably", refuse)
    assert_says(refresh(tmp_path), contents)
    assert_says(refresh(tmp_path), contents)
    assert not (tmp_path / INDEX).exists()


def test_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    experiment(tmp_path)
    leftover = tmp_path / INDEX.parent / f".saving-1-{INDEX.name}"
    other = tmp_path / INDEX.parent / ".saving-1-plan.json"
    leftover.parent.mkdir()
    leftover.touch()
    other.touch()
    refresh(tmp_path)
    assert {path.name for path in leftover.parent.iterdir()} == {INDEX.name, other.name}


def test_processes_that_refresh_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    experiment(tmp_path, 30)
    program = f"""
from pathlib import Path
from grok_lightning.index import refresh
for _ in range(40):
    table = refresh(Path({str(tmp_path)!r}))
    assert table["steps"].tolist() == [int(run) for run in table["run"]], table
    assert len(table) >= 29 and not table.attrs["damaged"]
"""
    others = [subprocess.Popen([sys.executable, "-W", "error", "-c", program]) for _ in range(2)]
    changes = 0
    while any(process.poll() is None for process in others):
        run = changes % 30
        write_json(tmp_path / str(run) / RESULT, {"status": "stopped", "steps": run, f"field {changes % 7}": changes})
        refresh(tmp_path)
        changes += 1
    assert [process.returncode for process in others] == [0, 0]
    assert_same_table(refresh(tmp_path), from_nothing(tmp_path))


def test_records_are_the_finished_runs(tmp_path: Path) -> None:
    for run in ("0", "1", "2"):
        logs, _ = run_directories(tmp_path, "addition", run)
        append_metrics(logs, {"step": 0, "val/acc": 0.1})
        if run != "1":
            result = {"grok_step": 100 + int(run), "final": {"val/acc": 1.0}, "config": {"data": {"modulus": 97}}}
            write_json(logs / RESULT, result)
    top = tmp_path / "lightning_logs"
    table = read_records(top)
    assert list(table["grok_step"]) == [100, 102]
    assert set(table.columns) == {"grok_step", "final.val/acc", "config.data.modulus", "path"}
    assert [Path(path).name for path in table["path"]] == ["0", "2"]
    assert_same_table(read_records([top / "addition" / "0", top / "addition", str(top)]), table)
    assert_same_table(read_records([top / "addition" / "2", str(top / "addition" / "0")]), table)
    assert len(read_records(tmp_path / "nothing")) == 0


def test_records_of_experiments_stand_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("logs/b/1"), {"status": "finished", "step": 1, "lr": 0.1, "extra": [1]})
    write(Path("logs/b/0"), {"status": "finished", "step": 2, "lr": 1, "name": "x"})
    write(Path("logs/a/deep/7"), {"status": "failed", "step": None, "lr": None, "error": "no"})
    write(Path("logs/a b/10"), {"status": "finished", "step": 3, "lr": 2})
    write(Path("logs/alone"), {"status": "finished", "step": 4, "lr": 2})
    for hidden in ("logs/.trash/0", "logs/b/.2", "logs/b/.sweep/3"):
        write(Path(hidden), {"status": "finished"})
    for _ in ("built", "read"):
        table = read_records("logs")
        assert table["path"].tolist() == ["logs/a/deep/7", "logs/a b/10", "logs/alone", "logs/b/0", "logs/b/1"]
        assert table["status"].tolist() == ["failed", *["finished"] * 4]
        assert table["step"].dtype == "Int64"
        assert table["step"].tolist() == [pd.NA, 3, 4, 2, 1]
        assert table["lr"].dtype == "float64"
        assert table["lr"].tolist()[1:] == [2, 2, 1, 0.1]
        assert table["extra"].tolist() == [None, None, None, None, [1]]
        assert list(table.columns) == ["status", "step", "lr", "error", "name", "extra", "path"]
    assert_same_table(read_records([Path("logs/b/1"), "logs/b/0"]), read_records("logs/b"))


def test_a_run_is_read_from_within_and_by_way_of_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "elsewhere" / "0", {"steps": 5})
    (tmp_path / "logs" / "e").mkdir(parents=True)
    (tmp_path / "logs" / "e" / "link").symlink_to(tmp_path / "elsewhere" / "0")
    (tmp_path / "logs" / "e" / "up").symlink_to(tmp_path / "logs")
    assert read_records(tmp_path / "logs")["path"].tolist() == [str(tmp_path / "logs" / "e" / "link")]
    monkeypatch.chdir(tmp_path / "elsewhere" / "0")
    assert read_records(".")["path"].tolist() == ["."]
    assert not (tmp_path / "elsewhere" / ".sweep").exists()
