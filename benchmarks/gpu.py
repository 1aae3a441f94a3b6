"""What only a GPU can show, in one run of under nine minutes: speed, captured steps, stacks, precisions, resuming.

    python benchmarks/gpu.py [--accelerator gpu] [--sizes 1 8 64 256 1024] [--seconds 8] [--out gpu.json]

For each precision and size of stack a real fit of a stack is timed, with its evaluations, records and checkpoints, and
beside it a plain loop of one run. Printed as it goes, and written as JSON lines: run-steps a second, the ratio to the
plain loop, whether steps were captured as a CUDA graph, peak memory. At the end a run that was stopped and resumed is
compared with one that was not, and a captured fit with one that takes its steps one by one.
"""

import argparse
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from products import seconds
from throughput import PlainLoop

from grok_lightning.cli import quiet
from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.fit import Fit
from grok_lightning.options.parsing import resolve, resolve_fit
from grok_lightning.records.record import read_metrics
from grok_lightning.sweep.plan.stack import Stack, build_fit
from grok_lightning.training import updates

PRECISIONS = {"fp32": "32-true", "TF32": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"}
LIMIT = 9 * 60


class Timed(Exception):
    """Ends a fit that has been watched for long enough."""


def stack_of(root: Path, size: int, precision: str, accelerator: str, layers: int) -> Stack:
    """A stack of runs of ``x + y`` that differ in their seeds."""
    given = {
        "model": {"network": {"layers": layers}, "compile": False},
        "trainer": {"precision": precision, "accelerator": accelerator, "max_steps": 1_000_000},
    }
    config, _ = resolve_fit(given)
    configs = [config | {"seed_everything": seed, "experiment": "gpu", "run": f"{seed}"} for seed in range(size)]
    return Stack(str(root), "gpu", configs, [f"{seed:016x}" for seed in range(size)], events=False)


def rate_of(stack: Stack, limit: float) -> tuple[float, bool]:
    """Run-steps a second of a fit, its first 2 seconds and 500 steps left out, and whether its steps were captured."""
    seen: list[tuple[float, int]] = []
    begun = time.monotonic()

    def tell(step: int, **_: Any) -> None:
        now = time.monotonic()
        if (now - begun > 2 and step >= 500) or now - begun > limit / 2:
            seen.append((now, step))
        if now - begun > limit and len(seen) > 1:
            raise Timed

    fit = build_fit(stack, tell)
    with suppress(Timed):
        fit.run()
    (first, before), (last, after) = seen[0], seen[-1]
    return len(stack.configs) * (after - before) / (last - first), fit.cli.model._captured is not None


def measure(options: argparse.Namespace, name: str, size: int, device: torch.device) -> dict[str, Any]:
    """One fit of a stack beside a plain loop."""
    torch.set_float32_matmul_precision("high" if name == "TF32" else "highest")
    data = ModularArithmeticDataModule()
    plain = PlainLoop(data, options.layers, 128, device)
    seconds(plain.step, device, 20)
    with torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16-mixed"):
        loop = 1 / seconds(plain.step, device, 200 if device.type == "cuda" else 5)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        stack = stack_of(Path(folder), size, PRECISIONS[name], options.accelerator, options.layers)
        rate, captured = rate_of(stack, options.seconds)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    return {
        "precision": name, "size": size, "run_steps_per_second": round(rate, 1), "plain_loop": round(loop, 1),
        "ratio": round(rate / loop, 2), "captured": captured, "peak_gib": peak and round(peak, 2),
    }  # fmt: skip


def rows_after(folder: str, options: argparse.Namespace, *budgets: int) -> list[Any]:
    """The evaluations of a run that was stopped at each of several budgets but the last, and resumed."""
    common = ["--trainer.default_root_dir", folder, "--trainer.accelerator", options.accelerator]
    common += ["--trainer.enable_progress_bar", "false"]
    name = "-".join(map(str, budgets))
    for place, budget in enumerate(budgets):
        more = ["--experiment", "gpu", "--run", name, "--trainer.max_steps", str(budget), *common]
        Fit(resolve(["fit", *(["--ckpt_path", "last"] if place else []), *more])).run()
    return read_metrics(Path(folder) / "lightning_logs" / "gpu" / name)


def largest_difference(left: list[Any], right: list[Any]) -> float:
    """The largest relative difference of training losses."""
    return max(abs(a["train/loss"] - b["train/loss"]) / a["train/loss"] for a, b in zip(left, right, strict=True))


def main() -> None:
    """Measures everything that fits into the time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--accelerator", default="gpu")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 8, 64, 256, 1024])
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8, help="of each fit")
    parser.add_argument("--steps", type=int, default=600, help="of the runs that are compared")
    parser.add_argument("--out", default=os.path.join(os.environ.get("OUT", "."), "gpu.jsonl"))
    options = parser.parse_args()
    quiet()
    begun = time.monotonic()
    device = torch.device("cuda" if options.accelerator == "gpu" else "cpu")
    with open(options.out, "w", encoding="utf-8") as file:

        def say(**found: Any) -> None:
            line = json.dumps(found | {"at": round(time.monotonic() - begun)})
            print(line, flush=True)
            file.write(line + "\n")
            file.flush()

        say(device=torch.cuda.get_device_name() if device.type == "cuda" else "CPU", torch=torch.__version__)
        with tempfile.TemporaryDirectory() as folder:
            half, whole = options.steps // 2, options.steps
            undisturbed, resumed = rows_after(folder, options, whole), rows_after(folder, options, half, whole)
            say(resumed_is_identical=undisturbed == resumed, difference=largest_difference(undisturbed, resumed))
            again = updates.CAPTURED_STEPS
            updates.CAPTURED_STEPS = 10**9
            one_by_one = rows_after(folder, options, whole - 1)
            updates.CAPTURED_STEPS = again
            say(one_by_one=largest_difference(undisturbed[: len(one_by_one) - 1], one_by_one[:-1]))
        for size in options.sizes:
            for name in options.precisions:
                if time.monotonic() - begun > LIMIT - 3 * options.seconds:
                    say(left_out=f"{name}, {size}")
                elif name != "16-mixed" or (
                    device.type == "cuda" and size == 1
                ):  # its scaler mixes the runs of a stack
                    try:
                        say(**measure(options, name, size, device))
                    except Exception as error:  # the next ones may go well
                        say(precision=name, size=size, error=f"{type(error).__name__}: {str(error)[:300]}")


if __name__ == "__main__":
    main()
