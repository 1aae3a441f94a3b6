"""The compiled step: the same training, and never an eager one in silence."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from torch._dynamo.utils import counters

from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.hardware.compilation import cache_tag
from grok_lightning.module import GrokModule
from grok_lightning.records.record import read_metrics

# dynamo's and inductor's own imports and traces use what torch itself deprecates
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
Command = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
def test_compiled_follows_eager_and_resumes_to_the_bit(command: Command) -> None:
    counters["aot_autograd"].clear()
    options = [*TINY, "--experiment", "e", "--model.network.dropout", "0.1", "--model.compile"]
    for run, more in (("eager", ["--model.compile", "false"]), ("whole", []), ("part", [])):
        budget = 15 if run == "part" else 40
        status, _, err = command("fit", *options, "--run", run, "--trainer.max_steps", budget, *more)
        assert (status, err) == (0, "")
    status, _, err = command(
        "fit", "--experiment", "e", "--run", "part", "--ckpt_path", "last", "--trainer.max_steps", 40
    )
    assert (status, err) == (0, "")
    eager, whole, part = (read_metrics(Path(f"lightning_logs/e/{run}")) for run in ("eager", "whole", "part"))
    assert whole == part
    for left, right in zip(eager, whole, strict=True):
        assert left["val/loss"] == pytest.approx(right["val/loss"], rel=1e-4)
    # torch's cache on disk can hold the graph, for the workers of a sweep; otherwise it would be bypassed
    cache = counters["aot_autograd"]
    assert cache["autograd_cache_bypass"] == 0
    assert cache["autograd_cache_saved"] + cache["autograd_cache_hit"] >= 1


TRICKS = {
    "transformer": ["--model.loss", "stablemax", "--model.loss_on", "equation", "--data.tokenizer", "characters"],
    "LSTM": ["--model.network", "LSTM", "--model.network.width", "8", "--model.loss", "mse"],
    "MLP": ["--model.network", "MLP", "--model.network.width", "8", "--model.network.activation", "square"],
}


@pytest.mark.slow
@pytest.mark.parametrize("options", TRICKS.values(), ids=TRICKS)
def test_every_model_and_what_is_within_a_step_compile(command: Command, options: list[str]) -> None:
    common = [*TINY[:4], *TINY[10:], "--experiment", "e", "--trainer.max_steps", "6", "--trainer.precision", "64-true"]
    common += ["--model.weight_noise", "0.01", "--model.network.dropout", "0.1", "--model.network.layers", "1"]
    if options[0] == "--model.network":
        common = common[:-2]
    for run in ("eager", "compiled"):
        more = ["--model.compile"] if run == "compiled" else []
        status, _, err = command("fit", *common, *options, "--run", run, *more)
        assert (status, err) == (0, "")
    eager, compiled = (read_metrics(Path(f"lightning_logs/e/{run}"))[-1] for run in ("eager", "compiled"))
    assert compiled == pytest.approx(eager, rel=1e-6)


@pytest.mark.slow
def test_a_second_compilation_is_an_error(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ModularArithmeticDataModule.training_batches

    def growing(self: ModularArithmeticDataModule, device: torch.device, step: int, steps: int) -> Any:
        for own in range(step, step + steps):
            self.batch_size, self._batches = 16 + own // 3, {}
            yield from whole(self, device, own, 1)

    monkeypatch.setattr(ModularArithmeticDataModule, "training_batches", growing)
    small = [*TINY[:4], *TINY[10:], "--model.network", "MLP", "--model.network.width", "8"]
    status, _, err = command("fit", *small, "--trainer.max_steps", "8", "--model.compile")
    assert status == 1
    assert "was compiled 2 times instead of once" in err
    assert "leave model.compile out" in err


def test_what_cannot_be_compiled_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ModularArithmeticDataModule(modulus=7, batch_size=8)
    module = GrokModule(data.vocabulary_size, data.length, data.answer_length, compile=True)
    monkeypatch.setattr(
        type(module.network), "forward", lambda self, tokens, length, draw, beginnings: print("a break in the graph")
    )
    batch = data.training_batch(0, torch.device("cpu"))
    with pytest.raises(Exception, match=r"(?i)graph break|unsupported"):
        module._training_losses(batch.tokens_RBT, batch.targets_RBA, batch.beginnings, None)


def test_one_compilation_too_many_is_an_error() -> None:
    torch._dynamo.reset()
    data = ModularArithmeticDataModule(modulus=7, batch_size=8)
    module = GrokModule(data.vocabulary_size, data.length, data.answer_length, compile=True)
    batch = data.training_batch(0, torch.device("cpu"))
    compiled = torch.compile(module._losses, fullgraph=True, dynamic=False, backend="eager")
    beginnings = batch.beginnings
    tokens, targets = batch.tokens_RBT[:, :1], batch.targets_RBA[:, :1]

    def steps_of_ever_new_sizes() -> None:
        for rows in range(1, 5):
            compiled(tokens.expand(-1, rows, -1), targets.expand(-1, rows, -1), beginnings, None)

    with torch._dynamo.config.patch(recompile_limit=2), pytest.raises(Exception, match=r"(?i)recompile|fullgraph"):
        steps_of_ever_new_sizes()
    torch._dynamo.reset()


SHARED_CACHE = """
import torch
from grok_lightning.hardware.compilation import share_caches
share_caches()
function = torch.compile(lambda x: ((2 * x + 1).relu().sum(-1), 3 * torch.arange(97) + x.shape[0]))
sums, numbers = function(torch.arange(33 * 70.0).reshape(33, 70) % 7)
assert sums.tolist() == [2 * sum((70 * row + i) % 7 for i in range(70)) + 70 for row in range(33)], sums
assert numbers.tolist() == [3 * i + 33 for i in range(97)], numbers
print(torch.backends.cpu.get_cpu_capability())
"""


@pytest.mark.slow
def test_cached_code_is_not_used_on_a_cpu_with_other_vectors(tmp_path: Path) -> None:
    other = "avx2" if torch.backends.cpu.get_cpu_capability() == "AVX512" else "default"
    for capability in (None, other):
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
        environment |= {"ATEN_CPU_CAPABILITY": capability} if capability else {}
        done = subprocess.run([sys.executable, "-c", SHARED_CACHE], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_key_of_the_caches_has_vectors_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_tag()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert cache_tag() != before
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "VEC")
    assert "VEC 77" in cache_tag()
