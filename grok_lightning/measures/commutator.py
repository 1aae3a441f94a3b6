"""Commutator defect: whether two gradient steps lead elsewhere in the other order."""

import torch
from torch import Tensor

from grok_lightning.errors import UserError
from grok_lightning.measures.landscape import Landscape, LandscapeMeasure
from grok_lightning.optim.base import check_range


def commutator_defect(landscape: Landscape, first_RB: Tensor, second_RB: Tensor, rate: float) -> Tensor:
    """||theta_AB - theta_BA|| / (||rate g_A|| ||rate g_B||) of two batches, shape (R,).

    theta_AB is reached by a step of plain gradient descent on batch A and then one on batch B; g_A and g_B are the
    gradients at the weights as they are. For small rates it is the norm of H_A g_B - H_B g_A, with the Hessians of both
    losses, over the product of the norms of both gradients: it does not depend on the rate then.

    Args:
        landscape: The training loss.
        first_RB, second_RB: Rows of A and of B.
        rate: Learning rate of both steps.
    """
    start = landscape.weights_RP
    first, second = landscape.gradient(start, first_RB), landscape.gradient(start, second_RB)
    # of theta_AB - theta_BA the steps that both have in common are left out, lest they be rounded
    after_first = landscape.gradient(start - rate * first, second_RB) - second
    after_second = landscape.gradient(start - rate * second, first_RB) - first
    norms = torch.linalg.vector_norm(torch.stack([after_first - after_second, first, second]), dim=-1)
    return norms[0] / (rate * norms[1] * norms[2])


class Commutator(LandscapeMeasure, every=500):
    """Commutator defect of gradient steps on two batches of training rows: the median over several pairs of batches.

    See ``commutator_defect``. Source: arXiv 2602.16746 (rate 1e-3, median of 9). The batches are the same at every
    evaluation of a run, so that a curve moves because the weights do; those of a pair have no row in common.

    Cost: 36 gradients of 256 rows in float64.

    Args:
        rate: Learning rate of the steps.
        pairs: Number of pairs of batches.
        rows: Rows of a batch. Half of the training rows at most.
    """

    def __init__(self, rate: float = 1e-3, pairs: int = 9, rows: int = 256) -> None:
        check_range("measures.Commutator.rate", rate, above=True)
        for name, value in (("pairs", pairs), ("rows", rows)):
            if value < 1:
                raise UserError(f"measures.Commutator.{name} is {value}; it must be at least 1")
        self.rate, self.pairs, self.rows = rate, pairs, rows

    def compute(self, landscape: Landscape) -> dict[str, Tensor]:
        found = []
        for pair in range(self.pairs):
            first_RB, second_RB = landscape.batches(2, self.rows, "commutator", pair)
            found.append(commutator_defect(landscape, first_RB, second_RB, self.rate))
        return {"commutator/defect": torch.stack(found).quantile(0.5, dim=0)}
