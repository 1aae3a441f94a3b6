"""Optimizers that work on a stack of runs."""

from grok_lightning.optim.adamw import AdamW

__all__ = ["AdamW"]
