"""Splits as files: what is written is read back to the bit, and what is no split of the table is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from grok_lightning.data import (
    CyclicProductDataModule,
    ModularArithmeticDataModule,
    PermutationDataModule,
    SignedRemaindersDataModule,
    TableDataModule,
    TextDataModule,
)
from grok_lightning.data.split_files import write_splits
from grok_lightning.errors import UserError

SEVEN = {"formula": "x + y", "modulus": 7}
WRITTEN: list[tuple[type[TableDataModule], dict[str, Any]]] = [
    (ModularArithmeticDataModule, {"formula": "x / y", "modulus": 7, "train_fraction": 0.4, "val_fraction": 0.3}),
    (ModularArithmeticDataModule, {"formula": "x + y", "modulus": 7, "pairing": "half"}),
    (ModularArithmeticDataModule, {"formula": "x * y", "modulus": 11, "tokenizer": "characters", "answer_noise": 9}),
    (ModularArithmeticDataModule, {"formula": "x1 + x2 + x3", "modulus": 5, "rows": 60, "rows_seed": 2}),
    (ModularArithmeticDataModule, {"formula": "x1 + x2", "operands": 30, "rows": 50, "modulus": 5}),
    (PermutationDataModule, {"formula": "x * y", "degree": 4, "commutative_fraction": 0.3}),
    (CyclicProductDataModule, {"formula": "x + y", "moduli": (2, 3)}),
    (SignedRemaindersDataModule, {"formula": "x - y", "modulus": 7, "batch_size": "full"}),
]


@pytest.mark.parametrize(("kind", "options"), WRITTEN)
def test_a_run_from_the_files_is_the_run_from_the_options(
    kind: type[TableDataModule], options: dict[str, Any], tmp_path: Path
) -> None:
    drawn = kind(**options, seeds=[3])
    counts = write_splits(drawn, tmp_path)
    assert list(counts.values()) == [drawn.counts(name)[0] for name in ("train", "val", "test")]
    read = kind(**options, splits=str(tmp_path), seeds=[3])
    device = torch.device("cpu")
    for step in (0, 4):
        one, other = drawn.training_batch(step, device), read.training_batch(step, device)
        assert torch.equal(one.tokens_RBT, other.tokens_RBT)
        assert torch.equal(one.targets_RBA, other.targets_RBA)
    for name in ("train", "val", "test"):
        own, theirs = ([data.shown(row) for row in getattr(data.splits[0], name).tolist()] for data in (drawn, read))
        assert own == theirs
    assert read.splits[0].commutative_fraction == drawn.splits[0].commutative_fraction
    assert read.fingerprints is not None
    assert drawn.fingerprints is None


def put(directory: Path, **texts: str | bytes) -> str:
    directory.mkdir(exist_ok=True)
    whole: dict[str, str | bytes] = {"train": "x,y\n1,2\n3,4\n", "val": "x,y\n5,6\n"}
    for name, text in (whole | texts).items():
        (directory / f"{name}.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return str(directory)


def rows_of(data: TableDataModule, name: str) -> list[list[str]]:
    return [data.shown(row) for row in getattr(data.splits[0], name).tolist()]


@pytest.mark.parametrize(
    "train",
    [
        "y,x,note\n2,1,first\n4,3,\n",
        "﻿x,y,answer\r\n1,2,3\r\n3,4,0\r\n",
        'x, y ,answer\n "1", 2, 3\n\n3,4,0',
    ],
)
def test_files_of_others_are_read(train: str, tmp_path: Path) -> None:
    data = ModularArithmeticDataModule(**SEVEN, train_rows=9, train_fraction=0.2, splits=put(tmp_path, train=train))
    assert rows_of(data, "train") == [["1", "2", "3"], ["3", "4", "0"]]
    assert rows_of(data, "val") == [["5", "6", "4"]]
    assert data.counts("test") == [0]
    assert not data.notes


def test_wrong_training_answers_are_trained_on_and_told(tmp_path: Path) -> None:
    path = put(tmp_path, train="x,y,answer\n1,2,5\n3,4,0\n")
    for noise in (0, 1):  # whose rows are those of the files
        data = ModularArithmeticDataModule(**SEVEN, splits=path, answer_noise=noise)
        assert rows_of(data, "train") == [["1", "2", "5"], ["3", "4", "0"]]
        assert data.describe(int(data.splits[0].train[0])) == ["1", "2", "3"]
        assert data.notes == [f"data.splits: 1 of 2 training answers in {path!r} are not those of data.formula"]
    clean = put(tmp_path, train="x,y,answer\n1,2,3\n3,4,0\n")
    noisy = ModularArithmeticDataModule(**SEVEN, splits=clean, answer_noise=2, seeds=[1])
    assert rows_of(noisy, "train") != [["1", "2", "3"], ["3", "4", "0"]]


REFUSED: list[tuple[dict[str, str | bytes], str]] = [
    ({"train": "x,y\n1,2\n7,1\n"}, r"train.csv', line 3: x is '7'; expected is one of the elements 0 ... 6"),
    ({"train": "x,y\n1,٣\n"}, "line 2: y is '٣'"),
    ({"train": "x,y\n1,2.0\n"}, "line 2: y is '2.0'"),
    ({"train": "x,y\n1,2\n1,2\n"}, "line 3: this row is above it too"),
    ({"val": "x,y\n5,6\n3,4\n"}, "val.csv', line 3: this row is in train.csv too"),
    ({"test": "x,y\n5,6\n"}, "test.csv', line 2: this row is in val.csv too"),
    ({"val": "x,y,answer\n5,6,3\n"}, "val.csv', line 2: the answer is '3', but by data.formula it is '4'"),
    ({"train": "x,z\n1,2\n"}, "no column y; its first line is 'x,z', expected: x,y,answer"),
    ({"train": "x,y,x\n1,2,3\n"}, "several columns x"),
    ({"train": ""}, "no column x"),
    ({"train": "x;y\n1;2\n"}, "no column x; its first line is 'x;y'"),
    ({"train": "x,y\n1,2,3\n"}, "line 2 has 3 cells, the first line 2"),
    ({"train": 'x,y\n"1,2\n'}, "is no line of CSV"),
    ({"val": "x,y\n"}, "val.csv' has no rows"),
    ({"train": b"x,y\n\xff,2\n"}, "cannot be read"),
    ({"train": "x,y,answer\n1,2,\n"}, "line 2: answer is ''"),
]


@pytest.mark.parametrize(("texts", "words"), REFUSED)
def test_what_is_no_split_of_the_table_is_refused_by_line(
    texts: dict[str, str | bytes], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"^data.splits: .*{words}") as caught:
        ModularArithmeticDataModule(**SEVEN, splits=put(tmp_path, **texts))
    assert "\n" not in str(caught.value)


def test_missing_files_and_undefined_rows_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match=r"train\.csv' does not exist; expected are train\.csv, val\.csv"):
            ModularArithmeticDataModule(**SEVEN, splits=str(path))
    path = put(tmp_path, train="x,y\n1,0\n")
    with pytest.raises(UserError, match=r"line 2: the operands '1, 0' have no answer by data\.formula 'x / y'"):
        ModularArithmeticDataModule("x / y", 7, splits=path)
    with pytest.raises(UserError, match=r"no place with data\.tokenizer characters"):
        ModularArithmeticDataModule("x * 0", 11, splits=put(tmp_path, train="x,y,answer\n1,0,10\n"), operands=2,
                                    tokenizer="characters")  # fmt: skip
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train.csv").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        ModularArithmeticDataModule(**SEVEN, splits=str(tmp_path))


def test_runs_of_a_stack_have_files_of_their_own(tmp_path: Path) -> None:
    one = put(tmp_path / "a")
    other = put(tmp_path / "b", train="x,y,answer\n0,0,1\n3,4,0\n4,3,0\n")
    stack = ModularArithmeticDataModule(**SEVEN, splits=[one, other], seeds=[1, 1])
    assert stack.counts("train") == [2, 3]
    assert stack.fingerprints is not None
    assert len(set(stack.fingerprints)) == 2
    assert stack.fingerprints[0] == ModularArithmeticDataModule(**SEVEN, splits=one).fingerprints[0]  # type: ignore[index]
    assert len(stack.operations) == 1
    assert stack.answers_XN.shape == (2, 49)
    sampled = ModularArithmeticDataModule(**SEVEN, rows=5, splits=[one, other], seeds=[1, 1])
    assert [len(table) for table in sampled.operations] == [3, 4]
    with pytest.raises(UserError, match=r"data.splits has 2 values for a stack of 3 runs"):
        ModularArithmeticDataModule(**SEVEN, splits=[one, other], seeds=[1, 1, 1])


def test_all_data_can_be_written(tmp_path: Path) -> None:
    write_splits(TextDataModule(["a, b", "c"]), tmp_path)
    assert (tmp_path / "train.csv").read_text() == 'text\n"a, b"\nc\n'
    assert np.array_equal(sorted(path.name for path in tmp_path.iterdir()), ["test.csv", "train.csv", "val.csv"])
