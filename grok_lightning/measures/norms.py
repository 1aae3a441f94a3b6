"""Norm of every parameter."""

import torch
from torch import Tensor

from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View


class Norms(Measure):
    """Euclidean norm of each parameter, ``norms/`` and its name; every evaluation has those of whole parts anyway."""

    def __call__(self, view: View) -> dict[str, Tensor]:
        return {
            f"norms/{name}": torch.linalg.vector_norm(to_double(weight.detach())[..., None].flatten(1), dim=1)
            for name, weight in view.network.named_parameters()
        }
