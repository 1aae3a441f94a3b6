"""Softmax collapse: training rows whose loss is rounded to zero."""

import torch
from torch import Tensor

from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View
from grok_lightning.objective import equation_losses


class Collapse(Measure):
    """Share of the training rows whose cross-entropy is exactly 0, so that their gradient is 0 or nearly so.

    The loss is computed in float32 (float64 where the model is), as in training. Where it is 0, the wrong answers' part
    of the softmax's sum was lost in rounding: the softmax collapse of arXiv 2501.04697. It is cross-entropy also where
    a run is trained on another loss.
    """

    def __call__(self, view: View) -> dict[str, Tensor]:
        shares = []
        for run, rows in enumerate(view.rows("train")):
            losses = equation_losses(view.logits_RNAV[run, rows][None], view.targets_RNA[run, rows][None])
            shares.append(to_double(losses == 0).mean())
        return {"collapse/zero_loss": torch.stack(shares)}
