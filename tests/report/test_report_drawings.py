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
