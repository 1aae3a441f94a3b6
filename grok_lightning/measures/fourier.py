"""Fourier spectra of the embedding and unembedding matrices."""

import math

import torch
from torch import Tensor

from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.operation import Operation
from grok_lightning.data.renumbered import RenumberedAlgebra
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError, show
from grok_lightning.groups.law import GroupLaw, find_law
from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View, require_matrices
from grok_lightning.measures.operations import RunsOfOperation, measure_each, require_elements
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


def spectra(
    network: SequenceModel, modulus: int, operands_P: Tensor | None = None, answers_P: Tensor | None = None
) -> dict[str, Tensor]:
    """The spectra, (R, p) each, of the rows of p numbers.

    Args:
        network: The stack.
        modulus: p.
        operands_P: The token of each number as an operand; default: 0..p-1.
        answers_P: The token of each number as an answer; default: 0..p-1.

    Returns:
        ``embedding``: over the embedding's rows. ``unembedding``: over its columns. ``neurons``: over those of the map
        from neurons to logits, where the network has one.
    """
    operands, answers = (torch.arange(modulus) if each is None else each for each in (operands_P, answers_P))
    columns = {"unembedding": network.unembedding.detach(), "neurons": neurons_to_logits(network)}
    embedding = network.embedding.detach()
    found = {"embedding": spectrum(embedding.index_select(1, operands.to(embedding.device)))}
    for name, matrix in columns.items():
        if matrix is not None:
            found[name] = spectrum(matrix.index_select(2, answers.to(matrix.device)).transpose(1, 2))
    return found


def find_cyclic_law(operation: Operation) -> GroupLaw | None:
    """The change of variables that makes an operation an addition mod n; None if there is none (see ``find_law``)."""
    law = find_law(operation)
    return law if law is not None and law.is_cyclic and len(law.group) > 1 else None


def spectra_of_law(network: SequenceModel, law: GroupLaw) -> dict[str, Tensor]:
    """``spectra`` in the variables of a cyclic law; NaN of a matrix whose rows do not stand for the numbers."""
    numbers = [None if each is None else torch.from_numpy(each) for each in (law.operand_G, law.answer_G)]
    found = spectra(network, len(law.group), *numbers)
    for name, spectrum_RP in found.items():
        if numbers[name != "embedding"] is None:
            spectrum_RP.fill_(torch.nan)
    return found


def require_integers(measure: str, data: SequenceDataModule) -> TableDataModule:
    """Checks that the elements of the data are the integers mod p and each has a token.

    Raises:
        UserError: If they are over something else, or not written with one token for each number.
    """
    if not isinstance(data, TableDataModule) or not isinstance(data.operation.algebra, IntegersMod):
        _refuse_renumbered(measure, data)
        raise UserError(
            f"measures names {measure}, which needs integers mod p, such as data ModularArithmeticDataModule"
        )
    require_elements(measure, data)
    return data


def _refuse_renumbered(measure: str, data: SequenceDataModule) -> None:
    algebra = data.operation.algebra if isinstance(data, TableDataModule) else None
    if isinstance(algebra, RenumberedAlgebra) and isinstance(algebra.original, IntegersMod):
        raise UserError(
            f"measures names {measure}, which needs the integers mod p in their order, and data.numbering_seed is "
            f"{algebra.seed}; leave it out"
        )


def require_cyclic(measure: str, data: SequenceDataModule) -> TableDataModule:
    """Checks that the elements of the data are the integers mod p, or that their formulas are additions mod n.

    Raises:
        UserError: If neither is so, or they are not written with one token for each element.
    """
    if not isinstance(data, TableDataModule) or isinstance(data.operation.algebra, IntegersMod):
        return require_integers(measure, data)
    if not all(map(find_cyclic_law, data.operations)):
        _refuse_renumbered(measure, data)
        raise UserError(
            f"measures names {measure}, which needs integers mod p, such as data ModularArithmeticDataModule, or a "
            "formula that a change of variables makes an addition mod n; data.formula is "
            f"{show(data.operation.formula.text)}"
        )
    require_elements(measure, data)
    return data


class Fourier(Measure):
    """Gini coefficients of the Fourier spectra of embedding and unembedding, and their key frequencies.

    The spectra are those of ``spectra``. A Gini coefficient is that of all p norms, sines, cosines and the constant
    each for itself, as in arXiv 2301.05217. A share is a frequency's part of the squared norm, the constant aside.

    A formula that a change of variables makes an addition mod n is seen in these variables, as ``find_law`` finds them:
    ``x * y`` and ``x / y`` mod p in the discrete logarithm to the base of the smallest primitive root, mod p - 1 and
    without 0. The embedding is taken by the operand that stands for each number, the others by the answer; where there
    is none, as in (x + y)**2 for answers, their values are NaN. Any other formula over the integers mod p is seen in
    the numbers as they are. So a sample of a table (``data.rows``), which tells no law, is taken with ``plain`` alone.
    Cost: a product of p x p and p x D of each matrix and run.

    Args:
        top: Key frequencies recorded of each matrix. With their shares; at most p // 2.
        plain: Take the numbers as they are, in any formula. Only of integers mod p.
    """

    def __init__(self, top: int = 5, plain: bool = False) -> None:
        if top < 0:
            raise UserError(f"measures.Fourier.top is {top}; it must be at least 0")
        self.top, self.plain = top, plain

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        table = require_cyclic("Fourier", data)
        if self.plain and not isinstance(table.operation.algebra, IntegersMod):
            raise UserError("measures.Fourier.plain is true, which needs integers mod p; leave it out")
        if not self.plain and any(operation.is_sample for operation in table.operations):
            raise UserError(
                "measures names Fourier, which finds its variables from a whole table, and data.rows takes a part of "
                "it; measures.Fourier.plain true takes the numbers as they are"
            )
        require_matrices("Fourier", network)

    def __call__(self, view: View) -> dict[str, Tensor]:
        return measure_each(require_cyclic("Fourier", view.data), lambda own: self._measure(view, own))

    def _measure(self, view: View, own: RunsOfOperation) -> dict[str, Tensor]:
        law = None if self.plain else find_cyclic_law(own.operation)
        modulus = own.operation.algebra.size if law is None else len(law.group)
        of = spectra(view.network, modulus) if law is None else spectra_of_law(view.network, law)
        found = {}
        for name, spectrum_RP in of.items():
            found[f"fourier/{name}_gini"] = gini(spectrum_RP[own.runs])
            frequencies, shares = key_frequencies(spectrum_RP[own.runs], min(self.top, modulus // 2))
            for place in range(frequencies.shape[1]):
                share = shares[:, place]
                found[f"fourier/{name}_key_{place + 1}"] = to_double(frequencies[:, place]).where(
                    share.isfinite(), torch.nan
                )
                found[f"fourier/{name}_share_{place + 1}"] = share
        return found
