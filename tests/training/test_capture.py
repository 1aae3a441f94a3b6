"""A captured step, replayed, does what steps taken one by one do."""

import copy
import functools
from contextlib import nullcontext

import pytest
import torch
from recorded import RecordedGraph, calls_that_take_their_time

from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.models import GRU, LSTM, MLP, ResidualMLP, Transformer, attention, recurrent, stacked, transformer
from grok_lightning.module import GrokModule
from grok_lightning.optim import (
    L2,
    AdamW,
    Clip,
    ClipRows,
    Egalitarian,
    GradientNoise,
    GrokfastEMA,
    Muon,
    NormalizeColumns,
    OrthogonalGradient,
)
from grok_lightning.optim.rates import RateSchedule
from grok_lightning.training.updates import BLOCK_STEPS, CapturedUpdates, Updates

__all__ = ["calls_that_take_their_time"]
STEPS = BLOCK_STEPS + 7
SEEDS = (3, 1)
CPU = torch.device("cpu")
CONFIGURATIONS = {
    "transformer": {},
    "two layers, dropout, rms": {"network": functools.partial(Transformer, layers=2, dropout=0.1, normalization="rms")},
    "post-norm, rotary, tied": {"network": functools.partial(Transformer, norm="post", positions="rotary", tied=True)},
    "no biases, swiglu": {"network": functools.partial(Transformer, bias=False, activation="swiglu")},
    "MLP": {"network": functools.partial(MLP, width=8, hidden=[16])},
    "residual MLP": {"network": functools.partial(ResidualMLP, width=8, layers=2, embedding_rank=3)},
    "one-hot MLP": {"network": functools.partial(MLP, inputs="one-hot", hidden=[16]), "loss": "mse"},
    "LSTM": {"network": functools.partial(LSTM, width=8, hidden=8)},
    "GRU": {"network": functools.partial(GRU, width=8, hidden=8), "loss": "stablemax"},
    "a rate each": {"optimizer": functools.partial(AdamW, lr=[1e-2, 1e-3], weight_decay=[0.0, 1.0])},
    "decay to the start": {"optimizer": functools.partial(AdamW, lr=1e-2, decay="initial")},
    "jiggle, a rate each": {"optimizer": functools.partial(AdamW, lr=[1e-2, 1e-3], decay="jiggle")},
    "L2, a rate each": {"optimizer": functools.partial(AdamW, lr=[1e-2, 1e-3], decay="l2")},
    "update noise": {"optimizer": functools.partial(AdamW, lr=1e-3, update_noise=1.0)},
    "Muon": {"optimizer": functools.partial(Muon, lr=[0.02, 0.01], momentum=[0.95, 0.9])},
    "weight noise": {"weight_noise": [0.01, 0.1]},
    "filters": {"filters": [GrokfastEMA(), OrthogonalGradient(), Clip([1.0, 0.1]), GradientNoise([0.1, 0.0], 0.5)]},
    "the loss of the equation": {"loss_on": "equation"},
    "a kept norm": {"weight_norm": [3.0, 4.0]},
    "a largest norm, clipped rows": {"weight_norm": {"at_most": [9.0, 14.0]}, "constraints": [ClipRows([0.5, 1.0])]},
    "normalized columns": {"filters": [L2([1e-4, 0.1]), NormalizeColumns([0.01, 0.1])]},
}
every_configuration = pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


def built(options, device=CPU, seeds=SEEDS):
    """A module on a device, and the updates of its network."""
    torch.manual_seed(0)
    data = ModularArithmeticDataModule(modulus=7, batch_size=12, seeds=seeds)
    options = {"network": functools.partial(Transformer, layers=1), "optimizer": AdamW} | copy.deepcopy(options)
    if issubclass(options["network"].func, Transformer):
        options["network"] = functools.partial(options["network"], width=16, heads=2)
    module = GrokModule(data.vocabulary_size, data.length, data.answer_length, list(seeds), **options).to(device)
    optimizer = module.new_optimizer(module.network.named_parameters())
    updates = Updates(
        module.network, module._losses, optimizer, module.filters, list(seeds),
        module._constrain, RateSchedule(optimizer, factor), nullcontext,
    )  # fmt: skip
    return module, updates, data


def factor(step):
    return min(1.0, step / 10) * (1 - step / 200)


def test_a_filter_that_waits_for_the_device_is_not_captured() -> None:
    assert built({"filters": [NormalizeColumns()]})[1].can_be_captured()
    assert not built({"filters": [Egalitarian()]})[1].can_be_captured()


def weights_after(options, steps, graph=None, seeds=SEEDS):
    module, updates, data = built(options, seeds=seeds)
    batches = functools.partial(data.training_batches, CPU)
    taken = updates if graph is None else CapturedUpdates(updates, graph)
    losses, step = [], 0
    for end in (1, 2, steps):  # several calls, as the Trainer makes them
        while step < end:
            losses += taken.many(step, end - step, batches, lambda: False)
            step = len(losses)
    return module.network.state_dict(), torch.stack(losses)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The ways that models take where launches count, on a CPU."""
    for module in (stacked, attention, transformer, recurrent):
        monkeypatch.setattr(module, "on_cpu", lambda x: False)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler:UserWarning")
@pytest.mark.usefixtures("as_on_a_gpu")
@every_configuration
def test_replays_equal_steps_one_by_one(options) -> None:
    graph = RecordedGraph()
    expected, losses = weights_after(options, STEPS)
    found, replayed = weights_after(options, STEPS, graph)
    assert graph.replays == STEPS - graph.rehearsals > BLOCK_STEPS
    torch.testing.assert_close(replayed, losses.to(replayed), rtol=1e-4, atol=1e-5)
    for name, weight in expected.items():
        if name.endswith("key.bias"):
            continue  # no loss depends on it: its gradient is rounding, which the optimizer scales up
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_what_fused_kernels_read_is_float32_whatever_the_default_type(dtype) -> None:
    _, updates, data = built({})
    captured = CapturedUpdates(updates, RecordedGraph())
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        captured.many(0, 2, functools.partial(data.training_batches, CPU), lambda: False)
    finally:
        torch.set_default_dtype(before)
    assert captured._factor_T.dtype == torch.float32
    assert updates.optimizer.factor is None


def test_steps_left_out_between_calls_are_left_out_on_the_device_too() -> None:
    _, updates, data = built({})
    batches = functools.partial(data.training_batches, CPU)
    captured = CapturedUpdates(updates, RecordedGraph())
    captured.many(0, 5, batches, lambda: False)
    captured.many(9, 1, batches, lambda: False)
    assert (int(captured._step), int(captured._place)) == (10, 1)


def test_large_batches_lie_on_the_device_in_short_blocks(monkeypatch) -> None:
    monkeypatch.setattr("grok_lightning.training.updates.BLOCK_ROWS", 60)
    _, updates, data = built({})
    captured = CapturedUpdates(updates, RecordedGraph())
    losses = captured.many(0, 11, functools.partial(data.training_batches, CPU), lambda: False)
    assert (len(losses), len(captured._tokens_SRBT)) == (11, 60 // (2 * 12))


@pytest.mark.parametrize("captured", [False, True])
def test_a_call_takes_one_step_at_least_however_late_it_is(captured, monkeypatch) -> None:
    monkeypatch.setattr("grok_lightning.training.updates.CALL_SECONDS", -1.0)
    _, updates, data = built({})
    taken = CapturedUpdates(updates, RecordedGraph()) if captured else updates
    batches = functools.partial(data.training_batches, CPU)
    assert [len(taken.many(step, 9, batches, lambda: True)) for step in range(3)] == [1, 1, 1]
