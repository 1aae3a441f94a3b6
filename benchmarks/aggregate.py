"""Run-steps per second of a whole sweep against the best plain loop on all of the machine's threads.

    python benchmarks/aggregate.py [--precision auto] [--segments 4] [--seconds 20] [--layers 2] [--width 128]

A real sweep (compiled, with evaluations, checkpoints and records) runs in the background. Its workers are held
(SIGSTOP) while the plain loops have the machine to themselves, and the other way round, in turns. Printed are medians
over segments and ratios within the run: to the plain loops, and to what as many processes reach with the matrix
products of a step alone. Also printed: when each worker took its first step.
"""

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import yaml
from products import Products, products_of
from throughput import PlainLoop

from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.hardware.process import cores
from grok_lightning.models import Transformer
from grok_lightning.module import GrokModule
from grok_lightning.records.notices import read_notices
from grok_lightning.sweep.places import Places

SWEEP = """\
set:
  data.formula: x / y
  model.network: {{class_path: Transformer, layers: {layers}, width: {width}}}
  trainer: {{max_steps: 1000000, precision: {precision}}}
  model.compile: true
grid: {{seed_everything: 0..{last}}}
"""
WARM = 400


def _notices(places: Places) -> dict[str, dict[str, Any]]:
    return read_notices(places.notices)


def _hold(places: Places, signum: int) -> None:
    for name in _notices(places):
        os.kill(int(Path(name).stem.rpartition("-")[2]), signum)


def _plain_rate(loop: PlainLoop, bf16: bool, seconds: float) -> float:
    """Steps per second of a plain loop on all threads."""
    steps, begun = 0, time.perf_counter()
    while (gone := time.perf_counter() - begun) < seconds:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loop.step()
        steps += 1
    return steps / gone


def _sweep_rate(places: Places, seconds: float) -> float:
    """Run-steps per second of all workers, from what they say of themselves within the time."""
    time.sleep(2)  # until each has spoken after the pause
    before = _notices(places)
    time.sleep(seconds)
    after = _notices(places)
    rates = [
        after[name]["runs"] * (after[name]["step"] - old["step"]) / (after[name]["time"] - old["time"])
        for name, old in before.items()
    ]
    return sum(rates)


def measure(options: argparse.Namespace) -> None:
    """Runs the comparison and prints it."""
    with tempfile.TemporaryDirectory() as folder:
        runs = options.workers * options.stack_size
        file = Path(folder) / "aggregate.yaml"
        text = SWEEP.format(layers=options.layers, width=options.width, last=runs - 1, precision=options.precision)
        file.write_text(text, encoding="utf-8", newline="\n")
        command = [sys.executable, "-m", "grok_lightning", "sweep", str(file), "--root", folder, "--keep", "none"]
        command += ["--workers", str(options.workers), "--stack-size", str(options.stack_size)]
        sweep = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        places = Places(Path(folder), "aggregate")
        try:
            _compare(options, places, sweep)
        finally:
            _hold(places, signal.SIGCONT)
            sweep.terminate()
            sweep.wait()


def _products_of_a_step(options: argparse.Namespace, precision: str) -> Products:
    """The matrix products of a step of one run, forward and backward."""
    data = ModularArithmeticDataModule("x / y")
    network = partial(Transformer, layers=options.layers, width=options.width)
    module = GrokModule(data.vocabulary_size, data.length, data.answer_length, network=network)
    batch = data.training_batch(0, torch.device("cpu"))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            losses_R = module._losses(batch.tokens_RBT, batch.targets_RBA, batch.beginnings, None)
        losses_R.sum().backward()

    return products_of(step)


def _product_rate(products: Products, seconds: float) -> float:
    """How often a second one thread computes the products of a step and nothing else."""
    torch.set_num_threads(1)
    compute = products.alone(torch.device("cpu"))
    compute()
    done, begun = 0, time.perf_counter()
    while (gone := time.perf_counter() - begun) < seconds:
        compute()
        done += 1
    return done / gone


def _first_steps(places: Places, sweep: "subprocess.Popen[bytes]", workers: int) -> dict[str, float]:
    """Seconds until each worker has taken its first step."""
    begun, first = time.perf_counter(), dict[str, float]()
    while len(first) < workers:
        for name, notice in _notices(places).items():
            if notice["step"] >= 1:
                first.setdefault(name, time.perf_counter() - begun)
        time.sleep(0.2)
        if sweep.poll() is not None:
            raise RuntimeError("the sweep has ended too early")
    return first


def _compare(options: argparse.Namespace, places: Places, sweep: "subprocess.Popen[bytes]") -> None:
    waits = sorted(_first_steps(places, sweep, options.workers).values())
    print(f"  first steps after {', '.join(f'{wait:.0f}' for wait in waits)} s, compilation included", flush=True)
    while min(notice["step"] for notice in _notices(places).values()) < WARM:
        time.sleep(0.5)
    config = yaml.safe_load(next(places.logs.glob("*/config.yaml")).read_text(encoding="utf-8"))
    precision = config["trainer"]["precision"]
    data = ModularArithmeticDataModule("x / y")
    data.set_batch_size(512)
    loops = {bf16: PlainLoop(data, options.layers, options.width, torch.device("cpu")) for bf16 in (False, True)}
    products = _products_of_a_step(options, precision)
    rates: dict[str, list[float]] = {"sweep": [], "plain fp32": [], "plain bf16": [], "products": []}
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for _ in range(options.segments):
            _hold(places, signal.SIGSTOP)
            for bf16, loop in loops.items():
                _plain_rate(loop, bf16, 1)
                rates["plain bf16" if bf16 else "plain fp32"].append(_plain_rate(loop, bf16, options.seconds / 2))
            at_once = pool.map(_product_rate, *zip(*[(products, options.seconds / 4)] * options.workers, strict=True))
            rates["products"].append(sum(at_once))
            _hold(places, signal.SIGCONT)
            rates["sweep"].append(_sweep_rate(places, options.seconds))
    print(f"  precision {precision}, {products.operations / 1e9:.2f} GFLOP of products a step")
    for name, values in rates.items():
        print(f"  {name}: {statistics.median(values):.1f} run-steps/s ({min(values):.1f} to {max(values):.1f})")
    rates["the faster plain loop"] = [max(pair) for pair in zip(rates["plain fp32"], rates["plain bf16"], strict=True)]
    for name in ("plain fp32", "the faster plain loop", "products"):
        ratios = [sweep / other for sweep, other in zip(rates["sweep"], rates[name], strict=True)]
        print(f"  {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times {name}")


def main() -> None:
    """Measures with the options given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--precision", default="auto", choices=["auto", "32-true", "bf16-mixed"])
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20, help="of each segment")
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--stack_size", type=int, default=1)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(cores())
    print(f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}, Python {platform.python_version()}")
    print(f"a sweep of {options.workers} workers, stacks of {options.stack_size}")
    measure(options)


if __name__ == "__main__":
    main()
