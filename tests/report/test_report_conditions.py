"""Counts, medians and intervals of conditions are those of their runs."""

from itertools import combinations
from math import inf, nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from records import THRESHOLD, conditions, curve, plan, reporting, sweep, write_run

from grok_lightning.records.words import describe_median, list_steps
from grok_lightning.report.conditions import compare_conditions, tabulate_conditions
from grok_lightning.report.unfinished import UNFINISHED
from grok_lightning.statistics import kaplan_meier, log_rank, times, wilson


@pytest.fixture
def report(command, monkeypatch):
    return reporting(command, monkeypatch)


def some_runs(random: np.random.Generator, names: list[str]) -> pd.DataFrame:
    """Runs of any status, some memorized, some grokked."""
    count = 10 * len(names)
    memorized = np.where(random.random(count) < 0.8, random.integers(0, 50, count) * 10.0, nan)
    grokked = np.where(random.random(count) < 0.5, memorized + random.integers(0, 50, count) * 10, nan)
    columns = {
        "condition": pd.Categorical(random.choice(names, count), names, ordered=True),
        "status": random.choice(["finished", "stopped", "diverged", UNFINISHED], count),
        "steps": random.integers(1000, 2000, count).astype(float),
        "budget": 2000.0,
        "threshold": 0.5,
        "memorize_step": memorized,
        "memorize_after": memorized - 10,
        "grok_step": grokked,
        "grok_after": grokked - 10,
        "best_val_acc": random.random(count),
        "final_val_acc": random.random(count),
        "final_train_acc": np.where(random.random(count) < 0.1, nan, random.random(count)),
    }
    return pd.DataFrame(columns)


@pytest.mark.parametrize("seed", range(5))
def test_each_row_is_that_of_its_runs_alone(seed):
    table = some_runs(np.random.default_rng(seed), ["b", "a", "c"])
    found = tabulate_conditions(table, {"a": 2, "new": 3}).set_index("condition")
    assert found.index.tolist() == ["b", "a", "new", "c"]
    assert found["missing"].to_dict() == {"b": 0, "a": 2, "new": 3, "c": 0}
    for name, runs in table.groupby("condition", observed=True):
        row = found.loc[name]
        assert row["n"] == len(runs)
        for event in ("memorize", "grok"):
            at = times(runs, event)
            estimate = kaplan_meier(at["step"], at["observed"])
            k = runs[f"{event}_step"].notna().sum()
            assert row[f"{event}_k"] == k
            begun = (runs["status"] == UNFINISHED) & runs[f"{event}_step"].isna()
            assert (row[f"{event}_low"], row[f"{event}_high"]) == wilson(k, len(runs) - begun.sum())
            assert row[f"{event}_median"] == estimate.median
            interval = [row[f"{event}_median_low"], row[f"{event}_median_high"]]
            assert interval == pytest.approx(estimate.median_interval, nan_ok=True)
            assert row[f"{event}_steps"] == (list_steps(at["step"], at["observed"]) if len(runs) < 5 else "")
            if np.isfinite(estimate.median):
                assert row[f"{event}_median_after"] == estimate.median - 10
        mean = (row["grok_mean"], row["grok_mean_low"], row["grok_mean_high"])
        assert mean == pytest.approx(estimate.restricted_mean(2000), nan_ok=True)
        assert row["delay"] == row["grok_median"] / row["memorize_median"]
        assert row["diverged"] == (runs["status"] == "diverged").sum()
        assert row["unfinished"] == (runs["status"] == UNFINISHED).sum()
        assert row["end_k"] == (runs["final_val_acc"] >= runs["threshold"]).sum()
        for column in ("best_val_acc", "final_val_acc", "final_train_acc"):
            values = runs[column].dropna()
            expected = [values.median(), values.min(), values.max()]
            assert [row[column], row[f"{column}_least"], row[f"{column}_most"]] == expected
        assert row["steps_per_success"] == pytest.approx(runs["steps"].sum() / runs["grok_step"].notna().sum())


@pytest.mark.parametrize("count", [1, 2, 6, 7])
def test_up_to_six_conditions_are_all_compared_more_with_the_first_alone(count):
    names = [f"c{place}" for place in range(count)]
    table = some_runs(np.random.default_rng(count), names)
    found = compare_conditions(table)
    pairs = list(combinations(names, 2)) if count <= 6 else [("c0", name) for name in names[1:]]
    assert list(zip(found["first"], found["second"], strict=True)) == pairs
    for row in found.itertuples():
        one, other = (times(table[table["condition"] == name], "grok") for name in (row.first, row.second))
        assert row.p == log_rank(one["step"], one["observed"], other["step"], other["observed"])
        assert row.p <= row.p_holm <= 1


def test_by_takes_its_options_with_spaces_or_commas(report):
    write_run("a", grokked=100, changes={"seed_everything": 1, "data.train_fraction": 0.4})
    write_run("b", grokked=200, changes={"seed_everything": 1, "data.train_fraction": 0.6})
    for by in (["data.train_fraction", "seed_everything"], ["data.train_fraction,seed_everything"]):
        assert report("e", "--by", *by)[0] == 0
        assert list(conditions().index) == [f"train_fraction={each}, seed_everything=1" for each in (0.4, 0.6)]


def test_a_diverged_run_is_censored_at_the_budget_a_stopped_one_where_it_stopped(report):
    write_run("a", grokked=None, status="diverged", changes={"seed_everything": 1})
    assert report("e", "--by", "formula")[0] == 0
    row = conditions().iloc[0]
    assert (row["diverged"], row["grok_k"], row["grok_mean"], row["steps"]) == (1, 0, 200, 160)
    write_run("b", grokked=None, status="stopped", changes={"seed_everything": 2})
    report("e", "--by", "formula")
    assert np.isnan(kaplan_meier([160], [False]).restricted_mean(200)[0])
    assert conditions().iloc[0]["grok_mean"] == 200  # the other was watched that long


def test_conditions_come_by_size_of_numbers_and_medians_are_those_of_the_files(report):
    sweep({0.9: [10, 20, 40], 0.25: [80, None, None], 0.5: [40, 40, 80]})
    status, told, _ = report("e")
    assert status == 0
    assert told.startswith("7 of 9 runs grokked")
    found = conditions()
    assert found.index.tolist() == ["train_fraction=0.25", "train_fraction=0.5", "train_fraction=0.9"]
    assert found["grok_k"].tolist() == [1, 3, 3]
    assert found["grok_median"].tolist() == [inf, 40, 20]
    assert found["grok_median_after"].tolist()[1:] == [20, 10]
    assert found["n"].tolist() == [3, 3, 3]


def test_few_runs_are_listed_and_have_no_interval(report):
    sweep({0.2: [80, None], 0.4: [10, 40], 0.6: [20, 20, 20], 0.8: [10, 20, 40, 80, 160]})
    assert report("e")[0] == 0
    found = conditions()
    assert found["grok_median"].tolist() == [80, 25, 20, 40]
    assert found["grok_median_after"].tolist() == [40, 10, 10, 20]  # the middle of 0 and 20
    assert found["grok_steps"].fillna("").tolist() == ["80; > 160", "10; 40", "20; 20; 20", ""]
    assert found["grok_median_low"].isna().tolist() == found["grok_mean_low"].isna().tolist() == [True] * 3 + [False]
    text = Path("out/report.md").read_text()
    for cell in ("80 (after 40): 80; > 160", "25 (after 10): 10; 40", "20 (after 10)", "40 (from 10; after 20)"):
        assert f" {cell} |" in text


@pytest.mark.parametrize(
    ("numbers", "steps", "words"),
    [
        ((7150, nan, nan, 7050), "4,600; 9,700", "7,150 (after 7,050): 4,600; 9,700"),
        ((49, nan, nan, nan), "49; 49", "49"),
        ((218.5, nan, nan, 191.5), "200; 237", "218.5 (after 191.5): 200; 237"),
        ((inf, nan, nan, nan), "> 90; > 90", "not reached"),
        ((inf, nan, nan, nan), "> 80; > 90", "not reached: > 80; > 90"),
        ((1400, nan, nan, 1300), "1,400", "1,400 (after 1,300)"),
        ((1400, 1200, 1600, 1300), "", "1,400 (1,200 to 1,600; after 1,300)"),
        ((1400, 1200, inf, nan), "", "1,400 (from 1,200)"),
        ((inf, 1200, inf, nan), "", "not reached, later than 1,200"),
    ],
)
def test_a_median_in_words(numbers, steps, words):
    assert describe_median(*numbers, steps) == words


def test_a_single_fit(report):
    write_run("only", experiment="single")
    for source in ("single", f"single/{next(Path('lightning_logs/single').iterdir()).name}"):
        assert report(source)[0] == 0
        assert conditions().index.tolist() == ["all runs"]
        assert conditions()["n"].tolist() == [1]


def test_a_real_run_is_reported_as_its_own_record_says(report, command):
    assert command("fit", *TINY, "--trainer.max_steps", 30, "--experiment", "real", "--run", "0")[0] == 0
    assert report("real")[0] == 0
    runs = pd.read_parquet("out/runs.parquet")
    assert runs["path"].tolist() == ["real/0"]
    lines = Path("lightning_logs/real/0/metrics.csv").read_text().splitlines()
    assert len(runs["curve.step"][0]) == len(lines) - 1
    assert conditions()["steps"].tolist() == [30]


def test_a_run_that_is_not_over_has_the_milestones_that_its_record_will_have(report):
    random = np.random.default_rng(0)
    for seed in range(8):
        memorized, grokked = random.choice([0, 10, 20, 40, None], 2)
        write_run("a", memorized, grokked, {"seed_everything": seed}, experiment="over")
        write_run("a", memorized, grokked, {"seed_everything": seed}, experiment="open", over=False)
    tables = []
    for name in ("over", "open"):
        assert report(name, out=name)[0] == 0
        tables.append(pd.read_parquet(f"{name}/runs.parquet").sort_values("config.seed_everything"))
    over, still_open = tables
    assert still_open["status"].unique().tolist() == [UNFINISHED]
    for field in ("memorize_step", "memorize_after", "grok_step", "grok_after", "steps", "budget", "best.val/acc"):
        assert over[field].astype(float).tolist() == pytest.approx(
            still_open[field].astype(float).tolist(), nan_ok=True
        )
    assert over["config_hash"].tolist() == still_open["config_hash"].tolist()
    assert conditions("open")["unfinished"].tolist() == [8]


def test_missing_runs_count_where_they_belong(report):
    hashes = sweep({0.25: [None, 80], 0.5: [40]})
    words = {"data.train_fraction": ["0.25", "0.25", "0.5", "0.5", "0.9", "0.9"], "seed_everything": ["0", "1"] * 3}
    plan([*hashes, "a" * 16, "b" * 16, "c" * 16], words)
    status, told, _ = report("e")
    assert status == 0
    assert "3 missing" in told
    assert conditions()["missing"].to_dict() == {
        "train_fraction=0.25": 0,
        "train_fraction=0.5": 1,
        "train_fraction=0.9": 2,
    }
    assert conditions()["n"].tolist() == [2, 1, 0]
    page = Path("out/report.md").read_text()
    assert "3 runs of x + y mod 7 in 3 conditions: 2 grokked. **Incomplete**: 3 of 6 planned runs missing." in page
    (when,) = (line for line in page.splitlines() if "train_fraction=0.9 | 0 | - | - | - | - | - | - | - | 2 |" in line)
    assert when.startswith("|")


def test_missing_runs_of_a_block_are_called_as_those_that_are_there(report):
    here = [write_run(f"{i}", changes={"data.formula": formula}) for i, formula in enumerate(("x + y", "x - y"))]
    words = ["formula=x + y", "formula=x - y", "formula=x - y", "formula=x * y"]
    plan([*here, "a" * 16, "b" * 16], {"data": words})
    assert report("e", "--by", "data")[0] == 0
    assert conditions()["missing"].to_dict() == {"x + y": 0, "x - y": 1, "x * y": 1}


def test_data_modules_are_called_by_what_tells_them_apart(report):
    modules = ("ModularArithmeticDataModule", "PermutationDataModule")
    tasks = [(module, formula) for module in modules for formula in ("x * y", "x * y * x")]
    here = [
        write_run(f"{i}", changes={"data.class_path": f"grok_lightning.data.{module}", "data.formula": formula})
        for i, (module, formula) in enumerate(tasks)
    ]
    said = [f"{module} formula={formula}" for module, formula in tasks]
    plan([*here, "a" * 16], {"data": [*said, "PermutationDataModule formula=x * y * x**-1"]})
    assert report("e", "--by", "data")[0] == 0
    expected = ["ModularArithmetic x * y", "ModularArithmetic x * y * x", "Permutation x * y", "Permutation x * y * x"]
    assert list(conditions().index) == [*expected, "Permutation x * y * x**-1"]


def test_a_data_module_that_is_missing_is_called_as_those_that_are_there(report):
    modules = ("ModularArithmeticDataModule", "PermutationDataModule", "SignedRemaindersDataModule")
    here = [
        write_run(module, changes={"data.class_path": f"grok_lightning.data.{module}", "data.formula": "x * y"})
        for module in modules[:2]
    ]
    plan([*here, "a" * 16], {"data": [*modules]})
    assert report("e", "--by", "data")[0] == 0
    assert list(conditions().index) == ["ModularArithmetic", "Permutation", "SignedRemainders"]


def test_names_keep_the_order_of_the_sweep(report):
    formulas = ("x - y", "x * y", "x + y")
    here = [write_run(f"{i}", changes={"data.formula": formula}) for i, formula in enumerate(formulas)]
    plan([here[2], here[0], here[1]], {"data": ["formula=x + y", "formula=x - y", "formula=x * y"]})
    other = write_run("a", changes={"data.formula": "x / y"})
    assert other not in here
    for source in (["e"], ["out/runs.parquet"]):
        assert report(*source, "--by", "data")[0] == 0
        assert list(conditions().index) == ["x + y", "x - y", "x * y", "x / y"]


def test_missing_conditions_stand_where_the_sweep_has_them(report):
    hashes = sweep({0.25: [40], 0.5: [40]})
    words = {"data.train_fraction": ["0.1", "0.25", "0.3", "0.4", "0.5", "0.9"], "seed_everything": ["0"] * 6}
    plan(["a" * 16, hashes[0], "b" * 16, "c" * 16, hashes[1], "d" * 16], words)
    assert report("e")[0] == 0
    assert list(conditions().index) == [f"train_fraction={words['data.train_fraction'][i]}" for i in range(6)]


def test_runs_that_no_sweep_planned_do_not_count_as_planned(report):
    planned = write_run("a")
    for seed in (1, 2):
        write_run(f"{seed}", changes={"seed_everything": seed})
    plan([planned, "a" * 16], {"seed_everything": ["0", "3"]})
    assert report("e")[0] == 0
    assert "**Incomplete**: 1 of 2 planned runs missing." in Path("out/report.md").read_text()


def test_a_run_that_failed_is_not_missing(report):
    here = write_run("a")
    failed = write_run("b", changes={"seed_everything": 1}, status="failed")
    plan([here, failed, "a" * 16], {"seed_everything": ["0", "1", "2"]})
    assert report("e")[0] == 0
    assert conditions()[["n", "missing"]].to_numpy().tolist() == [[1, 1]]
    assert "Failed with an error, and in no table or figure: 1 run." in Path("out/report.md").read_text()


def test_missing_runs_of_several_sweeps_are_told_by_experiment(report):
    one = sweep({0.25: [40], 0.5: [40]}, experiment="one")
    two = sweep({0.1: [40], 0.2: [80]}, "model.optimizer.lr", experiment="two")
    plan([*one, "a" * 16], {"data.train_fraction": ["0.25", "0.5", "0.9"]}, "one")
    plan([*two, "b" * 16], {"model.optimizer.lr": ["0.1", "0.2", "0.2"], "seed_everything": ["0", "0", "1"]}, "two")
    assert report("one", "two")[0] == 0
    assert conditions()["missing"].to_dict() == {
        "one, train_fraction=0.25, lr=0.001": 0,
        "one, train_fraction=0.5, lr=0.001": 0,
        "one, train_fraction=0.9, lr=0.001": 1,
        "two, train_fraction=0.5, lr=0.1": 0,
        "two, train_fraction=0.5, lr=0.2": 1,
    }


def test_a_last_line_that_was_cut_is_not_read(report):
    hashed = write_run("cut", grokked=None, over=False)
    (path,) = Path("lightning_logs/e").glob(f"*{hashed}/metrics.csv")
    path.write_text(path.read_text() + "200,0.1,1.0,0.1,1.0")
    assert report("e")[0] == 0
    assert conditions()[["grok_k", "steps"]].to_numpy().tolist() == [[0, 160]]
    assert curve(None, None)[-1]["val/acc"] < THRESHOLD


def test_runs_that_have_just_begun_are_no_failures(report):
    for seed in range(3):
        write_run("a", 20, 80, {"seed_everything": seed})
    for seed in range(3, 9):
        write_run("a", None, None, {"seed_everything": seed}, over=False)
    report("e")
    assert "3/9 (44 to 100 %)" in Path("out/report.md").read_text()


def test_of_other_schedules_the_lower_end_is_that_of_the_median(report):
    """Intervals (40, 80], (0, 160], (80, 120]: if the second grokked at 5, the median is at most 80."""
    for seed, evaluated in enumerate([(0, 40, 80), (0, 160), (0, 80, 120)]):
        write_run("a", evaluated[-1], evaluated[-1], {"seed_everything": seed}, evaluated=[*evaluated, 400])
    report("e")
    found = conditions()
    assert found["grok_median"].tolist() == [120]
    assert found["grok_median_after"].tolist() == [40]


def test_seeds_keep_all_their_digits(report):
    for seed in (20240101, 20240102):
        write_run("a", 20, 80, {"seed_everything": seed})
    report("e")
    text = Path("out/report.md").read_text()
    assert "20240101, 20240102" in text
    assert "20,240,101" not in text


def test_an_unfinished_run_without_rows_held_out_has_not_grokked(report):
    write_run("a", 20, 20, over=False)
    (file,) = Path("lightning_logs/e").glob("*/metrics.csv")
    frame = pd.read_csv(file)
    frame["val/loss"], frame["val/acc"] = frame["train/loss"], frame["train/acc"]
    frame.to_csv(file, index=False)
    report("e")
    run = pd.read_parquet("out/runs.parquet").iloc[0]
    assert run["memorize_step"] == 20
    assert pd.isna(run.get("grok_step"))
    assert run["counts.val"] == 0


def test_runs_lost_at_once_have_no_blank_figures(command):
    for seed in range(3):
        write_run("a", None, None, {"seed_everything": seed}, evaluated=[0])
    assert command("report", "e", "--out", "out")[0] == 0
    figures = [path.name for path in Path("out").rglob("*.png")]
    assert not [name for name in figures if "curves" in name]
    write_run("b", None, None, {"seed_everything": 5}, evaluated=[0, 40])
    assert command("report", "e", "--out", "more")[0] == 0
    assert [path.name for path in Path("more").rglob("*.png") if "curves" in path.name]


def test_an_unfinished_fit_and_its_finished_form_are_one_run(report):
    """Its directory's name has no hash, as that of a sweep's run has."""
    (directory,) = (Path("lightning_logs/e", f"a-{write_run('a')}"),)
    config = (directory / "config.yaml").read_text().replace(f"run: {directory.name}", "run: a")
    (directory / "config.yaml").write_text(config)
    result = (directory / "result.json").read_text().replace(f'"run": "{directory.name}"', '"run": "a"')
    (directory / "result.json").unlink()
    fit = directory.rename(directory.with_name("a"))
    assert report("e", out="begun")[0] == 0
    (fit / "result.json").write_text(result)
    assert report("e", "begun/runs.parquet")[0] == 0
    assert conditions()["n"].tolist() == [1]
    assert "Duplicates, counted once: 1 run" in Path("out/report.md").read_text()
