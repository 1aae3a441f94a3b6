"""Progress measures of modular addition: restricted and excluded loss, and the sum of squared weights.

Nanda and others, "Progress measures for grokking via mechanistic interpretability", arXiv 2301.05217, and their public
notebook. Ours also takes what a change of variables makes an addition: ``x - y``, and ``x / y`` in the logarithm.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.errors import UserError, show
from grok_lightning.groups.law import GroupLaw
from grok_lightning.hardware.doubles import double_device, to_double
from grok_lightning.measures.base import Measure, View, require_matrices
from grok_lightning.measures.fourier import (
    find_cyclic_law,
    fourier_basis,
    frequency_shares,
    require_cyclic,
    spectra_of_law,
)
from grok_lightning.measures.operations import RunsOfOperation, measure_each, rows_of_law
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


def means_by_answer(logits_RNP: Tensor, results_N: Tensor, answers: int | None = None) -> Tensor:
    """Mean logits over the rows that have each of S answers: (R, S answers, P classes), float64.

    Args:
        logits_RNP: Logits of P classes.
        results_N: The answer of each row, 0..S-1; each occurs.
        answers: S; default: P.
    """
    answers = logits_RNP.shape[-1] if answers is None else answers
    counts_S = results_N.bincount(minlength=answers)
    if (counts_S == counts_S[0]).all():
        order_N = results_N.argsort(stable=True)
        return logits_RNP[:, order_N].unflatten(1, (answers, int(counts_S[0]))).mean(2, dtype=torch.float64)
    sums = logits_RNP.new_zeros(len(logits_RNP), answers, logits_RNP.shape[-1], dtype=torch.float64)
    return sums.index_add_(1, results_N, logits_RNP.double()) / counts_S[:, None]


def project_on_frequencies(means_RSP: Tensor, frequencies_RF: Tensor) -> Tensor:
    """P . logits as a function of the answer s: (R, p answers, classes).

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


def restricted_loss(
    part_RSP: Tensor, means_RSP: Tensor, answers_S: Tensor | None = None, counts_S: Tensor | None = None
) -> Tensor:
    """Cross-entropy over all pairs of (P . logits + the mean logits of each class), in nats: (R,).

    Those logits depend on the sum s alone.

    Args:
        part_RSP: P . logits by s.
        means_RSP: Means of the logits by s.
        answers_S: The right class for each s; default: s.
        counts_S: The number of pairs of each s; default: equally many.
    """
    restricted = part_RSP + means_RSP.mean(1, keepdim=True)
    answers = torch.arange(restricted.shape[1], device=restricted.device) if answers_S is None else answers_S
    if counts_S is None or (counts_S == counts_S[0]).all():
        return torch.stack([cross_entropy(logits, answers) for logits in restricted])
    losses = torch.stack([cross_entropy(logits, answers, reduction="none") for logits in restricted])
    return losses @ (counts_S / counts_S.sum()).to(losses)


def excluded_loss(
    logits_RNP: Tensor, part_RSP: Tensor, results_N: Tensor, rows: list[Tensor], targets_RN: Tensor
) -> Tensor:
    """Cross-entropy over training rows of (logits - P . logits), in nats: (R,).

    Args:
        logits_RNP: Logits of the numbers on all pairs.
        part_RSP: P . logits by the sum s.
        results_N: The pairs' s.
        rows: Each run's training rows.
        targets_RN: The answers they are trained on.
    """
    losses = []
    for logits, part, own, targets in zip(logits_RNP, part_RSP, rows, targets_RN, strict=True):
        losses.append(cross_entropy(logits[own].double() - part[results_N[own]], targets[own]))
    return torch.stack(losses)


class Progress(Measure):
    """Restricted loss, excluded loss, and the sum of squared weights, of ``x + y`` mod p and what is like it.

    That is any formula that a change of variables makes an addition mod n (see ``find_law``): ``x - y``, ``x + 2*y``,
    ``x**2 + y**2``, ``(x + y)**2``; ``x * y`` and ``x / y`` in the discrete logarithm, mod p - 1. Rows of operands that
    have no such variable, 0 for one, are left out of both losses. All numbers stay classes, 0 as a wrong answer.

    The source finds the key frequencies at the end of a run and keeps them for all that came before. To do the same,
    give a run's saved checkpoints the frequencies that stood out at its end, which ``Fourier`` tells. Cost: a pass over
    the logits for their means, another over those of the training rows, and products of n x n and n x p.

    Args:
        frequencies: Key frequencies, from 1 to n // 2. Default: those that stand out in the network as it is, in the
            map from its neurons to the logits, without feed-forward part in its unembedding, and where several sums
            have one answer, in its embedding.
    """

    def __init__(self, frequencies: list[int] | None = None) -> None:
        if frequencies is not None and not frequencies:
            raise UserError("measures.Progress.frequencies is an empty list; give frequencies, or null to find them")
        self.frequencies = frequencies

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        table = require_cyclic("Progress", data)
        for operation in table.operations:
            law = find_cyclic_law(operation)
            if law is None:
                raise UserError(
                    "measures names Progress, which needs all rows of data.formula x + y or x - y, or of another that "
                    f"a change of variables makes an addition mod n, such as x * y; data.formula is "
                    f"{show(operation.formula.text)}, with {len(operation):,} rows"
                )
            most = len(law.group) // 2
            for frequency in self.frequencies or []:
                if not 1 <= frequency <= most:
                    raise UserError(
                        f"measures.Progress.frequencies has {frequency}; modulo {len(law.group)} they are 1 to {most}"
                    )
        if self.frequencies is None:
            require_matrices("Progress", network)

    def __call__(self, view: View) -> dict[str, Tensor]:
        found = measure_each(require_cyclic("Progress", view.data), lambda own: self._measure(view, own))
        return found | {"progress/squared_weights": weight_norm(view.network).square()}

    def _measure(self, view: View, own: RunsOfOperation) -> dict[str, Tensor]:
        law = find_cyclic_law(own.operation)
        assert law is not None
        frequencies_RF = self._key(view, law)[own.runs]
        rows = rows_of_law(view, law, own)
        means_RSP = means_by_answer(rows.logits_RNP[:, rows.kept], rows.products_N[rows.kept], len(law.group))
        part_RSP = project_on_frequencies(means_RSP, frequencies_RF)
        excluded = excluded_loss(rows.logits_RNP, part_RSP, rows.products_N, rows.train, rows.targets_RN)
        return {
            "progress/restricted_loss": restricted_loss(part_RSP, means_RSP, rows.answers_S, rows.counts_S),
            "progress/excluded_loss": excluded,
            "progress/key_frequencies": to_double(frequencies_RF.sum(-1)),
        }

    def _key(self, view: View, law: GroupLaw) -> Tensor:
        if self.frequencies is None:
            found = spectra_of_law(view.network, law)
            matrix = "embedding" if law.answer_G is None else "neurons" if "neurons" in found else "unembedding"
            return select_key_frequencies(found[matrix])
        given = torch.zeros(view.runs, len(law.group) // 2, dtype=torch.bool, device=double_device(view.device))
        given[:, [frequency - 1 for frequency in self.frequencies]] = True
        return given
