"""A fit ends when, and only when, every run has diverged."""

from unittest.mock import Mock

import pytest
import torch

from grok_lightning.callbacks.guards import LOOK_EVERY, Diverged, DivergenceGuard


def look(diverged_at: list[int], device: str = "cpu", step: int = 7) -> None:
    module = Mock(device=torch.device(device), diverged_at_R=torch.tensor(diverged_at))
    DivergenceGuard().on_train_batch_end(Mock(global_step=step), module, None, None, 0)


@pytest.mark.parametrize("diverged_at", [[-1], [-1, -1], [5, -1], [-1, 0]])
def test_a_run_whose_loss_is_finite_keeps_the_fit_going(diverged_at: list[int]) -> None:
    look(diverged_at)


@pytest.mark.parametrize(("diverged_at", "step"), [([0], 0), ([6], 6), ([3, 6, 5], 6)])
def test_the_fit_ends_with_the_last_step_at_which_a_run_diverged(diverged_at: list[int], step: int) -> None:
    with pytest.raises(Diverged, match=f"at step {step}$") as caught:
        look(diverged_at)
    assert caught.value.step == step


def test_a_gpu_is_looked_at_only_now_and_then() -> None:
    for step in range(1, LOOK_EVERY):
        look([0], "cuda", step)
    with pytest.raises(Diverged):
        look([0], "cuda", LOOK_EVERY)
