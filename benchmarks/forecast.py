"""Scores forecasts of the grok step, and writes the tables of docs/science/forecast.md.

    python benchmarks/forecast.py [ARCHIVE ...]

Archives are runs.parquet of reports, besides the committed ones. Every file of benchmarks/predictors with a class
``Predictor`` is one row: it is made from training runs, and called with a run and a step at which it makes a forecast with
``median``, ``interval`` and ``by(step)``. Runs of one condition are never on both sides of a split. Forecasts are kept in
docs/science/forecast/predictions.csv.gz, from which the scores follow; ``--scores-only`` starts from there.
"""

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

HOME = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent)]

from predictors.common import clock, grokked, norm_at_memorization  # noqa: E402
from predictors.law import fit as law_of  # noqa: E402
from signals import SIGNALS, alarm_step, column_of  # noqa: E402

from grok_lightning.forecast.bootstrap import area_under_curve, interval  # noqa: E402
from grok_lightning.forecast.features import DESCRIPTIONS, class_name  # noqa: E402
from grok_lightning.forecast.forecaster import shipped_forecaster  # noqa: E402
from grok_lightning.forecast.history import History, drop_duplicates, histories_of_records  # noqa: E402
from grok_lightning.records.archive import read_archive  # noqa: E402

DOCUMENT = HOME / "docs" / "science" / "forecast.md"
PREDICTIONS = HOME / "docs" / "science" / "forecast" / "predictions.csv.gz"
ARCHIVES = sorted((HOME / "docs" / "science" / "reproductions").glob("*.parquet"))
FOLDS = 10
FEWEST = 5  # runs of a signal
MEMORIZATION, HALF = "memorization", "half"
Places = np.ndarray


def main() -> None:
    """Forecasts, scores and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="*", type=Path, help="further runs.parquet files")
    parser.add_argument("--only", nargs="+", metavar="PREDICTOR", help="forecast with these only; others are kept")
    parser.add_argument("--scores-only", action="store_true", help="take the forecasts of predictions.csv.gz")
    options = parser.parse_args()
    histories = read_histories([*ARCHIVES, *options.archives])
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
    """The runs of archives, each once."""
    return drop_duplicates(history for path in archives for history in histories_of_records(*read_archive(path)))


def read_predictions() -> pd.DataFrame:
    """The forecasts that were kept."""
    return pd.read_csv(PREDICTIONS)


# --- forecasts --------------------------------------------------------------------------------------------------------


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


def family_of(history: History) -> str:
    """Formula of a run, and the algebra unless it is arithmetic mod p."""
    kind = class_name(history.options, "data").removesuffix("DataModule")
    formula = history.options.get("data.formula")
    return f"{formula if isinstance(formula, str) else kind}" + ("" if kind == "ModularArithmetic" else f" ({kind})")


SPLITS: dict[str, Callable[[Sequence[History]], list]] = {"condition": by_condition, "family": by_family}


def moments(history: History) -> list[tuple[str, int]]:
    """The steps at which a run is forecast: memorization, and for one that grokked the last evaluation by half its wait."""
    found = [(MEMORIZATION, history.memorize_step)]
    if history.grok_step is not None:
        middle = (history.memorize_step + history.grok_step) / 2
        half = int(history.steps[np.searchsorted(history.steps, middle, side="right") - 1])
        if half > history.memorize_step:
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


# --- scores -----------------------------------------------------------------------------------------------------------


def join(predictions: pd.DataFrame, histories: Sequence[History]) -> pd.DataFrame:
    """Forecasts beside what came of the runs; those of runs that are not here are left out."""
    conditions: dict[object, int] = {}
    rows = []
    for history in histories:
        condition = conditions.setdefault(history.condition(), len(conditions))
        ended = (
            history.grok_step is not None or history.last >= history.budget or history.record["status"] == "diverged"
        )
        rows.append(
            (history.record["config_hash"], condition, family_of(history), history.grok_step, history.grok_after, ended)
        )
    known = pd.DataFrame(rows, columns=["config_hash", "condition", "family", "grok", "after", "ended"])
    return predictions.merge(known.astype({"grok": float, "after": float}), on="config_hash")


def errors(table: pd.DataFrame) -> np.ndarray:
    """Relative error of the median of each forecast; 1,000 % at most, which also stands for never."""
    return np.minimum(np.abs(table["median"].to_numpy() / table["grok"].to_numpy() - 1), 10.0)


def covered(table: pd.DataFrame) -> np.ndarray:
    """The share of the steps between the evaluations before and at the grok that lies in each 80 % interval."""
    left = np.maximum(table["after"].fillna(0).to_numpy(), table["step"].to_numpy())
    right = table["grok"].to_numpy()
    inside = np.minimum(table["high"].to_numpy(), right) - np.maximum(table["low"].to_numpy(), left)
    return np.clip(inside, 0, None) / (right - left)


def score(table: pd.DataFrame) -> list[str]:
    """The cells of one predictor's row."""
    start, half = (table[table["moment"] == moment] for moment in (MEMORIZATION, HALF))
    reached, ended = start[start["grok"].notna()], start[start["ended"]]
    cells = []
    for part in (reached, half):
        cells.append(percent(errors(part).mean, errors(part), part["condition"]))
        if part is reached:
            cells.append(f"{100 * np.median(errors(part)):.0f} %")
    for part in (reached, half):
        cells.append(percent(covered(part).mean, covered(part), part["condition"]))
    positive, chances = ended["grok"].notna().to_numpy(), ended["within"].to_numpy()
    area = area_under_curve(chances, positive)
    ends = interval(lambda places: area_under_curve(chances[places], positive[places]), list(ended["condition"]))
    return [*cells, f"{area:.3f} ({ends[0]:.3f} to {ends[1]:.3f})"]


def percent(_: object, values: np.ndarray, groups: Iterable[int]) -> str:
    """A mean share in percent with its interval."""
    low, high = interval(lambda places: float(values[places].mean()), list(groups))
    return f"{100 * values.mean():.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def scores(table: pd.DataFrame, split: str) -> str:
    """The table of predictors."""
    head = ["predictor", "error at memorization", "median", "error at half the wait", "covered at memorization",
            "at half the wait", "area under the curve"]  # fmt: skip
    part = table[table["split"] == split]
    names = sorted(
        part["predictor"].unique(),
        key=lambda name: errors(part[(part["predictor"] == name) & part["grok"].notna()]).mean(),
    )
    return markdown(head, [[f"`{name}`", *score(part[part["predictor"] == name])] for name in names])


def families(table: pd.DataFrame) -> str:
    """The forecaster on each family, with the family's other conditions in training, and without."""
    head = ["task", "runs", "grokked", "error, other conditions known", "error, task unknown"]
    rows = []
    start = table[(table["predictor"] == "forecaster") & (table["moment"] == MEMORIZATION)]
    for family, part in sorted(start.groupby("family"), key=lambda each: -len(each[1])):
        cells = []
        for split in ("condition", "family"):
            reached = part[(part["split"] == split) & part["grok"].notna()]
            cells.append(f"{100 * errors(reached).mean():.0f} %" if len(reached) else "-")
        own = part[part["split"] == "condition"]
        rows.append([f"`{family}`", str(len(own)), str(int(own["grok"].notna().sum())), *cells])
    return markdown(head, rows)


def floor(table: pd.DataFrame) -> str:
    """What no predictor that knows the condition alone can undercut: how far seeds of one condition lie apart."""
    start = table[(table["predictor"] == "forecaster") & (table["split"] == "condition") & table["grok"].notna()]
    start = start[start["moment"] == MEMORIZATION]
    groups = [group for _, group in start.groupby("condition") if len(group) > 1]
    others, best, ours, owners = [], [], [], []
    for group in groups:
        steps = group["grok"].to_numpy()
        logs = np.log(steps)
        others += [
            abs(np.exp((logs.sum() - own) / (len(logs) - 1)) / step - 1) for own, step in zip(logs, steps, strict=True)
        ]
        best += [min(np.mean(np.abs(guess / steps - 1)) for guess in steps)] * len(steps)
        ours += [*errors(group)]
        owners += [int(group["condition"].iloc[0])] * len(steps)
    gaps = (start["grok"] - start["after"].fillna(0)) / start["grok"]
    rows = [
        ["the other seeds' geometric mean", percent(None, np.array(others), owners)],
        ["the best single number for each condition, in hindsight", percent(None, np.array(best), owners)],
        ["`forecaster`, which knows no other seed", percent(None, np.array(ours), owners)],
        ["the evaluation grid alone: distance to the evaluation before, all runs", f"{100 * gaps.mean():.0f} %"],
    ]
    return markdown(
        [f"{len(owners)} runs of {len(groups)} conditions with several seeds", "error at memorization"], rows
    )


# --- the law ----------------------------------------------------------------------------------------------------------


def base_cell(
    history: History, task: bool = True, fraction: bool = True, layers: bool = True, other: bool = True
) -> bool:
    """Whether a run is of the cell ``x + y`` mod 97, half the table, one pre-norm layer, AdamW with decoupled decay."""
    options = history.options
    plain = not options.get("model.network.dropout") and options.get("model.filters") in ([], "[]", None)
    plain = plain and options.get("model.loss") == "cross_entropy" and options.get("data.batch_size") == 512
    plain = plain and options.get("model.network.norm") == "pre" and options.get("data.pairing") == "free"
    return (
        clock(history) > 0
        and class_name(options, "model.optimizer") == "AdamW"
        and options.get("model.optimizer.decay") == "zero"
        and class_name(options, "model.network") == "Transformer"
        and (plain or not other)
        and (not task or (options.get("data.formula") == "x + y" and options.get("data.modulus") == 97))
        and (not fraction or options.get("data.train_fraction") == 0.5)
        and (not layers or options.get("model.network.layers") == 1)
    )


def law(histories: Sequence[History]) -> str:
    """Two constants from one cell, and the law elsewhere."""
    runs = grokked(histories)
    cell = [each for each in runs if base_cell(each)]
    fitted = law_of(cell)
    conditions = [each.condition() for each in cell]
    ends = [
        interval(lambda places, key=key: getattr(law_of([cell[place] for place in places]), key), conditions)
        for key in ("kappa", "norm")
    ]
    decayed = [each for each in runs if clock(each) > 0]
    adamw = [each for each in decayed if base_cell(each, task=False, fraction=False, layers=False)]
    groups = [
        ("the cell itself, its conditions left out in turn", cell, True),
        ("other fractions, else the cell", [e for e in runs if base_cell(e, fraction=False) and not base_cell(e)], False),
        ("two layers, else the cell", [e for e in runs if base_cell(e, layers=False) and not base_cell(e)], False),
        ("other tasks, one or two layers, half the table",
         [e for e in runs if base_cell(e, task=False, layers=False) and not base_cell(e, layers=False)], False),
        ("all of these", adamw, False),
        ("dropout, filters, other losses, norms or batches, else the cell", [e for e in runs if base_cell(e, other=False) and not base_cell(e)], False),
        ("MLP, LSTM and GRU", [e for e in decayed if class_name(e.options, "model.network") != "Transformer"], False),
        ("other optimizers, or L2 in the gradient",
         [e for e in decayed if class_name(e.options, "model.optimizer") != "AdamW" or e.options.get("model.optimizer.decay") != "zero"], False),
        ("all runs with decay", decayed, False),
    ]  # fmt: skip
    head = [
        "runs",
        "n",
        "delays, from to",
        "error, constants of the cell",
        "error, constants of these runs",
        "κ",
        "ln V*",
        "ηλ × grok step, 10 to 90 %",
    ]
    rows = [[name, *_law_row(part, fitted, held)] for name, part, held in groups if len(part) > 1]
    note = (
        f"The cell: {len(cell)} runs of {len(set(conditions))} conditions, learning rates and decays over a factor of "
        f"{max(map(clock, cell)) / min(map(clock, cell)):.0f}. κ = {fitted.kappa:.3f} ({ends[0][0]:.3f} to {ends[0][1]:.3f}), "
        f"V* = {fitted.norm:.0f} ({ends[1][0]:.0f} to {ends[1][1]:.0f})."
    )
    return f"{markdown(head, rows)}\n\n{note}"


def _law_row(runs: Sequence[History], fitted, held: bool) -> list[str]:
    norms, clocks = (np.array([of(each) for each in runs]) for of in (norm_at_memorization, clock))
    delays = np.array([each.grok_step - each.memorize_step for each in runs], float)
    ends = np.array([each.grok_step for each in runs], float)
    starts, conditions = ends - delays, [each.condition() for each in runs]

    def error(law, places: Places) -> np.ndarray:
        return np.abs((starts[places] + law.delay(norms[places], clocks[places])) / ends[places] - 1)

    own = law_of(runs)
    whole = np.arange(len(runs))
    if held:
        found = np.empty(len(runs))
        for condition in set(conditions):
            out = np.array([each == condition for each in conditions])
            found[out] = error(law_of([each for each, left in zip(runs, out, strict=True) if not left]), whole[out])
    else:
        found = error(fitted, whole)
    low, high = np.quantile(clocks * ends, [0.1, 0.9])
    return [
        str(len(runs)), f"{delays.min():,.0f} to {delays.max():,.0f}", percent(None, found, conditions),
        percent(None, error(own, whole), conditions), f"{own.kappa:.2f}", f"{np.log(own.norm):.2f}", f"{low:.2g} to {high:.2g}",
    ]  # fmt: skip


# --- signals ----------------------------------------------------------------------------------------------------------


def signals(histories: Sequence[History]) -> str:
    """Lead time and false alarms of each signal."""
    waiting = [each for each in histories if each.waits and (each.grok_step or each.last >= each.budget)]
    head = ["signal", "alarm after memorization", "grokked / not", "warned before the grok", "lead, steps (median)",
            "lead, share of the wait (median)", "false alarms"]  # fmt: skip
    rows, left_out = [], []
    for signal in SIGNALS:
        runs = [each for each in waiting if column_of(signal, each)]
        reached = [each for each in runs if each.grok_step is not None]
        if len(reached) < FEWEST:
            left_out.append(f"{signal.name} ({len(reached)} runs that grokked have `{signal.columns[0]}`)")
            continue
        others = [each for each in runs if each.grok_step is None]
        rows.append(
            [signal.name, signal.rule, f"{len(reached)} / {len(others)}", *_signal_row(signal, reached, others)]
        )
    note = f"\n\nLeft out, having fewer than {FEWEST} runs: {'; '.join(left_out)}." if left_out else ""
    return markdown(head, rows) + note


def _signal_row(signal, reached: Sequence[History], others: Sequence[History]) -> list[str]:
    alarms = np.array([alarm_step(signal, each) or np.inf for each in reached])
    groks, starts = (
        np.array([getattr(each, key) for each in reached], float) for key in ("grok_step", "memorize_step")
    )
    warned = alarms < groks
    lead = np.where(warned, groks - alarms, 0.0)
    share = lead / (groks - starts)
    owners = [each.condition() for each in reached]
    false = np.array([alarm_step(signal, each) is not None for each in others], float)
    middle, part = np.median(lead), np.median(share)
    ends = [
        interval(lambda places, values=values: float(np.median(values[places])), owners) for values in (lead, share)
    ]
    return [
        percent(None, warned.astype(float), owners), f"{middle:,.0f} ({ends[0][0]:,.0f} to {ends[0][1]:,.0f})",
        f"{100 * part:.0f} % ({100 * ends[1][0]:.0f} to {100 * ends[1][1]:.0f})",
        percent(None, false, [each.condition() for each in others]) if len(false) else "-",
    ]  # fmt: skip


# --- the document -----------------------------------------------------------------------------------------------------


def records(histories: Sequence[History]) -> str:
    """What the scores rest on."""
    waiting = [each for each in histories if each.waits]
    lines = [
        ("runs with curves", len(histories)),
        ("conditions", len({each.condition() for each in histories})),
        ("memorized", sum(each.memorize_step is not None for each in histories)),
        (
            "grokked at the same evaluation or before",
            sum(each.memorize_step is not None and not each.waits for each in histories),
        ),
        ("wait after memorizing: forecast", len(waiting)),
        ("of these, grokked within their budget", sum(each.grok_step is not None for each in waiting)),
        ("of these, conditions", len({each.condition() for each in waiting})),
        ("of these, task families", len({family_of(each) for each in waiting})),
    ]
    return markdown(["", "number"], [[name, f"{count:,}"] for name, count in lines])


def coefficients() -> str:
    """What the shipped forecaster uses."""
    forecaster = shipped_forecaster()
    tables = []
    for title, part in (("remaining steps (ln)", forecaster.when), ("groks at all (log odds)", forecaster.ever)):
        head = [title, "feature", "per standard deviation"]
        order = sorted(zip(part.names, part.weights[1:], strict=True), key=lambda each: -abs(each[1]))
        tables.append(
            markdown(head, [["", f"`{name}`: {DESCRIPTIONS[name]}", f"{weight:+.2f}"] for name, weight in order])
        )
    return "\n\n".join(tables)


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
        text = pattern.sub(lambda _, marks=marks, content=content: f"{marks[0]}\n{content}\n{marks[1]}", text)
    return text


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
