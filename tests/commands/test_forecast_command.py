"""The command ``forecast``, and forecasts while a run is trained."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY
from training_here import train_here

from grok_lightning import load_run
from grok_lightning.callbacks.forecasts import KEYS
from grok_lightning.forecast import histories_of_records, read_forecaster, shipped_forecaster
from grok_lightning.records.archive import read_archive
from grok_lightning.report.forecast import tabulate_forecasts

Command = Callable[..., tuple[int, str, str]]
PROJECT = Path(__file__).parents[2]
ARCHIVES = PROJECT / "docs" / "science" / "reproductions"
# memorizes at once, and groks later or not at all
EASY = ["--evaluation.threshold", "0.2", "--model.optimizer.lr", "0.01", "--data.train_fraction", "0.5"]
RUN = ["--experiment", "e", "--run", "a"]


def rows(run: str) -> list[dict[str, str]]:
    with Path(f"lightning_logs/e/{run}/metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_table_a_row_a_run(command: Command) -> None:
    status, out, err = command("forecast", ARCHIVES / "addition-fractions.parquet", "--output", "out/table.csv")
    assert (status, err) == (0, "")
    table = pd.read_csv("out/table.csv")
    assert len(table) == 30
    assert len(out.splitlines()) == 32
    known = table[table["forecast_at"].notna()]
    assert (known["forecast_low"] > known["forecast_at"]).all()
    assert (known["forecast_low"] < known["forecast_median"]).all()
    assert (known["forecast_median"] < known["forecast_high"]).all()
    assert known["probability_within_budget"].between(0, 1).all()
    grokked = known[known["grok_step"].notna()]
    assert len(grokked) > 20
    assert (grokked["forecast_at"] == grokked["memorize_step"]).all()
    at_once = table[table["grok_step"] <= table["memorize_step"]]
    assert len(at_once)
    assert at_once["forecast_at"].isna().all()


def test_an_archive_is_forecast_as_the_scores_were_computed(command: Command) -> None:
    """Tables say in several ways that an option has no value."""
    archive = ARCHIVES / "addition-fractions.parquet"
    assert command("forecast", archive, "--output", "table.csv")[0] == 0
    table = tabulate_forecasts(histories_of_records(*read_archive(archive)), shipped_forecaster())
    found = pd.read_csv("table.csv").set_index("run")["forecast_median"]
    assert found.to_dict() == pytest.approx(table.set_index("run")["forecast_median"].to_dict(), nan_ok=True)


def test_the_page_shows_what_is_printed(command: Command) -> None:
    page = (PROJECT / "docs" / "howto" / "forecast.md").read_text(encoding="utf-8")
    shown = page.split("```text\n")[1].split("```")[0].splitlines()
    printed = command("forecast", ARCHIVES / "addition-fractions.parquet")[1].splitlines()
    assert len(shown) == 5
    assert [line for line in printed if line in shown] == shown


def test_at_says_what_is_known(command: Command) -> None:
    archive = ARCHIVES / "addition-fractions.parquet"
    for at in ("memorized", "last", "600"):
        assert command("forecast", archive, "--at", at, "--output", "table.csv")[0] == 0
        table = pd.read_csv("table.csv")
        known = table[table["forecast_at"].notna()]
        assert 0 < len(known) < 30
        if at == "memorized":
            assert (known["forecast_at"] == known["memorize_step"]).all()
        elif at == "last":
            assert known["grok_step"].isna().all()
        else:
            assert (known["forecast_at"] == 600).all()
            assert (known["memorize_step"] <= 600).all()
            assert not (known["grok_step"] <= 600).any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "forecast EXPERIMENTS..."),
        ("nothing", "there is no experiment 'nothing'"),
        ("A --at soon", "--at is 'soon'; expected: memorized, last or a step"),
        ("A --at -5", "--at is '-5'"),
        ("A --refit", "--refit needs --output"),
        ("A --refit --output f.json --at last", "leave out --at"),
        ("A --forecaster none.json", "'none.json' cannot be read"),
        ("A --forecaster A", "no forecaster"),
        ("A --output .", "--output: '.' is a folder"),
        ("A --output A/x.csv", "--output leads to"),
        ("A --ouput x.csv", "did you mean --output?"),
    ],
)
def test_mistakes_are_told_in_one_line(command: Command, tmp_path: Path, words: str, said: str) -> None:
    arguments = [str(ARCHIVES / "sanity-strings.parquet") if word == "A" else word for word in words.split()]
    arguments = [word.replace("A/", f"{ARCHIVES / 'sanity-strings.parquet'}/") for word in arguments]
    status, out, err = command("forecast", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_too_few_runs_for_a_refit(command: Command, tmp_path: Path) -> None:
    status, _, err = command("forecast", ARCHIVES / "sanity-strings.parquet", "--refit", "--output", "f.json")
    assert (status, err.count("\n")) == (2, 1)
    assert "5 conditions or more" in err
    assert list(tmp_path.iterdir()) == []


def test_a_refit_forecasts(command: Command) -> None:
    archive = ARCHIVES / "addition-fractions.parquet"
    status, out, err = command("forecast", "--refit", archive, "--output", "f.json")
    assert (status, err) == (0, "")
    assert "fitted to 2" in out
    assert read_forecaster(Path("f.json")).fitted["sources"] == ["addition-fractions"]
    assert command("forecast", archive, "--output", "shipped.csv")[0] == 0
    assert command("forecast", archive, "--forecaster", "f.json", "--output", "own.csv")[0] == 0
    shipped, own = pd.read_csv("shipped.csv"), pd.read_csv("own.csv")
    assert (own["forecast_at"].fillna(-1) == shipped["forecast_at"].fillna(-1)).all()
    assert not (own["forecast_median"].fillna(0) == shipped["forecast_median"].fillna(0)).all()


def test_columns_and_the_rest_of_the_record(command: Command) -> None:
    """Three columns from the first evaluation on, with values between memorizing and grokking; all else is the same."""
    options = [*TINY, *EASY, "--experiment", "e", "--trainer.max_steps", "120"]
    assert command("fit", *options, "--run", "plain")[0] == 0
    assert command("fit", *options, "--run", "with", "--evaluation.forecast", "true")[0] == 0
    plain, told = rows("plain"), rows("with")
    assert [{key: value for key, value in row.items() if key not in KEYS} for row in told] == plain
    results = [json.loads(Path(f"lightning_logs/e/{run}/result.json").read_text()) for run in ("plain", "with")]
    assert results[0]["config_hash"] == results[1]["config_hash"]
    memorized, grokked = results[1]["memorize_step"], results[1]["grok_step"] or math.inf
    assert memorized is not None
    for row in told:
        step, (middle, low, high) = int(row["step"]), (float(row[key]) for key in KEYS)
        if memorized <= step < grokked:
            assert step < low < middle < high
        else:
            assert math.isnan(middle + low + high)
    assert any(float(row[KEYS[0]]) > 0 for row in told)
    run = load_run("checkpoints/e/with/last.ckpt")
    found = [(int(row["step"]), float(row[KEYS[0]])) for row in told if float(row[KEYS[0]]) > 0]
    assert [run.forecast(step).median for step, _ in found] == pytest.approx([median for _, median in found])
    assert run.forecast(0) is None


def test_a_resumed_run_forecasts_as_an_uninterrupted_one(command: Command) -> None:
    options = [*TINY, *EASY, "--experiment", "e", "--evaluation.forecast", "true"]
    assert command("fit", *options, "--run", "whole", "--trainer.max_steps", "120")[0] == 0
    assert command("fit", *options, "--run", "parts", "--trainer.max_steps", "60")[0] == 0
    more = ["--experiment", "e", "--run", "parts", "--ckpt_path", "last", "--trainer.max_steps", "120"]
    status, _, err = command("fit", *more, "--evaluation.forecast", "false")
    assert (status, err.count("\n")) == (2, 1)
    assert command("fit", *more)[0] == 0
    assert rows("whole") == rows("parts")


def test_a_forecast_can_be_monitored_if_it_is_recorded(command: Command) -> None:
    monitor = ["--trainer.callbacks", "[{class_path: EarlyStopping, monitor: forecast/grok_step, check_finite: false}]"]
    options = [*TINY, *EASY, *RUN, "--trainer.max_steps", "20", *monitor]
    status, _, err = command("fit", *options)
    assert (status, err.count("\n")) == (2, 1)
    assert "which nothing records" in err
    assert command("fit", *options, "--evaluation.forecast", "true")[0] == 0


def test_the_line_says_when_it_is_expected(command: Command) -> None:
    shown = [option for option in TINY if option != "--trainer.enable_progress_bar"]
    shown.remove("false")
    status, out, _ = command("fit", *shown, *EASY, *RUN, "--trainer.max_steps", "120")
    assert status == 0
    (line,) = [line for line in out.splitlines() if line.startswith("e/a  memorized ")]
    assert "  grok expected at " in line or "  grok by step 120 unlikely (" in line
    assert not any("grok " in line for line in out.splitlines() if line.startswith("e/a  memorizing "))


@pytest.mark.slow
def test_runs_of_a_stack_forecast_as_alone(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)
    sweep = {
        "set": {
            "data.modulus": 11, "data.batch_size": 16, "model.network.width": 16, "model.network.heads": 2,
            "trainer.max_steps": 120, "evaluation.every": 10, "evaluation.threshold": 0.2, "evaluation.forecast": True,
            "model.optimizer.lr": 0.01, "trainer.precision": "32-true",
        },
        "grid": {"seed_everything": "0..2"},
    }  # fmt: skip
    Path("s.yaml").write_text(json.dumps(sweep))
    assert command("sweep", "s.yaml", "--workers", "1", "--keep", "last")[0] == 0
    tables = [pd.read_csv(path) for path in sorted(Path("lightning_logs/s").glob("*/metrics.csv"))]
    assert len(tables) == 3
    for path, table in zip(sorted(Path("checkpoints/s").glob("*/last.ckpt")), tables, strict=True):
        run = load_run(path)
        told = table[table[KEYS[0]].notna()]
        assert len(told)
        for step, median in zip(told["step"], told[KEYS[0]], strict=True):
            assert run.forecast(step).median == pytest.approx(median)
    status, out, err = command("forecast", "s")
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 5
