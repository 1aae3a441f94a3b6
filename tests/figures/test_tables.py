"""The tables behind figures of sets of runs say what the records say."""

import numpy as np
import pandas as pd
import pytest
from sets_of_runs import BUDGET, curves_of, ordered, runs_of

from grok_lightning.figures.ablation import tabulate_ablation
from grok_lightning.figures.by_value import tabulate_by_value
from grok_lightning.figures.curve_tables import QUARTILES, RANGE, tabulate_medians, tabulate_single_runs
from grok_lightning.figures.delay import tabulate_delay
from grok_lightning.figures.phase import tabulate_phase
from grok_lightning.figures.survival import tabulate_survival
from grok_lightning.statistics import kaplan_meier, times

KEY = "train_fraction"
RUNS = runs_of([0.3, 0.5, 0.4], 7)


def test_survival_is_kaplan_meiers_from_1_down_and_ticks_count_the_censored() -> None:
    table = tabulate_survival(RUNS)
    for condition, rows in table.groupby("condition", sort=False):
        curve, gone = rows[rows["kind"] == "curve"], rows[rows["kind"] == "censored"]
        group = times(RUNS[RUNS["condition"] == condition], "grok")
        assert (curve["step"].iloc[0], curve["share"].iloc[0]) == (0, 1)
        assert curve["share"].is_monotonic_decreasing
        assert curve["step"].iloc[-1] == group["step"].max()
        assert curve["share"].iloc[-1] == pytest.approx(kaplan_meier(group["step"], group["observed"]).survival[-1])
        assert gone["count"].sum() == (~group["observed"]).sum()
        assert set(rows["n"]) == {len(group)}


@pytest.mark.parametrize("table", [tabulate_by_value(RUNS, KEY), tabulate_ablation(RUNS)], ids=["by value", "ablation"])
def test_every_run_stands_in_the_table_once_beside_its_conditions_median(table: pd.DataFrame) -> None:
    first = table.columns[0]
    assert sorted(table["run"].dropna()) == sorted(RUNS["run"])
    for _, rows in table.groupby(first, sort=False):
        each, median = rows[rows["kind"] == "run"], rows[rows["kind"] == "median"].iloc[0]
        assert median["step"] == kaplan_meier(each["step"], each["observed"].astype(bool)).median
        assert (median["n"], median["grokked"]) == (len(each), each["observed"].sum())
        assert (each["step"][each["observed"].eq(False)] == BUDGET).all()


def test_numbers_are_in_order_and_names_in_that_of_the_records() -> None:
    assert list(tabulate_by_value(RUNS, KEY)[KEY].unique()) == [0.3, 0.4, 0.5]
    named = runs_of(["b", "a", "c"], key="optimizer")
    assert list(tabulate_by_value(named, "optimizer", None, "accuracy")["optimizer"].unique()) == ["b", "a", "c"]


def test_best_accuracy_of_a_run_that_has_none_does_not_count() -> None:
    runs = runs_of([0.3], 3).assign(best_val_acc=[0.2, np.nan, 0.6])
    median = tabulate_by_value(runs, KEY, None, "accuracy").query("kind == 'median'").iloc[0]
    assert (median["best_val_acc"], median["n"]) == (0.4, 2)


STEP = {"grokked": 500.0, "memorized only": np.nan, "neither": np.nan, "diverged": np.nan}


def test_a_cell_is_called_after_most_of_its_runs() -> None:
    for most in STEP:
        for least in STEP:
            kinds = [most, most, least]
            runs = runs_of([0.3], 3).assign(
                status=["diverged" if kind == "diverged" else "finished" for kind in kinds],
                grok_step=[STEP[kind] for kind in kinds],
                memorize_step=[100.0 if kind in ("grokked", "memorized only") else np.nan for kind in kinds],
                lr=0.1,
            )
            cell = tabulate_phase(runs, KEY, "lr").iloc[0]
            assert cell["kind"] == most
            assert (cell["n"], cell["grokked"]) == (3, kinds.count("grokked"))


def test_a_cell_with_as_many_runs_of_several_outcomes_is_called_after_the_first() -> None:
    kinds = ["diverged", "neither", "memorized only"]
    for some in (kinds, kinds[:2], kinds[::2]):
        runs = runs_of([0.3], len(some)).assign(
            status=["diverged" if kind == "diverged" else "finished" for kind in some],
            grok_step=np.nan,
            memorize_step=[100.0 if kind == "memorized only" else np.nan for kind in some],
            lr=0.1,
        )
        assert tabulate_phase(runs, KEY, "lr")["kind"].tolist() == [some[-1]]


def test_medians_of_the_map_are_kaplan_meiers() -> None:
    for seed in range(20):
        chance = np.random.default_rng(seed)
        runs = runs_of([0.3], 1 + seed % 9).assign(lr=0.1, status="stopped")
        runs["steps"] = chance.integers(100, 1000, len(runs))
        runs["grok_step"] = np.where(chance.random(len(runs)) < 0.6, runs["steps"], np.nan)
        at = times(runs, "grok")
        assert tabulate_phase(runs, KEY, "lr")["median"].iloc[0] == kaplan_meier(at["step"], at["observed"]).median


def test_delay_has_each_run_with_both_its_steps() -> None:
    table = tabulate_delay(RUNS).set_index("run").loc[RUNS["run"]]
    assert table["step"].tolist() == RUNS["grok_step"].fillna(BUDGET).tolist()
    np.testing.assert_array_equal(table["memorize_step"], RUNS["memorize_step"])


def test_overlaid_runs_are_as_many_as_allowed_and_even_over_conditions() -> None:
    for most in (1, 2, 3, 10, 16, 1000):
        runs = ordered(pd.concat([RUNS[RUNS["condition"] != "train_fraction=0.4"], RUNS.tail(2)]))
        table = tabulate_single_runs(runs, curves_of(RUNS), most)
        kept = table.groupby("condition", sort=False)["run"].nunique()
        assert kept.sum() == min(most, len(runs))
        assert kept.max() - kept.min() <= 1 or kept.min() == 2
        assert (table["step"].dropna() > 0).all()
        sizes = runs["condition"].value_counts()
        assert all(sizes[name] == number for name, number in table.groupby("condition")["runs"].first().items())


def test_long_runs_are_thinned_but_keep_their_ends() -> None:
    runs = runs_of([0.3], 2)
    step = np.arange(0, 200_001)
    long = pd.DataFrame({"step": step} | dict.fromkeys(("train/acc", "val/acc", "train/loss", "val/loss"), 0.5))
    curves = pd.concat([long.assign(run=name) for name in runs["run"]], ignore_index=True)
    for _, rows in tabulate_single_runs(runs, curves).groupby("run"):
        assert (rows["step"].iloc[0], rows["step"].iloc[-1]) == (1, 200_000)
        assert 100 < len(rows) <= 30_001
    assert len(tabulate_medians(runs, curves)) < 4 * 1000


def record(name: str, values: dict[int, float], **others: object) -> tuple[dict[str, object], pd.DataFrame]:
    """A run whose every measure has these values at these steps."""
    steps, known = list(values), list(values.values())
    curve = pd.DataFrame({"run": name, "step": steps})
    curve = curve.assign(**dict.fromkeys(("train/acc", "val/acc", "train/loss", "val/loss"), known))
    row = {"condition": "a=1", "run": name, "status": "finished", "grok_step": np.nan, "sustained_grok_step": np.nan}
    return row | others, curve


def band_of(*records: tuple[dict[str, object], pd.DataFrame]) -> pd.DataFrame:
    rows, curves = zip(*records, strict=True)
    table = tabulate_medians(ordered(pd.DataFrame(list(rows))), pd.concat(curves, ignore_index=True))
    return table[table["measure"] == "val/acc"].set_index("step")


@pytest.mark.parametrize("status", ["stopped", "finished"])
def test_a_run_that_stopped_after_a_lasting_grok_counts_with_its_last_value(status: str) -> None:
    quick = record("quick", {1: 0.0, 10: 1.0}, sustained_grok_step=10, status=status)
    table = band_of(quick, record("slow", {1: 0.0, 10: 0.0, 100: 0.2}), record("slower", {1: 0.0, 10: 0.0, 100: 0.1}))
    assert table.loc[100, ["low", "median", "high"]].tolist() == [0.1, 0.2, 1.0]
    assert (table.loc[100, "n"], table.loc[100, "carried"], table.loc[10, "carried"]) == (3, 1, 0)


@pytest.mark.parametrize(("status", "carried"), [("stopped", 1), ("finished", 0), ("unfinished", 0)])
def test_a_run_that_stopped_in_a_dip_after_its_grok_counts_with_its_last_value(status: str, carried: int) -> None:
    dipping = record("dipping", {1: 0.0, 10: 1.0, 20: 0.9}, grok_step=10, status=status)
    table = band_of(dipping, record("long", {1: 0.0, 10: 0.0, 20: 0.0, 100: 0.1}))
    assert (table.loc[100, "n"], table.loc[100, "carried"]) == (1 + carried, carried)


@pytest.mark.parametrize(("validated", "carried"), [(True, 0), (False, 1)])
def test_a_run_without_validation_that_stopped_memorized_counts_with_its_last_value(validated, carried) -> None:
    more = {"status": "stopped", "memorize_step": 10, "validated": validated}
    table = band_of(record("quick", {1: 0.0, 10: 1.0}, **more), record("long", {1: 0.0, 10: 0.0, 100: 0.1}, **more))
    assert (table.loc[100, "n"], table.loc[100, "carried"]) == (1 + carried, carried)


@pytest.mark.parametrize("status", ["running", "stopped", "finished"])
def test_another_run_counts_only_as_long_as_it_was_watched(status: str) -> None:
    short = record("short", {1: 0.0, 10: 0.5}, status=status)
    table = band_of(short, record("long", {1: 0.0, 10: 0.0, 100: 0.1}))
    assert (table.loc[100, "median"], table.loc[100, "n"], table.loc[100, "carried"]) == (0.1, 1, 0)


def test_the_line_ends_where_fewer_than_half_of_the_runs_were_watched() -> None:
    short = [record(f"short {place}", {1: 0.0, 10: 0.5}, status="running") for place in range(2)]
    assert list(band_of(*short, record("long", {1: 0.0, 10: 0.0, 100: 0.1})).index) == [1, 10]


def test_diverged_runs_count_and_values_that_are_no_numbers_do_not() -> None:
    broken = record("broken", {1: 0.0, 10: np.nan}, status="diverged")
    worse = record("worse", {1: 0.0, 10: 0.3}, status="diverged")
    table = band_of(broken, worse, record("whole", {1: 0.0, 10: 0.0, 100: 0.9}))
    assert (table.loc[100, "n"], table.loc[100, "low"], table.loc[100, "high"]) == (2, 0.3, 0.9)


@pytest.mark.parametrize(("runs", "interval"), [(1, RANGE), (4, RANGE), (5, QUARTILES), (8, QUARTILES)])
def test_the_band_is_quartiles_where_there_are_enough_runs(runs: int, interval: str) -> None:
    values = np.random.default_rng(runs).random(runs)
    table = band_of(*(record(f"{place}", {1: value}) for place, value in enumerate(values)))
    ends = [0.25, 0.5, 0.75] if interval == QUARTILES else [0, 0.5, 1]
    np.testing.assert_allclose(table.loc[1, ["low", "median", "high"]].to_numpy(float), np.quantile(values, ends))
    assert table["interval"].tolist() == [interval]


def test_steps_that_only_one_run_was_evaluated_at_are_left_out() -> None:
    others = [record(f"{place}", {1: 0.0, 10: 0.5, 100: 0.6}) for place in range(4)]
    assert list(band_of(record("odd", {1: 0.0, 7: 0.4, 10: 0.5, 100: 0.6}), *others).index) == [1, 10, 100]
