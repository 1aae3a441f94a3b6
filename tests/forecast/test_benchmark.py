"""The program that scores forecasts: splits, moments, scores, signals; and that the page's numbers are its own."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs import make_histories, make_history

HOME = Path(__file__).parents[2]
sys.path.insert(0, str(HOME / "benchmarks"))

import forecast as benchmark  # noqa: E402
import forecast_law  # noqa: E402
import forecast_scores as scoring  # noqa: E402
import signals  # noqa: E402
from predictors import law, ratio  # noqa: E402
from predictors.common import DelayForecast  # noqa: E402

TEXT = benchmark.DOCUMENT.read_text(encoding="utf-8")
HISTORIES = [
    *make_histories(30),
    *(make_history(rate=1e-3 * place, seed=seed) for place in (1, 2) for seed in range(5)),
]


def test_seeds_of_a_condition_are_in_one_fold() -> None:
    folds = benchmark.by_condition(HISTORIES)
    by_condition = {}
    for history, fold in zip(HISTORIES, folds, strict=True):
        by_condition.setdefault(history.condition(), set()).add(fold)
    assert all(len(found) == 1 for found in by_condition.values())
    assert set(folds) == set(range(10))
    assert folds == benchmark.by_condition(HISTORIES[::-1])[::-1]  # whatever the order of the archives


def test_the_program_shows_a_predictor_no_run_that_it_forecasts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Nosy(ratio.Predictor):
        def __init__(self, histories):
            super().__init__(histories)
            self.known = {each.condition() for each in histories}

        def __call__(self, history, step):
            seen.append((history.condition() in self.known, history.grok_step, history.last - step))
            return super().__call__(history, step)

    monkeypatch.setattr(ratio, "Predictor", Nosy)
    table = benchmark.predict(HISTORIES, "ratio", "condition")
    assert len(table) == len(seen) > len(HISTORIES)
    assert set(seen) == {(False, None, 0)}


def test_half_of_the_wait_is_an_evaluation_after_memorizing() -> None:
    assert benchmark.moments(make_history(memorize=500, grok=3000)) == [("memorization", 500), ("half", 1700)]
    assert benchmark.moments(make_history(memorize=500, grok=590)) == [("memorization", 500)]
    assert benchmark.moments(make_history(memorize=500, grok=np.inf)) == [("memorization", 500)]


def test_every_file_with_a_predictor_is_a_row() -> None:
    names = benchmark.predictor_names()
    assert {"forecaster", "law", "law_by_cell", "clock", "ratio"} <= set(names)
    assert "common" not in names
    assert set(benchmark.read_predictions()["predictor"]) == set(names)


def test_scores_of_forecasts_that_are_known() -> None:
    table = pd.DataFrame({
        "median": [100.0, 150.0, np.inf], "low": [80.0, 95.0, 120.0], "high": [120.0, 200.0, 130.0],
        "grok": [100.0, 100.0, 110.0], "after": [90.0, 90.0, 100.0], "step": [50, 50, 50],
    })  # fmt: skip
    assert scoring.errors(table).tolist() == [0, 0.5, 10]
    assert scoring.covered(table).tolist() == [1, 0.5, 0]


def test_a_delay_forecast_is_conditioned_on_the_wait_so_far() -> None:
    made = DelayForecast(2000, 500, np.log(1000), 0.3)
    early = DelayForecast(500, 500, np.log(1000), 0.3)
    assert early.median == pytest.approx(1500)
    assert 2000 < made.interval[0] < made.median < made.interval[1]
    assert made.by(made.median) == pytest.approx(0.5)
    never = DelayForecast(2000, 500, np.inf, 0.3)
    assert (never.median, never.by(1e9)) == (np.inf, 0)


def test_the_law_predictor_finds_runs_that_follow_the_clock() -> None:
    made = law.Predictor(HISTORIES[:25])
    for history in HISTORIES[25:30]:
        assert made(history, history.memorize_step).median == pytest.approx(history.grok_step, rel=0.35)


def alarm(name: str, column: str, values: list[float]) -> int | None:
    (signal,) = [each for each in signals.SIGNALS if each.name == name]
    history = make_history(memorize=0, grok=np.inf, budget=100 * (len(values) - 1))
    history.columns[column] = np.array(values)
    return signals.alarm_step(signal, history)


def test_alarms() -> None:
    nan = np.nan
    assert alarm("norm slope", "norm/weights", [1, 2, 1.95, 1.89, 1]) == 300
    assert alarm("norm slope", "norm/weights", [1, 2, 3, 4, 5]) is None
    assert alarm("validation loss turn", "val/loss", [3, 5, 4.6, 4.4]) == 300
    assert alarm("Fourier Gini", "fourier/embedding_gini", [0.1, nan, 0.14, nan, 0.16]) == 400
    assert alarm("excluded loss", "progress/excluded_loss", [1, 0.1, 0.01, 0.09, 0.2]) == 400
    assert alarm("logit margin", "logits/margin", [2, 2.9, 3.1]) == 200
    assert alarm("commutator defect", "commutator/defect", [1, 2, 3, 19.0, 21.0]) == 400
    assert alarm("commutator defect", "commutator/defect", [nan] * 5) is None


def test_an_alarm_does_not_look_ahead() -> None:
    generator = np.random.default_rng(0)
    for signal in signals.SIGNALS:
        values = generator.uniform(0.1, 60, 40)
        raised = signal.alarm(values)
        for end in range(3, 40):
            assert (signal.alarm(values[:end]) == raised[:end]).all(), signal.name


def test_a_signal_without_columns_is_left_out_with_a_sentence() -> None:
    found = forecast_law.signals(HISTORIES)
    assert "| norm slope |" in found
    assert "Left out, having fewer than 5 runs: Fourier Gini (0 runs" in found


def test_every_table_has_its_place_and_the_page_its_reading() -> None:
    marks = re.findall(r"<!-- (?!end of )(.+?) -->", TEXT)
    assert len(marks) == 8
    for name in marks:
        assert f"<!-- end of {name} -->" in TEXT


@pytest.mark.slow
def test_the_numbers_of_the_page_are_those_of_the_records() -> None:
    histories = benchmark.read_listed()
    assert len(histories) == len(benchmark.RUNS.read_text(encoding="utf-8").split())
    without = re.sub(r"(<!-- (?!end)[^>]*-->\n).*?(<!-- end of)", r"\1\2", TEXT, flags=re.DOTALL)
    assert without != TEXT
    assert benchmark.with_tables(without, histories, benchmark.read_predictions()) == TEXT
    kept = benchmark.read_predictions()
    for name, fold in (("forecaster", 3), ("law", 5)):
        again = benchmark.predict(histories, name, "condition", only=fold)
        before = kept[(kept["predictor"] == name) & (kept["split"] == "condition") & (kept["fold"] == str(fold))]
        joined = again.merge(before, on=["config_hash", "moment"])
        assert len(joined) == len(again) == len(before) > 20
        for column in ("median", "low", "high"):
            assert joined[f"{column}_x"].tolist() == pytest.approx(joined[f"{column}_y"].tolist(), rel=0.02)
