"""Training speed of ``fit`` against the loop that a good student would write, alternating in one process.

    python benchmarks/throughput.py [--segments 4] [--steps 200] [--warm 1000] [--accelerator auto] [--layers 2]

For each of fp32 eager and bf16-mixed compiled, ``fit`` runs with its defaults: evaluation, logging and checkpoints on.
Between its segments it is held while (a) the plain fp32 loop and (b) the bare model and optimizer of ``fit`` run a
segment of their own. Printed are medians over segments and ratios within the run; compilation is told apart. Segments
begin at step 1,000, where the dense first points of the logarithmic evaluation schedule are past; the rate of the
steps before is printed too.
"""

import argparse
import copy
import os
import platform
import statistics
import tempfile
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from peak import peak_gib
from torch import Tensor, nn

from grok_lightning.cli import GrokCLI, quiet
from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.models import Beginnings
from grok_lightning.models.stacked import Draw


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
    """Holds ``fit`` after each of its segments while the rivals run theirs."""

    def __init__(self, cli: GrokCLI, plain: PlainLoop, steps: int, warm: int) -> None:
        self.cli, self.plain, self.steps, self.warm = cli, plain, steps, warm
        self.seconds: dict[str, list[float]] = {"fit": [], "plain": [], "bare": [], "evaluation": []}
        self.early: dict[int, float] = {}
        self.begun = self.evaluated = self.evaluation_begun = 0.0
        self.bare: Any = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.evaluation_begun = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.evaluated += time.perf_counter() - self.evaluation_begun

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # a step begins here: whatever an earlier step left to do (evaluation, logging, saving) belongs to its segment
        step = trainer.global_step
        if step in (5, self.warm):
            self.early[step] = time.perf_counter()
        if step < self.warm or (step - self.warm) % self.steps:
            return
        _wait(pl_module.device)
        if step > self.warm:
            self.seconds["fit"].append((time.perf_counter() - self.begun) / self.steps)
            self.seconds["evaluation"].append(self.evaluated / self.steps)
        if self.bare is None:
            self.bare = _bare_step(self.cli, trainer, pl_module)
            for _ in range(5):
                self.bare()
                self.plain.step()
        for name, run in (("plain", self.plain.step), ("bare", self.bare)):
            _wait(pl_module.device)
            begun = time.perf_counter()
            for _ in range(self.steps):
                run()
            _wait(pl_module.device)
            self.seconds[name].append((time.perf_counter() - begun) / self.steps)
        self.evaluated, self.begun = 0.0, time.perf_counter()


def _bare_step(cli: GrokCLI, trainer: Trainer, module: Any) -> Any:
    """Model and optimizer of ``fit`` on a copy of its weights and one batch, without anything around them."""
    network = copy.deepcopy(module.network)
    twin = copy.copy(module)
    object.__setattr__(twin, "_modules", {**module._modules, "network": network})
    score = torch.compile(twin._step, fullgraph=True, dynamic=False) if module.compiled else twin._step
    optimizer = module.build_optimizer(network.parameters())
    batch = cli.datamodule.training_batch(0, module.device)
    draw = Draw(torch.tensor(0, device=module.device))
    beginnings = Beginnings(batch.beginnings_PS, batch.beginning_RB)

    def step() -> None:
        with trainer.precision_plugin.forward_context():
            loss = (score(batch.tokens_RBT, batch.targets_RBA, beginnings, draw).loss / batch.whole).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(options: argparse.Namespace, precision: str, compiled: bool) -> tuple[float, float]:
    """Runs one configuration, prints its figures and returns steps/s of fit and of the plain loop."""
    warm = options.warm
    with tempfile.TemporaryDirectory() as folder:
        cli = GrokCLI(
            ["fit", "--trainer.default_root_dir", folder, "--trainer.precision", precision,
             "--model.compile", str(compiled).lower(), "--trainer.accelerator", options.accelerator,
             "--trainer.max_steps", str(warm + options.segments * options.steps + 1),
             "--model.network.layers", str(options.layers), "--model.network.width", str(options.width),
             "--trainer.enable_progress_bar", "false"]
        )  # fmt: skip
        device = cli.trainer.strategy.root_device
        alternation = Alternation(
            cli, PlainLoop(cli.datamodule, options.layers, options.width, device), options.steps, warm
        )
        callbacks: list[Callback] = cli.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.insert(0, alternation)
        begun = time.perf_counter()
        cli.execute()
        total = time.perf_counter() - begun
        compile_seconds = cli.recorder._compile_seconds
    median = {name: statistics.median(values) for name, values in alternation.seconds.items()}
    pairs = zip(alternation.seconds["fit"], alternation.seconds["plain"], strict=False)
    ratios = sorted(plain / fit for fit, plain in pairs)
    outside = [
        1 - (bare + evaluation) / fit
        for fit, bare, evaluation in zip(
            alternation.seconds["fit"], alternation.seconds["bare"], alternation.seconds["evaluation"], strict=False
        )
    ]
    rates = {name: 1 / seconds for name, seconds in median.items() if seconds}
    print(f"{precision} {'compiled' if compiled else 'eager'}")
    print(f"  fit {rates['fit']:.1f} steps/s, plain fp32 loop {rates['plain']:.1f}")
    print(f"  ratio {statistics.median(ratios):.2f} (segments from {ratios[0]:.2f} to {ratios[-1]:.2f})")
    early = (warm - 5) / (alternation.early[warm] - alternation.early[5])
    print(f"  fit before step {warm:,}, with its dense evaluations: {early:.1f} steps/s")
    print(f"  bare model and optimizer {rates['bare']:.1f} steps/s")
    print(f"  evaluation {median['evaluation'] / median['fit']:.1%} of a step")
    print(f"  other overhead outside model and optimizer {statistics.median(outside):.1%} of a step")
    print(f"  compilation {compile_seconds:.1f} s, told apart from {total:.0f} s in all", flush=True)
    return 1 / median["fit"], 1 / median["plain"]


def main() -> None:
    """Measures both configurations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200, help="steps a segment")
    parser.add_argument("--warm", type=int, default=1000, help="steps before the first segment")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=128)
    options = parser.parse_args()
    quiet()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}")
    measure(options, "32-true", False)
    measure(options, "bf16-mixed", True)
    print(f"peak memory of this process: {peak_gib():.2f} GiB")


if __name__ == "__main__":
    main()
