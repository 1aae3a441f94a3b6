"""Measures of a model, one file for each."""

from grok_lightning.measures.base import Measure, Objective, View
from grok_lightning.measures.collapse import Collapse
from grok_lightning.measures.commutator import Commutator
from grok_lightning.measures.cosets import Cosets
from grok_lightning.measures.fourier import Fourier
from grok_lightning.measures.hessian import Hessian
from grok_lightning.measures.irrep_losses import IrrepLosses
from grok_lightning.measures.irreps import Irreps
from grok_lightning.measures.learning_coefficient import LearningCoefficient
from grok_lightning.measures.logit_scale import LogitScale
from grok_lightning.measures.margins import Margins
from grok_lightning.measures.noise_scale import NoiseScale
from grok_lightning.measures.norms import Norms
from grok_lightning.measures.participation import Participation
from grok_lightning.measures.progress import Progress
from grok_lightning.measures.rank import Rank
from grok_lightning.measures.sparsity import Sparsity
from grok_lightning.measures.spectral_entropy import SpectralEntropy
from grok_lightning.measures.symmetry import Symmetry

__all__ = [
    "Collapse",
    "Commutator",
    "Cosets",
    "Fourier",
    "Hessian",
    "IrrepLosses",
    "Irreps",
    "LearningCoefficient",
    "LogitScale",
    "Margins",
    "Measure",
    "NoiseScale",
    "Norms",
    "Objective",
    "Participation",
    "Progress",
    "Rank",
    "Sparsity",
    "SpectralEntropy",
    "Symmetry",
    "View",
]
