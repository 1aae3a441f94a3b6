"""Verifies an entry: checks the rules, draws seeds and symbols, trains, and sums up."""

import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from grok_lightning.options.classes import lookup
from grok_lightning.options.parsing import resolve
from grok_lightning.options.shipped import experiment_of, find_config
from grok_lightning.randomness import derive_key
from grok_lightning.records.tasks import task_title
from grok_lightning.speedrun.cost import Cost, measure_cost
from grok_lightning.speedrun.report import TaskReport, report_task
from grok_lightning.speedrun.rules import TRANSFORMER, Rules
from grok_lightning.speedrun.sweeps import Attempt, Sweep, afterwards, to_threshold


@dataclass(frozen=True)
class Verification:
    """A verification whose entry keeps the rules as far as its options and its first steps tell.

    Attributes:
        entry: The entry, as it was named.
        rules: What is asked of it.
        seed: The seed from which those of the runs and of the numbering of symbols are drawn.
        sweep: The runs up to 99 %.
        costs: What a step costs, by task.
        network: The class of its network.
    """

    entry: str
    rules: Rules
    seed: int
    sweep: Sweep
    costs: list[Cost]
    network: str

    @property
    def is_transformer(self) -> bool:
        """Whether the network is this package's transformer; of one's own a reader has to say so."""
        return self.network == TRANSFORMER


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        status: The exit status of the sweep that ended it; 0 if all runs are over.
        tasks: By task; empty if a run is not over.
    """

    status: int
    tasks: list[TaskReport]


def prepare(entry: str, rules: Rules, seed: int | None = None, root: Path = Path()) -> Verification:
    """Check an entry against the rules, and measure its steps; nothing is written.

    Args:
        entry: Path of a fit config, or the name of a shipped one.
        rules: What is asked of it.
        seed: Seed of all that is drawn; default: a new one.
        root: Directory of ``lightning_logs`` and ``checkpoints``.

    Raises:
        UserError: It breaks a rule, or cannot be built.
    """
    path, seed = find_config(entry, "speedrun verify"), secrets.randbelow(10**6) if seed is None else seed
    with TemporaryDirectory() as scratch:
        options = resolve(["fit", "--config", str(path)], {"trainer": {"default_root_dir": scratch}}).options
    rules.check_options(options)
    numbering, budget = derive_key(seed, "speedrun", "numbering"), int(lookup(options, "trainer.max_steps"))
    seeds = [derive_key(seed, "speedrun", run) for run in range(rules.runs)]
    attempts = [
        Attempt(number, rules.build_data(task, options, numbering), own, budget)
        for number, task in enumerate(rules.tasks)
        for own in seeds
    ]
    stem = re.sub(r"[^A-Za-z0-9-]+", "-", experiment_of(path)).strip("-")[:40] or "entry"
    sweep = to_threshold(f"speedrun-{stem}-{seed}", path, options, attempts)
    plan = sweep.plan(root)
    configs = [plan.config(plan.runs[number * rules.runs], "cost") for number in range(len(rules.tasks))]
    costs = [measure_cost(config, rules.most_parameters, budget + rules.after) for config in configs]
    return Verification(entry, rules, seed, sweep, costs, str(lookup(options, "model.network.class_path")))


def verify(verification: Verification, root: Path, options: list[str]) -> Verified:
    """Train what is missing, and sum up.

    Args:
        verification: From ``prepare``.
        root: Directory of ``lightning_logs`` and ``checkpoints``.
        options: Further options of the command ``sweep``.

    Raises:
        UserError: A run cannot be built.
    """
    first, rules = verification.sweep, verification.rules
    if status := first.run(root, options):
        return Verified(status, [])
    outcomes = first.read(root)
    second = afterwards(first, outcomes, rules.after) if rules.after else None
    if second is not None and (status := second.run(root, options)):
        return Verified(status, [])
    later = [] if second is None else list(zip(second.attempts, second.read(root), strict=True))
    reports = []
    for number, task in enumerate(rules.tasks):
        mine = [outcome for attempt, outcome in zip(first.attempts, outcomes, strict=True) if attempt.task == number]
        again = [outcome for attempt, outcome in later if attempt.task == number] if rules.after else None
        budget = first.attempts[0].max_steps
        reports.append(report_task(task_title(task), verification.costs[number], budget, mine, again, rules.after))
    return Verified(0, reports)
