"""Inverse participation ratio of Fourier spectra: how few frequencies carry a matrix, or each of its neurons."""

import torch
from torch import Tensor

from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View, require_matrices
from grok_lightning.measures.fourier import fourier_basis, frequency_shares, neurons_to_logits, require_integers
from grok_lightning.models import SequenceModel


def inverse_participation(powers: Tensor) -> Tensor:
    """sum P^2 / (sum P)^2 over the last dimension, P = |F|^2: 1 if one number carries all, 1 / n if n share alike.

    NaN where all are 0.
    """
    return powers.square().sum(-1) / powers.sum(-1).square()


class Participation(Measure):
    """Inverse participation ratio of the Fourier spectra of embedding, unembedding and the map from neurons to logits.

    Of the powers of the frequencies 1..p // 2 of a matrix with a row for each number, sine and cosine together:
    ``participation/embedding`` over its whole width, ``participation/embedding_columns`` that of each column, averaged
    over the columns that are not 0. 1 / 48 modulo 97 if all frequencies share alike, 1 if each column has a
    single one. Source: Doshi and others, arXiv 2310.13061, of neurons. What we changed:
    the constant does not count.
    """

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        require_integers("Participation", data)
        require_matrices("Participation", network)

    def __call__(self, view: View) -> dict[str, Tensor]:
        modulus = require_integers("Participation", view.data).operation.algebra.size
        matrices = {"embedding": view.network.embedding.detach()[:, :modulus]}
        across = {"unembedding": view.network.unembedding.detach(), "neurons": neurons_to_logits(view.network)}
        matrices |= {
            name: matrix[:, :, :modulus].transpose(1, 2) for name, matrix in across.items() if matrix is not None
        }
        found = {}
        for name, matrix_RPD in matrices.items():
            matrix = to_double(matrix_RPD)
            components_RPD = fourier_basis(modulus, matrix.device) @ matrix
            whole_RF = frequency_shares(torch.linalg.vector_norm(components_RPD, dim=-1))
            of_columns = frequency_shares(components_RPD.transpose(1, 2).flatten(0, 1))
            columns_RD = inverse_participation(of_columns).unflatten(0, (view.runs, -1))
            found[f"participation/{name}"] = inverse_participation(whole_RF)
            found[f"participation/{name}_columns"] = columns_RD.nanmean(1)
        return found
