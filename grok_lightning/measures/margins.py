"""Quantiles of the right answer's margin."""

from collections.abc import Sequence

import torch
from torch import Tensor

from grok_lightning.batch import NOTHING_TO_ANSWER
from grok_lightning.errors import UserError
from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View


def margins(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """The right class's logit less the largest of the others, of the tokens that count: float64."""
    counted = targets_N != NOTHING_TO_ANSWER
    logits = to_double(logits_NV[counted])
    right = targets_N[counted][:, None].to(logits.device)
    return logits.gather(-1, right)[:, 0] - logits.scatter(-1, right, -torch.inf).amax(-1)


def quantiles(values_N: Tensor, shares: Sequence[float]) -> Tensor:
    """Quantiles of numbers, between two of them on a straight line; NaN of no numbers, and where one is NaN."""
    if not len(values_N):
        return values_N.new_full((len(shares),), torch.nan)
    ordered = values_N.sort().values  # torch.quantile takes no more than 2 ** 24 numbers
    places = torch.tensor(shares, dtype=torch.float64, device=ordered.device) * (len(ordered) - 1)
    below, above = ordered[places.floor().long()], ordered[places.ceil().long()]
    found = torch.where(places % 1 > 0, below + (above - below) * (places % 1), below)
    return found.where(~ordered.isnan().any(), torch.nan)


class Margins(Measure):
    """Quantiles of the margin: the logit of the right answer's token less the largest of all others.

    Over the answer tokens of the training rows (``margin/train_q10`` for 0.1) and of the validation rows. A margin is
    above 0 where the token is right. ``LogitScale`` has the mean.

    Args:
        quantiles: From 0, the least, to 1, the largest.
    """

    def __init__(self, quantiles: Sequence[float] = (0.0, 0.1, 0.5, 0.9)) -> None:
        if not quantiles or not all(0 <= share <= 1 for share in quantiles):
            raise UserError(f"measures.Margins.quantiles is {list(quantiles)}; give numbers from 0 to 1")
        if len({f"{100 * share:g}" for share in quantiles}) < len(quantiles):
            raise UserError(f"measures.Margins.quantiles is {list(quantiles)}; each must be there once")
        self.quantiles = list(quantiles)

    def __call__(self, view: View) -> dict[str, Tensor]:
        found = {}
        for split in ("train", "val"):
            of_runs = [
                quantiles(margins(view.logits_RNAV[run, rows].flatten(0, 1), view.targets_RNA[run, rows].flatten()),
                          self.quantiles)
                for run, rows in enumerate(view.rows(split))
            ]  # fmt: skip
            for share, values_R in zip(self.quantiles, torch.stack(of_runs, dim=1), strict=True):
                found[f"margin/{split}_q{100 * share:g}"] = values_R
        return found
