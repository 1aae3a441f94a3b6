"""Optimizers, gradient filters and constraints that work on a stack of runs."""

from grok_lightning.optim.adamw import AdamW
from grok_lightning.optim.clip_rows import ClipRows
from grok_lightning.optim.clipping import Clip
from grok_lightning.optim.constraints import Constraint
from grok_lightning.optim.egalitarian import Egalitarian, NormalizeColumns
from grok_lightning.optim.filters import GradientFilter
from grok_lightning.optim.gradient_noise import GradientNoise
from grok_lightning.optim.grokfast import GrokfastEMA, GrokfastMean
from grok_lightning.optim.l2 import L2
from grok_lightning.optim.muon import Muon
from grok_lightning.optim.orthogonal import OrthogonalGradient

__all__ = [
    "L2",
    "AdamW",
    "Clip",
    "ClipRows",
    "Constraint",
    "Egalitarian",
    "GradientFilter",
    "GradientNoise",
    "GrokfastEMA",
    "GrokfastMean",
    "Muon",
    "NormalizeColumns",
    "OrthogonalGradient",
]
