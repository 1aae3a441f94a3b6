"""Gradient noise scale: the variance of a row's gradient over the squared norm of the mean gradient."""

import torch
from torch import Tensor

from grok_lightning.errors import UserError
from grok_lightning.measures.landscape import Landscape, LandscapeMeasure


def noise_scale(gradients_KRP: Tensor, rows_R: Tensor) -> tuple[Tensor, Tensor]:
    """Estimates of tr(Sigma) and of |G|^2 from gradients of K batches of equal size, both (R,).

    Sigma is the covariance of the gradient of a single row, G the mean gradient. Both are unbiased, so that the second
    can be negative: B tr(cov) of the batches' gradients, and the squared norm of their mean less tr(Sigma) / (K B).
    This is McCandlish and others, "An empirical model of large-batch training", arXiv 1812.06162, appendix A.1, with
    batches of B and of K B rows.

    Args:
        gradients_KRP: Mean gradients of the batches.
        rows_R: B.
    """
    count = len(gradients_KRP)
    mean_RP = gradients_KRP.mean(0)
    trace_R = rows_R * (gradients_KRP - mean_RP).square().sum(-1).sum(0) / (count - 1)
    return trace_R, mean_RP.square().sum(-1) - trace_R / (count * rows_R)


class NoiseScale(LandscapeMeasure):
    """Gradient noise scale tr(Sigma) / |G|^2, in rows, and both of its parts, estimated on a few batches.

    See ``noise_scale``. Batches much smaller than it give mostly noise, much larger ones hardly a better gradient. It
    is NaN where the estimate of |G|^2 is not above 0: the gradient vanishes in its noise. All three are NaN in a run
    with fewer rows than batches. The rows are the same at every evaluation of a run.

    Cost: 8 gradients of 64 rows in float64.

    Args:
        batches: K, number of batches, which have no row in common.
        rows: B, rows of a batch. So many at most that there are enough for all.
    """

    def __init__(self, batches: int = 8, rows: int = 64) -> None:
        for name, value, least in (("batches", batches, 2), ("rows", rows, 1)):
            if value < least:
                raise UserError(f"measures.NoiseScale.{name} is {value}; it must be at least {least}")
        self.batches, self.rows = batches, rows

    def compute(self, landscape: Landscape) -> dict[str, Tensor]:
        parts = landscape.batches(self.batches, self.rows, "noise scale")
        gradients_KRP = torch.stack([landscape.gradient(landscape.weights_RP, rows_RB) for rows_RB in parts])
        rows_R = (parts[0] >= 0).sum(1)
        found = noise_scale(gradients_KRP, rows_R.to(gradients_KRP))
        trace_R, squared_R = (part_R.masked_fill(rows_R == 0, torch.nan) for part_R in found)
        scale_R = (trace_R / squared_R).masked_fill(squared_R <= 0, torch.nan)
        return {"noise/scale": scale_R, "noise/trace": trace_R, "noise/squared_gradient": squared_R}
