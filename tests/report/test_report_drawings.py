"""Which figures a report has: those that its keys allow, and none that could not be read."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from records import write_run

from grok_lightning.report.making import make_report

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
