"""Fourier spectra of the embedding and unembedding matrices."""

import math

import torch
from torch import Tensor

from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.data.tokenizer import ElementTokenizer
from grok_lightning.errors import UserError
from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View, require_matrices
from grok_lightning.models import SequenceModel
from grok_lightning.models.stacked import Linear


def fourier_basis(modulus: int, device: torch.device | None = None) -> Tensor:
    """The real Fourier basis over the p integers mod p: (p, p) float64, one unit vector a row.

    In order: the constant, cos 1, sin 1, cos 2, sin 2, ..., and for even p last the alternating one (cos p/2). Row i
    has frequency (i + 1) // 2.
    """
    row = torch.arange(modulus, device=device)
    cycles = ((row + 1) // 2)[:, None] * row % modulus  # reduced before it is rounded
    angles = to_double(cycles) * (2 * math.pi / modulus)
    is_sine = ((row > 0) & (row % 2 == 0)).to(angles.device)
    waves = torch.where(is_sine[:, None], angles.sin(), angles.cos())
    return waves / torch.linalg.vector_norm(waves, dim=1, keepdim=True)


def spectrum(matrix_RPD: Tensor) -> Tensor:
    """Norms of the Fourier components of p vectors, over their width: (R, p), in the order of ``fourier_basis``."""
    matrix = to_double(matrix_RPD)
    return torch.linalg.vector_norm(fourier_basis(matrix.shape[1], matrix.device) @ matrix, dim=-1)


def gini(values_RP: Tensor) -> Tensor:
    """Gini coefficient of p numbers from 0 up: 0 if all are equal, 1 - 1/p if all but one are 0; shape (R,).

    Hurley and Rickard, "Comparing measures of sparsity", 2009.
    """
    count = values_RP.shape[-1]
    weight = 2 * torch.arange(1, count + 1, device=values_RP.device) - count - 1
    return (values_RP.sort(dim=-1).values * weight).sum(-1) / (count * values_RP.sum(-1))


def frequency_shares(spectrum_RP: Tensor) -> Tensor:
    """Each frequency's share of the squared norm of all but the constant: (R, p // 2), frequency 1 first."""
    squares = spectrum_RP[:, 1:].square()
    squares = torch.nn.functional.pad(squares, (0, squares.shape[1] % 2))  # the alternating one has no sine
    of_frequency = squares.unflatten(1, (-1, 2)).sum(-1)
    return of_frequency / of_frequency.sum(-1, keepdim=True)


def key_frequencies(spectrum_RP: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The ``top`` frequencies with the largest shares, largest first, and the shares: (R, top), int64 and float64."""
    shares, places = frequency_shares(spectrum_RP).topk(top, dim=-1)
    return places + 1, shares


def neurons_to_logits(network: SequenceModel) -> Tensor | None:
    """The map from the neurons of a network's last feed-forward part to the logits: (R, F, V), float64, or None.

    It is the W_U W_out of arXiv 2301.05217. A norm between the two is left out.
    """
    outer = [part for name, part in network.named_modules() if name.endswith("feedforward.outer")]
    if not outer or not isinstance(outer[-1], Linear):
        return None
    return to_double(outer[-1].weight.detach()) @ to_double(network.unembedding.detach())


def spectra(network: SequenceModel, modulus: int) -> dict[str, Tensor]:
    """The spectra, (R, p) each, of the rows of the numbers 0..p-1, whose tokens come first.

    Args:
        network: The stack.
        modulus: p.

    Returns:
        ``embedding``: over the embedding's rows. ``unembedding``: over its columns. ``neurons``: over those of the map
        from neurons to logits, where the network has one.
    """
    columns = {"unembedding": network.unembedding.detach(), "neurons": neurons_to_logits(network)}
    found = {"embedding": spectrum(network.embedding.detach()[:, :modulus])}
    for name, matrix in columns.items():
        if matrix is not None:
            found[name] = spectrum(matrix[:, :, :modulus].transpose(1, 2))
    return found


def require_integers(measure: str, data: SequenceDataModule) -> TableDataModule:
    """Checks that the elements of the data are the integers mod p and each has a token.

    Raises:
        UserError: If they are over something else, or not written with one token for each number.
    """
    if not isinstance(data, TableDataModule) or not isinstance(data.operation.algebra, IntegersMod):
        raise UserError(
            f"measures names {measure}, which needs integers mod p, such as data ModularArithmeticDataModule"
        )
    if not isinstance(data.tokenizer, ElementTokenizer):
        raise UserError(f"measures names {measure}, which needs one token for each number: data.tokenizer elements")
    return data


class Fourier(Measure):
    """Gini coefficients of the Fourier spectra of embedding and unembedding, and their key frequencies.

    The spectra are those of ``spectra``. A Gini coefficient is that of all p norms, sines, cosines and the constant
    each for itself, as in arXiv 2301.05217. A share is a frequency's part of the squared norm, the constant aside.

    Args:
        top: Key frequencies recorded of each matrix. With their shares; at most p // 2.
    """

    def __init__(self, top: int = 5) -> None:
        if top < 0:
            raise UserError(f"measures.Fourier.top is {top}; it must be at least 0")
        self.top = top

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        require_integers("Fourier", data)
        require_matrices("Fourier", network)

    def __call__(self, view: View) -> dict[str, Tensor]:
        modulus = require_integers("Fourier", view.data).operation.algebra.size
        found = {}
        for name, spectrum_RP in spectra(view.network, modulus).items():
            found[f"fourier/{name}_gini"] = gini(spectrum_RP)
            frequencies, shares = key_frequencies(spectrum_RP, min(self.top, modulus // 2))
            for place in range(frequencies.shape[1]):
                found[f"fourier/{name}_key_{place + 1}"] = to_double(frequencies[:, place])
                found[f"fourier/{name}_share_{place + 1}"] = shares[:, place]
        return found
