"""Every trick on short runs, three seeds each: what docs/science/tricks.md shows.

Runs are ordinary ``fit`` runs, one after another; a run that has its result is not repeated, so the script can be
stopped and started again. ``--table`` only reads the results.

    python benchmarks/tricks.py [--only NAME ...] [--seeds 0 1 2] [--table]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

SEEDS = (0, 1, 2)
COMMON = "--trainer.enable_progress_bar false --evaluation.stop_after 3"
TRANSFORMER = (
    "--data.formula x+y --model.network.layers 1 --trainer.precision bf16-mixed --trainer.max_steps 2000 "
    "--evaluation.every 50 --evaluation.per_decade 0"
)
ONE_HOT = (
    "--config prieto2025/orthogonal-gradient --trainer.max_steps 2000 --evaluation.every 20 --evaluation.per_decade 0 "
    "--model.filters []"
)
QUADRATIC = (
    "--config gromov2023/quadratic-mlp --trainer.max_steps 2000 --evaluation.every 20 --evaluation.per_decade 0 "
    "--measures []"
)
NO_DECAY = "--model.optimizer.weight_decay 0"
TRICKS = {
    # name: (what it is laid over, options)
    "baseline": (TRANSFORMER, ""),
    "no-decay": (TRANSFORMER, NO_DECAY),
    "decay-initial": (TRANSFORMER, "--model.optimizer.decay initial"),
    "jiggle": (TRANSFORMER, "--model.optimizer.decay jiggle"),
    "l2": (TRANSFORMER, "--model.optimizer.decay l2 --model.optimizer.weight_decay 0.005"),
    "update-noise": (TRANSFORMER, f"{NO_DECAY} --model.optimizer.update_noise 1"),
    "weight-noise": (TRANSFORMER, f"{NO_DECAY} --model.weight_noise 0.01"),
    "gradient-noise": (TRANSFORMER, f"{NO_DECAY} --model.filters GradientNoise"),
    "dropout": (TRANSFORMER, f"{NO_DECAY} --model.network.dropout 0.1"),
    "clip": (TRANSFORMER, "--model.filters Clip --model.filters.norm 0.1"),
    "grokfast-ema": (TRANSFORMER, "--model.filters GrokfastEMA"),
    "grokfast-mean": (TRANSFORMER, "--model.filters GrokfastMean"),
    "grokfast-ema-l2": (
        TRANSFORMER,
        "--model.optimizer.decay l2 --model.optimizer.weight_decay 0.005 --model.filters GrokfastEMA",
    ),
    "muon": (TRANSFORMER, "--model.optimizer Muon --model.optimizer.weight_decay 0.5"),
    "whole-equation": (TRANSFORMER, "--model.loss_on equation"),
    "cosine": (TRANSFORMER, "--model.schedule cosine"),
    "answer-noise": (TRANSFORMER, "--data.answer_noise 0.1 --data.answer_noise_kind uniform"),
    "rotary": (TRANSFORMER, "--model.network.positions rotary"),
    "rms-norm": (TRANSFORMER, "--model.network.normalization rms"),
    "swiglu": (TRANSFORMER, "--model.network.activation swiglu"),
    "no-norm": (TRANSFORMER, "--model.network.norm none"),
    "norm-kept": (TRANSFORMER, f"{NO_DECAY} --model.network.init_scale 0.8 --model.weight_norm initial"),
    "characters": (TRANSFORMER, "--data.tokenizer characters"),
    "lstm": (TRANSFORMER.replace("--model.network.layers 1", "--model.network LSTM"), ""),
    "gru": (TRANSFORMER.replace("--model.network.layers 1", "--model.network GRU"), ""),
    "mlp": (TRANSFORMER.replace("--model.network.layers 1", "--model.network MLP"), ""),
    "one-hot": (ONE_HOT, ""),
    "one-hot-decay": (ONE_HOT.replace("orthogonal-gradient", "one-hot-mlp"), ""),
    "orthogonal": (ONE_HOT.replace(" --model.filters []", ""), ""),
    "stablemax": (ONE_HOT, "--model.loss stablemax"),
    "quadratic": (QUADRATIC, ""),
}


def fit(trick: str, seed: int) -> None:
    """One run, unless it is there already."""
    base, options = TRICKS[trick]
    run = f"{trick}-{seed}"
    if Path("lightning_logs/tricks", run, "result.json").exists():
        return
    command = [sys.executable, "-m", "grok_lightning", "fit", *base.split(), *options.split(), *COMMON.split()]
    command += ["--experiment", "tricks", "--run", run, "--seed_everything", str(seed), "--overwrite"]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8")
    print(f"{run}: {(ended.stdout + ended.stderr).strip().splitlines()[0]}", flush=True)


def table() -> str:
    """One line a trick: steps to memorize and to grok by seed, and the best validation accuracy."""
    lines = ["| trick | memorized at | grokked at | best validation accuracy |", "|---|---|---|---|"]
    for trick in TRICKS:
        results = [
            json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(Path("lightning_logs/tricks").glob(f"{trick}-[0-9]*/result.json"))
        ]
        if results:
            columns = [
                ", ".join(_shown(result["memorize_step"], result) for result in results),
                ", ".join(_shown(result["grok_step"], result) for result in results),
                ", ".join(f"{100 * result['best']['val/acc']:.1f}" for result in results),
            ]
            lines.append(f"| {trick} | {' | '.join(columns)} |")
    return "\n".join(lines)


def _shown(step: int | None, result: dict[str, object]) -> str:
    if step is not None:
        return f"{step:,}"
    return "diverged" if result["status"] == "diverged" else f"> {result['budget']:,}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TRICKS, default=list(TRICKS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    if not asked.table:
        for trick in asked.only:
            for seed in asked.seeds:
                fit(trick, seed)
    print(table())
