"""What it takes to read all results of many runs: seconds and peak memory, each in a process of its own.

    python benchmarks/records.py [--runs 100000] [--changed 100]

One real run of 20 steps is varied as a sweep would vary it (seeds, fractions, decays; some runs did not grok, some diverged,
some failed), and each run gets its directory and ``result.json`` under a temporary directory. Then: building the index
from nothing; reading everything with a fresh index, three columns of it, and with ``read_records``; reading after some runs have
changed. Files are read from the page cache: they have just been written. The time includes Python's start and imports,
which are printed too.
"""

import argparse
import copy
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEEDS = 500


def real_result(directory: Path) -> dict[str, Any]:
    """What a real run of a few steps wrote."""
    subprocess.run(
        [sys.executable, "-m", "grok_lightning", "fit", "--config", "addition", "--trainer.max_steps", "20"]
        + ["--trainer.default_root_dir", str(directory)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (path,) = directory.glob("lightning_logs/*/*/result.json")
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def varied(result: dict[str, Any], run: int) -> dict[str, Any]:
    """The result of one run of the sweep."""
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
        return {"status": "failed", "error": error, "traceback": f"{error}\n" * 30, "final": {}, "best": None} | {
            key: result[key] if key in ("versions", "config", "config_hash") else None
            for key in result
            if key not in ("status", "final", "best")
        }
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
    for run in runs:
        directory = experiment / name(run)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "result.json").write_text(json.dumps(varied(result, run + salt), indent=2) + "\n")


def measured(code: str, experiment: Path) -> None:
    """Prints what an expression costs in a fresh process."""
    setup = "from pathlib import Path; from grok_lightning.index import read_records, refresh"
    program = f"""import time, resource
started = time.perf_counter(); before = time.process_time()
{setup}
imported = time.perf_counter(); directory = Path({str(experiment)!r})
table = {code}
ended = time.perf_counter(); usage = resource.getrusage(resource.RUSAGE_SELF)
print(f"{{ended - imported:8.2f}} s {{usage.ru_maxrss / 2**20:8.2f}} GB  {{len(table):,}} x {{len(table.columns)}}", end="  ")
print(f"(imports {{imported - started:.2f}} s, all in all {{time.process_time():.2f}} CPU seconds)")
"""
    print(f"{code:60}", end="", flush=True)
    subprocess.run([sys.executable, "-c", program], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--changed", type=int, default=100)
    parser.add_argument("--directory")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(arguments.directory or scratch)
        experiment = top / "lightning_logs" / "sweep"
        result = real_result(Path(scratch))
        started = time.perf_counter()
        if not experiment.exists(): write(experiment, result, range(arguments.runs))
        print(f"generated in {time.perf_counter() - started:.0f} s")
        (experiment / ".sweep" / "index.parquet").unlink(missing_ok=True)
        measured("refresh(directory)", experiment)
        print("index", (experiment / ".sweep/index.parquet").stat().st_size / 2**20)
        measured("refresh(directory)", experiment)
        measured("refresh(directory, ['status', 'grok_step', 'config.seed_everything'])", experiment)
        measured("read_records(directory.parent)", experiment)
        write(experiment, result, range(arguments.changed), salt=int(time.time()))
        measured("refresh(directory)", experiment)
        write(experiment, result, range(arguments.changed), salt=int(time.time()))
        measured("refresh(directory, ['status', 'grok_step', 'config.seed_everything'])", experiment)


if __name__ == "__main__":
    main()
