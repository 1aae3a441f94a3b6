"""The table of results says what the runs' own files say, and only what has changed is read again."""

import math
import os
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from results_of_every_kind import INDEX, any_result, assert_same_table, assert_says, experiment, from_nothing, write

from grok_lightning.errors import UserError
from grok_lightning.records.record import RESULT, flatten
from grok_lightning.records.results import read_records, refresh


@pytest.mark.parametrize("seed", range(4))
def test_the_table_says_exactly_what_the_files_say(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grok_lightning.records.results.ROWS_AT_ONCE", [2048, 1, 7, 3][seed])
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
    assert list(read_records(tmp_path).columns) == ["path"]
    assert not list(tmp_path.iterdir())


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


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nosuch' is no directory; give a run's, or one above it"):
        read_records(tmp_path / "nosuch")
