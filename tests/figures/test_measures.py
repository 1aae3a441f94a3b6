"""The figure of what goes on inside."""

import numpy as np
import pandas as pd
import pytest
from sets_of_runs import runs_of

from grok_lightning.figures.measures import PANELS, draw_measures, tabulate_measures


def curves(runs, last, **metrics):
    steps = np.arange(0, last + 1, 10)
    parts = [pd.DataFrame({"run": f"{run}", "step": steps} | dict.fromkeys(metrics, run + 1.0)) for run in range(runs)]
    return pd.concat(parts, ignore_index=True)


NAMES = {metric: 1 for metrics in PANELS.values() for metric in metrics}


def test_medians_and_ends_over_runs():
    table = tabulate_measures(curves(3, 100, **NAMES))
    assert set(table["metric"]) == set(NAMES)
    assert (table[["low", "median", "high", "n"]].to_numpy() == [1, 2, 3, 3]).all()
    assert table["step"].min() == 10  # a logarithmic axis has no step 0


def test_steps_that_not_all_runs_reached_are_left_out():
    both = pd.concat([curves(1, 100, **NAMES), curves(1, 50, **NAMES).assign(run="other")])
    assert tabulate_measures(both)["step"].max() == 50


def test_metrics_that_nobody_has_are_left_out():
    some = curves(2, 50, **NAMES).assign(**{"fourier/neurons_gini": np.nan}).drop(columns="norm/weights")
    table = tabulate_measures(some)
    assert not {"fourier/neurons_gini", "norm/weights"} & set(table["metric"])
    figure = draw_measures(table, "t")
    assert "weight norm" not in [axes.get_ylabel() for axes in figure.axes]


@pytest.mark.parametrize("runs", [1, 4])
def test_every_metric_is_drawn_and_named(runs, tmp_path):
    table = tabulate_measures(curves(runs, 1000, **NAMES))
    figure = draw_measures(table, "x + y", [(100, "memorized")])
    named = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]
    assert sorted(named) == sorted(name for metrics in PANELS.values() for name in metrics.values())
    assert len(figure.axes) == len(PANELS)
    figure.savefig(tmp_path / "f.png")


def test_representations_and_subgroups_share_a_panel():
    names = [
        "irreps/logits_3-1",
        "irreps/logits_2-2",
        "irreps/excluded_loss_3-1",
        "cosets/x",
        "cosets/x_6a",
        "cosets/y",
    ]
    figure = draw_measures(tabulate_measures(curves(1, 100, **dict.fromkeys(names, 1))), "t")
    panels = {axes.get_ylabel().replace("\n", " "): len(axes.get_legend().get_texts()) for axes in figure.axes}
    assert panels == {"irreps: logits": 2, "irreps: excluded loss": 1, "cosets: x": 2, "cosets: y": 1}


def test_nothing_measured_is_no_error(tmp_path):
    draw_measures(tabulate_measures(curves(1, 0, **NAMES)), "t").savefig(tmp_path / "f.png")


def test_conditions_are_compared_in_every_metric_but_accuracy_and_loss(tmp_path):
    runs = runs_of([0.3, 0.5], 2)
    known = curves(4, 100, **NAMES, **{"own/thing": 1})
    known["run"] = "run " + known["run"]
    table = tabulate_measures(known[known["run"] != "run 3"], runs)
    assert table.columns[:2].tolist() == ["train_fraction", "condition"]
    assert set(table["metric"]) == {*NAMES, "own/thing"} - {"train/acc", "val/acc", "train/loss", "val/loss"}
    assert table.groupby("condition", sort=False)["n"].unique().map(list).tolist() == [[2], [1]]
    figure = draw_measures(table, "x + y")
    assert len(figure.axes) == table["metric"].nunique()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0.3", "0.5"]
    assert all(len(axes.get_lines()) == 2 for axes in figure.axes)
    figure.savefig(tmp_path / "f.png")
