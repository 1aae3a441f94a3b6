"""Restricted and excluded loss per irreducible representation of a group."""

from torch import Tensor

from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.measures.base import Measure, View
from grok_lightning.measures.irreps import (
    check_irreps,
    check_names,
    find_components,
    part_of_component,
    require_group,
)
from grok_lightning.measures.operations import RunsOfOperation, measure_each, rows_of_law
from grok_lightning.measures.progress import excluded_loss, means_by_answer, restricted_loss
from grok_lightning.models import SequenceModel


class IrrepLosses(Measure):
    """Restricted and excluded loss of each irreducible representation, in nats.

    P projects the logits of each class, over all rows, on the functions of the product x y that are matrix elements of
    the representation (and of its complex conjugate). ``irreps/restricted_loss_4-1`` is the cross-entropy over all rows
    of P . logits and each class's mean; ``irreps/excluded_loss_4-1`` that over the training rows of the logits less
    P . logits. Of ``x + y`` mod n they are those of ``Progress`` for one frequency. Groups, names and answers in the
    product's place are as for ``Irreps``. Where products come unequally often, P projects their means.

    arXiv 2302.03025 has such losses for networks on groups, arXiv 2301.05217 for addition; this is the latter's
    definition for any group. Cost: two passes over the logits; for each of K representations a pass over those of the
    training rows, and one over n x V; products of n x n with n x V.

    Args:
        irreps: Names of the representations that are recorded. Default: all, at most 64.
    """

    def __init__(self, irreps: list[str | int] | None = None) -> None:
        check_names("IrrepLosses", irreps)
        self.irreps = irreps

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        check_irreps("IrrepLosses", data, self.irreps)

    def __call__(self, view: View) -> dict[str, Tensor]:
        return measure_each(require_group("IrrepLosses", view.data), lambda own: self._measure(view, own))

    def _measure(self, view: View, own: RunsOfOperation) -> dict[str, Tensor]:
        components = find_components(own.operation)
        rows = rows_of_law(view, components.law, own)
        products_N = rows.products_N[rows.kept]
        means_RSP = means_by_answer(rows.logits_RNP[:, rows.kept], products_N, len(components.law.group))
        found = {}
        for component in components.choose(self.irreps):
            name = components.basis.names[component]
            part_RSP = part_of_component(components.basis, component, means_RSP)
            found[f"irreps/restricted_loss_{name}"] = restricted_loss(
                part_RSP, means_RSP, rows.answers_S, rows.counts_S
            )
            found[f"irreps/excluded_loss_{name}"] = excluded_loss(
                rows.logits_RNP, part_RSP, rows.products_N, rows.train, rows.targets_RN
            )
        return found
