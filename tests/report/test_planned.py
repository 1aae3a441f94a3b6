"""What a sweep asks for is kept as typed values, and runs that are not there are called as those that are."""

import shutil
from pathlib import Path

import pytest
import yaml
from records import conditions, plan, reporting, write_run

from grok_lightning.records.planned import read_planned, save_planned
from grok_lightning.records.words import format_option, parse_option, words_of
from grok_lightning.sweep.plan.runs import read_plan

LOGS = Path("lightning_logs/e")


@pytest.fixture
def report(command, monkeypatch):
    return reporting(command, monkeypatch)


@pytest.mark.parametrize(
    ("option", "there", "missing", "names"),
    [
        ("model.network.tied", False, True, ["tied=no", "tied=yes"]),
        ("trainer.max_steps", 20000, 1000000, ["max_steps=20000", "max_steps=1e+06"]),
        ("model.network.final_norm", None, True, ["final_norm=-", "final_norm=yes"]),
        ("model.optimizer.lr", 1.0, 1e-6, ["lr=1", "lr=1e-06"]),
    ],
)
@pytest.mark.parametrize("by", [True, False])
def test_a_condition_without_runs_is_spelled_as_one_with_runs(report, option, there, missing, names, by):
    hashed = write_run("a", changes={option: there})
    save_planned(LOGS, [hashed, "a" * 16, "b" * 16], [option, "seed_everything"], {
        option: [there, there, missing], "seed_everything": [0, 1, 0],
    })  # fmt: skip
    assert report("e", *(["--by", option] if by else []))[0] == 0
    assert conditions()["missing"].to_dict() == dict(zip(names, [1, 1], strict=True))
    assert report("out/runs.parquet", *(["--by", option] if by else []), out="again")[0] == 0
    assert Path("again/conditions.csv").read_text() == Path("out/conditions.csv").read_text()


@pytest.mark.parametrize(
    ("option", "there", "words", "names"),
    [
        ("model.network.tied", False, ["False", "False", "True"], ["tied=no", "tied=yes"]),
        ("trainer.max_steps", 20000, ["20000", "20000", "1e6"], ["max_steps=20000", "max_steps=1e+06"]),
        ("model.network.final_norm", None, ["None", "None", "True"], ["final_norm=-", "final_norm=yes"]),
    ],
)
def test_a_plan_of_text_is_read_as_values(report, option, there, words, names):
    hashed = write_run("a", changes={option: there})
    plan([hashed, "a" * 16, "b" * 16], {option: words})
    assert report("e")[0] == 0
    assert conditions()["missing"].to_dict() == dict(zip(names, [1, 1], strict=True))


def test_a_sweep_keeps_the_typed_values_of_what_differs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    networks = [{"class_path": "Transformer", "layers": 1}, {"class_path": "MLP"}]
    grid = {"model.network": networks, "data.train_fraction": ["5e-1", 0.4], "seed_everything": "0..1"}
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump({"set": {"trainer.precision": "32-true"}, "grid": grid}))
    planned = read_plan(path)
    save_planned(LOGS, [run.hash for run in planned.runs], planned.grid.options, planned.typed_options())
    found = read_planned(LOGS)
    assert found["varied"][0] == list(planned.grid.options)
    assert set(found["config.data.train_fraction"]) == {0.5, 0.4}
    classes = found["config.model.network.class_path"].str.rsplit(".").str[-1]
    assert set(classes) == {"Transformer", "MLP"}
    assert set(found["config.model.network.layers"][classes == "Transformer"]) == {1}
    assert "config.model.optimizer.lr" not in found
    for run, row in zip(planned.runs, found.to_dict("records"), strict=True):
        assert row["config_hash"] == run.hash
        assert row["config.data.train_fraction"] == planned.config(run, "r")["data"]["train_fraction"]


def test_plans_of_two_archives_of_one_experiment_are_both_kept(report):
    for name, rate, missing in (("one", 0.1, "a"), ("two", 0.2, "b")):
        hashed = write_run(name, changes={"model.optimizer.lr": rate})
        save_planned(LOGS, [hashed, missing * 16], ["model.optimizer.lr", "seed_everything"], {
            "model.optimizer.lr": [rate, rate], "seed_everything": [0, 1],
        })  # fmt: skip
        assert report("e", out=name)[0] == 0
        shutil.rmtree("lightning_logs")
    assert report("one/runs.parquet", "two/runs.parquet")[0] == 0
    assert conditions()["missing"].to_dict() == {"lr=0.1": 1, "lr=0.2": 1}


def test_runs_that_two_plans_miss_are_told_by_the_options_of_their_own(report):
    parts = {"model.optimizer.lr": (0.1, 0.2), "model.network.layers": (1, 4)}
    for option, values in parts.items():
        hashed = write_run(option, changes={option: values[0]})
        save_planned(LOGS, [hashed, option[-1] * 16], [option], {option: values})
        assert report("e", out=option)[0] == 0
        shutil.rmtree("lightning_logs")
    assert report(*(f"{option}/runs.parquet" for option in parts))[0] == 0
    assert conditions()["missing"].to_dict() == {
        "lr=0.001, layers=1": 0, "lr=0.001, layers=4": 1, "lr=0.1, layers=2": 0, "lr=0.2, layers=2": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("word", "value"),
    [("True", True), ("no", False), ("None", None), ("1e6", 1e6), ("1000000", 1000000), ("x + y", "x + y")],
)
def test_text_is_typed(word, value):
    assert parse_option(word) == value
    assert type(parse_option(word)) is type(value)


def test_words_tell_values_apart():
    assert words_of([0.12345678, 0.12345679]) == {"0.12345678": "0.12345678", "0.12345679": "0.12345679"}
    assert words_of([0.1, 1e6, None, True]) == {"0.1": "0.1", "1000000.0": "1e+06", "None": "-", "True": "yes"}
    assert format_option({"class_path": "a.b.Clip", "norm": 1.0}) == "Clip norm=1"
