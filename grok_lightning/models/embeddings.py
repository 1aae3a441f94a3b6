"""Token embeddings, whole or as a product of two matrices, and the position embeddings of a transformer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from grok_lightning.models.checks import check_counts, check_memory
from grok_lightning.models.layout import Layout
from grok_lightning.models.stacked import Embedding, Linear, gather


def sinusoids(length: int, width: int) -> Tensor:
    """Fixed positions (T, D): sines in the even columns, cosines in the odd, as in "Attention is all you need"."""
    angles = torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


class FactoredEmbedding(nn.Module):
    """A table of vectors as a product E = A B: A is ``table`` (R, V, K), B is ``map`` (R, K, D), both trained.

    GrokTransfer (Xu et al., arXiv 2504.13292) takes A from the embedding of a weaker network, of width K, and draws B
    at random. A begins normal of standard deviation ``std``, B of 1 / sqrt(K), so that E has that of A.

    Args:
        runs: R.
        vocabulary: V.
        width: D.
        rank: K.
        std: Standard deviation of A, and of E, at the start.
    """

    def __init__(self, runs: int, vocabulary: int, width: int, rank: int, std: float) -> None:
        super().__init__()
        self.table = Embedding(runs, vocabulary, rank, std)
        self.map = Linear(runs, rank, width, False, rank**-0.5)

    @property
    def weight(self) -> Tensor:
        """E, (R, V, D), in the type of the factors: gradients of its rows are not added up in half precision."""
        return torch.bmm(self.table.weight, self.map.weight).to(self.map.weight.dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """Looks up (R, ...) tokens: (R, ..., D)."""
        return gather(self.weight, tokens.flatten(1)).unflatten(1, tokens.shape[1:])


def build_table(runs: int, vocabulary: int, width: int, std: float, rank: int | None) -> Embedding | FactoredEmbedding:
    """The token embeddings of a network.

    Args:
        runs: R.
        vocabulary: V.
        width: D.
        std: Their standard deviation at the start.
        rank: K of a product of two matrices; None for one matrix.

    Raises:
        UserError: If the rank is below 1.
    """
    if rank is None:
        return Embedding(runs, vocabulary, width, std)
    check_counts(embedding_rank=rank)
    check_memory(f"model.network.embedding_rank is {rank}", runs * rank * (vocabulary + width))
    return FactoredEmbedding(runs, vocabulary, width, rank, std)


class Embeddings(nn.Module):
    """The vectors of the tokens, and of their positions where these are learned or sinusoidal, added up.

    Args:
        runs: R.
        vocabulary: V.
        length: The most tokens, T.
        width: D.
        positions: "learned" or "sinusoidal"; anything else adds none.
        std: Standard deviation of what is learned, at the start.
        rank: Of the tokens' embeddings, see ``build_table``.
    """

    sinusoidal: Tensor | None

    def __init__(
        self, runs: int, vocabulary: int, length: int, width: int, positions: str, std: float, rank: int | None = None
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.tokens = build_table(runs, vocabulary, width, std, rank)
        self.positions = Embedding(runs, length, width, std) if positions == "learned" else None
        fixed = sinusoids(length, width) if positions == "sinusoidal" else None
        self.register_buffer("sinusoidal", fixed, persistent=False)

    def forward(self, tokens_RBT: Tensor, layout: Layout) -> Tensor:
        """The rows (R, M, D) of a Layout without beginnings."""
        places_RBT = layout.places_RBT
        # padding gets the vector of token 0, which is never attended to
        vectors: Tensor = self.tokens(tokens_RBT if places_RBT is None else tokens_RBT.clamp(min=0))
        table = self._table()
        if table is None:
            return vectors.flatten(1, 2)
        if places_RBT is None:
            own = table if table.shape[1] == layout.length else table[:, : layout.length]
            return (vectors + own[:, None]).flatten(1, 2)
        runs = tokens_RBT.shape[0]
        return vectors.flatten(1, 2) + gather(table.expand(runs, -1, -1), places_RBT.flatten(1))

    def distinct(self, length: int) -> Tensor:
        """Embeddings of every token at each of T = ``length`` positions: (R, T * V, D); without positions (R, V, D)."""
        table, vectors_RVD = self._table(), self.tokens.weight
        return vectors_RVD if table is None else (table[:, :length, None] + vectors_RVD[:, None]).flatten(1, 2)

    def inputs(self, tokens_RBT: Tensor, layout: Layout) -> Tensor:
        """Index into ``distinct`` of each row of a Layout without padding, (R, M)."""
        runs, _, length = tokens_RBT.shape
        stride = 0 if self._table() is None else self.vocabulary
        starts_T = stride * torch.arange(length, device=tokens_RBT.device)
        shared = length - layout.own_length
        own = (tokens_RBT[:, :, shared:] + starts_T[shared:]).flatten(1)
        if layout.beginnings is None:
            return own
        first = (layout.beginnings.tokens_PS + starts_T[:shared]).flatten()
        return torch.cat([first.expand(runs, -1), own], dim=1)

    def on_grid(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """The vectors of each position, (R, *shape, D), for tokens of any shapes."""
        table = self._table()
        weight_RVD = self.tokens.weight
        vectors = [weight_RVD[:, of_position] for of_position in tokens]
        if table is None:
            return vectors
        middle = [1] * (vectors[0].dim() - 2)
        return [part + table[:, t].view(len(table), *middle, -1) for t, part in enumerate(vectors)]

    def _table(self) -> Tensor | None:
        """Vectors of the positions, (R or 1, T, D)."""
        if self.sinusoidal is not None:
            return self.sinusoidal[None]
        return None if self.positions is None else self.positions.weight
