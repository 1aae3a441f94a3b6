"""Progress measures of modular addition: restricted and excluded loss, and the sum of squared weights.

Nanda and others, "Progress measures for grokking via mechanistic interpretability", arXiv 2301.05217, and their public
notebook. Ours also takes ``x - y``, with the signs of y's sines turned around.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError
from grok_lightning.hardware.doubles import double_device, to_double
from grok_lightning.measures.base import Measure, View, require_matrices
from grok_lightning.measures.fourier import fourier_basis, frequency_shares, require_integers, spectra
from grok_lightning.models import SequenceModel
from grok_lightning.training.norms import weight_norm

STANDS_OUT = 1.5


def select_key_frequencies(spectrum_RP: Tensor) -> Tensor:
    """Mask of the key frequencies among 1..p//2: (R, p // 2) of bool.

    Those whose share of the squared norm, the constant aside, is more than ``STANDS_OUT`` times an equal share. A
    network that has not learned any frequency has none. The source names no number ("nontrivial coefficients"); ours
    separated 12 frequencies of 1.85 to 3.9 times the equal share from the rest, at most 1.3, in a transformer that had
    grokked x + y mod 97.
    """
    shares = frequency_shares(spectrum_RP)
    return shares > STANDS_OUT / shares.shape[-1]


def means_by_answer(logits_RNP: Tensor, results_N: Tensor) -> Tensor:
    """Mean logits over the p rows that have each answer, of a table of p^2 rows: (R, p answers, p classes), float64."""
    modulus = logits_RNP.shape[-1]
    order_N = results_N.argsort(stable=True)
    return logits_RNP[:, order_N].unflatten(1, (modulus, modulus)).mean(2, dtype=torch.float64)


def project_on_frequencies(means_RSP: Tensor, frequencies_RF: Tensor) -> Tensor:
    """P . logits as a function of the answer s: (R, p answers, p classes).

    The source projects the logits, over all p^2 pairs of inputs, on u_k = (cos x cos - sin x sin) / sqrt(2) and
    v_k = (sin x cos + cos x sin) / sqrt(2) of each key frequency k. These are cos(w_k (x + y)) and sin(w_k (x + y)) at
    unit norm, functions of s = x + y alone. So P . logits is the projection of their means over the pairs of equal s on
    the unit waves in s: a matrix of p x p instead of p^2 x p^2.

    Args:
        means_RSP: Means of the logits by answer.
        frequencies_RF: Mask of the frequencies of 1..p//2 that are in P.
    """
    modulus = means_RSP.shape[1]
    basis = fourier_basis(modulus, means_RSP.device)
    of_row = (torch.arange(1, modulus, device=basis.device) + 1) // 2
    kept = torch.nn.functional.pad(frequencies_RF[:, of_row - 1], (1, 0))  # never the constant
    return basis.T @ (kept[..., None] * (basis @ means_RSP))


def restricted_loss(means_RSP: Tensor, frequencies_RF: Tensor) -> Tensor:
    """Cross-entropy over all pairs of (P . logits + the mean logits of each class), in nats: (R,).

    Those logits depend on the answer alone, and every answer has equally many pairs.
    """
    restricted = project_on_frequencies(means_RSP, frequencies_RF) + means_RSP.mean(1, keepdim=True)
    answers = torch.arange(restricted.shape[1], device=restricted.device)
    return torch.stack([cross_entropy(logits, answers) for logits in restricted])


def excluded_loss(
    logits_RNP: Tensor,
    means_RSP: Tensor,
    frequencies_RF: Tensor,
    results_N: Tensor,
    rows: list[Tensor],
    targets_RN: Tensor,
) -> Tensor:
    """Cross-entropy over training rows of (logits - P . logits), in nats: (R,).

    Args:
        logits_RNP: Logits of the p numbers on all pairs.
        means_RSP: Their means by answer.
        frequencies_RF: Mask of the frequencies of 1..p//2 that are in P.
        results_N: The pairs' true answers.
        rows: Each run's training rows.
        targets_RN: The answers they are trained on.
    """
    part_RSP = project_on_frequencies(means_RSP, frequencies_RF)
    losses = []
    for logits, part, own, targets in zip(logits_RNP, part_RSP, rows, targets_RN, strict=True):
        losses.append(cross_entropy(logits[own].double() - part[results_N[own]], targets[own]))
    return torch.stack(losses)


class Progress(Measure):
    """Restricted loss, excluded loss, and the sum of squared weights, of ``x + y`` or ``x - y`` mod p.

    The source finds the key frequencies at the end of a run and keeps them for all that came before. To do the same,
    give a run's saved checkpoints the frequencies that stood out at its end, which ``Fourier`` tells.

    Args:
        frequencies: Key frequencies, from 1 to p // 2. Default: those that stand out in the network as it is, in the
            map from its neurons to the logits or, without feed-forward part, in its unembedding.
    """

    def __init__(self, frequencies: list[int] | None = None) -> None:
        if frequencies is not None and not frequencies:
            raise UserError("measures.Progress.frequencies is an empty list; give frequencies, or null to find them")
        self.frequencies = frequencies

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        self._table(data)
        if self.frequencies is None:
            require_matrices("Progress", network)

    def __call__(self, view: View) -> dict[str, Tensor]:
        operation = self._table(view.data).operation
        modulus = operation.algebra.size
        device = double_device(view.device)
        results_N = torch.from_numpy(operation.results_N).to(device)
        frequencies_RF = self._key(view, modulus)
        logits_RNP = view.logits_RNAV[:, :, 0, :modulus].to(device)
        means_RSP = means_by_answer(logits_RNP, results_N)
        rows, targets_RN = [own.to(device) for own in view.rows("train")], view.targets_RNA[:, :, 0].to(device)
        return {
            "progress/restricted_loss": restricted_loss(means_RSP, frequencies_RF),
            "progress/excluded_loss": excluded_loss(logits_RNP, means_RSP, frequencies_RF, results_N, rows, targets_RN),
            "progress/key_frequencies": to_double(frequencies_RF.sum(-1)),
            "progress/squared_weights": weight_norm(view.network).square(),
        }

    def _key(self, view: View, modulus: int) -> Tensor:
        if self.frequencies is None:
            found = spectra(view.network, modulus)
            return select_key_frequencies(found.get("neurons", found["unembedding"]))
        given = torch.zeros(view.runs, modulus // 2, dtype=torch.bool, device=double_device(view.device))
        given[:, [frequency - 1 for frequency in self.frequencies]] = True
        return given

    def _table(self, data: SequenceDataModule) -> TableDataModule:
        table = require_integers("Progress", data)
        operation, modulus = table.operation, table.operation.algebra.size
        x, y = operation.operands_NK[:, 0], operation.operands_NK[:, -1]
        is_whole = operation.formula.arity == 2 and len(operation) == modulus**2
        if not is_whole or not any(np.array_equal(operation.results_N, s % modulus) for s in (x + y, x - y)):
            raise UserError(
                "measures names Progress, which needs all rows of data.formula x + y or x - y; "
                f"data.formula is {operation.formula.text!r}, with {len(operation):,} rows"
            )
        for frequency in self.frequencies or []:
            if not 1 <= frequency <= modulus // 2:
                raise UserError(
                    f"measures.Progress.frequencies has {frequency}; modulo {modulus} they are 1 to {modulus // 2}"
                )
        return table
