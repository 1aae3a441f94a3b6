"""The table of results is right whatever the index and the results have gone through."""

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from results_of_every_kind import INDEX, any_result, assert_same_table, assert_says, experiment, from_nothing, write

from grok_lightning.records import parquet
from grok_lightning.records.planned import PLANNED, read_planned, save_planned
from grok_lightning.records.record import RESULT, write_json
from grok_lightning.records.results import read_records, refresh


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
    for metadata in ({b"grok_lightning.records": b"0"}, {parquet.MARK: parquet.FIRST_FORMAT}, {}):
        pq.write_table(wrong.replace_schema_metadata(metadata), tmp_path / INDEX)
        assert_same_table(refresh(tmp_path), expected)
        assert pq.read_table(tmp_path / INDEX)["steps"].to_pylist() == list(range(6))
    save_planned(tmp_path, ["0"], ["steps"], {"steps": [5]})
    (tmp_path / PLANNED).replace(tmp_path / INDEX)
    assert_same_table(refresh(tmp_path), expected)


def test_a_plan_of_the_first_format_is_read(tmp_path: Path) -> None:
    save_planned(tmp_path, ["a", "b"], ["seed_everything"], {"seed_everything": [3, 4]})
    expected = read_planned(tmp_path)
    assert expected is not None
    table = pq.read_table(tmp_path / PLANNED).replace_schema_metadata({parquet.MARK: parquet.FIRST_FORMAT})
    pq.write_table(table, tmp_path / PLANNED)
    content = (tmp_path / PLANNED).read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    (tmp_path / PLANNED).write_bytes(content[:footer] + bytes(32) + content[footer:])  # where its checksum was
    assert_same_table(read_planned(tmp_path), expected)


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


@pytest.mark.slow
def test_processes_that_refresh_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    experiment(tmp_path, 30)
    program = f"""
from pathlib import Path
from grok_lightning.records.results import refresh
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


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (".mtime_ns", pa.array(["a"] * 3)),
        (".size", pa.nulls(3)),
        (".run", pa.array([1, 2, 3])),
        (".fields", pa.array(["["] * 3).dictionary_encode()),
        (".fields", pa.array(['{"a": 1}'] * 3).dictionary_encode()),
        (".fields", pa.array(['["lost"]'] * 3).dictionary_encode()),
        (".fields", pa.array([b"1"] * 3)),
        ("steps", pa.array([[1], [2], [3]])),
        ("steps", pa.array([b"{", b"1", b"2"]).dictionary_encode()),
    ],
)
def test_an_index_whose_sums_agree_is_rebuilt_if_its_columns_are_none_of_ours(
    tmp_path: Path, column: str, values: pa.Array
) -> None:
    contents = experiment(tmp_path, 3)
    refresh(tmp_path)
    table = parquet.load(tmp_path / INDEX)
    assert table is not None
    parquet.save(tmp_path / INDEX, table.set_column(table.column_names.index(column), column, values))
    assert_says(refresh(tmp_path), contents)
    assert parquet.load(tmp_path / INDEX) == table
