"""The output of ``status``: a table of runs as wide as the terminal, or JSON."""

import json
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict

from grok_lightning.hardware.terminal import format_duration
from grok_lightning.records.record import FAILED
from grok_lightning.records.runs import hash_of_name
from grok_lightning.records.words import describe_median, format_percent
from grok_lightning.status.standing import DAMAGED, INTERRUPTED, RUNNING, Run, Standing

MOST_ENDED = 20  # rows of single fits that ended
MOST_OTHERS = 40  # rows of each other state
LEAST_NAME = 16  # columns

Columns = dict[str, Callable[[str, Run], str]]


def format_standings(standings: Sequence[Standing], everything: bool = False, columns: int | None = None) -> list[str]:
    """Formats experiments: counts of sweeps, then a table with a row for each run, then what it leaves out.

    Args:
        standings: The experiments.
        everything: Whether the table has all runs.
        columns: Width of the terminal; None: as wide as it takes.
    """
    before, after = [], []
    rows: list[tuple[str, Run]] = []
    for standing in standings:
        if standing.planned is not None:
            before.append(_count(standing))
        shown, hidden = _choose(standing, everything)
        rows += [(standing.name, run) for run in shown]
        after += [f"{standing.name}: {line}" for line in hidden]
        after += [f"{standing.name}/{run.name} is damaged: {run.fault}" for run in shown if run.fault]
        if standing.unread:
            after.append(f"{standing.name} cannot be read: {standing.unread}")
        elif not standing.runs and standing.planned is None:
            after.append(f"{standing.name}: no runs")
    table = _format_table(rows, columns) if rows else []
    wrapped = [_wrap(lines, columns) for lines in (before, table, after)]
    return [line for part in wrapped for line in part]


def format_json(standings: Sequence[Standing]) -> str:
    """Experiments as one line of JSON, with all runs."""
    found = []
    for standing in standings:
        fields = asdict(standing)
        counts = Counter(run.state for run in standing.runs)
        found.append(fields | {"counts": dict(counts)})
    return json.dumps({"experiments": found})


def _count(standing: Standing) -> str:
    """Counts of a sweep's runs."""
    own = len(standing.runs) - len(standing.others)
    ended = own - standing.count(RUNNING, INTERRUPTED, DAMAGED, FAILED)
    planned = max(standing.planned or 0, own)
    parts = [f"{ended:,} of {planned:,} done", f"{standing.count(RUNNING):,} running", f"{standing.waiting:,} waiting"]
    parts += [
        f"{count:,} {state}"
        for state in (FAILED, INTERRUPTED, DAMAGED)
        if (count := standing.count(state)) or state == FAILED
    ]
    parts += [f"{len(standing.others):,} not of its file"] if standing.others else []
    line = f"{standing.name}: {', '.join(parts)}"
    if all(run.state != RUNNING for run in standing.runs) and (standing.waiting or standing.count(INTERRUPTED)):
        line += f"; no process trains it; go on with grok-lightning sweep {standing.file or standing.name}"
    return line


def _choose(standing: Standing, everything: bool) -> tuple[list[Run], list[str]]:
    """The runs of an experiment that the table has, and lines on the others."""
    live = (RUNNING, INTERRUPTED, DAMAGED, FAILED)
    ended = [run for run in standing.runs if run.state not in live]
    if everything:
        return standing.runs, []
    shown, lines = [], []
    for state in live:
        runs = [run for run in standing.runs if run.state == state]
        shown += runs[:MOST_OTHERS]
        if len(runs) > MOST_OTHERS:
            lines.append(f"{len(runs) - MOST_OTHERS:,} more {state} (--all shows them)")
    if standing.planned is None and len(ended) <= MOST_ENDED:
        return shown + ended, lines
    return shown, [*lines, _summarize(ended)] if ended else lines


def _summarize(runs: Sequence[Run]) -> str:
    """What came of runs that ended."""
    states = Counter(run.state for run in runs)
    phases = Counter(run.phase for run in runs)
    parts = [f"{count:,} {state}" for state, count in states.items()]
    reached = [f"{phases[phase]:,} {phase}" for phase in ("grokked", "memorized", "not memorized") if phases[phase]]
    lost = [run.level for run in runs if run.stable is False]
    reached += [f"{len(lost):,} below {100 * max(lost):g}% later"] if lost else []
    at = f"; {_describe_grok_step(runs)}" if phases["grokked"] else ""
    return f"{', '.join(parts)}: {', '.join(reached)}{at} (--all shows them)"


def _describe_grok_step(runs: Sequence[Run]) -> str:
    """The median grok step of runs that ended, as in reports, those that did not grok being censored."""
    import pandas as pd

    from grok_lightning.statistics import kaplan_meier, times  # SciPy, only where there is something to estimate

    held_out = [run for run in runs if run.val is not None or run.grok_step is not None]
    columns = {"status": "state", "steps": "step", "budget": "budget", "grok_step": "grok_step"}
    table = pd.DataFrame({name: [getattr(run, field) for run in held_out] for name, field in columns.items()})
    at = times(table.assign(grok_after=float("nan")), "grok").dropna(subset="step")
    return f"median grok step {describe_median(kaplan_meier(at['step'], at['observed']).median)}"


# --- the table --------------------------------------------------------------------------------------------------------


def _format_steps(_: str, run: Run) -> str:
    if run.step is None:
        return ""
    return f"{run.step:,}/{run.budget:,}" if run.budget is not None else f"{run.step:,}"


def _format_share(share: float | None) -> str:
    return "" if share is None else format_percent(share)


def _format_rate(_: str, run: Run) -> str:
    return "" if run.rate is None else f"{run.rate:,.0f}" if run.rate >= 9.95 else f"{run.rate:.2g}"


def _format_left(_: str, run: Run) -> str:
    return "" if run.left is None else f"{'max ' if run.at_most else ''}{format_duration(run.left)}"


def _format_percent(_: str, run: Run) -> str:
    return f"{run.step / run.budget:.0%}" if run.step is not None and run.budget else ""


def _format_loss(run: Run) -> str:
    """What a run has lost again."""
    lost = [f"below {100 * run.level:g}%"] if run.stable is False else []
    return ", ".join([*lost, "collapsed"] if run.collapsed else lost)


FULL: Columns = {
    "run": lambda experiment, run: f"{experiment}/{run.name}",
    "state": lambda _, run: run.state,
    "step": _format_steps,
    "steps/s": _format_rate,
    "train": lambda _, run: _format_share(run.train),
    "val": lambda _, run: _format_share(run.val),
    "phase": lambda _, run: run.phase,
    "afterwards": lambda _, run: _format_loss(run),
    "left": _format_left,
}
NARROW: Columns = {name: show for name, show in FULL.items() if name != "steps/s"} | {"step": _format_percent}
LEFT_ALIGNED = ("run", "state", "phase", "afterwards")


def _format_table(rows: Sequence[tuple[str, Run]], columns: int | None) -> list[str]:
    """The table in the widest form that there is room for; on a very narrow terminal a few lines for each run."""
    for form in (FULL, NARROW):
        cells = [[show(experiment, run) for show in form.values()] for experiment, run in rows]
        table = [list(form), *cells]
        kept = [place for place in range(len(form)) if any(row[place] for row in cells)]
        table = [[row[place] for place in kept] for row in table]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        room = widths[0] if columns is None else columns - 1 - sum(widths[1:]) - 2 * (len(widths) - 1)
        if room >= min(LEAST_NAME, widths[0]):
            widths[0] = min(room, widths[0])
            return [_align(row, widths, [list(form)[place] for place in kept]) for row in table]
    lines = []
    for experiment, run in rows:
        lines.append(_shorten(f"{experiment}/{run.name}", max(4, (columns or 80) - 1)))
        lines.append(f"  {', '.join(filter(None, _name_cells(run)))}")
    return lines


def _name_cells(run: Run) -> list[str]:
    """What the table says of a run, without a heading."""
    shares = [
        f"{split} {_format_share(share)}"
        for split, share in (("train", run.train), ("val", run.val))
        if share is not None
    ]
    left = _format_left("", run)
    return [run.state, _format_percent("", run), *shares, run.phase, _format_loss(run), f"{left} left" if left else ""]


def _align(row: Sequence[str], widths: Sequence[int], names: Sequence[str]) -> str:
    cells = [_shorten(row[0], widths[0]), *row[1:]]
    aligned = [
        cell.ljust(width) if name in LEFT_ALIGNED else cell.rjust(width)
        for cell, width, name in zip(cells, widths, names, strict=True)
    ]
    return "  ".join(aligned).rstrip()


def _shorten(name: str, width: int) -> str:
    """A run's name cut in the middle; of a sweep's run, the hash at its end goes first."""
    if len(name) > width and (hashed := hash_of_name(name)):
        name = name.removesuffix(hashed).rstrip("_-")
    if len(name) <= width:
        return name
    ahead = max(1, (width - 2) // 2)
    return f"{name[:ahead]}..{name[len(name) - max(0, width - 2 - ahead) :]}"[:width] if width > 4 else name[:width]


def _wrap(lines: Sequence[str], columns: int | None) -> list[str]:
    """Lines broken between words; those that fit, such as the table's, stay as they are."""
    if columns is None:
        return list(lines)
    width = max(columns - 1, 4)
    return [
        part
        for line in lines
        for part in (
            [line]
            if len(line) <= width
            else textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False) or [""]
        )
    ]
