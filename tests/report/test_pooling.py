"""Conditions pool runs of one task and one threshold only; whatever else differs within them is reported."""

from pathlib import Path

import pytest
from records import MLP, NETWORK, conditions, reporting, write_run

from grok_lightning.data import (
    AlternatingDataModule,
    CyclicProductDataModule,
    DihedralDataModule,
    FiniteFieldDataModule,
    MatrixDataModule,
    ModularArithmeticDataModule,
    PermutationDataModule,
    SignedRemaindersDataModule,
)
from grok_lightning.data.algebra import identify_algebra
from grok_lightning.data.integers import IntegersMod
from grok_lightning.records.archive import read_archive
from grok_lightning.records.planned import save_planned
from grok_lightning.records.tasks import algebra_title, task_options, task_title


@pytest.fixture
def report(command, monkeypatch):
    return reporting(command, monkeypatch)


def refusal(report, *arguments, out="out"):
    status, told, error = report("e", *arguments, out=out)
    assert (status, told, error.count("\n")) == (2, "", 1)
    assert not Path(out).exists()
    return error


def data(class_path, **own):
    return {"data": {"class_path": class_path, "formula": "x * y", "train_fraction": 0.5, "batch_size": 16} | own}


def test_thresholds_are_not_pooled(report):
    for seed, threshold in enumerate((0.99, 0.1, 0.99)):
        changes = {"seed_everything": seed, "evaluation.threshold": threshold}
        write_run("a", changes=changes, threshold=threshold)
    assert "evaluation.threshold 0.1 and 0.99; add evaluation.threshold to --by" in refusal(report)
    assert report("e", "--by", "evaluation.threshold")[0] == 0
    assert conditions()["n"].to_dict() == {"threshold=0.1": 1, "threshold=0.99": 2}


@pytest.mark.parametrize(
    ("class_path", "option", "values", "title"),
    [
        ("grok_lightning.data.ModularArithmeticDataModule", "modulus", (7, 11), "x * y mod 7, x * y mod 11"),
        ("grok_lightning.data.PermutationDataModule", "degree", (3, 4), "x * y over S3, x * y over S4"),
        ("my.DihedralDataModule", "order", (5, 7), "x * y over Dihedral order=5, x * y over Dihedral order=7"),
    ],
)
def test_algebras_are_not_pooled(report, class_path, option, values, title):
    for seed, value in enumerate(values):
        write_run(f"{seed}", changes={"seed_everything": seed} | data(class_path, **{option: value}))
    error = refusal(report, "--by", "train_fraction")
    assert f"data.{option} {values[0]} and {values[1]} ({title}); add data.{option} to --by" in error
    assert report("e", "--by", option)[0] == 0
    assert conditions().index.tolist() == [f"{option}={value}" for value in values]


def test_classes_of_data_modules_are_not_pooled(report):
    for seed, name in enumerate(("ModularArithmetic", "SignedRemainders")):
        write_run(
            f"{seed}", changes={"seed_everything": seed} | data(f"grok_lightning.data.{name}DataModule", modulus=7)
        )
    assert "x * y mod 7, x * y mod 7, signed" in refusal(report, "--by", "train_fraction")


def test_an_algebra_of_one_name_and_another_identity_is_not_pooled(report):
    for seed in range(2):
        fields = {"algebra": "over D", "algebra_identity": f"Dihedral(order={seed})"}
        write_run(f"{seed}", changes={"seed_everything": seed} | data("my.DihedralDataModule"), **fields)
    assert "different algebras (x * y over D)" in refusal(report, "--by", "train_fraction")


def test_records_from_before_the_identity_are_pooled_with_those_that_have_it(report):
    changes = data("my.DihedralDataModule", order=5)
    write_run("a", changes={"seed_everything": 0} | changes)
    write_run("b", changes={"seed_everything": 1} | changes, algebra="over D5", algebra_identity="Dihedral(order=5)")
    assert report("e", "--by", "train_fraction")[0] == 0
    assert conditions()["n"].tolist() == [2]


def test_what_else_differs_within_a_condition_is_reported_with_its_values(report):
    settings = [("32-true", 40, 5), ("32-true", 80, 5), ("64-true", 80, 5), ("64-true", 80, 200), ("64-true", 80, 200)]
    for seed, (precision, budget, every) in enumerate(settings):
        evaluation = {"threshold": 0.99, "every": every}
        changes = {"trainer.precision": precision, "trainer.max_steps": budget, "evaluation": evaluation}
        write_run(f"{seed}", changes={"seed_everything": seed} | changes)
    assert report("e")[0] == 0
    text = Path("out/report.md").read_text()
    assert "trainer.precision (32-true: 2 runs, 64-true: 3 runs)" in text
    assert "trainer.max_steps (40: 1 run, 80: 4 runs)" in text
    assert "evaluation.every (5: 3 runs, 200: 2 runs)" in text
    assert "Options added to --by are not pooled." in text
    assert "threads" not in text


def test_what_cannot_change_a_result_is_not_reported(report):
    for seed in range(2):
        write_run("a", changes={"seed_everything": seed, "model.compile": bool(seed), "run": str(seed)})
    assert report("e")[0] == 0
    assert "differ in" not in Path("out/report.md").read_text()


MODULES = [
    (ModularArithmeticDataModule("x + y", 7), {"modulus": 7}, "x + y mod 7"),
    (SignedRemaindersDataModule("x + y", 7), {"modulus": 7}, "x + y mod 7, signed"),
    (PermutationDataModule("x * y", 3), {"degree": 3}, "x * y over S3"),
    (AlternatingDataModule("x * y", 3), {"degree": 3}, "x * y over A3"),
    (DihedralDataModule("x * y", 3), {"degree": 3}, "x * y over D3"),
    (CyclicProductDataModule("x + y", (2, 3)), {"moduli": [2, 3]}, "x + y over C2 × C3"),
    (FiniteFieldDataModule("x * y", 2, 2), {"characteristic": 2, "exponent": 2}, "x * y over GF(4)"),
    (MatrixDataModule("x * y", 2), {"modulus": 2}, "x * y over 2×2 matrices mod 2"),
]


@pytest.mark.parametrize(("module", "options", "expected"), MODULES, ids=lambda value: type(value).__name__)
def test_an_algebra_has_the_title_that_is_read_from_a_config(module, options, expected):
    path = f"grok_lightning.data.{type(module).__name__}"
    config = {"class_path": path, "formula": expected[:5], "operands": None} | options
    assert algebra_title(config) == module.operation.algebra.title
    assert task_title(config) == task_title(config, module.operation.algebra.title) == expected


def test_an_identity_is_the_class_and_its_options():
    assert identify_algebra(IntegersMod(7)) == "IntegersMod(modulus=7)"
    assert identify_algebra(IntegersMod(7)) != identify_algebra(IntegersMod(11))


def test_a_task_is_what_decides_its_table():
    config = {
        "class_path": "a.B",
        "formula": "x + y",
        "modulus": 7,
        "train_fraction": 0.5,
        "batch_size": 9,
        "rows": None,
    }
    assert task_options(config) == {"class_path": "a.B", "formula": "x + y", "modulus": 7}
    assert task_title({"class_path": "grok_lightning.data.TextDataModule", "strings": ["a"]}) == "text"


def test_data_without_a_formula_have_their_own_title():
    config = {"class_path": "my.ParityData", "bits": 9, "batch_size": 4, "seed": 3, "splits": None}
    assert task_title(config) == "ParityData bits=9"
    assert task_title(config, "parity of 9 bits") == "parity of 9 bits"
    assert task_options(config) == {"class_path": "my.ParityData", "bits": 9}


LATER = {"model.network.head_bias": False, "model.outputs": "vocabulary", "evaluation.stop_at_grok_times": 0}


@pytest.mark.parametrize("archived", [False, True])
def test_options_that_older_records_lack_are_what_they_were_then(report, archived):
    for seed, changes in enumerate(({}, LATER, {}, LATER)):
        write_run(f"{seed}", changes={"seed_everything": seed} | changes)
    if archived:
        assert report("e", "--by", "lr", out="first")[0] == 0
    assert report("first/runs.parquet" if archived else "e")[0] == 0
    assert conditions()["n"].tolist() == [4]
    text = Path("out/report.md").read_text()
    assert "differ in" not in text
    assert "Varied" not in text


def test_an_option_that_older_records_lack_differs_where_it_is_not_what_it_was(report):
    write_run("a")
    write_run("b", changes={"seed_everything": 1, "model.network.head_bias": True})
    assert report("e")[0] == 0
    assert conditions()["n"].to_dict() == {"head_bias=no": 1, "head_bias=yes": 1}


def test_an_option_of_another_class_stays_unknown(report):
    write_run("a", changes={"model.network": MLP})
    write_run("b", changes={"model.network.head_bias": False})
    assert report("e", "--by", "network")[0] == 0
    runs = read_archive(Path("out/runs.parquet"))[0].set_index("config.model.network.class_path")
    known = runs["config.model.network.head_bias"].to_dict()
    assert known == {NETWORK["class_path"]: False, MLP["class_path"]: None}


def test_what_a_sweep_varies_is_known_of_records_that_all_lack_it(report):
    hashed = write_run("a")
    option = "model.network.head_bias"
    save_planned(Path("lightning_logs/e"), [hashed, "a" * 16, "b" * 16], [option, "seed_everything"], {
        option: [False, False, True], "seed_everything": [0, 1, 0],
    })  # fmt: skip
    assert report("e")[0] == 0
    assert conditions()["missing"].to_dict() == {"head_bias=no": 1, "head_bias=yes": 1}
