"""Features, and the structure of formulas."""

import numpy as np
import pytest
from runs import make_history

from grok_lightning.forecast import shipped_forecaster
from grok_lightning.forecast.features import DESCRIPTIONS, NAMES, features
from grok_lightning.forecast.formula import structure
from grok_lightning.forecast.history import history_of_rows


def of(history, step, name):
    return features(history, step)[NAMES.index(name)]


def test_nothing_that_comes_later_is_looked_at() -> None:
    """The features and the forecast at every step are those of a record that ends there."""
    whole = make_history(grok=3000)
    for step in (500, 730, 1900, 2900):
        cut = whole.until(step)
        assert len(cut.steps) == np.sum(whole.steps <= step)
        assert cut.grok_step is None
        assert np.array_equal(features(whole, step), features(cut, step), equal_nan=True)
        assert shipped_forecaster()(whole, step) == shipped_forecaster()(cut)
        other = whole.until(step)
        for values in other.columns.values():
            values.setflags(write=False)
        changed = {
            name: np.concatenate([values, [99.0]] if name != "step" else [values, [step + 1]])
            for name, values in other.columns.items()
        }
        other.columns.update(changed)
        assert np.array_equal(features(whole, step), features(other, step), equal_nan=True)


def test_the_known_is_found_and_the_unknown_is_nan() -> None:
    history = make_history(rate=2e-3, decay=0.5, **{"model.network.layers": None, "data.formula": None})
    assert of(history, 700, "log_clock") == pytest.approx(np.log(1000))
    assert of(history, 700, "log_memorize_step") == pytest.approx(np.log(500))
    assert of(history, 700, "log_norm") == pytest.approx(2 * np.log(history.columns["norm/weights"][7]))
    assert np.isnan(of(history, 700, "layers"))
    assert np.isnan(of(history, 700, "commutative"))
    assert np.isnan(of(history, 700, "log_norm_head"))
    assert of(history, 700, "no_decay") == 0
    parts = {"model.optimizer.adamw_lr": 1e-3, "model.optimizer.adamw_weight_decay": 1.0}
    for options, none in (({}, 1), (parts, 0), ({"model.optimizer.head_weight_decay": 0.5}, 0)):
        without = make_history(decay=0.0, **options)
        assert of(without, 700, "no_decay") == none
        assert np.isfinite(of(without, 700, "log_clock"))
    assert of(make_history(decay=0.0, **parts), 700, "log_clock") == pytest.approx(np.log(1000))
    slow, fast = (of(make_history(rate=rate, decay=0.0), 700, "log_clock") for rate in (1e-4, 1e-3))
    assert slow - fast == pytest.approx(np.log(10))
    assert len({*DESCRIPTIONS.values()}) == len(NAMES)


@pytest.mark.parametrize("value", [np.inf, np.nan, None, "auto", True, [1e-3]])
def test_an_option_that_is_no_number_is_not_known(value: object) -> None:
    history = make_history(**{"model.optimizer.lr": value, "data.batch_size": value, "data.train_fraction": value})
    for name in ("log_clock", "log_rate", "log_batch", "fraction", "inverse_fraction"):
        assert np.isnan(of(history, 700, name)), name


def test_slopes_are_the_same_on_a_finer_schedule() -> None:
    """A slope per unit of ln step: no matter how often a run is evaluated."""
    coarse, fine = make_history(every=100), make_history(every=20)
    for name in ("norm_slope", "val_loss_slope", "val_logit_slope"):
        assert of(coarse, 2500, name) == pytest.approx(of(fine, 2500, name), rel=0.02)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("x + y", (1, 1, 0)),
        ("x - y", (0, 1, 0)),
        ("y * x", (1, 1, 0)),
        ("x / y", (0, 1, 0)),
        ("x**2 + y**2", (1, 1, 0)),
        ("x**2 + y", (0, 1, 0)),
        ("x**2 + x*y + y**2", (1, 0, 0)),
        ("x**2 + x*y + y**2 + x", (0, 0, 0)),
        ("x1 + x2 + x3", (1, 1, 0)),
        ("x + y if x % 2 == 0 else x * y", (0, 0, 1)),
        ("x + y if (x + y) % 2 else y + x", (1, 0, 1)),
        ("x * y * x**-1", (0, 0, 0)),
    ],
)
def test_the_structure_of_formulas(formula: str, expected: tuple[int, int, int]) -> None:
    assert structure(formula) == expected


@pytest.mark.parametrize("formula", ["x", "", "x +", "3", "(" * 200 + "x" + ")" * 200, "\0", "x" + " + x" * 5000])
def test_a_formula_without_structure(formula: str) -> None:
    assert structure(formula) is None


def test_rows_of_a_record_are_a_history() -> None:
    rows = [
        {
            "step": step,
            "train/acc": min(step / 10, 1.0),
            "val/acc": float(step >= 40),
            "train/loss": 1.0,
            "val/loss": 1.0,
        }
        for step in range(0, 60, 10)
    ]
    history = history_of_rows({}, rows, {"train": 10, "val": 10}, 0.99, 100)
    assert (history.memorize_step, history.grok_step, history.grok_after) == (10, 40, 30)
    assert history.waits
    assert np.isnan(of(history, 30, "log_norm"))
    assert shipped_forecaster()(history, 30) is not None
    assert shipped_forecaster()(history, 40) is None
    assert shipped_forecaster()(history, 0) is None


@pytest.mark.parametrize("option", [{"data.train_rows": 941}, {"data.splits": "split.csv"}])
def test_the_fraction_is_not_known_where_something_else_says_how_many_rows_train(option) -> None:
    history = make_history(**option)
    assert np.isnan([of(history, 700, name) for name in ("fraction", "inverse_fraction", "fraction_from_half")]).all()


@pytest.mark.parametrize(
    ("formula", "commutative", "separate"),
    [("a * x + y", 0, 1), ("a * x + a * y", 1, 1), ("r1 * x * y", 1, 1), ("x1 + x2 + x10**2", 1, 1)],
)
def test_named_elements_are_no_operands(formula, commutative, separate) -> None:
    assert structure(formula)[:2] == (commutative, separate)
