"""Small runs to look into, with random or trained weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY

from grok_lightning.inspection.subject import Subject
from grok_lightning.run import Run, load_run

SMALL = [*TINY, "--trainer.max_steps", "30", "--trainer.precision", "32-true", "--experiment", "e", "--run", "0"]


def load_small(trained_once: Callable[..., Path], patch: pytest.MonkeyPatch, *options: str) -> Run:
    """A run of these options: a checkpoint of its own, whose weights a test may change."""
    patch.chdir(trained_once(*SMALL, *options))
    return load_run("checkpoints/e/0")


def look(run: Run, ablated: int | None = None) -> Subject:
    return Subject(run.model, run.data, run.step, ablated)


def sharpen(run: Run, scale: float = 3.0) -> None:
    """Makes weights larger, so that attention is not even and no head is without effect."""
    with torch.no_grad():
        for weight in run.model.parameters():
            weight.mul_(scale)
