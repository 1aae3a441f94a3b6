"""Denormal numbers are zero in training steps and evaluations, and numbers again after them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import TINY

import grok_lightning.module
from grok_lightning.hardware.denormals import flush_denormals
from grok_lightning.hardware.products import threads
from grok_lightning.training.updates import Updates


def flushed(number: float = 1e-40, count: int = 1) -> bool:
    """Whether a product that is denormal becomes zero, in all places of a large tensor."""
    zero = (torch.full((count,), number) * 1 == 0).tolist()
    assert len(set(zero)) == 1
    return zero[0]


def test_they_are_flushed_inside_alone_and_in_every_thread() -> None:
    with threads(2):
        assert not flushed(count=2**20)
        with flush_denormals():
            assert flushed(count=2**20)
            with flush_denormals():
                assert flushed()
            assert flushed()  # what was set before stays
        assert not flushed(count=2**20)


def test_they_are_restored_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), flush_denormals():
        raise ZeroDivisionError
    assert not flushed()


def test_steps_and_evaluations_flush_them(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[bool]] = {"step": set(), "evaluation": set()}
    update, evaluate = Updates.update, grok_lightning.module.evaluate

    def note_update(self: Updates, *arguments: Any) -> torch.Tensor:
        seen["step"].add(flushed())
        return update(self, *arguments)

    def note_evaluation(*arguments: Any) -> Any:
        seen["evaluation"].add(flushed())
        return evaluate(*arguments)

    monkeypatch.setattr(Updates, "update", note_update)
    monkeypatch.setattr(grok_lightning.module, "evaluate", note_evaluation)
    assert command("fit", *TINY, "--trainer.max_steps", "20")[0] == 0
    assert seen == {"step": {True}, "evaluation": {True}}
    assert not flushed()
