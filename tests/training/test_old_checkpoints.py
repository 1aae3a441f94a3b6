"""Checkpoints of version 0.1.0, which used automatic optimization, resume at the step where they were saved."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.models import Transformer
from grok_lightning.module import GrokModule

AUTOMATIC = "epoch_loop.automatic_optimization.optim_progress"
MANUAL = "epoch_loop.manual_optimization.optim_step_progress"
STEPS = 5


def fitted(steps: int, checkpoint: Path | None = None) -> tuple[Trainer, GrokModule]:
    data = ModularArithmeticDataModule(modulus=7, batch_size=8, seeds=[0])
    network = functools.partial(Transformer, layers=1, width=8, heads=2)
    module = GrokModule(data.vocabulary_size, data.length, data.answer_length, network=network, warmup=2)
    trainer = Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", limit_val_batches=0, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=checkpoint)
    return trainer, module


def as_automatic_optimization_saved_it(checkpoint: dict[str, Any]) -> None:
    """Puts the count of optimizer steps where version 0.1.0 has it, and none where it is now."""
    loop = checkpoint["loops"]["fit_loop"]
    count = loop[MANUAL]
    assert count["total"]["completed"] == STEPS
    loop[AUTOMATIC]["optimizer"]["step"] = count
    loop[MANUAL] = {part: dict.fromkeys(numbers, 0) for part, numbers in count.items()}


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")
@pytest.mark.parametrize("old", [True, False])
def test_a_resumed_run_counts_on_and_equals_an_uninterrupted_one(old: bool, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    trainer, _ = fitted(STEPS)
    trainer.save_checkpoint(path)
    if old:
        checkpoint = torch.load(path, weights_only=False)
        as_automatic_optimization_saved_it(checkpoint)
        torch.save(checkpoint, path)
    resumed, module = fitted(2 * STEPS, path)
    _, whole = fitted(2 * STEPS)
    assert resumed.global_step == 2 * STEPS
    assert resumed.fit_loop.epoch_loop.total_batch_idx == 2 * STEPS - 1  # no step was taken twice
    for name, weight in whole.network.named_parameters():
        assert torch.equal(module.network.get_parameter(name), weight)
