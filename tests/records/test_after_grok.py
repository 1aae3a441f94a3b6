"""Whether accuracy holds after the grok is what the definitions say, wherever the curve comes from."""

import json
import math
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from grok_lightning.records.after_grok import (
    AFTER,
    FIELDS,
    KEYS,
    Dip,
    after_grok,
    complete,
    describe_record,
    find_dips,
    is_at,
    tabulate,
)
from grok_lightning.records.archive import read_archive, write_archive
from grok_lightning.records.form import find_fault
from grok_lightning.records.record import RESULT, Row, milestones, reaches, write_json, write_metrics
from grok_lightning.records.results import INDEX, read_records, refresh

COUNTS = {"train": 40, "val": 200}
CONFIG = {"data": {"class_path": "grok_lightning.data.ModularArithmeticDataModule", "val_fraction": None}}


def rows(*accuracies: tuple[float, float]) -> list[Row]:
    return [{"step": 10 * place, "train/acc": train, "val/acc": val} for place, (train, val) in enumerate(accuracies)]


def described(table: list[Row], threshold: float = 0.99, diverged_at: int | None = None, **counts: Any) -> dict:
    columns = tabulate(table)
    return after_grok(
        columns["step"], columns["train/acc"], columns["val/acc"], COUNTS | counts, threshold, diverged_at
    )


def by_definition(table: list[Row], counts: dict[str, int], threshold: float, diverged_at: int | None) -> dict:
    """The definitions, evaluation by evaluation, without arrays."""

    def is_above(row: Row, split: str, level: Fraction) -> bool:
        share = row[f"{split}/acc"]
        return not math.isnan(share) and round(share * counts[split]) >= level * counts[split]

    at = Fraction(str(threshold))
    found: dict[str, Any] = dict.fromkeys(KEYS)
    grokked = memorized = False
    after: list[Row] = []
    trained: list[Row] = []
    grok_step = 0
    for row in table:
        if memorized:
            trained.append(row)
        if grokked:
            after.append(row)
        if not memorized and is_above(row, "train", at):
            memorized = True
        if not grokked and is_above(row, "val", at):
            grokked, grok_step = True, int(row["step"])
    for row in trained:
        if not is_above(row, "train", min(at, Fraction(9, 10))) and found["collapse_step"] is None:
            found |= {"collapsed": True, "collapse_step": int(row["step"])}
    if memorized and found["collapsed"] is None and diverged_at is not None:
        found |= {"collapsed": True, "collapse_step": diverged_at}
    if memorized and found["collapsed"] is None and len(trained) >= 5:
        found["collapsed"] = False
    if not grokked:
        return found
    found["evaluations"] = len(after)
    found["watched"] = table[-1]["step"] / grok_step if grok_step else None
    good = [is_above(row, "val", at) for row in after]
    if not all(good[:5]) or (len(after) < 5 and diverged_at is not None):
        found["sustained"] = False
    elif len(after) >= 5:
        found["sustained"] = True
    fallen = [int(row["step"]) for row in after if not is_above(row, "val", min(at, Fraction(95, 100)))]
    fallen += [diverged_at] if diverged_at is not None else []
    if fallen:
        found |= {"stable": False, "lost_step": fallen[0]}
    elif len(after) >= 5:
        found["stable"] = True
    if after:
        found["dips"] = sum(not now and before for before, now in zip([True, *good], good, strict=False))
        found["below"] = good.count(False)
        known = [row["val/acc"] for row in after if not math.isnan(row["val/acc"])]
        found["lowest"] = min(known) if known else None
    return found


def test_any_curve_is_described_as_the_definitions_say() -> None:
    rng = random.Random(0)
    seen = set()
    for _ in range(3000):
        counts = {"train": rng.choice([1, 7, 40, 100]), "val": rng.choice([1, 20, 100, 199])}
        threshold = rng.choice([0.99, 0.99, 1.0, 0.95, 0.9, 0.5])
        high, steps = rng.random() ** 0.1, sorted(rng.sample(range(60), rng.randrange(1, 16)))
        table = [
            {"step": step}
            | {
                f"{split}/acc": math.nan
                if rng.random() < 0.02
                else rng.randint(int(counts[split] * (0.9 if rng.random() < high else 0)), counts[split])
                / counts[split]
                for split in counts
            }
            for step in steps
        ]
        diverged_at = steps[-1] + rng.randrange(3) if rng.random() < 0.1 else None
        columns = tabulate(table)
        found = after_grok(columns["step"], columns["train/acc"], columns["val/acc"], counts, threshold, diverged_at)
        assert found == by_definition(table, counts, threshold, diverged_at)
        first = milestones(table, counts, threshold, 1)
        assert (found["evaluations"] is None) == (first["grok_step"] is None)
        single = {name: column.astype(np.float32) for name, column in columns.items()}
        unknown = {"train": None, "val": math.nan}
        archived = after_grok(columns["step"], single["train/acc"], single["val/acc"], unknown, threshold, diverged_at)
        assert {**archived, "lowest": None} == {**found, "lowest": None}, "as an archive without counts holds it"
        seen |= {(name, found[name]) for name in ("sustained", "stable", "collapsed")}
    assert len(seen) == 9, "each is true, false and not known"


@pytest.mark.parametrize(
    ("later", "sustained", "stable", "collapsed"),
    [
        pytest.param([], None, None, None, id="over at the grok"),
        pytest.param([1.0] * 4, None, None, None, id="four more: not known"),
        pytest.param([1.0] * 5, True, True, False, id="five more"),
        pytest.param([1.0] * 5 + [0.98], True, True, False, id="a shallow dip later"),
        pytest.param([0.96] + [1.0] * 9, False, True, False, id="a shallow dip at once"),
        pytest.param([1.0, 0.94], False, False, None, id="a loss is known when it is seen"),
        pytest.param([1.0] * 30 + [0.3], True, False, False, id="lost at the very end"),
    ],
)
def test_a_loss_is_known_when_it_is_seen_and_its_absence_after_five_evaluations(
    later: list[float], sustained: bool | None, stable: bool | None, collapsed: bool | None
) -> None:
    found = described(rows((0.5, 0.1), (1.0, 1.0), *((1.0, val) for val in later)))
    assert (found["sustained"], found["stable"], found["collapsed"]) == (sustained, stable, collapsed)
    assert found["evaluations"] == len(later)
    assert found["watched"] == 1 + len(later)


def test_dips_have_ends_lengths_and_depths() -> None:
    table = tabulate(rows(*((1.0, val) for val in (0.2, 1.0, 0.98, 0.6, 1.0, 0.985, 1.0, 0.5))))
    at = is_at(table["val/acc"], 200, 0.99)
    dips = [Dip(20, 30, 2, 0.6), Dip(50, 50, 1, 0.985), Dip(70, 70, 1, 0.5)]
    assert find_dips(table["step"], table["val/acc"], at) == dips
    found = described(rows(*((1.0, val) for val in (0.2, 1.0, 0.98, 0.6, 1.0, 0.985, 1.0, 0.5))))
    assert (found["dips"], found["below"], found["lowest"], found["lost_step"]) == (3, 4, 0.5, 30)
    assert find_dips([0, 10], [0.1, 0.2], [False, False]) == []


def test_a_run_that_never_grokked_may_have_collapsed() -> None:
    found = described(rows((0.1, 0), (1.0, 0.1), (1.0, 0.1), (0.85, 0.1), (1.0, 0.1)))
    assert found == dict.fromkeys(KEYS) | {"collapsed": True, "collapse_step": 30}


def test_a_run_without_held_out_rows_has_no_grok() -> None:
    table = tabulate(rows(*[(1.0, 1.0)] * 8))
    found = after_grok(table["step"], table["train/acc"], None, COUNTS, 0.99)
    assert found == dict.fromkeys(KEYS) | {"collapsed": False}


def test_a_run_that_diverged_has_lost_its_accuracy() -> None:
    found = described(rows(*[(1.0, 1.0)] * 9), diverged_at=83)
    assert (found["sustained"], found["stable"], found["lost_step"]) == (True, False, 83)
    assert (found["collapsed"], found["collapse_step"], found["dips"]) == (True, 83, 0)
    assert described(rows((1.0, 1.0), (1.0, 1.0)), diverged_at=13)["sustained"] is False


@pytest.mark.parametrize("threshold", [0.99, 0.95, 0.9, 1.0])
def test_a_share_is_at_a_threshold_as_everywhere_else(threshold: float) -> None:
    for count in (1, 3, 97, 100, 4705, 12_769):
        shares = [right / count for right in range(max(0, count - 300), count + 1)] + [math.nan]
        assert is_at(shares, count, threshold).tolist() == [reaches(share, count, threshold) for share in shares]


def record(**changes: Any) -> dict[str, Any]:
    table = rows((0.1, 0.1), (1.0, 1.0), *[(1.0, 1.0)] * 5, (1.0, 0.5))
    found = {"status": "finished", "steps": 70, "budget": 70, **milestones(table, COUNTS, 0.99, 1), "threshold": 0.99}
    return found | {"counts": COUNTS, "seconds": 1.0, "stack": 1, "config": CONFIG, "config_hash": "h"} | changes


def write_run(directory: Path, content: dict[str, Any]) -> None:
    directory.mkdir(parents=True)
    write_metrics(directory, rows((0.1, 0.1), (1.0, 1.0), *[(1.0, 1.0)] * 5, (1.0, 0.5)))
    write_json(directory / RESULT, content)


EXPECTED = {"evaluations": 6, "watched": 7.0, "sustained": True, "stable": False, "lost_step": 70, "dips": 1,
            "below": 1, "lowest": 0.5, "collapsed": False, "collapse_step": None}  # fmt: skip


def fields(table: pd.DataFrame, row: int = 0) -> dict[str, Any]:
    return {key: None if pd.isna(value := table[f"{AFTER}.{key}"].iloc[row]) else value for key in KEYS}


def test_records_from_before_are_described_from_their_evaluations(tmp_path: Path) -> None:
    new = {key: (2.0 if key == "watched" else value) for key, value in EXPECTED.items()}
    write_run(tmp_path / "e" / "new", record() | {AFTER: new})
    write_run(tmp_path / "e" / "old", record())
    for _ in ("built", "read from the index"):
        table = read_records(tmp_path / "e")
        assert [fields(table, row) for row in (0, 1)] == [new, EXPECTED], "what is recorded is left as it is"
        assert fields(refresh(tmp_path / "e", FIELDS), 1) == EXPECTED
    (tmp_path / "e" / "old" / "metrics.csv").unlink()
    (tmp_path / "e" / INDEX).unlink()
    assert fields(read_records(tmp_path / "e"), 1) == dict.fromkeys(KEYS), "without evaluations nothing is known"
    assert json.loads((tmp_path / "e" / "old" / RESULT).read_text()).keys() == record().keys(), "no file is changed"


def test_an_index_from_before_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "e" / "old", record())
    with monkeypatch.context() as earlier:
        earlier.setattr("grok_lightning.records.results._complete", lambda _, content: content)
        assert not any(str(name).startswith(AFTER) for name in read_records(tmp_path / "e"))
    (tmp_path / "e" / INDEX).stat()
    assert fields(refresh(tmp_path / "e", ("status", *FIELDS))) == EXPECTED
    assert fields(read_records(tmp_path / "e")) == EXPECTED


def test_an_archive_from_before_is_described_from_its_curves(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / "e" / name, record())
    runs = read_records(tmp_path / "e").drop(columns=[*FIELDS])
    runs = runs.drop(columns=["counts.train", "counts.val"])
    table = rows((0.1, 0.1), (1.0, 1.0), *[(1.0, 1.0)] * 5, (1.0, 0.5))
    curves = pd.DataFrame(table).assign(run=runs["path"][1])[["run", "step", "train/acc", "val/acc"]]
    write_archive(tmp_path / "runs.parquet", runs, curves)
    found = complete(*read_archive(tmp_path / "runs.parquet"))
    assert fields(found, 1) == EXPECTED
    assert fields(found, 0) == dict.fromkeys(KEYS), "a run without a curve"
    write_archive(tmp_path / "again.parquet", found, curves)
    again = complete(*read_archive(tmp_path / "again.parquet"))
    assert [fields(again, row) for row in (0, 1)] == [fields(found, row) for row in (0, 1)]


def test_strings_to_memorize_have_no_grok_in_old_records_either() -> None:
    flat = {"status": "finished", "threshold": 0.99, "config.data.class_path": "grok_lightning.data.TextDataModule"}
    assert describe_record(flat, tabulate(rows(*[(1.0, 1.0)] * 8)))["evaluations"] is None
    assert describe_record(flat | {"config.data.val_fraction": 0.5}, tabulate(rows((1.0, 1.0))))["evaluations"] == 0


@pytest.mark.parametrize("field", FIELDS)
def test_a_damaged_field_is_named(field: str) -> None:
    whole = {"status": "finished", "steps": 1, "budget": 1, "threshold": 0.9}
    right: Any = True if field.rpartition(".")[2] in ("sustained", "stable", "collapsed") else 1
    assert find_fault(whole | {field: right}) is find_fault(whole | {field: None}) is None
    assert str(find_fault(whole | {field: "x"})).startswith(f"{field} is")
