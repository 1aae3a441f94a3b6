"""Effective rank of the weight matrices."""

import torch
from torch import Tensor

from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View, require_matrices
from grok_lightning.models import SequenceModel
from grok_lightning.models.ordinary import ModuleStack


def effective_rank(matrix_RIO: Tensor) -> Tensor:
    """exp of the entropy of the singular values divided by their sum: (R,), float64, from 1 to the rank.

    Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007. NaN where a matrix is 0
    or not finite.
    """
    matrix = to_double(matrix_RIO.detach())
    finite_R = matrix.isfinite().flatten(1).all(1)
    # on the CPU, where a matrix of 128 x 128 takes 1 ms: a GPU's solver takes those of a stack one by one, and longer
    whole = matrix.where(finite_R[:, None, None], 0.0).cpu()
    # one by one: within a batch LAPACK's last bits depend on where in memory a matrix begins
    values = torch.stack([torch.linalg.svdvals(one) for one in whole]).to(matrix.device)
    parts = values / values.sum(-1, keepdim=True)
    return torch.special.entr(parts).sum(-1).exp()


def hidden_matrices(network: SequenceModel) -> list[Tensor]:
    """Every weight matrix (R, in, out) that is neither in ``embeddings`` nor in ``head``, by its dotted name.

    Of an ordinary module those of its layers that are neither embeddings nor lead to the logits, (R, out, in).
    """
    if isinstance(network, ModuleStack):
        own = network.hidden_matrices()
        return [weight for name, weight in network.named_parameters() if name in own]
    return [
        weight
        for name, weight in network.named_parameters()
        if weight.ndim == 3 and min(weight.shape[1:]) > 1 and not {"embeddings", "head"} & set(name.split("."))
    ]


class Rank(Measure):
    """Effective rank of the embedding and of the unembedding; of the hidden matrices, if there are any, the mean."""

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        require_matrices("Rank", network)

    def __call__(self, view: View) -> dict[str, Tensor]:
        found = {
            "rank/embedding": effective_rank(view.network.embedding),
            "rank/unembedding": effective_rank(view.network.unembedding),
        }
        hidden = [effective_rank(weight) for weight in hidden_matrices(view.network)]
        return found | ({"rank/hidden": torch.stack(hidden).mean(0)} if hidden else {})
