"""Nine methods tuned alike on three tasks: sums up the tuning (sweeps compare-*), writes compare-tuned, sums that up.

From docs/science/reproductions/compare-*.parquet, which ``make reproduce`` fills, into tables of
docs/science/reproductions.md. The best setting of a method on a task is the one with the least grok step among runs
that stayed at the threshold for the five evaluations after it; of equals the one with the least validation loss at its
end. ``--time`` measures first what a step of each method takes, in turns in one process: compare-steps.csv.

    python benchmarks/compare.py
"""

import argparse
import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast

import pandas as pd
import torch
import yaml
from matplotlib.figure import Figure
from reproduce import RECORDS, TUNING, write_table

from grok_lightning.build import build
from grok_lightning.figures.after_grok import draw_after_grok, tabulate_after_grok
from grok_lightning.figures.saving import png
from grok_lightning.hardware.process import keep_freed_memory
from grok_lightning.optim.rates import RateSchedule
from grok_lightning.options.classes import Nested, put
from grok_lightning.records.archive import read_archive
from grok_lightning.records.words import describe_median, format_option
from grok_lightning.report.text import escape_markdown
from grok_lightning.statistics import holm, kaplan_meier, log_rank
from grok_lightning.sweep.plan.runs import Plan, PlannedRun, read_plan
from grok_lightning.training.updates import Updates

HOME = Path(__file__).parents[1]
TUNED = HOME / "configs" / "sweeps" / "comparison" / "compare-tuned.yaml"
MILLISECONDS = RECORDS / "compare-steps.csv"
SEEDS = "0..4"
FIRST = "AdamW"  # with which the others are compared
BLOCK, ROUNDS = 20, 15  # steps of a method in one go, and how often
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
    grok_step: float
    loss: float

    @property
    def method(self) -> str:
        """What its method is called."""
        return name_method(self.model)

    @property
    def task(self) -> str:
        """Its task."""
        return f"{self.data['formula']}{' in S5' * ('Permutation' in str(self.data))}"


def main() -> None:
    """Chooses and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", action="store_true", help="measure a step of each method first")
    options = parser.parse_args()
    missing = [name for name in TUNING if not (RECORDS / f"{name}.parquet").exists()]
    if missing:
        raise SystemExit(f"not run yet: {', '.join(missing)}")
    settings = [setting for name in TUNING for setting in read_settings(name)]
    TUNED.write_text(format_sweep(choose(settings)), encoding="utf-8", newline="\n")
    write_table("compare", format_tuning(settings))
    if options.time:
        torch.set_num_threads(1)
        keep_freed_memory()  # as training does
        pd.Series(time_methods(), name="milliseconds").rename_axis("method").to_csv(MILLISECONDS)
    if (RECORDS / "compare-tuned.parquet").exists():
        write_table("compare-tuned", format_tuned())
        (RECORDS / "compare-tuned-after-grok.png").write_bytes(png(draw_tuned(), 150))


def choose(settings: list[Setting]) -> list[Setting]:
    """The best setting of each method on each task, if any grokked and stayed."""
    best: dict[tuple[str, str], Setting] = {}
    for setting in settings:
        key = (setting.task, setting.method)
        if math.isfinite(setting.grok_step) and (key not in best or setting[-2:] < best[key][-2:]):
            best[key] = setting
    return list(best.values())


def read_settings(sweep: str) -> Iterator[Setting]:
    """The runs of a tuning sweep; a step that was not reached, or not kept, is infinite."""
    records, _ = read_archive(RECORDS / f"{sweep}.parquet")
    found = {record["config_hash"]: record for record in records.to_dict("records")}
    plan = read_plan(sweep)
    for run in plan.runs:
        if run.hash not in found or pd.isna(found[run.hash]["status"]):
            raise SystemExit(f"{sweep} has not run to its end")
        record = found[run.hash]
        data, model = options_of(plan, run)
        stayed = pd.notna(record["grok_step"]) and record["status"] == "stopped"
        step = float(record["grok_step"]) if stayed else math.inf
        loss = record["final.val/loss"]
        yield Setting(data, model, step, math.inf if pd.isna(loss) else float(loss))


def options_of(plan: Plan, run: PlannedRun) -> tuple[Nested, Nested]:
    """The options of the data and of the model that a sweep gives a run."""
    options = dict(zip(plan.grid.options, run.varied, strict=True))
    model = copy.deepcopy(options["model"])
    for option, value in options.items():
        if option.startswith("model."):
            put(model, option.removeprefix("model."), value)
    return options["data"], model


def name_method(model: Nested) -> str:
    """What a method is called."""
    filters = {"GrokfastEMA": "Grokfast", "OrthogonalGradient": "⊥Grad", "Egalitarian": "Egalitarian"}
    optimizer = model["optimizer"]
    kind = class_of(optimizer)
    if model.get("constraints"):
        return f"Clip to Grok, {kind.removesuffix('W')}"
    if model.get("filters"):
        return filters[class_of(model["filters"][-1])]
    if model.get("loss"):
        return "StableMax"
    return "Adam with L2" if optimizer.get("decay") == "l2" else kind


def class_of(block: Nested | str) -> str:
    """The bare name of a class."""
    return str(block["class_path"] if isinstance(block, dict) else block).rpartition(".")[2]


def describe_setting(model: Nested) -> str:
    """The two options that were tuned."""
    found = {name: model["optimizer"][name] for name in ("lr", "weight_decay") if model["optimizer"].get(name)}
    for each in model.get("constraints") or ():
        found["max_norm"] = each["max_norm"]
    for each in model.get("filters") or ():
        if class_of(each) == "L2":
            found["L2"] = each["strength"]
    return ", ".join(f"{name} {format_option(value)}" for name, value in found.items())


def format_tuning(settings: list[Setting]) -> str:
    """For each method and task the least step, and how many of its settings grokked and stayed."""
    tasks = list(dict.fromkeys(setting.task for setting in settings))
    lines = [f"| method | {' | '.join(map(escape_markdown, tasks))} |", f"| --- |{' ---: |' * len(tasks)}"]
    for method in dict.fromkeys(setting.method for setting in settings):
        cells = []
        for task in tasks:
            steps = [each.grok_step for each in settings if (each.method, each.task) == (method, task)]
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


def format_tuned() -> str:
    """For each task and method, from the soonest on: grok steps, the test against AdamW, and whether it lasted."""
    groups: dict[tuple[str, str], tuple[Setting, list[dict[str, Any]]]] = {}
    for setting, record in read_tuned():
        groups.setdefault((setting.task, setting.method), (setting, []))[1].append(record)
    taken = pd.read_csv(MILLISECONDS, index_col="method")["milliseconds"] if MILLISECONDS.exists() else pd.Series()
    lines = [
        "| task | method | its setting | grokked | grok step, median | against AdamW, p | stable | lowest afterwards"
        " | a step, AdamW's is 1 |",
        f"| --- | --- | --- |{' ---: |' * 6}",
    ]
    for task in dict.fromkeys(task for task, _ in groups):
        lines += format_task(task, {method: group for (of, method), group in groups.items() if of == task}, taken)
    return "\n".join(lines)


def read_tuned() -> Iterator[tuple[Setting, dict[str, Any]]]:
    """The runs of compare-tuned, in its order, and their records."""
    records, _ = read_archive(RECORDS / "compare-tuned.parquet")
    found = {record["config_hash"]: record for record in records.to_dict("records")}
    plan = read_plan("compare-tuned")
    for run in plan.runs:
        yield Setting(*options_of(plan, run), math.nan, math.nan), cast(dict[str, Any], found[run.hash])


def draw_tuned() -> Figure:
    """What becomes of each run after its grok, a panel for each task and method."""
    _, curves = read_archive(RECORDS / "compare-tuned.parquet")
    runs = pd.DataFrame(
        {"condition": f"{setting.task}: {setting.method}", "run": record["path"]}
        | {name: record[name] for name in ("grok_step", "threshold")}
        for setting, record in read_tuned()
    )
    order = [f"{task}: {method}" for task, method in sorted({(each.task, each.method) for each, _ in read_tuned()})]
    runs["condition"] = pd.Categorical(runs["condition"], order)
    return draw_after_grok(tabulate_after_grok(runs, curves), "After the grok, at settings tuned for the grok step")


def format_task(task: str, groups: dict[str, tuple[Setting, list[dict[str, Any]]]], taken: pd.Series) -> list[str]:
    """The rows of a task."""
    events = {method: times_of(records) for method, (_, records) in groups.items()}
    others = [method for method in groups if method != FIRST]
    adjusted = dict(zip(others, holm([log_rank(*events[FIRST], *events[each]) for each in others]), strict=True))
    rows = []
    for method, (setting, records) in groups.items():
        curve = kaplan_meier(*events[method])
        reached = [record for record in records if pd.notna(record["grok_step"])]
        stable = sum(bool(record["after_grok.stable"]) for record in reached)
        lowest = min((record["after_grok.lowest"] for record in reached), default=math.nan)
        p = adjusted.get(method, math.nan)
        cells = [
            escape_markdown(task), method, describe_setting(setting.model), f"{len(reached)}/{len(records)}",
            describe_median(curve.median, *curve.median_interval),
            "" if method == FIRST else "no run grokked" if math.isnan(p) else "< 0.001" if p < 1e-3 else f"{p:.2g}",
            f"{stable}/{len(reached)}" if reached else "-",
            f"{100 * lowest:.1f} %" if reached else "-",
            f"{taken[method] / taken[FIRST]:.2f}" if method in taken else "-",
        ]  # fmt: skip
        rows.append(((curve.median, -len(reached)), f"| {' | '.join(cells)} |"))
    return [row for _, row in sorted(rows)]


def times_of(records: list[dict[str, Any]]) -> tuple[list[float], list[bool]]:
    """Grok steps, and whether they were reached; else the steps for which a run was watched."""
    seen = [bool(pd.notna(record["grok_step"])) for record in records]
    return [float(record["grok_step" if at else "steps"]) for record, at in zip(records, seen, strict=True)], seen


def time_methods() -> dict[str, float]:
    """Milliseconds of a step of each method on the first task, one run alone: medians of blocks taken in turns."""
    plan = read_plan("compare-tuned")
    steps: dict[str, Callable[[], None]] = {}
    for run in plan.runs:
        setting = Setting(*options_of(plan, run), math.nan, math.nan)
        if setting.method not in steps:
            steps[setting.method] = stepping(plan.blocks[run.block].resolved)
    taken: dict[str, list[float]] = {method: [] for method in steps}
    for _ in range(ROUNDS):
        for method, step in steps.items():
            begun = time.perf_counter()
            for _ in range(BLOCK):
                step()
            taken[method].append(1000 * (time.perf_counter() - begun) / BLOCK)
    return {method: median(times[1:]) for method, times in taken.items()}


def stepping(options: Nested) -> Callable[[], None]:
    """A function that takes a step of a run with these options, in the precision of the sweep."""
    module, data = build(options)
    schedule = cast(RateSchedule, None)  # steps are not told to it here
    optimizer = module.new_optimizer(module.network.named_parameters())
    updates = Updates(
        module.network, module._training_losses, optimizer, module.filters, module.seeds, module._constrain, schedule,
        lambda: torch.autocast("cpu", torch.bfloat16),
    )  # fmt: skip
    count = iter(range(10**9))
    device = torch.device("cpu")

    def step() -> None:
        at = next(count)
        batch = data.training_batch(at, device)
        updates.update(batch.tokens_RBT, batch.targets_RBA, batch.beginnings, torch.full((), at), 1 / batch.whole)

    return step


if __name__ == "__main__":
    main()
