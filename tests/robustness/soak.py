#!/usr/bin/env python
"""Trains for long, kills, limits and disturbs, and compares what is left with undisturbed runs.

One line for each experiment says what was done; the exit status is 1 if one of them found a defect. With less time
there are fewer repetitions, and each line says how many. Linux only.

    python tests/robustness/soak.py                       ten minutes
    python tests/robustness/soak.py --minutes 1 --only kills twice --seed 7
"""

import argparse
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp

import soak_hardships
import soak_runs
import soak_sweeps
import torch
from experiments import TINY, Trial
from processes import Hang
from trials import leave_out_pictures

EXPERIMENTS: dict[str, tuple[Callable[[Trial], None], float]] = {  # and their shares of the time
    "long": (soak_runs.long_run, 14),
    "kills": (soak_runs.kills, 22),
    "sweep": (soak_sweeps.killed_sweep, 30),
    "edited": (soak_sweeps.edited, 5),
    "signals": (soak_hardships.signals, 5),
    "sweep-signals": (soak_sweeps.hung_up, 4),
    "limits": (soak_hardships.limits, 8),
    "twice": (soak_runs.twice, 3),
    "numbers": (soak_runs.numbers, 2),
    "claims": (soak_runs.claims, 1),
    "end": (soak_runs.at_the_end, 1),
    "lost": (soak_runs.lost_records, 1),
    "removed": (soak_hardships.logs_removed, 2),
    "pipes": (soak_hardships.pipes, 2),
    "optimized": (soak_hardships.optimized, 2),
    "clock": (soak_hardships.clock, 2),
    "sweep-clock": (soak_sweeps.sweep_clock, 3),
}
WHOLE = 600.0  # seconds in which all of it is done


def run(name: str, seconds: float, number: int, where: Path) -> Trial:
    """Runs one experiment.

    Args:
        name: Its name.
        seconds: About how long it may take.
        number: Seed.
        where: A directory for it.
    """
    experiment, share = EXPERIMENTS[name]
    whole = WHOLE * share / sum(each for _, each in EXPERIMENTS.values())
    trial = Trial(where / name, seconds, random.Random(f"{number} {name}"), seconds / whole)
    trial.where.mkdir(parents=True)
    try:
        experiment(trial)
    except Hang as error:
        trial.note(str(error))
    except Exception as error:  # the program left something that the experiment did not expect
        place = traceback.extract_tb(error.__traceback__)[-1]
        trial.note(f"{type(error).__name__} in {place.name}: {str(error)[:200]}")
    return trial


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="about how long all of it may take")
    parser.add_argument(
        "--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), metavar="NAME", help=", ".join(EXPERIMENTS)
    )
    parser.add_argument("--seed", type=int, default=None, help="of moments and choices; default: another one each time")
    parser.add_argument("--keep", action="store_true", help="leave the directories of experiments that found something")
    options = parser.parse_args()
    number = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    where = Path(mkdtemp(prefix="soak-")).resolve()
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"seed {number}", flush=True)
    import_everything(where)
    shares = sum(EXPERIMENTS[name][1] for name in options.only)
    failed = 0
    for name in options.only:
        began = time.monotonic()
        trial = run(name, 60 * options.minutes * EXPERIMENTS[name][1] / shares, number, where)
        failed += bool(trial.defects)
        word = "DEFECT" if trial.defects else "ok"
        print(f"{word:6} {name}: {'; '.join(trial.figures)} ({time.monotonic() - began:.0f} s)", flush=True)
        for defect in trial.defects[:12]:
            print(f"       - {defect}", flush=True)
        if not (options.keep and trial.defects):
            shutil.rmtree(trial.where, ignore_errors=True)
    print(f"{failed} of {len(options.only)} experiments found defects" if failed else "no defect")
    if options.keep and failed:
        print(f"what they left is in {where}")
    else:
        shutil.rmtree(where, ignore_errors=True)
    return 1 if failed else 0


def import_everything(where: Path) -> None:
    """Imports what commands need, for the processes that are forked from this one."""
    from grok_lightning.__main__ import main as command

    torch.set_num_threads(1)
    leave_out_pictures()
    where.mkdir(exist_ok=True)
    here = os.getcwd()
    os.chdir(where)
    for arguments in (
        ["generate", "--help"],
        ["sweep", "--help"],
        ["report", "--help"],
        ["fit", *TINY, "--print_config"],
    ):
        with redirect_stdout(StringIO()), suppress(SystemExit):
            command(arguments)
    os.chdir(here)


if __name__ == "__main__":
    sys.exit(main())
