"""The command ``sweep``: plans the runs, trains them with a progress display, and prints a table."""

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from jsonargparse import ArgumentParser, Namespace

from grok_lightning.cli import quiet
from grok_lightning.errors import UserError, show
from grok_lightning.files import refuse_unwritable, write_durably
from grok_lightning.options.commands import TRUST, command_parser, parse, read_count
from grok_lightning.reading import read_json
from grok_lightning.records.archive import read_archive
from grok_lightning.records.form import drop_rows, find_faults
from grok_lightning.records.locks import can_lock
from grok_lightning.records.planned import save_planned
from grok_lightning.records.record import RESULT
from grok_lightning.sweep.places import OWNER
from grok_lightning.sweep.plan.pending import COLUMNS, Schedule, Standing, describe_known, find_pending, find_standing
from grok_lightning.sweep.plan.precision import find_slow_precision, keep_precision
from grok_lightning.sweep.plan.runs import Plan, read_plan
from grok_lightning.sweep.plan.sizes import choose, describe_trajectories, share_cores, try_runs
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run.executor import Executor
from grok_lightning.sweep.run.local import LocalExecutor
from grok_lightning.sweep.run.worker import Tally
from grok_lightning.sweep.show.display import Display
from grok_lightning.sweep.show.outline import format_outline
from grok_lightning.sweep.show.table import format_damaged, format_status, format_table

CHOICES = {"executor": ("local", "ray"), "keep": ("none", "grok", "last"), "events": ("on", "off")}
OVER = ("finished", "stopped", "diverged")


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
    parser.add_argument("--max_steps", type=str | None, help="Steps of each run, in place of the files' own.")
    parser.add_argument("--retry_failed", type=bool, default=False, help="Train failed runs again.")
    parser.add_argument("--trust", type=bool, default=False, help=TRUST)
    parser.add_argument("--root", type=str, default=".", help="Folder of lightning_logs and checkpoints.")
    return parser


def sweep_command(arguments: list[str]) -> int:
    """Run the command ``sweep``.

    Args:
        arguments: Arguments after ``sweep``.

    Returns:
        Exit status: 0, or 1 if runs failed or the disk is full, or 129, 130 or 143 if a signal ended the sweep.

    Raises:
        UserError: A file or an option is invalid; nothing has been written then.
    """
    quiet()
    status = arguments[:1] == ["status"]
    options = _read_options(arguments[1:] if status else arguments)
    if not can_lock():
        raise UserError(
            "sweep needs Linux or macOS, for its workers use POSIX file locks; "
            "on Windows run it in WSL, or train single runs with fit"
        )
    root = Path(options.root)
    plans = [read_plan(path, root, options.max_steps) for path in options.files]
    names = [plan.name for plan in plans]
    for plan in plans:
        if (count := names.count(plan.name)) > 1:
            raise UserError(f"{plan.grid.path}: {count} files are named {plan.name}; rename one of them")
    known = _read_known(options.known) if options.known else None
    if known is not None:
        for plan in plans:
            print(describe_known(plan, known), file=sys.stderr)
    if status:
        print("\n\n".join(format_status(plan, find_standing(plan, known)) for plan in plans))
        return 0
    refuse_unwritable("root", root)
    if options.executor == "ray" and not options.dry_run:
        from grok_lightning.sweep.run.cluster import connect

        connect()
    schedules = [_schedule(plan, options, known) for plan in plans]
    if options.dry_run:
        print("\n\n".join(map(format_outline, _share_workers(schedules, options.workers))))
        return 0
    schedules = [_keep_precision(schedule, options, known) for schedule in schedules]
    schedules = _share_workers(schedules, options.workers)
    tally = _train(schedules, options)
    return max([_summarize(schedule, known) for schedule in schedules] + [_describe_end(tally)])


def _read_options(arguments: list[str]) -> Namespace:
    options = parse(_parser(), arguments)
    for name, choices in CHOICES.items():
        if options[name] is not None and options[name] not in choices:
            raise UserError(f"--{name} is {show(options[name])}; expected: {', '.join(choices)}")
    for name in ("workers", "stack_size", "max_steps"):
        if options[name] is not None:
            options[name] = read_count(name, options[name])
    shard = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", options.shard)
    if not shard or not 1 <= int(shard[1]) <= int(shard[2]):
        raise UserError(f"--shard is {show(options.shard)}; i/n is expected, with i from 1 to n, such as 3/8")
    options.shard = (int(shard[1]), int(shard[2]))
    return options


def _read_known(paths: list[str]) -> pd.DataFrame:
    """Finished runs of archives."""
    tables = []
    for path in paths:
        if not Path(path).exists():
            raise UserError(f"--known is {path!r}, and there is no such file; give a runs.parquet that a report wrote")
        runs = read_archive(Path(path))[0].reindex(columns=["path", *COLUMNS])
        faults = find_faults(runs, ())
        for row, fault in faults.items():
            print(f"--known {path}: {runs['path'].iloc[row]} is left out: {fault}", file=sys.stderr)
        tables.append(drop_rows(runs, faults)[list(COLUMNS)])
    runs = pd.concat(tables, ignore_index=True)
    return runs[runs["status"].isin(OVER)]


def _schedule(plan: Plan, options: Namespace, known: pd.DataFrame | None) -> Schedule:
    """Find what a sweep has to train, and choose its settings; nothing is written."""
    found = find_standing(plan, known)
    for line in format_damaged(plan, found):
        print(line, file=sys.stderr)
    _refuse_other_sweep(plan, found)
    missing = [run for run in plan.runs if not found.is_over(run, options.retry_failed)]
    sizes = try_runs(plan, missing or plan.runs[:1], options.trust)
    choice, trajectory = choose(plan, len(missing), sizes, options), describe_trajectories(plan, missing, sizes)
    slow = find_slow_precision(plan.grid) if missing else None
    if slow is not None:
        print(f"{plan.grid.path}: {slow}", file=sys.stderr)
    stacks = find_pending(plan, found, choice.stack_size, options.shard, options.retry_failed)
    return Schedule(plan, found, choice, stacks, options.trust, trajectory)


def _share_workers(schedules: list[Schedule], wanted: int | None) -> list[Schedule]:
    """Give all sweeps the same workers, as many as there are stacks of all of them, if so many are wanted."""
    workers, threads = share_cores(sum(len(schedule.stacks) for schedule in schedules), wanted)
    return [replace(each, choice=replace(each.choice, workers=workers, threads=threads)) for each in schedules]


def _keep_precision(schedule: Schedule, options: Namespace, known: pd.DataFrame | None) -> Schedule:
    """Record the precision of a sweep; plan it again if another process has just begun it with another one."""
    plan = schedule.plan
    if plan.precision is None or keep_precision(plan.places, plan.precision):
        return schedule
    return _schedule(read_plan(plan.grid.path, plan.places.root, options.max_steps), options, known)


def _refuse_other_sweep(plan: Plan, found: Standing) -> None:
    """Refuse a directory that holds the runs of another sweep file of the same name."""
    path = plan.places.own / OWNER
    if not path.exists():
        return
    try:
        owner = str(read_json(path)["file"])
    except (OSError, ValueError, KeyError, TypeError):  # damaged; it is replaced
        return
    mine = {run.hash for run in plan.runs}
    if owner != str(plan.grid.path.resolve()) and os.path.exists(owner) and not mine & found.names.keys():
        holds = f"{str(plan.places.logs)!r} holds the runs of another sweep, {owner}"
        raise UserError(f"{plan.grid.path}: {holds}; rename one of the two")


def _train(schedules: list[Schedule], options: Namespace) -> Tally:
    """Train all stacks, and show their progress."""
    for schedule in schedules:
        plan, hashes = schedule.plan, [run.hash for run in schedule.plan.runs]
        if plan.precision is not None:
            print(f"{plan.name}: precision {plan.precision}", flush=True)
        if schedule.trajectory is not None:
            print(f"{plan.name}: {schedule.trajectory}", flush=True)
        for line in plan.obstacles if schedule.choice.stack_size > 1 else ():
            print(f"{plan.name}: {line}", flush=True)
        others = schedule.found.names.keys() - set(hashes)
        if others:
            print(f"{plan.name}: {len(others):,} runs of other options are there too; they stay", file=sys.stderr)
        again = sum(plan.fresh_name(run) in schedule.found.taken for stack in schedule.stacks for run in stack.runs)
        if again:
            print(f"{plan.name}: {again:,} runs that a fit resumed with other options begin anew", file=sys.stderr)
        owner = {"file": str(plan.grid.path.resolve())}
        write_durably(plan.places.own / OWNER, json.dumps(owner).encode())
        save_planned(plan.places.logs, hashes, plan.grid.options, plan.typed_options())
    waiting: list[Callable[[], Stack]] = [
        partial(schedule.make, stack) for schedule in schedules for stack in schedule.stacks
    ]
    if not waiting:
        return Tally()
    display = Display([schedule.plan.places for schedule in schedules], sum(each.missing for each in schedules))
    executor: Executor
    if options.executor == "ray":
        from grok_lightning.sweep.run.cluster import RayExecutor

        executor = RayExecutor(options.workers, display.show)
    else:
        logs = schedules[0].plan.places.own / "logs"
        executor = LocalExecutor(schedules[0].choice.workers, logs, display.show)
    tally = executor.run(waiting)
    display.show(tally, last=True)
    return tally


def _summarize(schedule: Schedule, known: pd.DataFrame | None) -> int:
    """Print the results of a sweep; 1 if runs failed, else 0."""
    plan = schedule.plan
    found = find_standing(plan, known)
    print(f"{plan.name}\n{format_table(plan, found)}")
    over = {run.hash for run in plan.runs if found.is_over(run)}
    plan.places.remove_stacks(over, damaged=len(over) == len({run.hash for run in plan.runs}))
    failures = [run for run in plan.runs if found.status.get(run.hash) == "failed"]
    if failures:
        path = plan.places.of_run(found.names[failures[0].hash])[0] / RESULT
        print(
            f"{len(failures):,} of {len(plan.runs):,} runs failed; the error of the first is in {path}; "
            "do them again with --retry-failed",
            file=sys.stderr,
        )
    return int(bool(failures))


def _describe_end(tally: Tally) -> int:
    """Print why a sweep ended before its runs did, and return the exit status for that."""
    if tally.busy:
        print(f"{tally.busy:,} runs were left to another process that has them", file=sys.stderr)
    if tally.full:
        print(f"grok-lightning: {tally.full}; make room and start the sweep again: nothing is lost", file=sys.stderr)
        return 1
    if tally.stopped:
        print("stopped; the same command goes on from the last checkpoints", file=sys.stderr)
        return 128 + tally.stopped
    return int(tally.failed > 0)
