"""The setup that runs share, the table of runs, and losses and test rows beside accuracies."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from records import MLP, change_result, conditions, reporting, sweep, write_run

from grok_lightning.report.making import make_report
from grok_lightning.report.text import format_brief

TEXT = {"class_path": "grok_lightning.data.TextDataModule", "strings": ["ab"], "val_fraction": None, "batch_size": 4}


@pytest.fixture
def report(command, monkeypatch):
    return reporting(command, monkeypatch)


def page() -> str:
    return Path("out/report.md").read_text()


def setup() -> dict[str, str]:
    """The parts of the setup by name."""
    section = page().split("## Setup\n\n")[1].split("\n\n")[0]
    return dict(line.removeprefix("- **").split("**: ", 1) for line in section.splitlines())


def table(heading: str) -> pd.DataFrame:
    """The first table below a heading."""
    section = page().split(f"## {heading}\n")[1]
    lines = [line for line in section.split("\n## ")[0].splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return pd.DataFrame(rows[2:], columns=rows[0])


def test_a_setup_has_what_runs_share_and_what_varies(report):
    sweep({0.5: [80, 40], 0.25: [None, 160]})
    assert report("e")[0] == 0
    found = setup()
    assert found["Task"] == "x + y mod 7"
    assert found["Model"] == "Transformer, layers=2, width=16, dropout=0"
    assert found["Optimizer"] == r"AdamW, lr=0.001, betas=\[0.9, 0.98\], decay=zero"
    assert (found["Filters"], found["Batch"], found["Precision"]) == ("no filter", "16", "32-true")
    assert "max_steps=200" in found["Budget"]
    assert "threshold=0.99" in found["Budget"]
    assert found["Varied"] == "train_fraction: 0.25, 0.5"
    assert found["Seeds"] == "0, 1"
    assert not any("train_fraction" in words for part, words in found.items() if part != "Varied")
    assert "Rows" not in found  # which these records do not have


def test_formulas_that_differ_are_named(report):
    write_run("a")
    write_run("b", changes={"data.formula": "x * y"})
    assert report("e")[0] == 0
    assert setup()["Task"] == "x + y mod 7, x \\* y mod 7"
    assert setup()["Varied"] == "formula: x + y, x \\* y"
    assert "formula" not in setup()["Data"]


def test_classes_that_differ_are_named_and_their_own_options_are_not(report):
    write_run("a")
    write_run("b", changes={"model.network": MLP})
    assert report("e")[0] == 0
    found = setup()
    assert found["Model"] == "Transformer, MLP, width=16, dropout=0, activation=relu"
    assert found["Varied"] == "network: Transformer, MLP"
    assert found["Seed"] == "0"


def test_data_of_several_classes_are_named(report):
    permutations = {"class_path": "grok_lightning.data.PermutationDataModule", "formula": "x * y", "degree": 5}
    write_run("a")
    write_run("b", changes={"data": permutations | {"train_fraction": 0.5, "batch_size": 16}})
    assert report("e")[0] == 0
    assert setup()["Data"] == "ModularArithmetic, Permutation, train_fraction=0.5"
    assert setup()["Varied"] == "data: ModularArithmetic, Permutation; formula: x + y, x \\* y"


def test_rows_of_splits_are_told_where_records_have_them(report):
    a, b = sweep({0.5: [80], 0.25: [None]})
    change_result(a, counts={"train": 24, "val": 20, "test": 5})
    change_result(b, counts={"train": 12, "val": 32, "test": 5})
    assert report("e")[0] == 0
    assert setup()["Rows"] == "12 to 24 training, 20 to 32 validation, 5 test"
    assert table("Runs")["training rows"].tolist() == ["12", "24"]
    assert "test rows" not in table("Runs")  # all the same
    runs = pd.read_csv("out/runs.csv")
    assert runs[["train_rows", "val_rows", "test_rows"]].to_numpy().tolist() == [[12, 32, 5], [24, 20, 5]]
    assert report("out/runs.parquet", out="again")[0] == 0  # the archive has them, too
    assert Path("again/runs.csv").read_text() == Path("out/runs.csv").read_text()


def test_every_run_has_a_row_with_its_results(report):
    hashes = sweep({0.5: [80, None], 0.25: [160, 40]})
    assert report("e")[0] == 0
    runs = pd.read_csv("out/runs.csv")
    assert sorted(runs["config_hash"]) == sorted(hashes)
    assert runs["condition"].tolist() == ["train_fraction=0.25"] * 2 + ["train_fraction=0.5"] * 2
    assert runs["grok_step"].fillna(-1).tolist() == [160, 40, 80, -1]
    assert runs["seed"].tolist() == [0, 1, 0, 1]
    assert runs["final_val_loss"].tolist() == pytest.approx([2 / 161] * 4)
    assert runs["final_val_acc"].tolist() == pytest.approx([1, 1, 1, 0.18])
    shown = table("Runs")
    assert shown["grok step"].tolist() == ["160", "40", "80", "-"]
    assert shown["validation loss"].tolist() == ["0.0124"] * 4
    assert shown["validation accuracy"].tolist() == ["100 %"] * 3 + ["18.00 %"]
    assert shown["memorize step"].tolist() == ["20"] * 4
    assert "test accuracy" not in shown
    assert "<details" not in page()


def test_test_rows_have_columns_as_soon_as_a_run_has_them(report):
    a, *_ = sweep({0.5: [80, 80], 0.25: [40]})
    final = {"train/acc": 1.0, "val/acc": 1.0, "train/loss": 0.1, "val/loss": 0.2}
    change_result(a, final=final | {"test/acc": 0.875, "test/loss": 0.5})
    assert report("e")[0] == 0
    assert table("Runs")["test accuracy"].tolist() == ["-", "87.50 %", "-"]
    assert table("Runs")["test loss"].tolist() == ["-", "0.5", "-"]
    by_condition = table("Accuracy and loss").set_index("condition")
    assert by_condition["final test accuracy"].tolist() == ["-", "87.50 %"]
    assert conditions().loc["train_fraction=0.5", "final_test_acc"] == 0.875
    assert pd.read_csv("out/runs.csv")["final_test_loss"].notna().sum() == 1


def test_losses_stand_beside_accuracies_with_a_range_only_where_runs_differ(report):
    a, *_ = sweep({0.5: [80, 80], 0.25: [40]})
    change_result(a, final={"train/acc": 1.0, "val/acc": 0.5, "train/loss": 0.25, "val/loss": 4.0})
    assert report("e")[0] == 0
    found = table("Accuracy and loss").set_index("condition")
    assert found.loc["train_fraction=0.25", "final validation loss"] == "0.0124"
    assert found.loc["train_fraction=0.5", "final validation accuracy"] == "75.00 % (50.00 % to 100 %)"
    assert found.loc["train_fraction=0.5", "final training loss"] == "0.128 (0.00621 to 0.25)"
    assert found.loc["train_fraction=0.5", "final training accuracy"] == "100 %"
    steps = table("Steps to memorize and to grok").set_index("condition")
    assert steps["grokked"].tolist() == ["1/1", "2/2 (34 to 100 %)"]


def test_one_run_has_no_median_and_no_interval(report):
    write_run("a")
    assert report("e")[1].splitlines()[0] == "1 of 1 run grokked"
    assert "1 run of x + y mod 7 in 1 condition: 1 grokked." in page()
    found = table("Steps to memorize and to grok")
    assert found["grokked"].tolist() == ["1/1"]
    assert found["grok step"].tolist() == ["80 (after 40)"]
    assert not any("median" in name or "mean" in name for name in found)
    assert table("Runs").columns[0] == "seed"


def test_many_runs_are_folded(report):
    sweep({0.5: [80] * 13, 0.25: [40] * 12})
    assert report("e")[0] == 0
    folded = page().split("<details")[1].split("</details>")[0]
    assert folded.count("\n| train_fraction=") == 25
    html = Path("out/report.html").read_text()
    assert "<summary>The 25 runs</summary>" in html
    assert "<td>train_fraction=0.25</td>" in html.split("<details")[1].split("</details>")[0]
    assert "markdown=" not in html


def test_strings_have_no_validation(report):
    for seed in range(2):
        write_run(f"{seed}", changes={"data": TEXT, "seed_everything": seed})
    assert report("e")[1].splitlines()[0] == "2 of 2 runs memorized"
    assert "2 runs of text in 1 condition: 2 memorized. Final training accuracy 100 %" in page()
    assert "grok" not in page().split("## Figures")[0].replace("grok-lightning", "").lower()
    assert "validation" not in page().split("## Figures")[0]
    assert "No rows are held out for validation" in page()


def test_strings_that_are_held_out_have_validation(report):
    write_run("a", changes={"data": TEXT | {"val_fraction": 0.5}})
    assert report("e")[0] == 0
    assert "1 grokked" in page()
    assert "final validation loss" in table("Accuracy and loss")


@pytest.mark.parametrize("wrong", [{"train": "x"}, {"train": [1]}, [3], {}, {"train": None, "val": -1}])
def test_odd_counts_of_rows_do_not_end_a_report(report, wrong):
    change_result(write_run("a"), counts=wrong)
    assert report("e")[0] == 0


def rewrite(device: Callable[[int], str]) -> None:
    """Gives the records devices, by their number."""
    for number, path in enumerate(sorted(Path("lightning_logs").rglob("result.json"))):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"device": device(number)}))


def test_the_machines_are_told(report):
    sweep({0.5: [80, 40], 0.25: [None, 160]})
    assert report("e")[0] == 0
    assert "Machine" not in setup()  # which these records do not have
    rewrite(lambda number: "NVIDIA H200" if number else "AMD EPYC (AVX2), 1 thread")
    assert report("e")[0] == 0
    assert setup()["Machine"] == "AMD EPYC (AVX2), 1 thread; NVIDIA H200"
    rewrite(lambda number: f"x86_64 cpu, {1 + number % 2} threads")  # as in records of before CPUs were named
    assert report("e")[0] == 0
    assert setup()["Machine"] == "x86_64 CPU, 1 thread; x86_64 CPU, 2 threads"


def test_a_brief_table_tells_seeds_budget_and_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep({0.5: [80, 40]})
    rewrite(lambda number: "NVIDIA H200")
    found = make_report(["e"], Path(), None)
    told = format_brief(found.conditions, found.runs, found.setup).splitlines()[-1]
    assert told == "Seeds 0, 1; budget 200 steps, 320 taken; 32-true; NVIDIA H200."


def test_runs_without_validation_beside_others_have_no_grok(report):
    for seed in range(2):
        write_run(f"text{seed}", changes={"data": TEXT, "seed_everything": seed}, experiment="text")
        write_run(f"sum{seed}", grokked=40, changes={"seed_everything": seed})
    assert report("text", "e", "--by", "experiment")[0] == 0
    found = conditions()
    assert found["grok_n"].to_dict() == {"text": 0, "e": 2}
    assert found["grok_k"].to_dict() == {"text": 0, "e": 2}
    assert found.loc["text", ["grok_mean", "best_val_acc", "final_val_acc", "final_val_loss"]].isna().all()
    assert pd.read_csv("out/comparisons.csv").empty
    assert "2 grokked" in page()
    steps = table("Steps to memorize and to grok").set_index("condition").loc["text"]
    assert steps["memorized"].startswith("2/2")
    assert set(steps.drop(["n", "memorized", "memorize step, median"])) == {"-"}
    after = table("After the grok").set_index("condition").loc["text"]
    assert set(after.drop("collapsed")) == {"-"}


def test_figures_of_grokking_have_only_runs_with_validation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        write_run(f"text{seed}", changes={"data": TEXT, "seed_everything": seed}, experiment="text")
        write_run(f"sum{seed}", grokked=40, changes={"seed_everything": seed})
    drawings = {each.name: each for each in make_report(["text", "e"], tmp_path, ["experiment"]).drawings}
    for name in ("after-grok", "survival", "delay"):
        made, _ = drawings[name].make()
        assert set(made["condition"]) == {"e"}, name
    assert "ablation" not in drawings  # of a single condition
