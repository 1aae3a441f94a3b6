"""An ordinary module whose parts have names that tell nothing."""

from torch import Tensor, nn


class Unnamed(nn.Module):
    """Whose embedding, positions and head are not told by their names."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.lookup, self.where = nn.Embedding(vocabulary, 6), nn.Embedding(4, 6)
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.second(self.first(self.lookup(tokens) + self.where.weight).relu())
        return logits
