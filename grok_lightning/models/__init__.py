"""Models: stacks of runs, from tokens to logits."""

from grok_lightning.models.base import Beginnings, SequenceModel
from grok_lightning.models.transformer import Transformer

__all__ = ["Beginnings", "SequenceModel", "Transformer"]
