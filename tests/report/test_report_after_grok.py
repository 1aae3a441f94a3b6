"""A report says of each condition whether accuracy held after the grok, and what is not known of it."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from records import reporting, write_run

from grok_lightning.figures.after_grok import draw_after_grok, tabulate_after_grok
from grok_lightning.records.record import write_metrics
from grok_lightning.report.drawings import list_drawings
from grok_lightning.report.making import make_report

STEPS = (0, 10, 20, 40, 80, 160, 200, 320, 480, 560)


@pytest.fixture
def report(command, monkeypatch):
    return reporting(command, monkeypatch)


def write(name: str, fraction: float, later: Sequence[float], memorized: int | None = 10, **more) -> None:
    """A run that groks at step 20, with the validation accuracies that follow it."""
    changes = {"data.train_fraction": fraction, "seed_everything": len(later)}
    hashed = write_run(name, memorized, 20, changes, evaluated=STEPS[: 3 + len(later)], **more)
    (directory,) = Path("lightning_logs/e").glob(f"*{hashed}")
    accuracies = [0.1, 0.1, 1.0, *later]
    rows = [
        {"step": step, "train/loss": 0.0, "train/acc": 1.0 if step >= 10 else 0.1, "val/loss": 0.0, "val/acc": share}
        for step, share in zip(STEPS, accuracies, strict=False)
    ]
    write_metrics(directory, rows)


def section(heading: str) -> list[list[str]]:
    text = Path("out/report.md").read_text()
    (table,) = re.findall(rf"## {heading}\n\n((?:\|.*\n)+)", text)
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()]


def test_conditions_are_described_and_what_is_not_known_is_told(report) -> None:
    write("a", 0.3, [1.0] * 7)
    write("b", 0.3, [1.0] * 6)
    write("c", 0.3, [1.0, 0.98, 0.5, 1.0, 0.98])
    write("d", 0.3, [1.0] * 2)
    write("e", 0.5, [])
    write("f", 0.5, [1.0], status="diverged", steps=45)
    write_run("g", 10, None, {"data.train_fraction": 0.7})
    assert report("e")[0] == 0
    head, _, *rows = section("After the grok")
    assert head == ["condition", "grokked", "watched to", "sustained", "stable", "collapsed", "dips",
                    "evaluations below", "lowest accuracy"]  # fmt: skip
    assert rows == [
        ["train_fraction=0.3", "4/4", "20.0x (4.0x to 28.0x)", "2/3, 1 not known", "2/3, 1 not known",
         "0/3, 1 not known", "0 (0 to 2)", "0 (0 to 3)", "50.00 %"],
        ["train_fraction=0.5", "2/2", "1.5x (1.0x to 2.0x)", "0/1, 1 not known", "0/1, 1 not known", "1/1, 1 not known",
         "0", "0", "100.00 %"],
        ["train_fraction=0.7", "0/1", "-", "-", "-", "1 not known", "-", "-", "-"],
    ]  # fmt: skip
    table = pd.read_csv("out/runs.csv").set_index("seed")
    assert table.loc[[7, 6, 5], "stable"].tolist() == [1, 1, 0]
    assert table.loc[5, "lost_step"] == 160
    conditions = pd.read_csv("out/conditions.csv")
    assert conditions["stable_k"].tolist() == [2, 0, 0]
    assert report("out/runs.parquet", out="again")[0] == 0
    pd.testing.assert_frame_equal(pd.read_csv("again/conditions.csv"), conditions)


def test_runs_that_were_watched_shortly_are_told(report, monkeypatch) -> None:
    write("a", 0.3, [1.0] * 5)
    assert report("e")[0] == 0
    assert "watched to less than" not in Path("out/report.md").read_text()
    monkeypatch.setattr("grok_lightning.report.after_grok.WATCHED", 20)
    write("b", 0.5, [1.0] * 7)
    assert report("e")[0] == 0
    sentence = "1 of the 2 stable runs was watched to less than 20 times the grok step, and may fall later."
    assert sentence in Path("out/report.md").read_text()


def test_a_report_without_a_grok_has_no_such_section(report) -> None:
    write_run("a", None, None)
    assert report("e")[0] == 0
    assert "After the grok" not in Path("out/report.md").read_text()


def test_the_figure_has_a_panel_for_each_condition_that_grokked(command, tmp_path) -> None:
    write("a", 0.3, [1.0, 0.97, 1.0])
    write("b", 0.5, [1.0])
    write_run("g", 10, None, {"data.train_fraction": 0.7})
    made = make_report(["e"], Path())
    drawn = [
        drawing for drawing in list_drawings(made.runs, made.gathered.curves, made.keys) if drawing.name == "after-grok"
    ]
    assert len(drawn) == 1
    table, figure = drawn[0].make()
    assert len(figure.axes) == 2
    assert "3 runs; 2 that grokked are drawn, in 1 of the conditions none." in figure.get_supxlabel()
    own = table[table["condition"] == "train_fraction=0.3"]
    assert own["times"].tolist() == [1, 2, 4, 8]
    (line,) = [each for each in figure.axes[0].lines if len(each.get_xdata()) == 4]
    np.testing.assert_allclose(line.get_ydata(), [0, 0, 3, 0], atol=1e-9)
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1], "100 % is on top"


def test_a_figure_of_no_run_is_drawn_too() -> None:
    runs = pd.DataFrame({"condition": ["a"], "run": ["x"], "grok_step": [np.nan], "threshold": [0.99]})
    curves = pd.DataFrame({"run": ["x"], "step": [0], "val/acc": [0.1]})
    table = tabulate_after_grok(runs, curves)
    assert draw_after_grok(table, "t").axes
