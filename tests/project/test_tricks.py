"""What the module does around a step: noise, norms, filters, losses and schedules, in a stack and alone."""

import functools
import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.errors import UserError
from grok_lightning.models import MLP, Transformer
from grok_lightning.module import GrokModule
from grok_lightning.optim import AdamW, Clip, GradientNoise, GrokfastEMA, GrokfastMean, Muon, OrthogonalGradient
from grok_lightning.training.noise import add_noise
from grok_lightning.training.norms import weight_norm

pytestmark = [pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")]
SEEDS = [7, 0, 2]
NETWORK = functools.partial(Transformer, layers=1, width=16, heads=2)


def fitted(
    seeds: list[int] = SEEDS,
    steps: int = 12,
    callback: Callback | None = None,
    network: Any = NETWORK,
    data: dict[str, Any] | None = None,
    **options: Any,
) -> GrokModule:
    """A stack after some steps."""
    table = ModularArithmeticDataModule(**({"modulus": 11, "batch_size": 16, "seeds": seeds} | (data or {})))
    module = GrokModule(
        table.vocabulary_size,
        table.length,
        table.answer_length,
        seeds,
        network=network,
        **({"optimizer": functools.partial(AdamW, lr=1e-2), "warmup": 2} | options),
    )
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        precision="64-true",
        callbacks=[callback] if callback else [],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, table)
    return module


def own(options: dict[str, Any], run: int) -> dict[str, Any]:
    """One run's share of options that hold a list for the stack."""
    return {name: [value[run]] if isinstance(value, list) else value for name, value in options.items()}


def assert_run_equals(stack: GrokModule, run: int, single: GrokModule) -> None:
    for name, weight in single.network.named_parameters():
        torch.testing.assert_close(stack.network.get_parameter(name)[run], weight[0], rtol=1e-9, atol=1e-9)


TRICKS: dict[str, dict[str, Any]] = {  # several at once: each would show
    "noise, own norms, stablemax": {
        "weight_noise": [0.0, 0.01, 0.1],
        "weight_norm": [3.0, 4.0, 5.0],
        "loss": "stablemax",
    },
    "initial norm, whole equation masked, cosine": {
        "weight_norm": "initial",
        "loss_on": "equation",
        "mask_first_n": 2,
        "schedule": "cosine",
    },
    "squared error of the whole equation": {"loss": "mse", "loss_on": "equation"},
}


@pytest.mark.parametrize("options", TRICKS.values(), ids=TRICKS)
def test_each_run_of_a_stack_equals_its_single_run(options: dict[str, Any]) -> None:
    stack = fitted(**options)
    plain = fitted()
    assert any(
        not torch.allclose(weight, plain.network.get_parameter(name), rtol=0, atol=1e-6)
        for name, weight in stack.network.named_parameters()
    )
    for run, seed in enumerate(SEEDS):
        assert_run_equals(stack, run, fitted([seed], **own(options, run)))


FILTERS: dict[str, dict[str, Any]] = {
    "mean": {"filters": lambda run: [GrokfastMean(window=4, strength=_pick([1.0, 5.0, 2.0], run))]},
    "all": {
        "filters": lambda run: [
            GradientNoise(std=_pick([0.0, 0.1, 0.2], run)),
            GrokfastEMA(alpha=_pick([0.9, 0.98, 0.5], run), strength=_pick([1.0, 2.0, 3.0], run)),
            OrthogonalGradient(),
            Clip(norm=_pick([0.1, 1.0, 10.0], run)),
        ]
    },
}


def _pick(values: list[float], run: int | None) -> Any:
    return values if run is None else [values[run]]


@pytest.mark.parametrize("options", FILTERS.values(), ids=FILTERS)
def test_filters_work_run_by_run(options: dict[str, Any]) -> None:
    stack = fitted(filters=options["filters"](None))
    for run, seed in enumerate(SEEDS):
        assert_run_equals(stack, run, fitted([seed], filters=options["filters"](run)))


OPTIMIZERS = {
    "muon": functools.partial(Muon, lr=[0.02, 0.1, 0.05], weight_decay=[0.0, 0.3, 1.0]),
    "decay to initial": functools.partial(AdamW, lr=[1e-2, 1e-3, 1e-2], decay="initial"),
    "jiggle": functools.partial(AdamW, lr=1e-2, weight_decay=[0.1, 1.0, 3.0], decay="jiggle"),
    "update noise": functools.partial(AdamW, lr=1e-2, update_noise=[0.0, 0.1, 1.0]),
}


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(optimizer, marks=pytest.mark.slow) if name in ("decay to initial", "update noise") else optimizer
        for name, optimizer in OPTIMIZERS.items()
    ],
    ids=OPTIMIZERS,
)
def test_optimizers_work_run_by_run(optimizer: Any) -> None:
    stack = fitted(optimizer=optimizer)
    for run, seed in enumerate(SEEDS):
        alone = functools.partial(optimizer.func, **own(optimizer.keywords, run))
        assert_run_equals(stack, run, fitted([seed], optimizer=alone))


class Watch(Callback):
    """Notes something of the module at each step."""

    def __init__(self, look: Any) -> None:
        self.look = look
        self.seen: list[Any] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(self.look(module))


def test_weight_noise_leaves_the_weights_as_they_are() -> None:
    still = fitted(steps=3, weight_noise=0.5, optimizer=functools.partial(AdamW, lr=0.0))
    for name, weight in NETWORK(12 + 1, 4, SEEDS).double().named_parameters():
        assert torch.equal(still.network.get_parameter(name), weight)


def test_weight_noise_is_fresh_at_each_step_and_has_its_deviation() -> None:
    module = fitted(steps=1, weight_noise=0.5)
    draws = []
    for step in (3, 4):
        noisy = add_noise(module.network, module.noise_keys_R, module.noise_std_R, torch.tensor(step))
        draws.append(
            torch.cat([(noisy[n] - w).detach().flatten(1) for n, w in module.network.named_parameters()], dim=1)
        )
    count = draws[0][0].numel()
    for draw in draws:
        assert draw.mean().abs() < 4 * 0.5 / math.sqrt(3 * count)
        assert draw.std().item() == pytest.approx(0.5, rel=5 / math.sqrt(3 * count))
    assert abs(float((draws[0] * draws[1]).mean())) < 0.25 * 4 / math.sqrt(3 * count)
    assert abs(float((draws[0][0] * draws[0][1]).mean())) < 0.25 * 4 / math.sqrt(count)


def test_the_norm_of_all_weights_stays() -> None:
    watch = Watch(lambda module: weight_norm(module.network))
    fitted(weight_norm="initial", callback=watch)
    free = Watch(lambda module: weight_norm(module.network))
    fitted(callback=free)
    for norms in watch.seen:
        torch.testing.assert_close(norms, watch.seen[0], rtol=1e-12, atol=0)
    assert (free.seen[-1] / free.seen[0] - 1).abs().min() > 1e-3


def test_a_number_sets_the_norm_from_the_first_step_on() -> None:
    module = fitted(steps=1, weight_norm=3.5)
    torch.testing.assert_close(weight_norm(module.network), torch.full((3,), 3.5).double(), rtol=1e-12, atol=0)


def rates(steps: int, **options: Any) -> list[float]:
    watch = Watch(lambda module: module.optimizers().param_groups[0]["lr"])
    fitted(steps=steps, callback=watch, **options)
    return watch.seen


def test_the_schedules() -> None:
    assert rates(5, warmup=2) == [0.0, 0.005, 0.01, 0.01, 0.01]  # of the rate 0.01
    assert rates(3, warmup=0) == [0.01, 0.01, 0.01]
    half = [0.005 * (1 + math.cos(math.pi * done / 8)) for done in range(8)]
    assert rates(10, warmup=2, schedule="cosine") == pytest.approx([0.0, 0.005, *half], rel=1e-12)


def test_torch_optimizers_take_the_stack() -> None:
    stack = fitted(optimizer=functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True))
    assert_run_equals(
        stack, 1, fitted([0], optimizer=functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True))
    )


CONTRADICTIONS = [
    ({"mask_first_n": 4}, "model.mask_first_n is 4; of 4 predictions at least 1 must count"),
    ({"mask_first_n": -1}, "model.mask_first_n is -1"),
    ({"weight_noise": -0.1}, "model.weight_noise is -0.1"),
    ({"weight_noise": [0.1, 0.2]}, "model.weight_noise has 2 values for a stack of 3"),
    ({"weight_norm": 0.0}, "model.weight_norm is 0.0"),
    ({"weight_norm": float("nan")}, "model.weight_norm is nan"),
    ({"network": MLP, "loss_on": "equation"}, "model.loss_on is equation, but MLP"),
]


def test_contradictions_are_refused() -> None:
    for options, message in CONTRADICTIONS:
        with pytest.raises(UserError, match=message):
            GrokModule(13, 4, 1, SEEDS, **options)
