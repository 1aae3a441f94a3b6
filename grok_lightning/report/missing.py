"""Planned runs without a record, as rows like those of records."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from grok_lightning.records.planned import HASH, VARIED
from grok_lightning.records.words import parse_option
from grok_lightning.report.keys import EXPERIMENT, PREFIX, WORDS


def varied_options(planned: pd.DataFrame) -> list[str]:
    """Options that the sweeps of planned runs vary, in the order of their files."""
    names = dict[str, None]()
    for _, plan in _split_plans(planned):
        if VARIED in plan and plan[VARIED].notna().all():
            names |= dict.fromkeys(plan[VARIED].iloc[0])
        else:
            names |= dict.fromkeys(map(str, plan.dropna(axis=1, how="all").drop(columns=[HASH, EXPERIMENT])))
    return list(names)


def _split_plans(planned: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Planned runs by experiment and by the options that vary, for sources may have different plans of one sweep."""
    varied = planned[VARIED].map(repr) if VARIED in planned else pd.Series("", planned.index)
    for (experiment, _), plan in planned.groupby([planned[EXPERIMENT], varied], sort=False) if len(planned) else ():
        yield str(experiment), plan


def missing_rows(runs: pd.DataFrame, planned: pd.DataFrame) -> pd.DataFrame:
    """The planned runs that are not among the records.

    Args:
        runs: Records of runs, with ``experiment``.
        planned: The plans of their experiments.

    Returns:
        A row each, in the plans' order: ``config_hash``, ``experiment`` and ``config.`` columns with typed values. An
        option that the sweep does not vary has the value of those of its runs that are there, if it is one.
    """
    parts = []
    for experiment, plan in _split_plans(planned):
        missing = plan[~plan[HASH].isin(set(runs[HASH]))]
        if not len(missing):
            continue
        known = runs[runs[HASH].isin(set(plan[HASH]))].drop_duplicates(HASH).set_index(HASH, drop=False)
        typed = VARIED in plan and plan[VARIED].notna().all()
        rows = missing.dropna(axis=1, how="all").filter(like=PREFIX) if typed else _infer_types(plan, missing, known)
        constants = {
            str(name): [values[0]] * len(missing)
            for name in known
            if str(name).startswith(PREFIX) and name not in rows and len(values := _distinct(known[name])) == 1
        }
        own = {HASH: missing[HASH].to_numpy(), EXPERIMENT: experiment}
        filled = pd.DataFrame(constants | own, index=rows.index)  # at once: one by one is slow
        parts.append(pd.concat([rows, filled], axis=1).astype(object))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[HASH, EXPERIMENT])


def _distinct(column: pd.Series) -> list[Any]:
    return list({repr(value): value for value in column.astype(object)}.values())


def _infer_types(plan: pd.DataFrame, missing: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The options of missing runs from a plan of text, by the records of runs that it gives the same text."""
    options = varied_options(plan)
    columns: dict[str, list[Any]] = {}
    for option in sorted(options, key=lambda name: f"{PREFIX}{name}" in known):  # blocks, then what is below them
        words = missing[option].tolist()
        like = plan[plan[HASH].isin(known.index)].drop_duplicates(option).set_index(option)[HASH]
        if f"{PREFIX}{option}" in known or not _below(option, known):
            values = [
                known.at[like[word], f"{PREFIX}{option}"]
                if word in like and f"{PREFIX}{option}" in known
                else parse_option(str(word))
                for word in words
            ]
            columns[f"{PREFIX}{option}"] = values
            continue
        for name in _below(option, known):
            values = _distinct(known[name])
            other = values[0] if len(values) == 1 else None
            columns[name] = [known.at[like[word], name] if word in like else other for word in words]
        columns[f"{WORDS}{option}"] = [None if word in like else _block(str(word)) for word in words]
    return pd.DataFrame(columns, index=missing.index, dtype=object)


def _below(option: str, known: pd.DataFrame) -> Sequence[str]:
    return [str(name) for name in known if str(name).startswith(f"{PREFIX}{option}.")]


def _block(word: str) -> str:
    """An older sweep's label of a block as reports spell it: formulas and data modules by their bare names."""
    return word.replace("formula=", "").replace("DataModule", "")
