"""Coset concentration of neurons: how nearly they are constant on the cosets of subgroups."""

import re
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from grok_lightning.data.operation import Operation
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.errors import UserError, show
from grok_lightning.groups import cosets
from grok_lightning.groups.law import GroupLaw
from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View
from grok_lightning.measures.irreps import find_group_law, require_group
from grok_lightning.measures.operations import RunsOfOperation, measure_each
from grok_lightning.models import SequenceModel
from grok_lightning.models.base import device_of
from grok_lightning.models.ordinary import ModuleStack

NEURONS = re.compile(r"(layers\.\d+\.)?feedforward\.(inner|\d+)|recurrent\.\d+\.hidden")
ROWS_AT_ONCE = 2048


def coset_concentration(values_RGF: Tensor, cosets_G: Tensor) -> Tensor:
    """The share of a function's variance that lies between cosets, 1 if it is constant on each: (R, F), float64.

    Its expectation for values drawn independently from a normal distribution is (k - 1) / (n - 1), of k cosets and n
    elements. NaN of a constant function.

    Args:
        values_RGF: F functions on the group's n elements.
        cosets_G: The number of each element's coset, int64; all have equally many elements.
    """
    values = to_double(values_RGF)
    centered = values - values.mean(1, keepdim=True)
    cosets_G = cosets_G.to(centered.device)
    count = int(cosets_G.max()) + 1
    sums = centered.new_zeros(len(centered), count, centered.shape[2]).index_add_(1, cosets_G, centered)
    between = sums.square().sum(1) * count / len(cosets_G)
    total = centered.square().sum(1)
    rounding = 1e-20 * values.square().sum(1)  # of a constant, whose mean may be rounded
    return torch.where(total > rounding, between / total, torch.nan)


def correct_for_chance(concentration: Tensor, cosets_G: Tensor) -> Tensor:
    """(c - e) / (1 - e) of a concentration c and what is expected of noise, e: 1 of an exact one, about 0 of noise."""
    expected = int(cosets_G.max()) / (len(cosets_G) - 1)
    return (concentration - expected) / (1 - expected)


@dataclass(frozen=True, eq=False)
class _Partitions:
    """The group of an operation, and its partitions into cosets, by the name of the class of subgroups."""

    law: GroupLaw
    by_class: dict[str, list[Tensor]]


class Cosets(Measure):
    """How nearly neurons are constant on the cosets of a subgroup, as functions of x, and as functions of y.

    A neuron's function of x is its mean over all y, at the last position of the prompt, and that of y its mean over all
    x. The concentration of a function on the cosets of a subgroup is the share of its variance that lies between them,
    corrected for what noise has (``coset_concentration``, ``correct_for_chance``): 1 if it is constant on each coset,
    0 on average if it is noise. Of a class of conjugate subgroups a neuron takes the largest, over these and over left
    and right cosets; so noise comes out above 0.

    ``cosets/x_24a`` is the mean over neurons for one class, named by the order of its subgroups and a letter
    (``groups.cosets.find_subgroup_classes`` lists them); ``cosets/x`` the mean of each neuron's largest over all
    classes; ``cosets/y`` and so on are the same of y. Neurons that are constant do not count; NaN if all are, and of an
    operand that does not stand for the elements one by one, such as x in ``x**2 + y``.

    Stander and others, arXiv 2312.06581, find neurons whose two inputs are constant on cosets in networks on S5 and S6;
    the statistic is ours. Each operand stands for the element that it is in the product. Cost: a forward pass of all
    rows at all positions, without what evaluation saves; then products of k x n and n x F for each partition into k
    cosets.

    Args:
        part: Name of the neurons, as in ``run.activations``. Default: those of the last feed-forward layer
            before its activation, of a recurrent network the state of its last layer.
        largest_index: Largest number of cosets of a subgroup. Larger ones are not looked at; from 2 up.
    """

    def __init__(self, part: str | None = None, largest_index: int = 12) -> None:
        if largest_index < 2:
            raise UserError(f"measures.Cosets.largest_index is {largest_index}; it must be at least 2")
        self.part, self.largest_index = part, largest_index
        self._found: WeakKeyDictionary[Operation, _Partitions] = WeakKeyDictionary()

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        table = require_group("Cosets", data)
        tokens_RBT = table.tokens(table.operation.operands_NK[:1]).to(device_of(network))
        neuron_values(network, self._choose_part(network), tokens_RBT)
        for operation in table.operations:
            law, formula = find_group_law(operation), f"data.formula {show(operation.formula.text)}"
            if law is None or law.operand_G is None:
                raise UserError(
                    f"measures names Cosets, which needs an operand for each element of the group of {formula}"
                )
            if len(law.group) > cosets.LARGEST:
                raise UserError(
                    f"measures names Cosets, which lists the subgroups of at most {cosets.LARGEST} elements; {formula} "
                    f"is over {len(law.group):,}"
                )
            if not self._partitions(operation).by_class:
                raise UserError(
                    f"measures names Cosets, but the group of {formula}, of {len(law.group)} elements, has no subgroup "
                    f"of 2 to {self.largest_index} cosets but the trivial one; if there are others raise "
                    "measures.Cosets.largest_index"
                )

    def __call__(self, view: View) -> dict[str, Tensor]:
        return measure_each(require_group("Cosets", view.data), lambda own: self._measure(view, own))

    def _measure(self, view: View, own: RunsOfOperation) -> dict[str, Tensor]:
        partitions = self._partitions(own.operation)
        found = {}
        means = neuron_means(view, own.operation, partitions.law, self._choose_part(view.network))
        for operand, values_RGF in zip("xy", means, strict=True):
            by_class = {
                name: torch.stack([_concentrate(values_RGF[own.runs], each) for each in several]).amax(0)
                for name, several in partitions.by_class.items()
            }
            found[f"cosets/{operand}"] = torch.stack(list(by_class.values())).amax(0).nanmean(-1)
            found |= {f"cosets/{operand}_{name}": best_RF.nanmean(-1) for name, best_RF in by_class.items()}
        return found

    def _choose_part(self, network: SequenceModel) -> str:
        modules = network.module if isinstance(network, ModuleStack) else network
        names = [name for name, _ in modules.named_modules() if name]
        if self.part is not None:
            if self.part not in names:
                raise UserError(f"measures.Cosets.part is {show(self.part)}, of which this network computes nothing")
            return self.part
        found = [name for name in names if NEURONS.fullmatch(name)]
        if not found:
            raise UserError(
                f"measures names Cosets, but model.network has no feed-forward layer of a known name; name its neurons "
                f"in measures.Cosets.part, one of {', '.join(names[:12])}"
            )
        return found[-1]

    def _partitions(self, operation: Operation) -> _Partitions:
        if operation not in self._found:
            law = find_group_law(operation)
            assert law is not None
            self._found[operation] = _Partitions(
                law,
                {
                    each.name: [torch.from_numpy(part) for part in cosets.find_partitions(law.group, each)]
                    for each in cosets.find_subgroup_classes(law.group, self.largest_index)
                },
            )
        return self._found[operation]


def _concentrate(values_RGF: Tensor, cosets_G: Tensor) -> Tensor:
    return correct_for_chance(coset_concentration(values_RGF, cosets_G), cosets_G)


@torch.no_grad()
def neuron_values(network: SequenceModel, part: str, tokens_RBT: Tensor) -> Tensor:
    """Values of a part at the last position of prompts: (R, B, F), float64.

    Args:
        network: The stack.
        part: A name of ``network.activations``.
        tokens_RBT: The prompts.

    Raises:
        UserError: If the part computes nothing, or no vector at each position.
    """
    found: dict[str, Tensor] = {}
    with torch.autocast(tokens_RBT.device.type, enabled=False):
        if isinstance(network, ModuleStack):  # whose hooks act on one run
            found = network.activations(tokens_RBT)
        else:
            with network.hooks({part: lambda value: found.update({part: value})}):
                network(tokens_RBT)
    value = found.get(part)
    if value is None or value.dim() not in (3, 4):
        raise UserError(f"measures.Cosets.part is {show(part)}, which computes no vector of neurons for each equation")
    return to_double(value[:, :, -1] if value.dim() == 4 else value)


def neuron_means(view: View, operation: Operation, law: GroupLaw, part: str) -> tuple[Tensor, Tensor]:
    """Means of neurons at the last position of the prompt, over all y by x and over all x by y: two of (R, n, F).

    Args:
        view: The stack, R runs.
        operation: The operation, whose rows are gone through.
        law: Its group, which gives each of n elements an x and a y; rows that are left out do not count. Means are NaN
            of an operand that does not stand for the elements one by one.
        part: The neurons' name.
    """
    every = np.arange(len(law.group))
    places_NK = np.zeros_like(operation.operands_NK)
    for operand, numbers in enumerate(law.operands_G):
        if numbers is not None:
            elements = np.full(operation.algebra.size, -1)
            elements[numbers] = every
            places_NK[:, operand] = elements[operation.operands_NK[:, operand]]
    rows = np.flatnonzero(law.kept_N & (places_NK >= 0).all(1))
    sums: list[Tensor] = []
    for block in np.split(rows, range(ROWS_AT_ONCE, len(rows), ROWS_AT_ONCE)):
        tokens_RBT = require_group("Cosets", view.data).tokens(operation.operands_NK[block]).to(view.device)
        values_RBF = neuron_values(view.network, part, tokens_RBT)
        if not sums:
            sums = [values_RBF.new_zeros(len(values_RBF), len(law.group), values_RBF.shape[-1]) for _ in range(2)]
        for whole, places in zip(sums, places_NK[block].T, strict=True):
            whole.index_add_(1, torch.from_numpy(places.copy()).to(whole.device), values_RBF)
    counts = (np.bincount(places_NK[rows, operand], minlength=len(law.group)) for operand in (0, 1))
    of_x, of_y = (
        whole / torch.from_numpy(count).to(whole)[:, None] if numbers is not None else torch.full_like(whole, torch.nan)
        for whole, count, numbers in zip(sums, counts, law.operands_G, strict=True)
    )
    return of_x, of_y
