"""Ordinary modules of many kinds, as users write them."""

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Plain(nn.Module):
    def __init__(self, vocabulary: int, length: int, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.hidden = nn.Linear(length * width, 12)
        self.head = nn.Linear(12, vocabulary)

    def act(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.act(self.hidden(self.embedding(tokens).flatten(1))))


class BatchNorm(Plain):
    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__(vocabulary, length)
        self.norm = nn.BatchNorm1d(12)

    def act(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(x))


class Dropout(Plain):
    def __init__(self, vocabulary: int, length: int, rate: float = 0.5) -> None:
        super().__init__(vocabulary, length)
        self.dropout = nn.Dropout(rate)

    def act(self, x: Tensor) -> Tensor:
        return self.dropout(torch.relu(x))


class OtherGenerators(Plain):
    def act(self, x: Tensor) -> Tensor:
        return x * np.random.rand() * random.random() if self.training else x


class DataDependent(Plain):
    def act(self, x: Tensor) -> Tensor:
        return torch.relu(x) if x.sum() > 0 else torch.tanh(x)


class Reassigned(Plain):
    mean: Tensor

    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__(vocabulary, length)
        self.register_buffer("mean", torch.zeros(()))

    def act(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + x.detach().mean()
        return torch.relu(x - self.mean)


class Tied(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.hidden = nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.head = nn.Linear(8, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.scale * torch.tanh(self.hidden(self.embedding(tokens).sum(1))))


class Frozen(Plain):
    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__(vocabulary, length)
        self.embedding.requires_grad_(False)


class Recurrent(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0])


class Encoder(nn.Module):
    def __init__(self, vocabulary: int, length: int, causal: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.positions = nn.Parameter(torch.randn(length, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, vocabulary)
        nn.init.zeros_(self.head.weight)  # which hides at the start what depends on what
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length) if causal else None)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens) + self.positions, mask=self.mask))


class Causal(Encoder):
    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__(vocabulary, length, True)


class DrawnConstant(Plain):
    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__(vocabulary, length)
        self.shift = torch.randn(12)

    def act(self, x: Tensor) -> Tensor:
        return torch.tanh(x + self.shift)


class Classes(nn.Module):
    def __init__(self, classes: int, vocabulary: int, untyped=6) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, untyped)
        self.head = nn.Linear(untyped, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(tokens).sum(1)))


# what is refused


class Lazy(Plain):
    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__(vocabulary, length)
        self.hidden = nn.LazyLinear(12)


class Double(Plain):
    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__(vocabulary, length)
        self.double()


class Empty(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return functional.one_hot(tokens[:, 0], 9).float()


class Flat(Plain):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens).sum(1)


class TooFew(Plain):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens)[:, :5]


class Whole(Plain):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens).long()


class Detached(Plain):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens).detach()


class Pair(Plain):
    def forward(self, tokens: Tensor) -> Tensor:
        return (super().forward(tokens), None)  # type: ignore[return-value]


class Counter(Plain):
    calls = 0

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(tokens) * self.calls


class UnsavedCounter(Plain):
    calls: Tensor

    def __init__(self, vocabulary: int, length: int) -> None:
        super().__init__(vocabulary, length)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(tokens) * self.calls


class Buggy(Plain):
    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens))
