"""Measures of a model, one file for each."""

from grok_lightning.measures.base import Measure, View
from grok_lightning.measures.collapse import Collapse
from grok_lightning.measures.cosets import Cosets
from grok_lightning.measures.fourier import Fourier
from grok_lightning.measures.irrep_losses import IrrepLosses
from grok_lightning.measures.irreps import Irreps
from grok_lightning.measures.logit_scale import LogitScale
from grok_lightning.measures.norms import Norms
from grok_lightning.measures.progress import Progress
from grok_lightning.measures.rank import Rank
from grok_lightning.measures.symmetry import Symmetry

__all__ = [
    "Collapse",
    "Cosets",
    "Fourier",
    "IrrepLosses",
    "Irreps",
    "LogitScale",
    "Measure",
    "Norms",
    "Progress",
    "Rank",
    "Symmetry",
    "View",
]
