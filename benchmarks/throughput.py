"""Training speed of ``fit`` against the loop that a good student would write, alternating in one process.

    python benchmarks/throughput.py [--precision 32-true bf16-mixed] [--layers 1 2] [--eager] [--segments 4]

``fit`` runs as users run it: evaluations every 100 steps, records, checkpoints. After each of its segments it is held,
while its rivals run: the plain loop in fp32, and under bf16 autocast where ``fit`` is in bf16-mixed. Printed are
ratios: medians over segments, and their range. Segments begin at step 1,000, where the dense first points of the
logarithmic evaluation schedule are past. Within a segment the time of model and optimizer is told apart from what is
around them and from evaluations, their records included. One evaluation is timed against its matrix products.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from peak import peak_gib
from products import products_of, seconds, wait
from torch import Tensor, nn

from grok_lightning.callbacks.pace import Pace
from grok_lightning.cli import quiet
from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.fit import Fit
from grok_lightning.hardware.process import keep_freed_memory
from grok_lightning.options.parsing import resolve
from grok_lightning.training.evaluation import table_pass


class PlainTransformer(nn.Module):
    """The same decoder-only transformer as a script would have it: one run, torch's layers, all positions."""

    def __init__(self, vocabulary: int, length: int, layers: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Parameter(0.1 * torch.randn(length, width))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(width),
                    "qkv": nn.Linear(width, 3 * width),
                    "out": nn.Linear(width, width),
                    "norm2": nn.LayerNorm(width),
                    "inner": nn.Linear(width, 4 * width),
                    "outer": nn.Linear(4 * width, width),
                }
            )
            for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("mask", torch.ones(length, length, dtype=torch.bool).triu(1))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        x = self.tokens(tokens_BT) + self.positions
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            parts = block["qkv"](block["norm1"](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            query, key, value = parts
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            mixed = scores.masked_fill(self.mask, -torch.inf).softmax(-1) @ value
            x = x + block["out"](mixed.transpose(1, 2).flatten(2))
            x = x + block["outer"](torch.relu(block["inner"](block["norm2"](x))))
        logits: Tensor = self.head(self.norm(x))
        return logits


class PlainLoop:
    """A textbook loop: shuffled index batches, forward over all positions, torch's AdamW."""

    def __init__(self, data: ModularArithmeticDataModule, layers: int, width: int, device: torch.device) -> None:
        self.model = PlainTransformer(data.vocabulary_size, data.length, layers, width).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=1.0, betas=(0.9, 0.98))
        rows = torch.from_numpy(data.splits[0].train)
        self.tokens = torch.from_numpy(data.tokenizer.prompts(data.operation.operands_NK))[rows].to(device)
        self.answers = torch.from_numpy(data.operation.results_N)[rows].to(device)
        self.size = data.batch_size

    def step(self) -> None:
        rows = torch.randint(len(self.tokens), (self.size,), device=self.tokens.device)
        loss = nn.functional.cross_entropy(self.model(self.tokens[rows])[:, -1], self.answers[rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Alternation(Callback):
    """Holds ``fit`` after each of its segments while the rivals run theirs.

    Args:
        fit: The fit.
        layers: Of its transformer.
        segments: How many are timed.
        steps: Of a segment, a multiple of the steps between evaluations.
        warm: Steps before the first.
    """

    def __init__(self, fit: Fit, layers: int, segments: int, steps: int, warm: int) -> None:
        self.fit, self.layers, self.segments, self.steps, self.warm = fit, layers, segments, steps, warm
        self.seconds: dict[str, list[float]] = {}
        self.rivals: dict[str, Any] = {}
        self.evaluated = self.updated = self.begun = self.evaluation_begun = 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.evaluation_begun = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # calls begin where evaluations end: what an earlier step left to do (logging, saving) belongs to its segment
        if self.evaluation_begun:
            self.evaluated += time.perf_counter() - self.evaluation_begun
            self.evaluation_begun = 0.0
        step = trainer.global_step
        if step < self.warm or (step - self.warm) % self.steps:
            return
        device = pl_module.device
        wait(device)
        if step > self.warm:
            self._note("fit", (time.perf_counter() - self.begun) / self.steps)
            self._note("evaluations", self.evaluated / self.steps)
            self._note("model and optimizer", self.updated / self.steps)
        else:
            self._prepare(trainer, pl_module)
        for name, (function, calls) in self.rivals.items():
            self._note(name, seconds(function, device, calls))
        self.evaluated, self.updated, self.begun = 0.0, 0.0, time.perf_counter()

    def _note(self, name: str, value: float) -> None:
        self.seconds.setdefault(name, []).append(value)

    def _prepare(self, trainer: Trainer, module: Any) -> None:
        data, device = self.fit.cli.datamodule, module.device
        update = module._updates.update

        def timed(*batch: Any) -> Tensor:
            begun = time.perf_counter()
            loss_R: Tensor = update(*batch)
            self.updated += time.perf_counter() - begun
            return loss_R

        module._updates.update = timed
        plain = PlainLoop(data, self.layers, 128, device)
        self.rivals = {"plain fp32": (plain.step, self.steps // 2)}
        if trainer.precision == "bf16-mixed":
            other = PlainLoop(data, self.layers, 128, device)

            def under_autocast() -> None:
                with torch.autocast(device.type, torch.bfloat16):
                    other.step()

            self.rivals["plain bf16"] = (under_autocast, self.steps // 2)
        table = data.table(device)

        def evaluation() -> None:
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                table_pass(module.network, table, module.targets)

        self.products = products_of(evaluation)
        self.rivals |= {"evaluation": (evaluation, 3), "its products": (self.products.alone(device), 3)}
        for function, _ in self.rivals.values():
            for _ in range(3):
                function()


def measure(options: argparse.Namespace, precision: str, layers: int) -> None:
    """Runs one configuration and prints its figures."""
    compiled = not options.eager
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            "fit", "--trainer.default_root_dir", folder, "--trainer.precision", precision,
            "--model.compile", str(compiled).lower(), "--trainer.accelerator", options.accelerator,
            "--trainer.max_steps", str(options.warm + options.segments * options.steps + 1),
            "--model.network.layers", str(layers), "--evaluation.every", "100",
            "--trainer.enable_progress_bar", "false",
        ]  # fmt: skip
        fit = Fit(resolve(arguments))
        alternation = Alternation(fit, layers, options.segments, options.steps, options.warm)
        callbacks: list[Callback] = fit.cli.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.insert(0, alternation)
        (pace,) = (each for each in callbacks if isinstance(each, Pace))
        pace.own.append(alternation)  # it looks at calls, not at steps
        fit.run()
        compilation = fit.cli.recorder._compile_seconds
    found = alternation.seconds
    kind = "compiled" if compiled else "eager"
    print(f"{layers} layer{'s' * (layers > 1)}, {precision}, {kind}: {1 / statistics.median(found['fit']):.1f} steps/s")
    for name in ("plain fp32", "plain bf16"):
        if name in found:
            rate = 1 / statistics.median(found[name])
            print(f"  {_ratio(found[name], found['fit'])} times the {name} loop ({rate:.1f} steps/s)")
    outside = [fit - ours for fit, ours in zip(found["fit"], found["evaluations"], strict=True)]
    inside = found["model and optimizer"]
    around = [step - update for step, update in zip(outside, inside, strict=True)]
    print(f"  {_ratio(around, inside, 1)} of model and optimizer around them, evaluations aside")
    print(f"  {_ratio(found['evaluations'], outside, 1)} of the training for evaluations, every 100 steps")
    rate = alternation.products.operations / statistics.median(found["its products"]) / 1e9
    print(
        f"  an evaluation takes {1000 * statistics.median(found['evaluation']):.0f} ms, "
        f"{_ratio(found['evaluation'], found['its products'])} times its products "
        f"({alternation.products.operations / 1e9:.1f} GFLOP at {rate:.0f} GFLOP/s)"
    )
    if compiled:
        print(f"  compilation {compilation:.1f} s", flush=True)


def _ratio(upper: list[float], lower: list[float], digits: int = 2) -> str:
    ratios = sorted(a / b for a, b in zip(upper, lower, strict=False))
    if digits == 1:
        return f"{statistics.median(ratios):.1%} ({ratios[0]:.1%} to {ratios[-1]:.1%})"
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def main() -> None:
    """Measures every configuration asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--precision", nargs="+", default=["32-true"], choices=["32-true", "bf16-mixed"])
    parser.add_argument("--layers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--eager", action="store_true", help="do not compile")
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200, help="of a segment, a multiple of 100")
    parser.add_argument("--warm", type=int, default=1000, help="steps before the first segment, a multiple of 100")
    parser.add_argument("--accelerator", default="auto")
    options = parser.parse_args()
    keep_freed_memory()
    quiet()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}")
    for precision in options.precision:
        for layers in options.layers:
            measure(options, precision, layers)
    print(f"peak memory of this process: {peak_gib()}")


if __name__ == "__main__":
    main()
