"""Models: stacks of runs, from tokens to logits."""

from grok_lightning.models.base import SequenceModel
from grok_lightning.models.mlp import MLP
from grok_lightning.models.recurrent import GRU, LSTM
from grok_lightning.models.residual_mlp import ResidualMLP
from grok_lightning.models.transformer import Transformer

__all__ = ["GRU", "LSTM", "MLP", "ResidualMLP", "SequenceModel", "Transformer"]
