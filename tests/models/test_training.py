"""Networks other than the transformer train the same in a stack as alone."""

import functools

import pytest
import torch
from lightning.pytorch import Trainer

from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.models import GRU, LSTM, MLP
from grok_lightning.module import GrokModule
from grok_lightning.optim import AdamW

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")

SEEDS = [7, 0, 2]
NETWORKS = [
    functools.partial(MLP, width=8, hidden=[16, 12], dropout=0.1),
    functools.partial(MLP, inputs="one-hot", hidden=[16], activation="square", bias=False, dropout=0.1),
    functools.partial(LSTM, width=8, hidden=12, dropout=0.1),
    functools.partial(GRU, width=8, hidden=12, dropout=0.1),
    functools.partial(GRU, width=8, hidden=12, layers=1),
]
every_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda part: f"{part.func.__name__} {part.keywords}")


def trained(network, seeds, lr, steps=20, precision="64-true", **data_options):
    """The weights of a stack trained through the Trainer."""
    data = ModularArithmeticDataModule(modulus=7, batch_size=16, seeds=seeds, **data_options)
    module = GrokModule(
        data.vocabulary_size,
        data.length,
        data.answer_length,
        seeds,
        network=network,
        optimizer=functools.partial(AdamW, lr=lr, weight_decay=0.5),
        warmup=5,
    )
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        precision=precision,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return {name: weight.detach() for name, weight in module.network.named_parameters()}


@every_network
def test_each_run_of_a_stack_trains_as_alone(network) -> None:
    rates = [1e-2, 3e-3, 1e-3]
    start = dict(network(9, 4, SEEDS).named_parameters())
    stack = trained(network, SEEDS, rates)
    for run, (seed, rate) in enumerate(zip(SEEDS, rates, strict=True)):
        alone = trained(network, [seed], rate)
        for name, weight in alone.items():
            torch.testing.assert_close(stack[name][run], weight[0], rtol=1e-9, atol=1e-9)
            assert (stack[name][run] != start[name][run]).any()


@every_network
@pytest.mark.parametrize("precision", [pytest.param("32-true", marks=pytest.mark.slow), "bf16-mixed"])
def test_a_diverging_run_leaves_its_neighbors_alone(network, precision) -> None:
    spoiled, calm = (trained(network, SEEDS, [1e-2, rate, 1e-3], precision=precision) for rate in (1e30, 0.0))
    assert not all(weight[1].isfinite().all() and weight[1].abs().max() < 1e6 for weight in spoiled.values())
    for name, weight in spoiled.items():
        assert torch.equal(weight[[0, 2]], calm[name][[0, 2]])
