"""Sums up the tuning sweeps (compare-*): a table in docs/science/reproductions.md, and the sweep compare-tuned.

From docs/science/reproductions/compare-*.parquet, which ``make reproduce`` fills. The best setting of a method on a
task is the one with the least grok step among runs that stayed at the threshold for the five evaluations after it; of
equals the one with the least validation loss at its end.

    python benchmarks/compare.py
"""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml
from reproduce import RECORDS, TUNING, write_table

from grok_lightning.options.classes import Nested, put
from grok_lightning.records.archive import read_archive
from grok_lightning.report.text import escape_markdown
from grok_lightning.sweep.plan.runs import read_plan

HOME = Path(__file__).parents[1]
TUNED = HOME / "configs" / "sweeps" / "comparison" / "compare-tuned.yaml"
SEEDS = "0..4"
SETTINGS = """\
base: addition
set:
  model.network: {layers: 1, norm: stream}
  trainer: {max_steps: 5000, precision: bf16-mixed}
  evaluation: {per_decade: 0, every: 10, stop_at_grok_times: 10}
"""
HEAD = """\
# Nine methods at their tuned settings, five seeds.
# On x + y, x / y and the product in S5. Each is the best of 20 settings that compare-* tried with another seed;
# written by benchmarks/compare.py, watched to ten times the grok step, evaluated every 10 steps.
#
#   grok-lightning sweep compare-tuned
"""


class Setting(NamedTuple):
    """A task, a method with its options, and what came of the run that tried it."""

    data: Nested
    model: Nested
    method: str
    grok_step: float
    loss: float


def main() -> None:
    """Chooses and writes."""
    missing = [name for name in TUNING if not (RECORDS / f"{name}.parquet").exists()]
    if missing:
        raise SystemExit(f"not run yet: {', '.join(missing)}")
    TUNED.write_text(format_sweep(choose()), encoding="utf-8", newline="\n")
    write_table("compare", format_table())


def choose() -> list[Setting]:
    """The best setting of each method on each task, if any grokked and stayed."""
    best: dict[tuple[str, str], Setting] = {}
    for name in TUNING:
        for setting in read_settings(name):
            if math.isinf(setting.grok_step):
                continue
            key = (repr(setting.data), setting.method)
            if key not in best or (setting.grok_step, setting.loss) < best[key][-2:]:
                best[key] = setting
    return list(best.values())


def read_settings(sweep: str) -> Iterator[Setting]:
    """The runs of a tuning sweep; a step that was not reached, or not kept, is infinite."""
    records, _ = read_archive(RECORDS / f"{sweep}.parquet")
    found = {record["config_hash"]: record for record in records.to_dict("records")}
    plan = read_plan(sweep)
    for run in plan.runs:
        if run.hash not in found:
            raise SystemExit(f"{sweep} has not run to its end")
        record = found[run.hash]
        options = dict(zip(plan.grid.options, run.varied, strict=True))
        model = copy.deepcopy(options["model"])
        for option, value in options.items():
            if option.startswith("model."):
                put(model, option.removeprefix("model."), value)
        stayed = pd.notna(record["grok_step"]) and record["status"] == "stopped"
        step = float(record["grok_step"]) if stayed else math.inf
        yield Setting(options["data"], model, name_method(sweep, model), step, float(record["final.val/loss"]))


def name_method(sweep: str, model: Nested) -> str:
    """What a method is called."""
    names = {"muon": "Muon", "clip": "Clip to Grok, Adam", "clip-lion": "Clip to Grok, Lion", "l2": "Adam with L2",
             "orthogonal": "⊥Grad", "egalitarian": "Egalitarian"}  # fmt: skip
    named = "Grokfast" if model.get("filters") else "StableMax" if model.get("loss") else "AdamW"
    return names.get(sweep.removeprefix("compare-"), named)


def format_table() -> str:
    """For each method and task the least step, and how many of its settings grokked and stayed."""
    settings = [setting for name in TUNING for setting in read_settings(name)]
    tasks = {repr(setting.data): setting.data["formula"] for setting in settings}
    titles = [f"{formula} in S5" if "Permutation" in data else formula for data, formula in tasks.items()]
    lines = [f"| method | {' | '.join(map(escape_markdown, titles))} |", f"| --- |{' ---: |' * len(tasks)}"]
    for method in dict.fromkeys(setting.method for setting in settings):
        cells = []
        for data in tasks:
            steps = [each.grok_step for each in settings if each.method == method and repr(each.data) == data]
            stayed = [step for step in steps if math.isfinite(step)]
            least = f"{min(stayed):,.0f}" if stayed else "none"
            cells.append(f"{least} ({len(stayed)} of {len(steps)})")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def format_sweep(settings: list[Setting]) -> str:
    """The sweep of some settings."""
    found = {"data": [each.data for each in settings], "model": [each.model for each in settings]}
    lists = ""
    for name, values in found.items():
        rows = (yaml.safe_dump(value, default_flow_style=True, width=10**6) for value in values)
        lists += f"  {name}:\n" + "".join(f"    - {row}" for row in rows)
    return f"{HEAD}{SETTINGS}zip:\n{lists}grid:\n  seed_everything: {SEEDS}\n"


if __name__ == "__main__":
    main()
