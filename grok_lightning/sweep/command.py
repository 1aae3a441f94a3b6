"""The command ``sweep``: plans the runs, trains them with a progress display, and prints a table."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from jsonargparse import ArgumentParser, Namespace

from grok_lightning.cli import quiet
from grok_lightning.errors import UserError
from grok_lightning.files import refuse_unwritable, write_durably
from grok_lightning.options.commands import command_parser, parse
from grok_lightning.records.archive import read_archive
from grok_lightning.records.planned import save_planned
from grok_lightning.sweep.display import Display, Tally
from grok_lightning.sweep.executor import Executor
from grok_lightning.sweep.local import LocalExecutor
from grok_lightning.sweep.outline import format_outline
from grok_lightning.sweep.pending import COLUMNS, PendingStack, Standing, find_standing, make_job, pending_stacks
from grok_lightning.sweep.places import Places, read_notices, refuse_without_posix
from grok_lightning.sweep.plan import Plan, read_plan
from grok_lightning.sweep.precision import keep_precision, slow_precision
from grok_lightning.sweep.sizes import Choice, choose
from grok_lightning.sweep.table import format_table
from grok_lightning.sweep.trial import try_runs
from grok_lightning.sweep.worker import Job

CHOICES = {"executor": ("local", "ray"), "keep": ("none", "grok", "last"), "events": ("on", "off")}
OWNER = "sweep.json"
OVER = ("finished", "stopped", "diverged")


@dataclass
class Experiment:
    """One sweep file of the command line.

    Attributes:
        plan: Its runs.
        places: Its directories.
        found: Its progress.
        choice: Its settings.
        stacks: Its unfinished runs.
        known: Results of runs trained elsewhere.
    """

    plan: Plan
    places: Places
    found: Standing
    choice: Choice
    stacks: list[PendingStack]
    known: pd.DataFrame | None = None

    @property
    def runs(self) -> int:
        """Number of runs to train."""
        return sum(not self.found.is_over(run, self.choice.retry_failed) for stack in self.stacks for run in stack.runs)


def _parser() -> ArgumentParser:
    parser = command_parser(
        "sweep",
        "Trains the runs of one or more sweep files that are not done yet; "
        "`grok-lightning sweep status FILE...` shows their progress.",
        "addition-fractions --workers 2",
    )
    parser.add_argument("files", type=str, nargs="+", help="Sweep files, or names of shipped sweeps.")
    parser.add_argument("--dry_run", type=bool, default=False, help="Print the plan and train nothing.")
    parser.add_argument("--workers", type=str | None, help="Processes; default: one per CPU core, or per GPU.")
    parser.add_argument(
        "--stack_size", type=str | None, help="Maximum runs trained as one model; default: by model size."
    )
    parser.add_argument(
        "--executor", type=str, default="local", help="local: processes of this machine; ray: tasks of a cluster."
    )
    parser.add_argument("--shard", type=str, default="1/1", help="i/n: only part i of n, counted from 1.")
    parser.add_argument("--keep", type=str | None, help="Checkpoints left of a run at its end: none, grok, last.")
    parser.add_argument("--events", type=str | None, help="Write TensorBoard events and curves.png: on, off.")
    parser.add_argument(
        "--known", type=str, nargs="+", help="Archives (runs.parquet of reports) whose runs count as done."
    )
    parser.add_argument("--retry_failed", type=bool, default=False, help="Train failed runs again.")
    parser.add_argument("--root", type=str, default=".", help="Folder of lightning_logs and checkpoints.")
    return parser


def sweep_command(arguments: list[str]) -> int:
    """Run the command ``sweep``.

    Args:
        arguments: Arguments after ``sweep``.

    Returns:
        Exit status: 0, or 1 if runs failed or the disk is full, or 130 or 143 if a signal ended the sweep.

    Raises:
        UserError: A file or an option is invalid; nothing has been written then.
    """
    quiet()
    status = arguments[:1] == ["status"]
    options = _options(arguments[1:] if status else arguments)
    refuse_without_posix()
    root = Path(options.root)
    plans = [read_plan(path, root) for path in options.files]
    names = [plan.name for plan in plans]
    for plan in plans:
        if names.count(plan.name) > 1:
            raise UserError(
                f"{plan.grid.path}: {names.count(plan.name)} files are named {plan.name}; rename one of them"
            )
    known = _read_known(options)
    if status:
        print("\n\n".join(_format_status(plan, Places(root, plan.name), known) for plan in plans))
        return 0
    refuse_unwritable("root", root)
    if options.executor == "ray" and not options.dry_run:
        from grok_lightning.sweep.connection import connect

        connect()
    experiments = [_plan_experiment(plan, Places(root, plan.name), options, known) for plan in plans]
    if options.dry_run:
        print("\n\n".join(format_outline(each.plan, each.found, each.stacks, each.choice) for each in experiments))
        return 0
    return _run([_with_kept_precision(each, options) for each in experiments], options)


def _options(arguments: list[str]) -> Namespace:
    options = parse(_parser(), arguments)
    for name, choices in CHOICES.items():
        if options[name] is not None and options[name] not in choices:
            raise UserError(f"--{name} is {options[name]!r}; expected: {', '.join(choices)}")
    for name in ("workers", "stack_size"):
        if options[name] is not None and not re.fullmatch(r"0*[1-9]\d*", options[name]):
            raise UserError(f"--{name} is {options[name]}; a whole number of at least 1 is expected")
        options[name] = options[name] and int(options[name])
    shard = re.fullmatch(r"(\d+)/(\d+)", options.shard)
    if not shard or not 1 <= int(shard[1]) <= int(shard[2]):
        raise UserError(f"--shard is {options.shard!r}; i/n is expected, with i from 1 to n, such as 3/8")
    options.shard = (int(shard[1]), int(shard[2]))
    return options


def _plan_experiment(plan: Plan, places: Places, options: Namespace, known: pd.DataFrame | None) -> Experiment:
    found = find_standing(plan, places, known)
    _refuse_other_sweep(plan, places, found)
    missing = [run for run in plan.runs if not found.is_over(run, options.retry_failed)]
    sizes = try_runs(plan, missing or plan.runs[:1])
    choice = choose(plan, len(missing), sizes, options)
    stacks = pending_stacks(plan, places, found, choice.stack_size, options.shard, options.retry_failed)
    slow = slow_precision(plan.grid) if missing else None
    if slow is not None:
        print(f"{plan.grid.path}: {slow}", file=sys.stderr)
    return Experiment(plan, places, found, choice, stacks, known)


def _with_kept_precision(experiment: Experiment, options: Namespace) -> Experiment:
    """Record the precision of an experiment; plan it again if another process has just begun it with another one."""
    plan, places = experiment.plan, experiment.places
    if plan.precision is None or keep_precision(places, plan.precision):
        return experiment
    return _plan_experiment(read_plan(plan.grid.path, places.root), places, options, experiment.known)


def _read_known(options: Namespace) -> pd.DataFrame | None:
    """Finished runs of the archives of ``--known``."""
    if not options.known:
        return None
    tables = [read_archive(Path(name))[0] for name in options.known]
    runs = pd.concat([table.reindex(columns=list(COLUMNS)) for table in tables], ignore_index=True)
    return runs[runs["status"].isin(OVER)]


def _refuse_other_sweep(plan: Plan, places: Places, found: Standing) -> None:
    """Refuse a directory that holds the runs of another sweep file of the same name."""
    path = places.own / OWNER
    if not path.exists():
        return
    try:
        owner = str(json.loads(path.read_text(encoding="utf-8"))["file"])
    except (OSError, ValueError, KeyError, TypeError):  # damaged; it is replaced
        return
    mine = {run.hash for run in plan.runs}
    if owner != str(plan.grid.path.resolve()) and Path(owner).exists() and not mine & found.names.keys():
        raise UserError(
            f"{plan.grid.path}: {str(places.logs)!r} holds the runs of another sweep, {owner}; rename one of the two"
        )


def _run(experiments: list[Experiment], options: Namespace) -> int:
    for each in experiments:
        if each.plan.precision is not None:
            print(f"{each.plan.name}: precision {each.plan.precision}", flush=True)
        others = each.found.names.keys() - {run.hash for run in each.plan.runs}
        if others:
            print(f"{each.plan.name}: {len(others):,} runs of other options are there too; they stay", file=sys.stderr)
        owner = {"file": str(each.plan.grid.path.resolve())}
        write_durably(each.places.own / OWNER, json.dumps(owner).encode())
        hashes = [run.hash for run in each.plan.runs]
        save_planned(each.places.logs, hashes, each.plan.grid.options, each.plan.typed_options())
    waiting: list[Callable[[], Job]] = [
        partial(make_job, each.plan, each.places, each.found, stack, each.choice)
        for each in experiments
        for stack in each.stacks
    ]
    tally = Tally()
    if waiting:
        display = Display([each.places for each in experiments], sum(each.runs for each in experiments))
        logs = experiments[0].places.own / "logs"
        tally = _executor(options, experiments[0].choice.workers, logs, display.show).run(waiting)
        display.show(tally, last=True)
    return _summarize(experiments, tally)


def _executor(options: Namespace, workers: int, logs: Path, look: Callable[[Tally], None]) -> Executor:
    if options.executor == "local":
        return LocalExecutor(workers, logs, look)
    from grok_lightning.sweep.cluster import RayExecutor

    return RayExecutor(options.workers, look)


def _summarize(experiments: list[Experiment], tally: Tally) -> int:
    failed = 0
    for each in experiments:
        found = find_standing(each.plan, each.places, each.known)
        missing = [run for run in each.plan.runs if not found.is_over(run)]
        failures = [run for run in each.plan.runs if found.status.get(run.hash) == "failed"]
        failed += len(failures)
        print(f"{each.plan.name}\n{format_table(each.plan, found)}")
        if not missing and each.places.stacks.is_dir():
            shutil.rmtree(each.places.stacks)
        if failures:
            path = each.places.of_run(found.names[failures[0].hash])[0] / "result.json"
            print(
                f"{len(failures):,} of {len(each.plan.runs):,} runs failed; the error of the first is in {path}; "
                "do them again with --retry-failed",
                file=sys.stderr,
            )
    if tally.busy:
        print(f"{tally.busy:,} runs were left to another process that has them", file=sys.stderr)
    if tally.full:
        print(f"grok-lightning: {tally.full}; make room and start the sweep again: nothing is lost", file=sys.stderr)
        return 1
    if tally.stopped:
        print("stopped; the same command goes on from the last checkpoints", file=sys.stderr)
        return 128 + tally.stopped
    return 1 if failed or tally.failed else 0


def _format_status(plan: Plan, places: Places, known: pd.DataFrame | None) -> str:
    """Format the progress of a sweep."""
    found = find_standing(plan, places, known)
    notices = read_notices(places.own / "workers").values()
    counts: dict[str, int] = {}
    for run in plan.runs:
        state = found.status.get(run.hash, "not done")
        counts[state] = counts.get(state, 0) + 1
    lines = [f"{plan.name}: {len(plan.runs):,} runs, " + ", ".join(f"{n:,} {state}" for state, n in counts.items())]
    running = sum(notice["runs"] - notice["over"] for notice in notices)
    if notices:
        lines.append(f"{len(notices)} workers are training {running:,} runs")
        lines += [
            f"  {n['name']}: step {n['step']:,} of {n['budget']:,}{', compiling' * n.get('compiling', False)}"
            for n in notices
        ]
    return "\n".join([*lines, format_table(plan, found)])
