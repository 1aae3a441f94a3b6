"""What is lost without a part of a network: a head, a feed-forward part, or a component of its embedding."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from grok_lightning.errors import UserError
from grok_lightning.figures.elements import NothingToShow
from grok_lightning.inspection.basis import Basis, Floats
from grok_lightning.inspection.subject import SPLITS, Subject
from grok_lightning.models import MLP, ResidualMLP, SequenceModel, Transformer
from grok_lightning.models.embeddings import FactoredEmbedding
from grok_lightning.models.ordinary import ModuleStack
from grok_lightning.models.perceptron import OneHotLinear, Perceptron
from grok_lightning.models.recurrent import Recurrent
from grok_lightning.models.residual_mlp import ResidualBlock
from grok_lightning.models.transformer import Block

MOST_PARTS = 16
Change = Callable[[], None]


class Losses(NamedTuple):
    """Accuracy and loss (P, 3) of training, validation and test rows; NaN of a split without rows."""

    accuracy: Floats
    loss: Floats


def measure_whole(subject: Subject) -> Losses:
    """Accuracy and loss of the whole network, on the rows that ablations are of: (1, 3)."""
    return _score([subject.score(subject.ablated_table)], subject)


def ablate_parts(subject: Subject) -> tuple[list[str], Losses]:
    """Accuracy and loss without each attention head, and without each feed-forward part.

    The output of the part is zero at all positions. Of a user's network the parts are its direct submodules, with their
    outputs zero.

    Returns:
        The P parts, and their ``Losses``, in nats of cross-entropy.

    Raises:
        NothingToShow: If nothing would be left of the network without a part.
    """
    network = subject.network
    if isinstance(network, Transformer | ResidualMLP):
        parts = _list_parts(network)
        return list(parts), _score(_pass_without(subject, parts), subject)
    if isinstance(network, MLP | Recurrent):
        kind = type(network).__name__
        raise NothingToShow(f"{kind} has no residual path around its layers: without one, nothing reaches the answer")
    owner: nn.Module = network.module if isinstance(network, ModuleStack) else network
    known = network.part_names(subject.table.tokens_XNT[:, :2])
    names = [name for name, _ in owner.named_children() if name in known][:MOST_PARTS]
    if len(names) < 2:
        raise NothingToShow("the network has no parts of its own that could be left out")
    passes = []
    for name in names:
        with network.hooks({name: torch.zeros_like}):
            passes.append(subject.score(subject.ablated_table))
    return names, _score(passes, subject)


def ablate_components(subject: Subject, basis: Basis, components: Sequence[int]) -> Losses:
    """Accuracy and loss without some components of the embedding of the elements, one at a time.

    Each element's vector loses its part in the component: of a frequency k the cosine and sine of k times the element.
    With tied weights the unembedding loses it too; with one-hot inputs, the first map's rows of all positions.

    Returns:
        ``Losses`` of the components, in nats of cross-entropy.

    Raises:
        NothingToShow: If the network has no embedding.
    """
    try:
        tables = _find_tables(subject.network)
    except UserError as error:
        raise NothingToShow(str(error)) from None
    changes: dict[str, Change] = {
        str(component): partial(_remove, tables, basis, component) for component in components
    }
    return _score(_pass_without(subject, changes), subject)


def _list_parts(network: Transformer | ResidualMLP) -> dict[str, Change]:
    """What takes each head and each feed-forward part out of a network of residual blocks, by name."""
    heads: dict[str, Change] = {}
    others: dict[str, Change] = {}
    for number, block in enumerate(cast(Sequence[Block | ResidualBlock], network.layers)):
        outer = block.feedforward.outer
        if isinstance(block, Block):
            out = block.attention.out
            width = out.weight.shape[1] // block.attention.heads
            for head in range(block.attention.heads):
                rows = out.weight[:, head * width : (head + 1) * width]  # what the output map makes of this head
                heads[f"layer {number}, head {head}"] = partial(_zero, [rows])
        whole = [outer.weight] if outer.bias is None else [outer.weight, outer.bias]
        others[f"layer {number}, feed-forward"] = partial(_zero, whole)
    return heads | others


def _zero(tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        tensor.zero_()


def _find_tables(network: SequenceModel) -> list[Tensor]:
    """The tables (V, D) that tokens are looked up in; of a product of matrices the first, (V, K)."""
    if isinstance(network, Perceptron) and isinstance(network.entrance, OneHotLinear):
        first = network.entrance
        return list(first.weight[0].unflatten(0, (first.length, -1)).unbind(0))
    factored = [part for part in network.modules() if isinstance(part, FactoredEmbedding)]
    return [factored[0].table.weight[0] if factored else network.embedding[0]]


def _remove(tables: list[Tensor], basis: Basis, component: int) -> None:
    for table in tables:
        elements = torch.from_numpy(basis.elements_N).to(table.device)
        own = table.detach()[elements].double().cpu().numpy()
        table[elements] = torch.from_numpy(own - basis.project(own, component)).to(table)


def _pass_without(subject: Subject, changes: dict[str, Change]) -> Iterator:
    """A pass for each change of the weights, which are put back after it."""
    for change in changes.values():
        with _kept(subject.network), torch.no_grad():
            change()
            yield subject.score(subject.ablated_table)


@contextmanager
def _kept(network: nn.Module) -> Iterator[None]:
    """Puts all weights back at its end."""
    before = [weight.detach().clone() for weight in network.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, own in zip(network.parameters(), before, strict=True):
                weight.copy_(own)


def _score(passes: Iterator | list, subject: Subject) -> Losses:
    accuracy, loss = [], []
    for passed in passes:
        scores = [passed.score(subject.ablated_table.rows_RN[split]) for split in SPLITS]
        counts = [max(int(score.equations[0]), 0) for score in scores]
        pairs = list(zip(scores, counts, strict=True))
        accuracy.append([int(score.correct[0]) / count if count else np.nan for score, count in pairs])
        loss.append([float(score.loss[0]) / count if count else np.nan for score, count in pairs])
    return Losses(np.array(accuracy).reshape(-1, len(SPLITS)), np.array(loss).reshape(-1, len(SPLITS)))
