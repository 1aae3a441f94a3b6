"""Which figures a report has: those that its keys allow, and none that could not be read."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from records import write_run

from grok_lightning.report.drawings import list_left_out
from grok_lightning.report.making import Report, make_report
from grok_lightning.report.pictures import draw_run

FILTERS = [[], [{"class_path": "grok_lightning.optim.Clip", "norm": 1.0}]]
OPTIONS = {
    "lr": "model.optimizer.lr",
    "train_fraction": "data.train_fraction",
    "layers": "model.network.layers",
    "filters": "model.filters",
}
VALUES: dict[str, Sequence[Any]] = {
    "lr": [0.001, 0.01], "train_fraction": [0.3, 0.5], "layers": [1, 2], "filters": FILTERS,
}  # fmt: skip


def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """A report's figures by name, over all combinations of some options' values."""
    monkeypatch.chdir(tmp_path)
    for place, row in enumerate(product(*values.values())):
        changes = {OPTIONS[name]: value for name, value in zip(values, row, strict=True)}
        write_run(f"{place}", changes=changes | {"seed_everything": place})
    report = make_report(["e"], tmp_path, list(values))
    return {drawing.name: drawing for drawing in report.drawings}


@pytest.mark.parametrize(
    ("keys", "maps", "lines"),
    [
        (["lr"], 0, {"lr"}),
        (["filters"], 0, set()),
        (["filters", "lr"], 1, {"lr"}),
        (["lr", "train_fraction"], 1, {"lr", "train_fraction"}),
        (["filters", "lr", "train_fraction"], 2, {"lr", "train_fraction"}),
        (["layers", "filters", "lr", "train_fraction"], 4, set()),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_maps_and_lines_are_those_of_the_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: list[str], maps: int, lines: set[str]
) -> None:
    found = figures(tmp_path, monkeypatch, {key: VALUES[key] for key in keys})
    assert ("phase" in found) == (maps > 0)
    assert {name for name in found if "-by-" in name} == {
        f"{of}-by-{key}" for key in lines for of in ("steps", "accuracy")
    }
    if maps:
        table, figure = found["phase"].make()
        titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
        assert len(titles) == (maps if maps > 1 else 0)
        assert table["n"].sum() == 2 ** len(keys)
        across = sorted(keys[-2:], key=lambda key: key == "filters")  # names stand beside the rows
        assert table.columns[:2].tolist() == [OPTIONS[key] for key in across]


def test_more_maps_than_fit_a_page_are_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"layers": [1, 2, 3, 4, 5]} | {key: VALUES[key] for key in ("filters", "lr", "train_fraction")}
    assert "phase" not in figures(tmp_path, monkeypatch, values)
    report = make_report(["e"], tmp_path, list(values))
    told = list_left_out(report.runs, report.keys)
    assert told[-1] == (
        "phase is left out: the other options have 10 combinations of values, and a figure has room for 9."
    )


def test_figures_by_a_value_that_would_be_crowded_are_left_out_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"layers": list(range(1, 14)), "lr": VALUES["lr"]}
    found = figures(tmp_path, monkeypatch, values)
    assert {name for name in found if "-by-" in name} == {"steps-by-layers", "accuracy-by-layers"}
    report = make_report(["e"], tmp_path, list(values))
    report.drawings.clear()
    report.write(tmp_path / "out", "t", "c")
    text = (tmp_path / "out" / "report.md").read_text()
    told = "steps-by-lr and accuracy-by-lr are left out: the other option has 13 values, and a figure has"
    assert f"- {told} room for 12." in text
    assert "layers are left out" not in text


def test_keys_of_one_ending_have_figures_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, (evaluation, checkpoint) in enumerate(product((5, 10), (100, 200))):
        changes = {"evaluation": {"threshold": 0.99, "every": evaluation}, "checkpoint": {"every": checkpoint}}
        write_run(f"{seed}", changes=changes | {"seed_everything": seed})
    report = make_report(["e"], tmp_path, ["evaluation.every", "checkpoint.every"])
    names = [drawing.name for drawing in report.drawings]
    assert len(set(names)) == len(names)
    assert {"steps-by-evaluation.every", "steps-by-checkpoint.every", "accuracy-by-checkpoint.every"} <= set(names)
    assert report.conditions["condition"].tolist()[0] == "evaluation.every=5, checkpoint.every=100"


def test_every_measure_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run("a")
    table, figure = next(d for d in make_report(["e"], tmp_path).drawings if d.name == "measures").make()
    assert set(table["metric"]) == {"train/acc", "val/acc", "train/loss", "val/loss", "norm/weights"}
    path = next(tmp_path.glob("lightning_logs/e/*/metrics.csv"))
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},own/thing", *(f"{row},{place}.5" for place, row in enumerate(rows)), ""]))
    table, figure = next(d for d in make_report(["e"], tmp_path).drawings if d.name == "measures").make()
    assert "own/thing" in set(table["metric"])
    assert "own: thing" in [axes.get_ylabel() for axes in figure.axes]


@pytest.mark.parametrize(
    ("conditions", "told"), [(3, "3 tests of the grok step: every pair"), (7, "6 tests of the gr")]
)
def test_the_text_says_which_pairs_were_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conditions: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in range(conditions):
        write_run(f"{place}", changes={"model.optimizer.lr": (1 + place) / 1000})
    report = make_report(["e"], tmp_path)
    report.drawings.clear()
    report.write(tmp_path / "out", "t", "c")
    text = (tmp_path / "out" / "report.md").read_text()
    assert told in text
    assert ("each condition against the first (lr=0.001)" in text) == (conditions > 6)


def made(tmp_path: Path, grokked: Sequence[int | None], seeds: int = 1, **more: Any) -> tuple[Report, dict[str, Any]]:
    """A report of as many learning rates as grok steps are given, and its figures by name."""
    for place, step in enumerate(grokked):
        for seed in range(seeds):
            changes = {"model.optimizer.lr": (1 + place) / 1000, "seed_everything": seed}
            write_run(f"{place}+{seed}", grokked=step, changes=changes, **more)
    report = make_report(["e"], tmp_path)
    return report, {drawing.name: drawing for drawing in report.drawings}


OF_GROKKING = {"survival", "ablation", "delay", "steps-by-lr"}


@pytest.mark.parametrize(("grokked", "seeds"), [([80, None], 2), ([None, None], 2), ([80, None], 1)])
def test_figures_without_anything_to_show_are_left_out_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grokked: list[int | None], seeds: int
) -> None:
    monkeypatch.chdir(tmp_path)
    report, found = made(tmp_path, grokked, seeds)
    told = " ".join(list_left_out(report.runs))
    if not any(grokked):
        assert not OF_GROKKING & set(found)
        assert "No run grokked" in told
    else:
        assert OF_GROKKING - set(found) == ({"survival"} if seeds == 1 else set())
        assert ("Each condition has one run" in told) == (seeds == 1)
    assert {"final-accuracy", "accuracy-by-lr", "curves"} <= set(found)
    assert ("median-curves" in found) == (seeds > 1)
    assert ("compared-curves" in found) == (seeds == 1)
    report.drawings.clear()
    report.write(tmp_path / "out", "t", "c")
    assert told.split(".")[0] in (tmp_path / "out" / "report.md").read_text()


def test_runs_that_never_memorized_have_no_diagonal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report, found = made(tmp_path, [80, 80], memorized=None)
    assert "delay" not in found
    assert "No run has memorized and grokked, so that there is no figure of delays." in list_left_out(report.runs)


@pytest.mark.parametrize("conditions", [1, 2, 4, 5, 9])
def test_every_condition_has_a_panel_with_training_and_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conditions: int
) -> None:
    monkeypatch.chdir(tmp_path)
    _, found = made(tmp_path, [80] * conditions, 2 if conditions < 5 else 1)
    name = "curves" if conditions <= 4 else "curves-accuracy"
    figure: Figure = found[name].make()[1]
    panels = [axes for axes in figure.axes if axes.collections]
    assert len(panels) == (2 * conditions if conditions <= 4 else conditions)
    assert all(len(axes.collections) == 2 for axes in panels)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation"]


def test_keys_that_the_others_determine_make_no_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place, (layers, lr) in enumerate(product((1, 2), (0.001, 0.01))):
        changes = {"model.network.layers": layers, "model.optimizer.lr": lr, "model.network.width": 16 * layers}
        write_run(f"{place}", changes=changes)
    report = make_report(["e"], tmp_path, ["lr", "layers", "width"])
    assert "phase" not in {drawing.name for drawing in report.drawings}


def test_a_single_run_has_pictures_of_its_task_and_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run("a", changes={"data.batch_size": 5000})
    record = {str(name): value for name, value in make_report(["e"], tmp_path).gathered.runs.iloc[0].items()}
    found, remarks = draw_run(record, tmp_path, False)
    assert [drawing.name for drawing in found] == ["value_counts", "answers", "split"]
    assert remarks == []
    table, _ = found[-1].make()
    assert table["split"].value_counts()["train"] == 24
    assert len(table) == 49


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data.class_path": "os.ThisWouldBeRun"}, ""),
        ({"data.modulus": 10**9}, ""),
        ({"data.formula": "x +"}, "No pictures of the task"),
        ({"data.later": 3}, "No pictures of the task"),
        ({"data": {"class_path": "grok_lightning.data.TextDataModule", "strings": ["ab"]}}, ""),
    ],
)
def test_a_single_run_whose_task_cannot_be_drawn_is_reported_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Mapping[str, Any], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run("a", changes=changes)
    record = {str(name): value for name, value in make_report(["e"], tmp_path).gathered.runs.iloc[0].items()}
    found, remarks = draw_run(record, tmp_path, False)
    assert found == []
    assert [remark.startswith(told) for remark in remarks] == ([True] if told else [])
