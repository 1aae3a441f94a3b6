"""The forecaster: what it learns, and what its forecasts are."""

import json
from dataclasses import replace
from math import inf, log
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs import make_histories, make_history
from scipy.optimize import check_grad

from grok_lightning.errors import UserError
from grok_lightning.forecast import Forecast, fit_forecaster, read_forecaster, shipped_forecaster
from grok_lightning.forecast.features import NAMES, features
from grok_lightning.forecast.forecaster import SHIPPED, describe, landmark_steps, remaining
from grok_lightning.forecast.history import histories_of_records
from grok_lightning.forecast.mixture import Waits, _loss, fit_mixture
from grok_lightning.report.forecast import tabulate_forecasts

HISTORIES = make_histories()


@pytest.fixture(scope="module")
def fitted():
    return fit_forecaster(HISTORIES[:45])


def test_it_learns_the_clock_and_forecasts_other_conditions(fitted) -> None:
    others = HISTORIES[45:]
    found = [fitted(each, each.memorize_step) for each in others]
    errors = [abs(made.median / each.grok_step - 1) for made, each in zip(found, others, strict=True)]
    assert np.mean(errors) < 0.2
    inside = [
        low <= each.grok_step <= high
        for (low, high), each in zip((made.interval for made in found), others, strict=True)
    ]
    assert 0.6 <= np.mean(inside) <= 1
    assert all(made.by(each.budget) > 0.9 for made, each in zip(found, others, strict=True))


def test_as_time_goes_on_a_forecast_never_lies_in_the_past(fitted) -> None:
    never = make_history(grok=inf, budget=20_000)
    for step in never.steps[5::10]:
        for forecaster in (fitted, shipped_forecaster()):
            made = forecaster(never, step)
            assert step == made.step < made.interval[0] < made.median < made.interval[1]
            assert 0 <= made.by(never.budget) <= 1
    assert fitted(never).by(never.budget) == 0  # the budget is spent


def test_without_decay_grokking_is_less_likely() -> None:
    with_decay, without = (shipped_forecaster()(make_history(grok=inf, decay=decay), 500) for decay in (1.0, 0.0))
    assert without.by(10_000) < with_decay.by(10_000)
    assert np.isfinite([without.median, *without.interval]).all()


def test_an_unknown_task_network_and_optimizer_are_forecast_too() -> None:
    strange = {
        "data.class_path": "mine.Data", "data.formula": None, "data.train_fraction": None, "data.batch_size": "full",
        "model.network.class_path": "torch.nn.Linear", "model.network.layers": None,
        "model.optimizer.class_path": "mine.Lion", "model.optimizer.lr": None, "model.optimizer.weight_decay": None,
    }  # fmt: skip
    history = make_history(**strange)
    history.columns["norm/weights"][:] = np.nan
    made = shipped_forecaster()(history, 600)
    assert made.step == 600 < made.interval[0] < made.median < made.interval[1] < inf


def test_a_loss_that_is_not_finite_is_not_known() -> None:
    history = make_history()
    history.columns["val/loss"][5:] = np.inf
    history.columns["train/loss"][:] = np.nan
    assert np.isfinite(shipped_forecaster()(history, 900).median)


def test_a_file_holds_all_of_it(fitted, tmp_path: Path) -> None:
    fitted.save(tmp_path / "f.json")
    assert read_forecaster(tmp_path / "f.json") == fitted
    assert (tmp_path / "f.json").stat().st_size < 10_000


def test_the_shipped_one_is_small_and_says_what_it_was_fitted_to() -> None:
    assert SHIPPED.stat().st_size < 10_000
    assert shipped_forecaster().fitted["runs"] > 400


def damage(**changes: object) -> str:
    content = json.loads(SHIPPED.read_text())
    for key, value in changes.items():
        content[key] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no forecaster"),
        ("[]", "no forecaster"),
        ("{}", "no forecaster"),
        (damage(form=2), "form 2"),
        (damage(scale=0), "a scale not above 0"),
        (damage(scale="wide"), "no forecaster"),
        (damage(features={"luck": {"mean": 0, "scale": 1, "when": 1, "ever": 1}}), "'luck'"),
        (damage(features={"layers": {"mean": 0, "scale": 0, "when": 1, "ever": 1}}), "a scale not above 0"),
        (damage(features={"layers": {"mean": 0, "scale": 1, "when": 1}}), "no forecaster"),
        (damage(when=None), "no forecaster"),
        (damage(features=[]), "no forecaster"),
        ('{"form": 1, "scale": NaN}', "no forecaster"),
    ],
)
def test_another_file_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        read_forecaster(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_forecaster(tmp_path / "none.json")


def test_too_few_runs_are_refused() -> None:
    for histories in ([], HISTORIES[:4], [make_history(grok=inf, rate=10.0**-power) for power in range(2, 9)]):
        with pytest.raises(UserError, match="5 conditions or more"):
            fit_forecaster(histories)


def test_seeds_are_one_condition_and_budgets_too() -> None:
    a, b = make_history(seed=1, budget=5000), make_history(seed=2, **{"trainer.max_steps": 9})
    assert a.condition() == b.condition() != make_history(decay=0.5).condition()


@pytest.mark.parametrize("none", [None, float("nan"), pd.NA])
def test_records_of_several_versions_are_one_condition(none: object) -> None:
    known = {f"config.{key}": value for key, value in make_history().options.items()} | {"path": "e/a", "budget": 10}
    then = {"config.model.loss_on": "answer", "config.model.network.activation": "relu", "config.data.splits": none}
    runs = pd.DataFrame([known, known | then | {"path": "e/b"}])
    runs["config.data.train_rows"] = none
    rows = pd.DataFrame({"step": [0, 1], "train/acc": [0.0, 1.0], "val/acc": [0.0, 0.5]})
    curves = pd.concat([rows.assign(run=path) for path in runs["path"]])
    a, b = histories_of_records(runs, curves)
    assert a.condition() == b.condition()
    assert "data.train_rows" not in dict(a.condition())
    assert features(a, 1)[NAMES.index("fraction")] == features(b, 1)[NAMES.index("fraction")] == 0.5


def test_runs_that_cannot_grok_have_no_forecast(fitted) -> None:
    history = make_history(grok=inf)
    assert fitted(history, 900) is not None
    assert fitted(replace(history, validated=False), 900) is None
    assert not replace(history, validated=False).waits
    lost = replace(history, budget=50_000, record={"status": "diverged"})
    table = tabulate_forecasts([history, lost], fitted)
    assert table["forecast_at"].notna().tolist() == [True, False]
    assert tabulate_forecasts([lost], fitted, "memorized")["forecast_at"].notna().all()
    assert remaining(lost, 900) == (log(49_100), inf)
    assert remaining(history, 900)[0] < log(49_100)


def test_quantiles_and_probabilities_agree() -> None:
    made = Forecast(1000, np.log(500), 0.3, ever=0.8)
    assert made.median == pytest.approx(1500)
    for share in (0.1, 0.5, 0.9):
        assert made.by(made.quantile(share)) == pytest.approx(0.8 * share)
    assert made.by(1000) == made.by(0) == 0
    assert made.by(1e12) == pytest.approx(0.8)
    assert describe(made, 10_000) == "grok expected at 1,500 (1,259 to 1,967)"
    assert describe(made, 1400) == "grok by step 1,400 unlikely (26%)"


def test_landmarks_are_evaluations_between_memorizing_and_grokking() -> None:
    history = make_history(memorize=500, grok=2000)
    assert landmark_steps(history) == [500, 800, 1200]
    assert remaining(history, 1200) == (np.log(700), np.log(800))
    assert remaining(make_history(memorize=500, grok=590), 500) == (-inf, np.log(100))
    assert remaining(make_history(grok=inf, budget=5000), 1000) == (np.log(4000), inf)


def observed(count: int = 3000, share: float = 0.7):
    generator = np.random.default_rng(0)
    inputs = np.concatenate([np.ones((count, 1)), generator.standard_normal((count, 1))], axis=1)
    waits = 7 + 0.5 * inputs[:, 1] + 0.2 * generator.logistic(size=count)
    waits[generator.random(count) > share] = inf
    end = generator.uniform(6, 9, count)  # of observation
    seen = waits < end
    return inputs, Waits(
        np.where(seen, np.floor(waits * 20) / 20, end), np.where(seen, np.floor(waits * 20) / 20 + 0.05, inf)
    )


def test_a_mixture_finds_what_its_data_were_drawn_from() -> None:
    """Times known between evaluations only, runs that were stopped before, and runs that never would have."""
    inputs, waits = observed()
    found = fit_mixture(inputs, waits, ridge=0.01)
    assert found.when == pytest.approx([7, 0.5], abs=0.03)
    assert found.scale == pytest.approx(0.2, rel=0.05)
    assert 1 / (1 + np.exp(-found.ever[0])) == pytest.approx(0.7, abs=0.03)
    assert found.ever[1] == pytest.approx(0, abs=0.15)


def test_the_gradient_is_that_of_the_loss() -> None:
    inputs, waits = observed(200)
    seen = np.isfinite(waits.high)
    low = np.where(np.arange(200) % 7 == 0, -np.inf, waits.low)  # grokked right after
    problem = (inputs, np.where(seen, low, waits.low), np.where(seen, waits.high, 0.0), seen, 1.0)
    point = np.array([6.8, 0.3, 0.5, 0.2, -1.2])
    error = check_grad(lambda at: _loss(at, *problem)[0], lambda at: _loss(at, *problem)[1], point)
    assert error < 1e-3 * np.abs(_loss(point, *problem)[1]).max()
