"""Spectral entropy of the weight matrices."""

import torch
from torch import Tensor

from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View
from grok_lightning.measures.participation import inverse_participation


def squared_singular_values(matrix_RIO: Tensor) -> Tensor:
    """Those of each run's matrix, ascending: (R, min(I, O)), float64, on the CPU; NaN where it is not finite.

    As eigenvalues of the smaller of its two Gram matrices, which takes less time than singular values.
    """
    matrix = to_double(matrix_RIO.detach()).cpu()
    matrix = matrix if matrix.shape[1] <= matrix.shape[2] else matrix.transpose(1, 2)
    finite_R = matrix.isfinite().flatten(1).all(1)[:, None]
    matrix = matrix.where(finite_R[..., None], 0.0)
    # one by one, in memory of its own: the last bits of LAPACK and of products depend on where a matrix begins
    alone = [one.clone() for one in matrix]
    values = torch.stack([torch.linalg.eigvalsh(one @ one.T) for one in alone]).clamp(min=0)
    return values.where(finite_R, torch.nan)


def spectral_entropy(squares_RK: Tensor) -> Tensor:
    """-sum p ln p / ln K with p the squared singular values over their sum: from 0 to 1, (R,); NaN of zeros alone.

    1 if all K directions are alike, 0 if the matrix has rank 1.
    """
    shares = squares_RK / squares_RK.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1) / torch.tensor(float(squares_RK.shape[-1])).log()


class SpectralEntropy(Measure):
    """Entropy and inverse participation ratio of the squared singular values of each weight matrix.

    ``spectrum/``, the parameter's name, and ``_entropy``: see ``spectral_entropy``. ``_participation`` is the sum of
    the squared shares, 1 for rank 1. Needs no Fourier basis, so it serves every task and network. ``Rank`` has the
    effective rank, of the singular values themselves.

    Cost: an eigenvalue problem of each matrix on the CPU.
    """

    def __call__(self, view: View) -> dict[str, Tensor]:
        found = {}
        for name, weight in view.network.named_parameters():
            if weight.ndim == 3 and min(weight.shape[1:]) > 1:
                squares_RK = squared_singular_values(weight)
                found[f"spectrum/{name}_entropy"] = spectral_entropy(squares_RK)
                found[f"spectrum/{name}_participation"] = inverse_participation(squares_RK)
        return found
