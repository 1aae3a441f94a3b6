"""Scores of forecasts: errors, coverage, area under the ROC curve, and what seeds leave open."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grok_lightning.forecast.bootstrap import area_under_curve, interval
from grok_lightning.forecast.features import DESCRIPTIONS, class_name
from grok_lightning.forecast.forecaster import shipped_forecaster
from grok_lightning.forecast.history import History

MEMORIZATION, HALF = "memorization", "half"


def family_of(history: History) -> str:
    """Formula of a run, and the algebra unless it is arithmetic mod p."""
    kind = class_name(history.options, "data").removesuffix("DataModule")
    formula = history.options.get("data.formula")
    return f"{formula if isinstance(formula, str) else kind}" + ("" if kind == "ModularArithmetic" else f" ({kind})")


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
            (
                history.record["config_hash"], condition, history.options.get("seed_everything"), family_of(history),
                history.grok_step, history.grok_after, ended,
            )
        )  # fmt: skip
    known = pd.DataFrame(rows, columns=["config_hash", "condition", "seed", "family", "grok", "after", "ended"])
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


def score(table: pd.DataFrame, unit: str) -> list[str]:
    """The cells of one predictor's row; intervals are over conditions or families, whatever is left out as one."""
    start, half = (table[table["moment"] == moment] for moment in (MEMORIZATION, HALF))
    reached, ended = start[start["grok"].notna()], start[start["ended"]]
    cells = [percent(errors(reached), reached[unit]), f"{100 * np.median(errors(reached)):.0f} %"]
    cells.append(percent(errors(half), half[unit]))
    cells += [percent(covered(part), part[unit]) for part in (reached, half)]
    positive, chances = ended["grok"].notna().to_numpy(), ended["within"].to_numpy()
    area = area_under_curve(chances, positive)
    ends = interval(lambda places: area_under_curve(chances[places], positive[places]), list(ended[unit]))
    return [*cells, f"{area:.3f} ({ends[0]:.3f} to {ends[1]:.3f})"]


def percent(values: NDArray[np.float64], groups: Iterable[Hashable]) -> str:
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
    return markdown(
        head,
        [[f"`{name}`", *score(part[part["predictor"] == name], split)] for name in names],
    )


def families(table: pd.DataFrame) -> str:
    """The forecaster on each family, with the family's other conditions in training, and without."""
    head = ["task", "runs", "grokked", "error, other conditions known", "error, task unknown", "covered, task unknown"]
    rows = []
    start = table[(table["predictor"] == "forecaster") & (table["moment"] == MEMORIZATION)]
    for family, part in sorted(start.groupby("family"), key=lambda each: -len(each[1])):
        cells = []
        for split in ("condition", "family"):
            reached = part[(part["split"] == split) & part["grok"].notna()]
            cells.append(f"{100 * errors(reached).mean():.0f} %" if len(reached) else "-")
        cells.append(f"{100 * covered(reached).mean():.0f} %" if len(reached) else "-")
        own = part[part["split"] == "condition"]
        rows.append([f"`{family}`", str(len(own)), str(int(own["grok"].notna().sum())), *cells])
    return markdown(head, rows)


def floor(table: pd.DataFrame) -> str:
    """What no predictor that knows the condition alone can undercut: how far seeds of one condition lie apart."""
    start = table[(table["predictor"] == "forecaster") & (table["split"] == "condition") & table["grok"].notna()]
    start = start[start["moment"] == MEMORIZATION].drop_duplicates(["condition", "seed"])  # other budgets of one run
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
        ["the other seeds' geometric mean", percent(np.array(others), owners)],
        ["the best single number for each condition, in hindsight", percent(np.array(best), owners)],
        ["`forecaster`, which knows no other seed", percent(np.array(ours), owners)],
        ["the evaluation grid alone: distance to the evaluation before, all runs", f"{100 * gaps.mean():.0f} %"],
    ]
    return markdown(
        [f"{len(owners)} runs of {len(groups)} conditions with several seeds", "error at memorization"], rows
    )


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
    """What the shipped forecaster weighs, the strongest first."""
    forecaster = shipped_forecaster()
    rows = sorted(
        zip(forecaster.names, forecaster.when[1:], forecaster.ever[1:], strict=True), key=lambda row: -abs(row[1])
    )
    head = ["feature", "", "ln of the remaining steps", "log odds of grokking at all"]
    return markdown(head, [[f"`{name}`", DESCRIPTIONS[name], f"{a:+.2f}", f"{b:+.2f}"] for name, a, b in rows])


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
