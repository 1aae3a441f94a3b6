"""What parts runs into conditions: options by their full name or its end, blocks, experiments, or what varies."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from records import MLP, NETWORK, conditions, plan, reporting, sweep, write_run


@pytest.fixture
def report(command, monkeypatch):
    return reporting(command, monkeypatch)


def names(out="out"):
    return conditions(out).index.tolist()


def test_a_key_in_full_and_by_its_end(report):
    sweep({0.25: [40], 0.5: [80]})
    for key in ("data.train_fraction", "train_fraction"):
        assert report("e", "--by", key)[0] == 0
        assert names() == ["train_fraction=0.25", "train_fraction=0.5"]


def test_two_keys_make_their_combinations_once_each(report):
    for place, (fraction, rate) in enumerate([(0.5, 0.01), (0.25, 0.01), (0.5, 0.002), (0.5, 0.01)]):
        changes = {"data.train_fraction": fraction, "model.optimizer.lr": rate, "seed_everything": place}
        write_run("a", changes=changes)
    assert report("e", "--by", "train_fraction", "lr", "train_fraction")[0] == 0
    assert conditions()["n"].to_dict() == {
        "train_fraction=0.25, lr=0.01": 1,
        "train_fraction=0.5, lr=0.002": 1,
        "train_fraction=0.5, lr=0.01": 2,
    }


def test_a_block_is_told_by_its_class_and_by_what_varies_within_it(report):
    write_run("a", changes={"model.network": NETWORK})
    write_run("b", changes={"model.network": NETWORK | {"layers": 1}})
    write_run("c", changes={"model.network": MLP})
    for by in (["--by", "model.network"], ["--by", "network"], []):
        assert report("e", *by)[0] == 0
        assert sorted(names()) == ["MLP", "Transformer layers=1", "Transformer layers=2"]


def test_an_option_that_is_a_value_in_some_runs_and_a_mapping_in_others_is_one_key(report):
    norms = ["free", 5.0, {"at_most": 6.0}, {"at_most": 4.0}]
    for place, norm in enumerate(norms):
        for seed in (0, 1):
            write_run(f"{place}{seed}", changes={"model.weight_norm": norm, "seed_everything": seed})
    for by in ([], ["--by", "weight_norm"], ["--by", "model.weight_norm"]):
        assert report("e", *by)[0] == 0
        assert sorted(names()) == ["at_most=4", "at_most=6", "weight_norm=5", "weight_norm=free"]
        assert set(conditions()["n"]) == {2}
        assert "weight_norm: free, 5, -; at_most: 4, 6, -" in Path("out", "report.md").read_text()


def test_an_option_of_a_block_that_is_a_key_too_is_told_once(report):
    write_run("a", changes={"model.network": NETWORK})
    write_run("b", changes={"model.network": NETWORK | {"layers": 1, "dropout": 0.1}})
    write_run("c", changes={"model.network": MLP})
    assert report("e", "--by", "layers", "network")[0] == 0
    assert sorted(names()) == ["layers=-, MLP", "layers=1, Transformer dropout=0.1", "layers=2, Transformer dropout=0"]


def test_lists_without_anything_in_them_are_told_only_where_nothing_else_is(report):
    clip, hold = {"class_path": "optim.Clip", "norm": 1.0}, {"at": "grokked", "freeze": ["head"]}
    for filters, held in ([], None), ([clip], None), ([], [hold]), ([clip, clip], [hold]):
        changes = {"model.filters": filters, "model.interventions": held, "model.optimizer.lr": 0.1}
        write_run("a", changes=changes)
    assert report("e", "--by", "filters", "interventions")[0] == 0
    found = ["no filter, no intervention", "at=grokked freeze=[head]", "Clip", "Clip + Clip, at=grokked freeze=[head]"]
    assert sorted(names()) == sorted(found)
    assert report("e", "--by", "filters", "interventions", "lr")[0] == 0
    assert sorted(names()) == sorted(["lr=0.1", *(f"{words}, lr=0.1" for words in found[1:])])


def test_an_option_that_some_networks_do_not_have(report):
    write_run("a", changes={"model.network": NETWORK})
    write_run("c", changes={"model.network": MLP})
    assert report("e", "--by", "layers")[0] == 0
    assert names() == ["layers=2", "layers=-"]


@pytest.mark.parametrize(
    ("option", "values", "expected"),
    [
        ("data.batch_size", ["full", 64, 8], ["batch_size=8", "batch_size=64", "batch_size=full"]),
        ("model.compile", [True, False], ["compile=no", "compile=yes"]),
        ("model.optimizer.betas", [[0.9, 0.98], [0.9, 0.999]], ["betas=[0.9, 0.98]", "betas=[0.9, 0.999]"]),
        (
            "model.filters",
            [[], [{"class_path": "grok_lightning.optim.Clip", "norm": 1.0}]],
            ["no filter", "Clip"],
        ),
        (
            "model.filters",
            [[{"class_path": "optim.Clip", "norm": norm, "eps": 0.1}] for norm in (1.0, 2.0)],
            ["Clip norm=1", "Clip norm=2"],
        ),
        ("data.operands", [None, 3], ["operands=3", "operands=-"]),
        ("model.optimizer.lr", [0.12345678, 0.12345679, 0.5], ["lr=0.12345678", "lr=0.12345679", "lr=0.5"]),
        ("model.optimizer.lr", [float("inf"), 1e-7], ["lr=1e-07", "lr=-"]),  # JSON has no infinity
    ],
    ids=str,
)
def test_values_of_any_type_are_conditions_of_their_own(report, option, values, expected):
    for value in values:
        write_run("a", changes={option: value})
    assert report("e", "--by", option)[0] == 0
    assert sorted(names()) == sorted(expected)
    numbers = [name for name in expected if re.match(r"\w+=\d", name)]
    assert [name for name in names() if name in numbers] == numbers


def test_each_run_by_itself(report):
    for seed in range(3):
        write_run(f"run{seed}", changes={"seed_everything": seed})
    assert report("e", "--by", "run")[0] == 0
    assert conditions()["n"].tolist() == [1, 1, 1]
    assert [name.split("-")[0] for name in names()] == ["run=run0", "run=run1", "run=run2"]


def test_experiments(report):
    write_run("a", experiment="one")
    write_run("b", experiment="two", changes={"seed_everything": 1})
    for by in (["--by", "experiment"], []):
        assert report("two", "one", *by)[0] == 0
        assert names() == ["two", "one"]


def test_by_default_a_sweep_has_the_keys_of_its_file_in_its_order(report):
    hashes = []
    for fraction, decay in [(0.25, "zero"), (0.5, "zero"), (0.25, "initial"), (0.5, "initial")]:
        hashes.append(write_run("a", changes={"data.train_fraction": fraction, "model.optimizer.decay": decay}))
    words = {"data.train_fraction": ["0.25", "0.5"] * 2, "model.optimizer.decay": ["zero"] * 2 + ["initial"] * 2}
    assert report("e")[0] == 0
    assert sorted(names())[0] == "decay=initial, train_fraction=0.25"  # the config's order
    plan(hashes, words)
    assert report("e")[0] == 0
    assert sorted(names())[0] == "train_fraction=0.25, decay=initial"


def test_seeds_never_part_runs(report):
    for seed in range(3):
        write_run("a", changes={"seed_everything": seed, "data.split_seed": 10 + seed})
    assert report("e")[0] == 0
    assert conditions()["n"].to_dict() == {"all runs": 3}


def test_what_varies_within_a_condition_is_told(report):
    write_run("a", changes={"model.optimizer.lr": 0.1, "data.train_fraction": 0.5})
    write_run("b", changes={"model.optimizer.lr": 0.2, "data.train_fraction": 0.25})
    write_run("c", changes={"model.optimizer.lr": 0.3, "data.train_fraction": 0.25})
    report("e", "--by", "train_fraction")
    told = "Runs of one condition differ in: model.optimizer.lr (0.2: 1 run, 0.3: 1 run)."
    assert told in Path("out/report.md").read_text()
    report("e", "--by", "lr")
    assert "differ in" not in Path("out/report.md").read_text()


def test_each_run_counts_once_however_often_it_is_given(report):
    sweep({0.25: [40, 80], 0.5: [80]})
    assert report("e", out="first")[0] == 0
    once = Path("first/conditions.csv").read_text()
    again = ("e", "lightning_logs", Path("lightning_logs/e").resolve(), "first/runs.parquet")
    assert report(*again, out="second")[0] == 0
    assert Path("second/conditions.csv").read_text() == once
    assert "Duplicates, counted once: 9 runs" in Path("second/report.md").read_text()
    runs = [pd.read_parquet(f"{out}/runs.parquet") for out in ("first", "second")]
    assert runs[0]["curve.step"].map(list).tolist() == runs[1]["curve.step"].map(list).tolist()


def test_a_run_that_is_over_goes_before_the_same_one_that_was_not(report):
    write_run("a", grokked=None, over=False)
    assert report("e", out="early")[0] == 0
    for path in Path("lightning_logs/e").glob("a-*"):
        path.rename(path.with_name(f"was-{path.name}"))
        path.with_name(f"was-{path.name}").rename(Path("old"))
    write_run("a", grokked=80)
    assert report("early/runs.parquet", "e")[0] == 0
    assert conditions()[["n", "grok_k", "unfinished"]].to_numpy().tolist() == [[1, 1, 0]]


def test_runs_of_other_options_that_are_called_alike_are_both_there(report):
    write_run("a", grokked=40, config_hash="1" * 16)
    assert report("e", out="old")[0] == 0
    directory = next(Path("lightning_logs/e").glob("a-*"))
    directory.rename("moved")
    write_run("a", grokked=80, changes={"model.optimizer.lr": 0.5}, config_hash="2" * 16)
    next(Path("lightning_logs/e").glob("a-*")).rename(directory)
    assert report("e", "old/runs.parquet")[0] == 0
    assert conditions()["grok_median"].to_dict() == {"lr=0.001": 40, "lr=0.5": 80}
    assert pd.read_parquet("out/runs.parquet")["path"].is_unique


def test_unfinished_fits_of_two_archives_that_are_called_alike_are_both_there(report):
    for rate, grokked in ((0.001, 40), (0.5, 80)):
        write_run("a", grokked=grokked, changes={"model.optimizer.lr": rate}, over=False)
        next(Path("lightning_logs/e").glob("a-*")).rename("lightning_logs/e/0")
        assert report("e", out=f"lr{rate}")[0] == 0
        shutil.rmtree("lightning_logs")
    archives = ["lr0.001/runs.parquet", "lr0.5/runs.parquet"]
    assert report(*archives, *archives)[0] == 0
    assert conditions()[["n", "grok_median"]].T.to_dict("list") == {"lr=0.001": [1, 40], "lr=0.5": [1, 80]}
    assert "Duplicates, counted once: 2 runs" in Path("out/report.md").read_text()
    runs = pd.read_parquet("out/runs.parquet")
    assert runs["path"].is_unique
    assert [max(steps) for steps in runs["curve.step"]] == [160, 160]


def test_a_block_in_which_one_option_varies_is_that_option(command):
    for layers in (1, 2, 4):
        write_run("a", changes={"model.network": NETWORK | {"layers": layers}})
    assert command("report", "e", "--by", "network", "--out", "out")[0] == 0
    assert names() == ["layers=1", "layers=2", "layers=4"]
    assert pd.read_csv("out/steps-by-layers.csv")["model.network.layers"].unique().tolist() == [1, 2, 4]
