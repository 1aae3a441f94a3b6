"""Scores forecasts of the grok step, and writes the tables of docs/science/forecast.md.

    python benchmarks/forecast.py [ARCHIVE ...]

Archives are runs.parquet of reports, besides those of docs/science/reproductions and docs/science/forecast. Of these
the runs of docs/science/forecast/runs.txt count, those that there were when the forecaster was fitted; ``--all`` takes
every run of its archives, and lists them there. Every file of benchmarks/predictors with a class ``Predictor`` is one
row: it is made from training runs, and called with a run and a step at which it makes a forecast with ``median``,
``interval`` and ``by(step)``. Runs of one condition are never on both sides of a split. Forecasts are kept in
docs/science/forecast/predictions.csv.gz, from which the scores follow; ``--scores-only`` starts from there.
"""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

HOME = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent)]

from forecast_law import law, signals  # noqa: E402
from forecast_scores import (  # noqa: E402
    HALF,
    MEMORIZATION,
    coefficients,
    families,
    family_of,
    floor,
    join,
    records,
    scores,
)

from grok_lightning.forecast.history import History, drop_duplicates, histories_of_records  # noqa: E402
from grok_lightning.records.archive import read_archive  # noqa: E402

DOCUMENT = HOME / "docs" / "science" / "forecast.md"
PREDICTIONS = HOME / "docs" / "science" / "forecast" / "predictions.csv.gz"
FORECASTER = HOME / "grok_lightning" / "forecast" / "forecaster.json"
RUNS = HOME / "docs" / "science" / "forecast" / "runs.txt"  # hashes of their options
ARCHIVES = [  # later ones are for the next fit; runs of delay-law and others are changed on the way
    path
    for folder in ("reproductions", "forecast")
    for path in sorted((HOME / "docs" / "science" / folder).glob("*.parquet"))
    if path.stem in json.loads(FORECASTER.read_text(encoding="utf-8"))["fitted"]["sources"]
]
FOLDS = 10


def main() -> None:
    """Forecasts, scores and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="*", type=Path, help="further runs.parquet files")
    parser.add_argument("--only", nargs="+", metavar="PREDICTOR", help="forecast with these only; others are kept")
    parser.add_argument("--scores-only", action="store_true", help="take the forecasts of predictions.csv.gz")
    parser.add_argument("--all", action="store_true", help="take runs that came after the forecaster was fitted, too")
    options = parser.parse_args()
    histories = read_histories([*ARCHIVES, *options.archives]) if options.all else read_listed(options.archives)
    if options.all:
        hashes = [str(each.record["config_hash"]) for each in histories]
        RUNS.write_text("\n".join([*hashes, ""]), encoding="utf-8", newline="\n")
    if not options.scores_only:
        names = options.only or predictor_names()
        kept = read_predictions() if options.only and PREDICTIONS.exists() else pd.DataFrame(columns=["predictor"])
        made = [predict(histories, name, split) for name in names for split in SPLITS]
        whole = pd.concat([kept[~kept["predictor"].isin(names)], *made], ignore_index=True)
        PREDICTIONS.parent.mkdir(exist_ok=True)
        whole.to_csv(PREDICTIONS, index=False, float_format="%.6g", compression={"method": "gzip", "mtime": 0})
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(with_tables(text, histories, read_predictions()), encoding="utf-8", newline="\n")


def read_histories(archives: Iterable[Path]) -> list[History]:
    """The runs of archives, each once, in an order that does not depend on where they lie."""
    found = drop_duplicates(history for path in archives for history in histories_of_records(*read_archive(path)))
    return sorted(found, key=lambda history: str(history.record["config_hash"]))


def read_listed(further: Iterable[Path] = ()) -> list[History]:
    """The runs that are listed, and all of further archives."""
    listed = {*RUNS.read_text(encoding="utf-8").split()}
    kept = [each for each in read_histories(ARCHIVES) if each.record["config_hash"] in listed]
    return sorted(drop_duplicates([*kept, *read_histories(further)]), key=lambda each: str(each.record["config_hash"]))


def read_predictions() -> pd.DataFrame:
    """The forecasts that were kept."""
    return pd.read_csv(PREDICTIONS, dtype={"fold": str})


def predictor_names() -> list[str]:
    """The files of benchmarks/predictors that have a predictor."""
    files = sorted((Path(__file__).parent / "predictors").glob("*.py"))
    return [file.stem for file in files if "class Predictor" in file.read_text(encoding="utf-8")]


def by_condition(histories: Sequence[History]) -> list[int]:
    """A fold of ten for each run; those of a condition are in one."""
    conditions = sorted({history.condition() for history in histories})
    order = np.random.default_rng(0).permutation(len(conditions))
    fold = dict(zip(conditions, order % FOLDS, strict=True))
    return [int(fold[history.condition()]) for history in histories]


def by_family(histories: Sequence[History]) -> list[str]:
    """The task family of each run: its formula and kind of data."""
    return [family_of(history) for history in histories]


SPLITS: dict[str, Callable[[Sequence[History]], list]] = {"condition": by_condition, "family": by_family}


def moments(history: History) -> list[tuple[str, int]]:
    """When a run is forecast: at memorization, and if it grokked at the last evaluation by half its wait."""
    start = history.memorize_step
    assert start is not None
    found = [(MEMORIZATION, start)]
    if history.grok_step is not None:
        half = int(history.steps[np.searchsorted(history.steps, (start + history.grok_step) / 2, side="right") - 1])
        if half > start:
            found.append((HALF, half))
    return found


def predict(histories: Sequence[History], name: str, split: str, only: object = None) -> pd.DataFrame:
    """Forecasts for every run that waits, by a predictor made from the runs of all other folds.

    Args:
        histories: All runs.
        name: The predictor's file.
        split: condition or family.
        only: The one fold to forecast; default: all.
    """
    kind = importlib.import_module(f"predictors.{name}").Predictor
    folds = SPLITS[split](histories)
    rows = []
    for held in sorted({*folds}) if only is None else [only]:
        out = [each for each, fold in zip(histories, folds, strict=True) if fold == held and each.waits]
        if not out:
            continue
        predictor = kind([each for each, fold in zip(histories, folds, strict=True) if fold != held])
        for history in out:
            for moment, step in moments(history):
                forecast = predictor(history.until(step), step)
                low, high = forecast.interval
                rows.append((name, split, held, history.record["config_hash"], moment, step, forecast.median, low, high,
                             forecast.by(history.budget)))  # fmt: skip
    names = ["predictor", "split", "fold", "config_hash", "moment", "step", "median", "low", "high", "within"]
    return pd.DataFrame(rows, columns=names)


def with_tables(text: str, histories: Sequence[History], predictions: pd.DataFrame) -> str:
    """The document with all its tables renewed."""
    table = join(predictions, histories)
    tables = {
        "records": records(histories), "law": law(histories), "scores": scores(table, "condition"),
        "scores of unknown tasks": scores(table, "family"), "families": families(table), "floor": floor(table),
        "signals": signals(histories), "coefficients": coefficients(),
    }  # fmt: skip
    for name, content in tables.items():
        marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{DOCUMENT.name} has no place for the table {name!r}")
        text = pattern.sub(f"{marks[0]}\n{content}\n{marks[1]}".replace("\\", r"\\"), text)
    return text


if __name__ == "__main__":
    main()
