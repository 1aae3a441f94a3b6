"""Records and curves come back from an archive as they were, metrics in single precision."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from grok_lightning.records.archive import read_archive, read_archive_and_plan, write_archive
from grok_lightning.records.results import read_records

VALUES = {
    "integers": [1, -5, 2**62],
    "some integers": [1, None, 2**62],
    "huge": [2**70, 1, None],
    "numbers": [0.1, 1e-300, None],
    "mixed numbers": [1, 0.5, None],
    "truths": [True, False, None],
    "text": ["", "é ☃ 𝄞", None],
    "lists": [[0.9, 0.98], [], [None, "x", {"a": [1]}]],
    "anything": ["full", 64, [1, 2]],
    "nothing": [None, None, None],
    "empty": [{}, {}, None],
}


def records(directory: Path, values: dict[str, list]) -> pd.DataFrame:
    """The table of runs whose ``result.json`` have these values; a field of None is left out of the last."""
    count = len(next(iter(values.values())))
    for place in range(count):
        content = {
            name: column[place] for name, column in values.items() if place < count - 1 or column[place] is not None
        }
        path = directory / f"run {place}" / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    return read_records(directory)


def empty_curves() -> pd.DataFrame:
    return pd.DataFrame({"run": pd.Series(dtype=object), "step": pd.Series(dtype=int)})


def values_of(column: pd.Series) -> list:
    return [None if value is None or value is pd.NA or value != value else value for value in column]


@pytest.mark.parametrize("name", VALUES)
def test_values_of_every_type_come_back(tmp_path, name):
    runs = records(tmp_path / "logs", {name: VALUES[name]})
    write_archive(tmp_path / "runs.parquet", runs, empty_curves())
    found, _ = read_archive(tmp_path / "runs.parquet")
    assert values_of(found[name]) == values_of(runs[name])
    assert [type(value) for value in values_of(found[name])] == [type(value) for value in values_of(runs[name])]
    assert found[name].dtype == runs[name].dtype
    assert found["path"].tolist() == runs["path"].tolist()


def test_all_fields_together_twice_over(tmp_path):
    runs = records(tmp_path / "logs", VALUES)
    for path in (tmp_path / "one.parquet", tmp_path / "two.parquet"):
        write_archive(path, runs, empty_curves())
        found, curves = read_archive(path)
        pd.testing.assert_frame_equal(found, runs.set_flags(), check_flags=False)
        assert len(curves) == 0
        runs = found
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def some_curves(runs: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Evaluations of the runs, the second without any, in no order of runs."""
    parts = []
    for place in random.permutation(len(runs)):
        if place != 1:
            steps = np.cumsum(random.integers(1, 10**9, 5 + place))
            columns = {"run": runs["path"][place], "step": steps, "val/acc": random.random(len(steps))}
            parts.append(
                pd.DataFrame(columns | {"norm/ü": np.where(steps % 2, math.nan, 1e30 * random.random(len(steps)))})
            )
    return pd.concat(parts, ignore_index=True)


def test_curves_come_back_in_single_precision(tmp_path):
    runs = records(tmp_path / "logs", {"a": [1, 2, 3, 4]})
    curves = some_curves(runs, np.random.default_rng(0))
    write_archive(tmp_path / "runs.parquet", runs, curves)
    _, found = read_archive(tmp_path / "runs.parquet")
    assert found.columns.tolist() == curves.columns.tolist()
    assert found["run"].drop_duplicates().tolist() == runs["path"][[0, 2, 3]].tolist()  # in the runs' order
    for run, expected in curves.groupby("run"):
        mine = found[found["run"] == run]
        assert mine["step"].tolist() == expected["step"].tolist()
        assert mine["step"].dtype == np.int64
        for name in ("val/acc", "norm/ü"):
            assert mine[name].dtype == np.float32
            np.testing.assert_array_equal(mine[name].to_numpy(), expected[name].to_numpy(np.float32))


def test_a_second_archive_of_an_archive_is_the_same(tmp_path):
    runs = records(tmp_path / "logs", {"a": [1, 2, 3, 4]})
    write_archive(tmp_path / "one.parquet", runs, some_curves(runs, np.random.default_rng(0)))
    write_archive(tmp_path / "two.parquet", *read_archive(tmp_path / "one.parquet"))
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_an_archive_takes_a_few_bytes_for_each_number(tmp_path):
    runs = records(tmp_path / "logs", {"a": [1] * 20, "text": ["the same words for all of them" * 10] * 20})
    random = np.random.default_rng(0)
    curves = pd.concat([some_curves(runs, random) for _ in range(20)])
    write_archive(tmp_path / "runs.parquet", runs, curves)
    assert (tmp_path / "runs.parquet").stat().st_size < 16 * len(curves) + 5000


def test_the_plan_of_a_sweep_is_kept(tmp_path):
    runs = pd.DataFrame({"path": ["e/a", "e/b"]})
    plan = pd.DataFrame({"config_hash": ["a", "b"], "data.formula": ["x + y", None]}, dtype=object)
    write_archive(tmp_path / "runs.parquet", runs, empty_curves(), plan)
    pd.testing.assert_frame_equal(read_archive_and_plan(tmp_path / "runs.parquet")[2], plan)
    write_archive(tmp_path / "without.parquet", runs, empty_curves())
    assert read_archive_and_plan(tmp_path / "without.parquet")[2] is None
