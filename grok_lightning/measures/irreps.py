"""Power per irreducible representation of a group in embedding, unembedding, neurons and logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from grok_lightning.data.operation import Operation
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError, show
from grok_lightning.groups.fourier import RealBasis, build_real_basis
from grok_lightning.groups.group import require_moderate
from grok_lightning.groups.irreps import cyclic_irreps, find_irreps
from grok_lightning.groups.law import GroupLaw, find_law, find_own_group
from grok_lightning.hardware.doubles import double_device, to_double
from grok_lightning.measures.base import Measure, View
from grok_lightning.measures.fourier import neurons_to_logits
from grok_lightning.measures.operations import (
    RowsOfLaw,
    RunsOfOperation,
    measure_each,
    require_elements,
    rows_of_law,
)
from grok_lightning.measures.progress import means_by_answer
from grok_lightning.models import SequenceModel

MOST = 64  # representations whose values are recorded unless they are named
SHOWN = 12  # of their names in an error


@dataclass(frozen=True, eq=False)
class Components:
    """The group of an operation, and the real functions on it by representation.

    Attributes:
        law: The operation as a product in the group.
        basis: Of the real functions on the group.
    """

    law: GroupLaw
    basis: RealBasis

    def choose(self, names: Sequence[str | int] | None) -> list[int]:
        """The numbers of components by their names; default: of all but the trivial one, which is number 0."""
        known = self.basis.names
        return list(range(1, len(known))) if names is None else [known.index(str(name)) for name in names]


_FOUND: WeakKeyDictionary[Operation, Components] = WeakKeyDictionary()


def find_group_law(operation: Operation) -> GroupLaw | None:
    """The group of an operation: where it is a product (``find_law``), else that of all elements under ``*``."""
    return find_law(operation) or find_own_group(operation)


def find_components(operation: Operation) -> Components:
    """The group of an operation and its representations; remembered.

    That there is a group, of moderate size, is checked before.
    """
    if operation not in _FOUND:
        law = find_group_law(operation)
        assert law is not None
        by_frequency = law.is_cyclic and law.algebra is None
        irreps = cyclic_irreps(len(law.group)) if by_frequency else find_irreps(law.group, law.algebra)
        _FOUND[operation] = Components(law, build_real_basis(irreps))
    return _FOUND[operation]


def require_group(measure: str, data: SequenceDataModule) -> TableDataModule:
    """Checks that the formulas of the data belong to a group, whose elements all occur as answers.

    Raises:
        UserError: If they do not, or elements are not written with one token each.
    """
    needs = f"measures names {measure}, which needs a formula that is a product in a group, such as x * y over"
    if not isinstance(data, TableDataModule):
        raise UserError(f"{needs} data PermutationDataModule")
    require_elements(measure, data)
    for operation in data.operations:
        law = find_group_law(operation) if operation.formula.arity == 2 else None
        whole = law is not None and len(set(law.products_N.tolist()) - {-1}) == len(law.group)
        if not whole or law is None:
            raise UserError(
                f"{needs} permutations or x / y mod p, all rows of it and every element as an answer; data.formula is "
                f"{show(operation.formula.text)}, with {len(operation):,} rows"
            )
    return data


def check_irreps(measure: str, data: SequenceDataModule, names: Sequence[str | int] | None) -> None:
    """Checks that a measure per representation can be taken.

    Raises:
        UserError: If there is no group, or it is too large; if there is no representation of a name, or there are more
            than ``MOST`` and none is named.
    """
    for operation in require_group(measure, data).operations:
        law = find_group_law(operation)
        if law is not None:
            what = (
                f"measures names {measure}, and data.formula {show(operation.formula.text)} {operation.algebra.title}"
            )
            require_moderate(len(law.group), what)
        known = find_components(operation).basis.names[1:]
        listed = ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "")
        if not known:
            raise UserError(f"measures names {measure}, but the group of {show(operation.formula.text)} is trivial")
        if names is None and len(known) > MOST:
            raise UserError(
                f"measures names {measure}, but the group of data.formula {show(operation.formula.text)} has "
                f"{len(known)} representations; name up to {MOST} in measures.{measure}.irreps, of {listed}"
            )
        wrong = next((name for name in names or [] if str(name) not in known), None)
        if wrong is not None:
            raise UserError(f"measures.{measure}.irreps has {show(str(wrong))}; expected are some of {listed}")


def check_names(measure: str, names: Sequence[str | int] | None) -> None:
    """Refuses an empty list of names, and one that occurs twice.

    Raises:
        UserError: If so.
    """
    if names is not None and (not names or len(set(map(str, names))) < len(names)):
        raise UserError(f"measures.{measure}.irreps is {show(list(names))}; give names, each once, or null for all")


def power_shares(basis: RealBasis, matrix_RGD: Tensor) -> Tensor:
    """Each representation's share of the squared norm of all but the trivial one: (R, K), summed over the width.

    Args:
        basis: Of n functions, K representations.
        matrix_RGD: Vectors by group element, (R, n, D).
    """
    matrix = to_double(matrix_RGD)
    coefficients = torch.from_numpy(basis.basis_GG).to(matrix) @ matrix
    component_G = torch.from_numpy(basis.component_G).to(matrix.device)
    sums = matrix.new_zeros(len(matrix), len(basis.names))
    power_RK = sums.index_add_(1, component_G, coefficients.square().sum(-1))
    return power_RK / power_RK[:, 1:].sum(-1, keepdim=True)


def part_of_component(basis: RealBasis, component: int, means_RSP: Tensor) -> Tensor:
    """The projection of functions of the product s on one representation's: (R, n, P)."""
    rows = torch.from_numpy(basis.basis_GG[basis.component_G == component]).to(means_RSP)
    return rows.T @ (rows @ means_RSP)


def logit_shares(rows: RowsOfLaw, basis: RealBasis, chosen: list[int]) -> Tensor:
    """Shares of the logits' squared norm that are functions of the product in each representation: (R, K).

    Of logits less their mean over the P classes, and less each class's mean over the rows. Those that are no function
    of the product make up what is missing to 1.

    Args:
        rows: The logits.
        basis: Of the functions of the product.
        chosen: The K representations.
    """
    logits = rows.logits_RNP[:, rows.kept].double()
    logits = logits - logits.mean(-1, keepdim=True)
    logits = logits - logits.mean(1, keepdim=True)
    means_RSP = means_by_answer(logits, rows.products_N[rows.kept], len(basis.component_G))
    counts_S = rows.counts_S.double()
    parts = [part_of_component(basis, component, means_RSP).square().sum(-1) @ counts_S for component in chosen]
    return torch.stack(parts, 1) / logits.square().sum((1, 2))[:, None]


class Irreps(Measure):
    """Share of each irreducible representation in embedding, unembedding, neurons and logits.

    ``irreps/embedding_4-1`` is the part of the squared norm of the embedding, as a function on the group, that lies in
    the matrix elements of representation ``4-1``, the trivial one aside; ``unembedding`` and ``neurons`` (the map from
    neurons to logits) are the same by answer, and these shares add up to 1. ``logits`` is that of the logits as
    functions of the product, of all that varies from row to row (``logit_shares``). A representation and its complex
    conjugate are one. Names are those of ``find_irreps``: partitions for permutations, frequencies for cyclic groups.

    The group is that in which the formula is a product (``find_law``), or that of all elements under ``*``, as for
    ``x * y * x**-1``, where the answer takes the product's place. Where no operand or answer stands for an element, as
    for operands of ``x**2 * y**2``, its values are NaN. Of a matrix that the network lacks there are none.

    Chughtai, Chan and Nanda, arXiv 2302.03025, find networks to use few representations; the shares are ours. Of the
    integers mod n those of the matrices are ``frequency_shares``. Cost: two passes over the logits, and a product of
    n x n with n x D for each matrix and n x V for the logits, of n elements.

    Args:
        irreps: Names of the representations that are recorded. Default: all, at most 64.
    """

    def __init__(self, irreps: list[str | int] | None = None) -> None:
        check_names("Irreps", irreps)
        self.irreps = irreps

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        check_irreps("Irreps", data, self.irreps)

    def __call__(self, view: View) -> dict[str, Tensor]:
        return measure_each(require_group("Irreps", view.data), lambda own: self._measure(view, own))

    def _measure(self, view: View, own: RunsOfOperation) -> dict[str, Tensor]:
        components = find_components(own.operation)
        chosen = components.choose(self.irreps)
        shares = {
            name: shares_RK[own.runs][:, chosen]
            for name, shares_RK in _matrix_shares(view.network, components, view.device).items()
        }
        shares["logits"] = logit_shares(rows_of_law(view, components.law, own), components.basis, chosen)
        return {
            f"irreps/{name}_{components.basis.names[component]}": shares_RK[:, place]
            for name, shares_RK in shares.items()
            for place, component in enumerate(chosen)
        }


def _matrix_shares(network: SequenceModel, components: Components, device: torch.device) -> dict[str, Tensor]:
    """The shares (R, K) of each matrix that the network has."""
    matrices: dict[str, Tensor | None] = {}
    for name, attribute in (("embedding", "embedding"), ("unembedding", "unembedding")):
        try:
            matrices[name] = getattr(network, attribute).detach()
        except UserError:
            matrices[name] = None
    if matrices["unembedding"] is not None:
        matrices["neurons"] = neurons_to_logits(network)
    law, found = components.law, {}
    for name, matrix in matrices.items():
        if matrix is None:
            continue
        by_element = matrix if name == "embedding" else matrix.mT
        numbers = law.operand_G if name == "embedding" else law.answer_G
        if numbers is None:
            shape = len(matrix), len(components.basis.names)
            found[name] = torch.full(shape, torch.nan, dtype=torch.float64, device=double_device(device))
        else:
            places = torch.from_numpy(numbers).to(by_element.device)
            found[name] = power_shares(components.basis, by_element.index_select(1, places))
    return found
