"""A run trains the same in a stack as alone, whatever its neighbors do."""

import functools
import pickle
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from scoring import score

from grok_lightning.callbacks.pace import Pace
from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.errors import UserError
from grok_lightning.models import Transformer
from grok_lightning.module import GrokModule
from grok_lightning.optim import AdamW

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),
]

SEEDS, STEPS = [7, 0, 2], 15
NETWORK = {"layers": 1, "width": 16, "heads": 2, "dropout": 0.1}
HYPERPARAMETERS = {
    "shared": {},
    "own rates and decays": {"lr": [1e-2, 3e-3, 1e-3], "weight_decay": [0.0, 1.0, 0.1]},
    "own training rows": {"train_fraction": [0.3, 0.6, 0.5]},
    "all their own": {
        "lr": [1e-2, 3e-3, 1e-3],
        "weight_decay": [0.0, 1.0, 0.1],
        "train_fraction": [0.3, 0.6, 0.5],
        "split_seed": [5, 5, 6],
    },
    "own formulas": {"formula": ["x / y", "x + y", "x * y"]},
    "own formulas, beginnings shared": {"formula": ["x / y", "x + y", "x * y"], "network": NETWORK | {"dropout": 0.0}},
    "own formulas and wrong answers": {"formula": ["x - y", "x / y", "x - y"], "answer_noise": 0.3},
    "own formulas in characters": {"formula": ["x / y", "x + y", "x - y"], "tokenizer": "characters"},
    "own shares": {
        "formula": ["x + y", "x * y", "x / y"],
        "val_fraction": [0.3, 0.5, 0.4],
        "commutative_fraction": [0.0, 0.5, 0.2],
    },
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine two threads wait for each other: 2 to 9 s instead of 0.2 for 30 steps this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Losses(Callback):
    """Keeps each run's mean loss at each training step."""

    def __init__(self) -> None:
        self.per_step = []

    def on_train_start(self, trainer, module) -> None:
        module.network.register_forward_hook(self._keep)

    def _keep(self, network, inputs, logits) -> None:
        self._logits = logits.detach()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.per_step.append(score(self._logits, batch.targets_RBA).loss / batch.whole)


def trained(seeds=SEEDS, precision="64-true", steps=STEPS, lr=1e-2, weight_decay=0.5, network=NETWORK, **data_options):
    """Weights by name and losses (steps, R) of a stack trained through the Trainer."""
    data = ModularArithmeticDataModule(**({"modulus": 11, "batch_size": 16, "seeds": seeds} | data_options))
    module = GrokModule(
        data.vocabulary_size,
        data.length,
        data.answer_length,
        seeds,
        data.padded,
        network=functools.partial(Transformer, **network),
        optimizer=functools.partial(AdamW, lr=lr, weight_decay=weight_decay),
        warmup=5,
    )
    losses = Losses()
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        precision=precision,
        callbacks=[losses],
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    assert trainer.global_step == steps
    return module, torch.stack(losses.per_step)


def own(options, run):
    return {name: value[run] if isinstance(value, list) else value for name, value in options.items()}


IN_OTHERS = {"own rates and decays", "own training rows", "own formulas", "own shares"}  # the rest shows them too


@pytest.mark.parametrize(
    "options",
    [pytest.param(own, marks=pytest.mark.slow) if name in IN_OTHERS else own for name, own in HYPERPARAMETERS.items()],
    ids=HYPERPARAMETERS,
)
def test_each_run_of_a_stack_equals_its_single_run(options) -> None:
    stack, losses = trained(**options)
    assert (losses[0] != losses[-1]).all()
    for run, seed in enumerate(SEEDS):
        single, own_losses = trained([seed], **own(options, run))
        torch.testing.assert_close(losses[:, run], own_losses[:, 0], rtol=1e-9, atol=1e-9)
        for name, weight in single.network.named_parameters():
            torch.testing.assert_close(stack.network.get_parameter(name)[run], weight[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "network", [{"norm": "post", "positions": "sinusoidal"}, {"norm": "none", "tied": True}], ids=str
)
def test_other_networks_train_alike_in_a_stack(network) -> None:
    stack, _ = trained(network=NETWORK | network)
    single, _ = trained(SEEDS[1:2], network=NETWORK | network)
    for name, weight in single.network.named_parameters():
        torch.testing.assert_close(stack.network.get_parameter(name)[1], weight[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_a_diverging_run_leaves_its_neighbors_alone(precision) -> None:
    spoiled, losses = trained(precision=precision, lr=[1e-2, 1e30, 1e-3])
    calm, calm_losses = trained(precision=precision, lr=[1e-2, 0.0, 1e-3])
    assert not losses[-1, 1].isfinite()
    assert torch.equal(losses[:, [0, 2]], calm_losses[:, [0, 2]])
    for name, weight in spoiled.network.named_parameters():
        assert torch.equal(weight[[0, 2]], calm.network.get_parameter(name)[[0, 2]])
    first = int((~losses[:, 1].isfinite()).nonzero()[0])
    assert spoiled.diverged_at_R.tolist() == [-1, first, -1]
    assert calm.diverged_at_R.tolist() == [-1, -1, -1]


def test_training_repeats_exactly() -> None:
    one, losses = trained(precision="32-true")
    torch.rand(100)
    again, same_losses = trained(precision="32-true")
    assert torch.equal(losses, same_losses)
    for name, weight in one.network.named_parameters():
        assert torch.equal(weight, again.network.get_parameter(name))


def test_the_rate_rises_over_the_warmup_from_zero() -> None:
    untouched = Transformer(13, 4, SEEDS, **NETWORK).double()
    after_one, _ = trained(steps=1)
    after_two, _ = trained(steps=2)
    for name, weight in untouched.named_parameters():
        assert torch.equal(after_one.network.get_parameter(name), weight)
    head = after_two.network.get_parameter("head.weight") - untouched.head.weight * (1 - 1e-2 / 5 * 0.5)
    # both gradients so far are those of unchanged weights, so an element moves by the rate at most, about
    assert 0 < head.abs().max() < 1.5 * 1e-2 / 5


def test_the_network_learns_its_training_rows() -> None:
    module, losses = trained(steps=400, weight_decay=0.0, network=NETWORK | {"dropout": 0.0}, batch_size="full")
    assert (losses[-1] < 0.1 * losses[0]).all()
    assert module.network.training


def test_a_negative_warmup_is_refused() -> None:
    with pytest.raises(UserError, match=r"^model\.warmup is -1"):
        GrokModule(13, 4, 1, warmup=-1)


def test_a_module_pickles_and_leaves_nothing_of_a_fit_to_the_next() -> None:
    data = ModularArithmeticDataModule(modulus=11, batch_size=16, seeds=[0])
    module = GrokModule(
        data.vocabulary_size, data.length, data.answer_length, network=functools.partial(Transformer, **NETWORK)
    )
    assert pickle.loads(pickle.dumps(module)).runs == 1
    for _ in range(2):
        checkpoints = Mock(next_boundary=lambda step: step + 7, signals=Mock(received=0))
        trainer = Trainer(
            max_steps=20, max_epochs=-1, accelerator="cpu", callbacks=[Pace(checkpoints, [])], val_check_interval=1,
            check_val_every_n_epoch=None, limit_val_batches=0, num_sanity_val_steps=0, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.val_check_batch = 1000
        trainer.fit(module, data)
        assert trainer.global_step == 20
        assert module._updates.optimizer is trainer.optimizers[0]
        assert module.steps_ahead() == 0
