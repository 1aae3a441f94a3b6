"""Local learning coefficient: how fast the volume of weights with nearly the loss of those found grows, by SGLD."""

from collections.abc import Callable

import torch
from torch import Tensor

from grok_lightning.errors import UserError
from grok_lightning.measures.landscape import ROWS_AT_ONCE, Landscape, LandscapeMeasure
from grok_lightning.optim.base import check_range
from grok_lightning.randomness import derive_key, gaussian, mix, uniform


def sample_excess_loss(
    gradient: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    center_CP: Tensor,
    scale_C: Tensor,
    keys_C: Tensor,
    rate: float,
    localization: float,
    draws: int,
    burn_in: int,
) -> Tensor:
    """Mean loss above that of the center along chains of stochastic gradient Langevin dynamics, shape (C,).

    A chain of weights w around the center w* steps by

        -rate / 2 * (scale * gradient of the loss + localization * (w - w*)) + sqrt(rate) * N(0, 1),

    so that it samples exp(-scale * loss - localization / 2 * |w - w*|^2), up to terms in the rate.

    Args:
        gradient: Gives, of weights (C, P) and the number of a step, the gradient of the loss on a batch, (C, P), and
            that batch's loss less the center's on the same rows, (C,). float64.
        center_CP: w*, once for each chain.
        scale_C: The inverse temperature, n beta.
        keys_C: Each chain's key of the random numbers.
        rate: Step size.
        localization: Strength of the pull to the center.
        draws: Number of steps whose losses are averaged.
        burn_in: Number of steps before them.
    """
    weights, total_C = center_CP.clone(), torch.zeros_like(scale_C)
    for step in range(burn_in + draws):
        gradient_CP, excess_C = gradient(weights, step)
        if step >= burn_in:
            total_C += excess_C
        drift = scale_C[:, None] * gradient_CP + localization * (weights - center_CP)
        weights = weights - rate / 2 * drift + rate**0.5 * gaussian(keys_C, step, weights)
    return total_C / draws


class LearningCoefficient(LandscapeMeasure, every=10_000):
    """Local learning coefficient: n beta (E[L(w)] - L(w*)), with n beta = n / ln n, estimated by chains of SGLD.

    L is the mean loss of the n training rows, w* the network's weights; w is sampled around them by
    ``sample_excess_loss``. It is half the number of weights at a regular minimum and smaller at a degenerate one; below
    0 the weights are at no minimum. ``learning/deviation`` is the standard deviation over the chains. Source: Lau and
    others, arXiv 2308.12108. What we changed: the loss of w* is that of the very rows on which the loss of w is taken,
    so that their choice adds no noise. Rows and noise are the same at every evaluation of a run. Rate and localization
    decide what counts as near: values of one setting compare, not those of different ones.

    Cost: 800 gradients of 128 rows in float64.

    Args:
        chains: Number of chains.
        draws: Steps of a chain whose losses are averaged.
        burn_in: Steps of a chain before them.
        rate: Step size. Too large a one makes chains diverge: the value is huge or NaN then.
        localization: Strength of the pull to w*.
        rows: Training rows of a step.
    """

    def __init__(
        self,
        chains: int = 4,
        draws: int = 100,
        burn_in: int = 100,
        rate: float = 1e-5,
        localization: float = 100.0,
        rows: int = 128,
    ) -> None:
        for name, value, least in (
            ("chains", chains, 1),
            ("draws", draws, 1),
            ("burn_in", burn_in, 0),
            ("rows", rows, 1),
        ):
            if value < least:
                raise UserError(f"measures.LearningCoefficient.{name} is {value}; it must be at least {least}")
        check_range("measures.LearningCoefficient.rate", rate, above=True)
        check_range("measures.LearningCoefficient.localization", localization)
        self.chains, self.draws, self.burn_in = chains, draws, burn_in
        self.rate, self.localization, self.rows = rate, localization, rows

    def compute(self, landscape: Landscape) -> dict[str, Tensor]:
        chains = list(range(self.chains))
        groups = [chains] if landscape.takes_more_runs else [[chain] for chain in chains]
        found_RC = torch.cat([self._sample(landscape, group) for group in groups], dim=1)
        deviation_R = found_RC.std(1) if self.chains > 1 else torch.full_like(found_RC[:, 0], torch.nan)
        return {"learning/coefficient": found_RC.mean(1), "learning/deviation": deviation_R}

    def _sample(self, landscape: Landscape, chains: list[int]) -> Tensor:
        """The estimates of some chains in each run, (R, chains), computed at once."""
        at, copies = landscape.weights_RP, len(chains)
        counts_R = torch.tensor(landscape.counts, dtype=at.dtype, device=at.device)
        scale_R = counts_R / counts_R.log()
        keys = [derive_key(seed, "measures", "langevin", chain) for seed in landscape.seeds for chain in chains]
        keys_C = torch.tensor(keys, device=at.device)
        center_CP = at.repeat_interleave(copies, dim=0)
        center_losses_CN = self._center_losses(landscape).repeat_interleave(copies, dim=0)
        rows_CN = landscape.rows_RN.repeat_interleave(copies, dim=0)
        counts_C = counts_R.repeat_interleave(copies)[:, None]

        def gradient(weights_CP: Tensor, step: int) -> tuple[Tensor, Tensor]:
            counter = torch.arange(step * self.rows, (step + 1) * self.rows, device=at.device)
            drawn_CB = (uniform(mix(keys_C)[:, None], counter) * counts_C).long().minimum(counts_C.long() - 1)
            losses_CB, gradient_CP = landscape.losses_and_gradient(weights_CP, rows_CN.gather(1, drawn_CB))
            return gradient_CP, (losses_CB - center_losses_CN.gather(1, drawn_CB)).mean(1)

        excess_C = sample_excess_loss(
            gradient,
            center_CP,
            scale_R.repeat_interleave(copies),
            keys_C,
            self.rate,
            self.localization,
            self.draws,
            self.burn_in,
        )
        return scale_R[:, None] * excess_C.unflatten(0, (-1, copies))

    @staticmethod
    @torch.no_grad()
    def _center_losses(landscape: Landscape) -> Tensor:
        """The losses of all training rows with the weights as they are, (R, N)."""
        blocks = landscape.rows_RN.split(max(1, ROWS_AT_ONCE // len(landscape.rows_RN)), dim=1)
        return torch.cat([landscape.row_losses(landscape.weights_RP, block) for block in blocks], dim=1)
