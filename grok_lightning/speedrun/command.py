"""The command ``speedrun``: verifies an entry of the speedrun."""

import contextlib
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from grok_lightning.cli import quiet
from grok_lightning.errors import UserError, show
from grok_lightning.files import refuse_unwritable
from grok_lightning.options.commands import command_parser, parse, read_count
from grok_lightning.speedrun.rules import Rules
from grok_lightning.speedrun.verify import Verification, Verified, prepare, verify

PASSED_ON = ("workers", "stack_size")  # to sweep


def _parser() -> ArgumentParser:
    rules = Rules()
    parser = command_parser(
        "speedrun",
        "Verifies an entry of the speedrun, a fit config: its rules, then the steps to 99 % on seeds and symbols "
        "drawn anew, and the accuracy 10,000 steps later. The same command with the seed it prints goes on.",
        "verify speedrun --after 0",
    )
    parser.add_argument("action", type=str, help="verify.")
    parser.add_argument("entry", type=str, help="Fit config, or the name of a shipped one.")
    parser.add_argument("--seed", type=str | None, help="Seed of all that is drawn; default: a new one.")
    parser.add_argument("--runs", type=str, default=str(rules.runs), help="Runs of each task.")
    parser.add_argument("--after", type=str, default=str(rules.after), help="Steps to go on after 99 %; 0 for none.")
    parser.add_argument("--workers", type=str | None, help="Processes, as of sweep.")
    parser.add_argument("--stack_size", type=str | None, help="Maximum runs trained as one model, as of sweep.")
    parser.add_argument("--json", type=bool, default=False, help="Print JSON, and progress to stderr.")
    parser.add_argument("--root", type=str, default=".", help="Folder of lightning_logs and checkpoints.")
    return parser


def speedrun_command(arguments: list[str], rules: Rules | None = None) -> int:
    """Run the command ``speedrun``.

    Args:
        arguments: Arguments after ``speedrun``.
        rules: What is asked of an entry; default: the rules of docs/speedrun.md.

    Returns:
        Exit status: 0, or that of the sweep that did not end.

    Raises:
        UserError: An option is invalid, or the entry breaks a rule; nothing has been written then.
    """
    quiet()
    options = parse(_parser(), arguments)
    if options.action != "verify":
        raise UserError(f"speedrun {show(options.action)} is no action; expected: verify")
    runs, after = read_count("runs", options.runs), read_count("after", options.after, least=0)
    seed = None if options.seed is None else read_count("seed", options.seed, least=0)
    given = [(name, read_count(name, options[name])) for name in PASSED_ON if options[name] is not None]
    root = Path(options.root)
    refuse_unwritable("root", root)
    entry = prepare(options.entry, replace(rules or Rules(), runs=runs, after=after), seed, root)
    with contextlib.redirect_stdout(sys.stderr if options.json else sys.stdout):
        print(_describe(entry), flush=True)
        found = verify(entry, root, [word for name, value in given for word in (f"--{name}", str(value))])
    if found.tasks:
        print(json.dumps(_collect(entry, found), indent=2) if options.json else _format(entry, found))
    else:
        again = shlex.join(["grok-lightning", "speedrun", *arguments, *(["--seed", str(entry.seed)] * (seed is None))])
        print(f"speedrun: not all runs are over; go on with\n  {again}", file=sys.stderr)
    return found.status


def _describe(entry: Verification) -> str:
    """The entry, and what was drawn."""
    return (
        f"speedrun: {entry.entry}, {entry.network.rsplit('.', 1)[-1]}, seed {entry.seed}: "
        f"{entry.rules.runs} runs of each of {len(entry.rules.tasks)} tasks, symbols numbered at random"
    )


def _format(entry: Verification, found: Verified) -> str:
    rules = entry.rules
    lines = ["", _describe(entry), *(task.format(rules.after) for task in found.tasks), f"on {found.tasks[0].device}"]
    standard = Rules()
    if (rules.runs, rules.after) != (standard.runs, standard.after):
        asked = f"--runs {standard.runs} --after {standard.after}"
        lines.append(f"of {rules.runs} runs and {rules.after:,} steps after; a record that is stable takes {asked}")
    if any(step is None for task in found.tasks for step in task.steps):
        return "\n".join([*lines, "not a record: not all runs reached 99 %"])
    classes = ["any network", *(["transformer"] if entry.is_transformer else [])]
    if rules.after and all(task.is_stable for task in found.tasks):
        classes.append(f"stable for {rules.after:,} steps")
    return "\n".join([*lines, f"classes: {', '.join(classes)}"])


def _collect(entry: Verification, found: Verified) -> dict[str, Any]:
    rules = entry.rules
    return {
        "entry": entry.entry,
        "seed": entry.seed,
        "runs": rules.runs,
        "after": rules.after,
        "network": entry.network,
        "transformer": entry.is_transformer,
        "tasks": [task.describe() for task in found.tasks],
    }
