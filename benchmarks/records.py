"""What it takes to read the results of many runs: seconds and peak memory, each in a process of its own.

    python benchmarks/records.py [--runs 100000] [--changed 100] [--reported 10000]

The result of one real run of 20 steps is varied as a sweep would vary it (seeds, fractions, decays; runs that did not
grok, that diverged, that failed), and each run gets a directory and a ``result.json`` under a temporary directory. Then
the index is built from nothing; everything, and three columns, are read with a fresh index; and again after some runs
have changed. The files are in the page cache, for they have just been written. Imports do not count in seconds, but in
CPU seconds and in memory.

Last come reports on runs with curves of 60 evaluations, as few large conditions and as many small ones, without an
index and with one, on one core: what the whole command takes.
"""

import argparse
import copy
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEEDS = 500
EVALUATIONS = 60
CURVES = 50  # different ones, of which each run gets one
REPORTS = {"10 conditions": (1, 1), "2,000 conditions": (20, 10)}  # decays and learning rates beside 10 fractions


def real_result(directory: Path) -> dict[str, Any]:
    """What a real run of a few steps wrote."""
    options = ["--config", "addition", "--trainer.max_steps", "20", "--trainer.default_root_dir", str(directory)]
    command = [sys.executable, "-m", "grok_lightning", "fit", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (path,) = directory.glob("lightning_logs/*/*/result.json")
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def varied(result: dict[str, Any], run: int) -> dict[str, Any]:
    """A result as this run of a sweep could have had it; of 100 runs one failed and one diverged."""
    rng = random.Random(run)
    result = copy.deepcopy(result)
    config = result["config"]
    config["seed_everything"], config["run"] = run % SEEDS, name(run)
    config["data"]["train_fraction"] = [0.3, 0.4, 0.5, 0.6, 1][run // SEEDS % 5]
    config["model"]["optimizer"]["weight_decay"] = [0, 0.1, 1.0][run // SEEDS // 5 % 3]
    result["config_hash"] = f"{rng.getrandbits(64):016x}"
    kind = rng.random()
    if kind < 0.01:
        error = "RuntimeError: [enforce fail at alloc_cpu.cpp:118] not enough memory"
        known = {key: result[key] for key in ("versions", "config", "config_hash")}
        return dict.fromkeys(result) | known | {"status": "failed", "error": error, "traceback": f"{error}\n" * 30}
    result["status"] = "diverged" if kind < 0.02 else "finished"
    result["steps"] = rng.randrange(20000) if kind < 0.02 else 20000
    if kind > 0.3:
        result["memorize_step"], result["memorize_after"] = 10 * rng.randrange(10, 50), 10 * rng.randrange(10)
        result["grok_step"] = result["sustained_grok_step"] = 100 * rng.randrange(10, 150)
        result["grok_after"] = result["grok_step"] - 100
    result["final"] = {key: rng.random() for key in result["final"]}
    result["best"] = {"val/acc": rng.random(), "step": 100 * rng.randrange(200)}
    result["seconds"], result["steps_per_second"] = round(100 * rng.random(), 3), round(200 * rng.random(), 3)
    return result


def name(run: int) -> str:
    return f"{run:016x}"


def write(experiment: Path, result: dict[str, Any], runs: range, salt: int = 0) -> None:
    """Writes the results of these runs as the recorder would, but leaves it to the system when they reach the disk."""
    for run in runs:
        directory = experiment / name(run)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "result.json").write_text(
            json.dumps(varied(result, run + salt), indent=2) + "\n", encoding="utf-8", newline="\n"
        )


def write_reported(experiment: Path, result: dict[str, Any], runs: int, decays: int, rates: int) -> None:
    """Writes runs with curves, of 10 train fractions, some decays and learning rates, all combined, and seeds."""
    metrics = [key for key in result["final"] if key.startswith(("train", "val", "norm"))]
    tables = [curve(metrics, random.Random(place)) for place in range(CURVES)]
    for run in range(runs):
        record = varied(result, run)
        rest, fraction = divmod(run, 10)
        rest, decay = divmod(rest, decays)
        seed, rate = divmod(rest, rates)
        record["config"]["seed_everything"], record["config"]["data"]["train_fraction"] = seed, (fraction + 1) / 11
        record["config"]["model"]["optimizer"] |= {"weight_decay": decay / 10, "lr": 1e-4 * 2**rate}
        directory = experiment / name(run)
        directory.mkdir(parents=True)
        (directory / "result.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8", newline="\n")
        (directory / "metrics.csv").write_text(tables[run % CURVES], encoding="utf-8", newline="\n")


def curve(metrics: list[str], rng: random.Random) -> str:
    """A ``metrics.csv``."""
    head = ",".join(["step", *metrics])
    steps = [round(1.18**place) + place for place in range(EVALUATIONS)]
    rows = [",".join([str(step), *(repr(rng.random()) for _ in metrics)]) for step in steps]
    return "\n".join([head, *rows, ""])


def reported(what: str, experiment: Path, out: Path) -> None:
    """Prints what a report costs, the start of the program and its imports included."""
    command = [sys.executable, "-m", "grok_lightning", "report", str(experiment), "--out", str(out)]
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after, seconds = os.times(), time.perf_counter() - started
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    size = (out / "runs.parquet").stat().st_size / 2**20
    print(f"{what:45}{seconds:8.2f} s {spent:7.2f} CPU s, runs.parquet {size:.1f} MB", flush=True)


def measured(what: str, expression: str, experiment: Path) -> None:
    """Prints what an expression costs in a fresh process."""
    program = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from peak import peak_gib
from grok_lightning.records.results import read_records, refresh
experiment = Path({str(experiment)!r})
started = time.perf_counter()
table = {expression}
seconds = time.perf_counter() - started
spent, memory = time.process_time(), peak_gib()
print(f"{{seconds:8.2f}} s {{spent:7.2f}} CPU s {{memory:6.2f}} GiB, {{len(table)}} x {{table.shape[1]}}")
"""
    print(f"{what:45}", end="", flush=True)
    subprocess.run([sys.executable, "-c", program], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--changed", type=int, default=100)
    parser.add_argument("--reported", type=int, default=10_000)
    arguments = parser.parse_args()
    everything, some = "refresh(experiment)", "refresh(experiment, ['status', 'grok_step', 'config.seed_everything'])"
    with tempfile.TemporaryDirectory() as scratch:
        result = real_result(Path(scratch) / "real")
        experiment = Path(scratch) / "lightning_logs" / "sweep"
        started = time.perf_counter()
        write(experiment, result, range(arguments.runs))
        print(f"{arguments.runs:,} runs written in {time.perf_counter() - started:.0f} s")
        measured("index from nothing", everything, experiment)
        print(f"it has {(experiment / '.sweep' / 'index.parquet').stat().st_size / 2**20:.1f} MB")
        measured("fresh index, all columns", everything, experiment)
        measured("fresh index, read_records of lightning_logs", "read_records(experiment.parent)", experiment)
        measured("fresh index, 3 columns", some, experiment)
        for salt, (columns, expression) in enumerate((("all columns", everything), ("3 columns", some)), start=1):
            write(experiment, result, range(arguments.changed), salt * arguments.runs)
            measured(f"{arguments.changed} runs changed, {columns}", expression, experiment)
        for what, (decays, rates) in REPORTS.items():
            experiment = experiment.with_name(what.replace(" ", "-"))
            write_reported(experiment, result, arguments.reported, decays, rates)
            for state in ("no index", "fresh index"):
                reported(f"report, {arguments.reported:,} runs, {what}, {state}", experiment, Path(scratch) / "report")


if __name__ == "__main__":
    main()
