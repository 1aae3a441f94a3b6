"""History of a run: its options and its evaluations, from which a forecast at a step may use those up to that step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grok_lightning.records.defaults import known_then
from grok_lightning.records.record import Row, milestones
from grok_lightning.records.tasks import is_memorized_text

Values = NDArray[np.float64]
NEEDED = ("train/acc", "val/acc", "train/loss", "val/loss", "norm/weights")
PREFIX = "config."
# options that cannot change when a run groks, or that seeds differ in: left out of a condition
NO_CONDITION = (
    "seed_everything", "run", "experiment", "measures", "threads", "overwrite", "checkpoint.", "evaluation.",
    "trainer.", "model.compile", "data.split_seed", "data.seed",
)  # fmt: skip


@dataclass
class History:
    """What is known of a run.

    Attributes:
        options: Its options, dotted.
        columns: Its evaluations by name, oldest first, shape (E,) each; ``step`` is one of them.
        budget: The most steps that it may take.
        memorize_step: First evaluated step at the threshold on the training split; None: not yet.
        grok_step: The same on the validation split.
        grok_after: The last evaluated step before that.
        name: For tables.
        record: Other fields of its record.
        validated: Whether rows are held out for validation; without, a run can memorize, but not grok.
    """

    options: Mapping[str, Any]
    columns: dict[str, Values]
    budget: int
    memorize_step: int | None
    grok_step: int | None
    grok_after: int | None
    name: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    validated: bool = True

    @property
    def steps(self) -> Values:
        """The evaluated steps, shape (E,)."""
        return self.columns["step"]

    @property
    def last(self) -> int:
        """The last evaluated step; -1 if there is none."""
        return int(self.steps[-1]) if len(self.steps) else -1

    @property
    def waits(self) -> bool:
        """Whether the run memorized, and had not grokked by then."""
        memorized = self.validated and self.memorize_step is not None
        return memorized and (self.grok_step is None or self.grok_step > cast(int, self.memorize_step))

    def until(self, step: float) -> "History":
        """The history as it was after the evaluation at a step, or after the last one before it."""
        kept = int(np.searchsorted(self.steps, step, side="right"))
        memorized = self.memorize_step if self.memorize_step is not None and self.memorize_step <= step else None
        grokked = self.grok_step is not None and self.grok_step <= step
        columns = {name: values[:kept] for name, values in self.columns.items()}
        reached = (self.grok_step, self.grok_after) if grokked else (None, None)
        return History(self.options, columns, self.budget, memorized, *reached, self.name, self.record, self.validated)

    def condition(self) -> tuple[tuple[str, str], ...]:
        """The options that define its condition: all that may change when it groks, save the seed."""
        return tuple(
            (key, str(float(value)) if isinstance(value, int) and not isinstance(value, bool) else str(value))
            for key, value in sorted(self.options.items())
            if not key.startswith(NO_CONDITION) and value is not None
        )


def history_of_rows(
    options: Mapping[str, Any],
    rows: Sequence[Row],
    counts: Mapping[str, int | None],
    threshold: float,
    budget: int,
    name: str = "",
    validated: bool = True,
) -> History:
    """The history of a run from the evaluations of its record.

    Args:
        options: Dotted options.
        rows: Its evaluations, oldest first.
        counts: Equations in the ``train`` and ``val`` splits, as for ``records.record.reaches``.
        threshold: The accuracy at which it has memorized or grokked.
        budget: The most steps that it may take.
        name: For tables.
        validated: As of ``History``.
    """
    found = milestones(list(rows), counts, threshold, 1, validated)
    names = ("step", *NEEDED, "norm/embeddings")
    columns = {key: np.array([row.get(key, np.nan) for row in rows], float) for key in names}
    steps = found["memorize_step"], found["grok_step"], found["grok_after"]
    return History(options, columns, budget, *steps, name, validated=validated)


def histories_of_records(runs: pd.DataFrame, curves: pd.DataFrame) -> list[History]:
    """The histories of many runs, as archives and reports hold them; runs without usable evaluations are left out.

    Options that a record's version did not have are as they were then, so that records of several versions agree.

    Args:
        runs: Records; nested fields are dotted, ``path`` names a run.
        curves: Columns ``run`` (that path), ``step`` and metrics.
    """
    groups = dict(tuple(curves.groupby("run", sort=False)))
    found = []
    for row in runs.to_dict("records"):
        record = {str(key): value for key, value in row.items()}
        part = groups.get(record["path"])
        if part is None or not {"train/acc", "val/acc"} <= set(part) or pd.isna(record.get("budget")):
            continue
        part = part[part["train/acc"].notna()]
        columns = {str(key): part[key].to_numpy(float) for key in part if key != "run" and part[key].notna().any()}
        if "step" not in columns or not {"train/acc", "val/acc"} <= set(columns):
            continue
        columns |= {key: np.full(len(part), np.nan) for key in NEEDED if key not in columns}
        options = {key.removeprefix(PREFIX): value for key, value in record.items() if key.startswith(PREFIX)}
        options = known_then({key: value for key, value in options.items() if _is_given(value)})
        data = {key: options.get(f"data.{key}") for key in ("class_path", "val_fraction")}
        validated = record.get("counts.val") != 0 and not is_memorized_text(data)
        reached = [_step(record.get(key)) for key in ("memorize_step", "grok_step", "grok_after")]
        known = record["path"], record, validated
        budget, (memorized, grokked, after) = int(record["budget"]), reached
        found.append(History(options, columns, budget, memorized, grokked, after, *known))
    return found


def drop_duplicates(histories: Iterable[History]) -> list[History]:
    """The histories, runs with the same hash of options once."""
    found: dict[Any, History] = {}
    for history in histories:
        found.setdefault(history.record.get("config_hash") or history.name, history)
    return list(found.values())


def _is_given(value: Any) -> bool:
    """Whether it is a value, not one of the ways in which tables say that there is none."""
    return isinstance(value, list | dict) or not pd.isna(value)


def _step(value: Any) -> int | None:
    return None if value is None or pd.isna(value) else int(value)
