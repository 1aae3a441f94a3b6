import torch
from torch import Tensor, nn


class TinyNet(nn.Module):
    """An embedding, one hidden layer, and a linear head.

    Args:
        vocabulary: Number of tokens.
        length: Number of input tokens.
        width: Embedding dimension.
        dropout: Dropout rate of the hidden layer.
    """

    def __init__(self, vocabulary: int, length: int, width: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.hidden = nn.Linear(length * width, 4 * width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).flatten(1)
        return self.head(self.dropout(torch.relu(self.hidden(x))))
