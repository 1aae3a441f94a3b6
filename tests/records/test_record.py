"""A run's record says exactly what happened, and can be read whatever happened."""

import json
import math
import os
import random
import struct
from pathlib import Path

import pytest

from grok_lightning.records.record import (
    METRICS,
    RESULT,
    Row,
    append_metrics,
    config_hash,
    flatten,
    milestones,
    reaches,
    read_metrics,
    standing,
    write_json,
    write_metrics,
)

COUNTS = {"train": 100, "val": 200}


def rows(*accuracies: tuple[float, float]) -> list[Row]:
    return [{"step": 10 * place, "train/acc": train, "val/acc": val} for place, (train, val) in enumerate(accuracies)]


def any_double(rng: random.Random) -> float:
    return struct.unpack("<d", rng.randbytes(8))[0]


def bits(value: float) -> bytes:
    return b"nan" if math.isnan(value) else struct.pack("<d", value)


def test_metrics_come_back_bit_for_bit(tmp_path: Path) -> None:
    rng = random.Random(0)
    special = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan]
    values = special + [any_double(rng) for _ in range(200)]
    written = [
        {"step": step, "val/acc": value, "norm/gradient": rng.choice(values)} for step, value in enumerate(values)
    ]
    for row in written:
        append_metrics(tmp_path, row)
    found = read_metrics(tmp_path)
    assert [{key: bits(value) for key, value in row.items()} for row in found] == [
        {key: bits(value) for key, value in row.items()} for row in written
    ]
    assert all(type(row["step"]) is int for row in found)


def test_appending_and_writing_at_once_make_the_same_file(tmp_path: Path) -> None:
    table = rows((0.1, 0.2), (0.3, 0.4), (1.0, math.nan))
    for row in table:
        append_metrics(tmp_path / "appended", row)
    write_metrics(tmp_path / "written", table)
    assert (tmp_path / "appended" / METRICS).read_bytes() == (tmp_path / "written" / METRICS).read_bytes()


def test_an_empty_record_has_no_rows(tmp_path: Path) -> None:
    write_metrics(tmp_path, [])
    assert read_metrics(tmp_path) == []


def test_an_unfinished_last_line_is_left_out_and_replaced_by_the_next_row(tmp_path: Path) -> None:
    table = rows((0.1, 0.2), (0.3, 0.4))
    write_metrics(tmp_path, table)
    whole = (tmp_path / METRICS).read_bytes()
    for length in range(whole[:-1].rfind(b"\n") + 1, len(whole)):
        (tmp_path / METRICS).write_bytes(whole[:length])
        assert read_metrics(tmp_path) == table[:-1]
        append_metrics(tmp_path, table[-1])
        assert read_metrics(tmp_path) == table


@pytest.mark.parametrize("head", ["", "train/acc,val/acc", "step,val/acc,val/acc"])
def test_a_file_without_steps_or_with_a_column_twice_is_refused(tmp_path: Path, head: str) -> None:
    (tmp_path / METRICS).write_text(f"{head}\n0,1,1\n")
    with pytest.raises(ValueError, match="expected: step and metrics, each once"):
        read_metrics(tmp_path)


def test_a_new_key_widens_the_table(tmp_path: Path) -> None:
    append_metrics(tmp_path, {"step": 0, "val/acc": 0.25})
    append_metrics(tmp_path, {"step": 5, "val/acc": 0.5, "norm/gradient": 2.0})
    append_metrics(tmp_path, {"step": 9, "val/acc": 0.75})
    found = read_metrics(tmp_path)
    assert [row["val/acc"] for row in found] == [0.25, 0.5, 0.75]
    assert [bits(row["norm/gradient"]) for row in found] == [b"nan", bits(2.0), b"nan"]


@pytest.mark.parametrize(
    ("accuracies", "memorize", "memorize_after", "grok", "grok_after", "sustained"),
    [
        pytest.param([(0.1, 0.1), (0.98, 0.985)], None, None, None, None, None, id="neither"),
        pytest.param([(0.1, 0.1), (0.99, 0.2)], 10, 0, None, None, None, id="memorized"),
        pytest.param([(0.1, 0.1), (0.5, 0.2), (1, 0.2), (1, 0.99)], 20, 10, 30, 20, None, id="too new to be sustained"),
        pytest.param([(0.1, 0), (1, 0), (1, 0.99), (1, 1)], 10, 0, 20, 10, 20, id="sustained from the start"),
        pytest.param([(1, 1), (1, 1)], 0, None, 0, None, 0, id="at step 0"),
        pytest.param([(0, 0), (1, 1), (1, 0.5), (1, 1), (1, 1)], 10, 0, 10, 0, 30, id="fell back"),
        pytest.param([(0, 0), (1, 1), (1, 1), (1, 0.5)], 10, 0, 10, 0, None, id="fell back for good"),
        pytest.param([(0.1, 1), (0.1, 1), (0.1, 1)], None, None, 0, None, 0, id="grokked without memorizing"),
        pytest.param([(0.1, 0.1), (math.nan, math.nan)], None, None, None, None, None, id="diverged"),
    ],
)
def test_milestones(
    accuracies: list[tuple[float, float]],
    memorize: int | None,
    memorize_after: int | None,
    grok: int | None,
    grok_after: int | None,
    sustained: int | None,
) -> None:
    assert milestones(rows(*accuracies), COUNTS, 0.99, sustain=2) == {
        "memorize_step": memorize,
        "memorize_after": memorize_after,
        "grok_step": grok,
        "grok_after": grok_after,
        "sustained_grok_step": sustained,
    }


def test_sustained_means_at_least_k_evaluations_to_the_end() -> None:
    for standing_rows in range(6):
        for sustain in (1, 3, 5):
            table = rows((1, 1), (1, 0), *[(1, 1)] * standing_rows)
            assert standing(table, COUNTS, 0.99) == standing_rows
            found = milestones(table, COUNTS, 0.99, sustain)["sustained_grok_step"]
            assert found == (20 if standing_rows >= sustain else None)


def test_no_evaluations_no_milestones() -> None:
    assert set(milestones([], COUNTS, 0.99, 3).values()) == {None}
    assert standing([], COUNTS, 0.99) == 0


def test_thresholds_compare_numbers_of_right_answers() -> None:
    for count in (1, 7, 97, 4705, 7662, 9409):
        for threshold in (0.5, 0.9, 0.99, 0.999, 1.0):
            needed = -(-round(threshold * 1000) * count // 1000)
            for right in (needed - 1, needed):
                for accuracy in (right / count, struct.unpack("<f", struct.pack("<f", right / count))[0]):
                    assert reaches(accuracy, count, threshold) == (right == needed)
                    assert reaches(right / count, None, threshold) == (right == needed)


def test_thresholds_at_the_edge() -> None:
    assert reaches(0.99999994, 7662, 1.0)
    assert reaches(4658 / 4705, 4705, 0.99)
    assert not reaches(4657 / 4705, 4705, 0.99)
    assert not reaches(math.nan, 4705, 0.99)


def test_json_holds_null_where_a_number_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / RESULT, {"final": {"val/loss": math.nan}, "list": [1.5, math.inf, (-math.inf,)], "steps": 3})
    found = json.loads((tmp_path / RESULT).read_text(), parse_constant=pytest.fail)
    assert found == {"final": {"val/loss": None}, "list": [1.5, None, [None]], "steps": 3}


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    write_json(tmp_path / RESULT, {"steps": 1})
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_json(tmp_path / RESULT, {"steps": 2})
    assert json.loads((tmp_path / RESULT).read_text()) == {"steps": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == [RESULT]


DEFAULTS = {"data": {"modulus": 97, "formula": "x + y"}, "trainer": {"max_steps": 10, "devices": 1}, "run": "0"}
IGNORED = ("trainer.devices", "run", "checkpoint")


def hashed(**groups: object) -> str:
    return config_hash(DEFAULTS | groups, DEFAULTS, IGNORED)


def test_the_hash_sees_results_alone() -> None:
    assert (
        hashed()
        == hashed(run="7")
        == hashed(checkpoint={"every": 5})
        == hashed(trainer={"max_steps": 10, "devices": 8})
    )
    assert config_hash({}, DEFAULTS, IGNORED) == hashed(), "an option at its default counts as one not given"
    changed = [
        hashed(data={"modulus": 113, "formula": "x + y"}),
        hashed(data={"modulus": 97, "formula": "x - y"}),
        hashed(trainer={"max_steps": 11, "devices": 1}),
        hashed(runner="1"),
    ]
    assert len({hashed(), *changed}) == 5


def test_the_hash_does_not_depend_on_the_order_of_options() -> None:
    assert hashed(data={"modulus": 5, "formula": "x"}, b=1) == config_hash(
        {"b": 1, "data": {"formula": "x", "modulus": 5}}, DEFAULTS, IGNORED
    )


def test_flattening_keeps_lists_and_empty_mappings() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [{"e": 2}], "f": {}}, "g": None}) == {
        "a.b.c": 1,
        "a.d": [{"e": 2}],
        "a.f": {},
        "g": None,
    }
