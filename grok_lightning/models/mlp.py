"""The multilayer perceptron on all tokens at once."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from grok_lightning.batch import Draw
from grok_lightning.errors import UserError
from grok_lightning.models.checks import check_choices, check_counts, check_dropout, check_memory, check_scales
from grok_lightning.models.perceptron import (
    ACTIVATIONS,
    Activation,
    Initialization,
    Inputs,
    OneHotLinear,
    Perceptron,
    count_inputs,
    refuse_padding,
)
from grok_lightning.models.stacked import Dropout, Linear, LinearMaps


class MLP(Perceptron):
    """A multilayer perceptron on the T tokens of an equation, joined in their order; it answers with one token.

    Its neurons, after their activation, are named ``hidden.0``, ``hidden.1`` and so on.

    Initial weights by ``initialization`` (s is ``init_scale``, h ``head_scale``, n the number of a map's inputs; a
    normal's number is its standard deviation, a uniform one lies within plus and minus its number):

    ================  =========================  =========================
    part              scaled                     torch
    ================  =========================  =========================
    token embeddings  normal, s * embedding_std  normal, s * embedding_std
    hidden layers     normal, s / sqrt(n)        uniform, s / sqrt(n)
    head              normal, s h / sqrt(n)      uniform, s h / sqrt(n)
    biases            0                          as their map's weights
    ================  =========================  =========================

    One-hot inputs count as n = T * V, as a torch.nn.Linear on them would count, though only T of them are on. What the
    first layer computes then begins with a standard deviation of s / sqrt(V), about 0.1 for 97 numbers: near what
    embeddings of the default standard deviation give. With ``embedding_rank`` K the token embeddings are a product A B,
    A normal of the standard deviation in the table, B of 1 / sqrt(K).

    Args:
        vocabulary: V.
        length: T, the number of tokens it reads.
        seeds: One seed for each run of the stack.
        padded: Whether equations may be padded, which an MLP cannot mask.
        inputs: Input encoding. Learned embeddings of the tokens, joined (embeddings) or added up, so that their order
            is lost (summed); or one-hot tokens (no embeddings: the first linear map reads them).
        width: D, embedding dimension. Only with embeddings.
        hidden: Width of each hidden layer. With none the model is linear from its inputs to the logits.
        activation: Activation. That of the hidden layers; linear is none.
        bias: Use biases. All linear maps have them, the head included.
        dropout: Dropout rate after each hidden layer's activation.
        embedding_std: Standard deviation of the initial embeddings. Only with embeddings.
        initialization: Initial weights. Scaled normal ones, or as torch.nn.Linear's (torch).
        init_scale: Factor on all initial weights and biases.
        head_scale: Additional factor on the initial head.
        embedding_rank: Rank of the embeddings. They are a product A B of two trained matrices, A with so many columns
            (GrokTransfer, arXiv 2504.13292); default: one matrix.

    Raises:
        UserError: If equations may be padded, or a number is out of range.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        seeds: Sequence[int],
        padded: bool = False,
        *,
        inputs: Inputs = "embeddings",
        width: int = 128,
        hidden: Sequence[int] = (256, 256),
        activation: Activation = "relu",
        bias: bool = True,
        dropout: float = 0.0,
        embedding_std: float = 0.1,
        initialization: Initialization = "scaled",
        init_scale: float = 1.0,
        head_scale: float = 1.0,
        embedding_rank: int | None = None,
    ) -> None:
        super().__init__()
        runs, hidden, self.inputs = len(seeds), list(hidden), inputs
        check_counts(width=width)
        check_dropout(dropout)
        check_scales(embedding_std=embedding_std, init_scale=init_scale, head_scale=head_scale)
        check_choices(inputs=(inputs, Inputs), activation=(activation, Activation))
        check_choices(initialization=(initialization, Initialization))
        refuse_padding("MLP", padded)
        _check_shape(hidden, dropout)
        sizes = [count_inputs(inputs, vocabulary, length, width), *hidden, vocabulary]
        weights = runs * sum(before * after for before, after in pairwise(sizes))
        check_memory(f"model.network.hidden is {hidden} with {sizes[0]:,} inputs", weights)
        self.activation = ACTIVATIONS[activation]
        self.embeddings = self.build_embeddings(runs, vocabulary, width, init_scale * embedding_std, embedding_rank)
        linear = LinearMaps(runs, initialization, init_scale)
        *before, last = pairwise(sizes)
        maps: list[nn.Module] = [*(linear(*size, bias) for size in before), linear(*last, bias, head_scale)]
        if inputs == "one-hot":
            maps[0] = OneHotLinear(cast(Linear, maps[0]), length)
        self.feedforward = nn.ModuleList(maps[:-1])
        self.hidden = nn.ModuleList(nn.Identity() for _ in hidden)
        self.dropout = nn.ModuleList(Dropout(runs, dropout) for _ in hidden)
        self.head = maps[-1]
        self.reset(seeds)

    @property
    def entrance(self) -> Linear | OneHotLinear:
        return cast(Linear | OneHotLinear, [*self.feedforward, self.head][0])

    def finish(self, x: Tensor, draw: Draw | None) -> Tensor:
        following = [*self.feedforward, self.head][1:]
        for neurons, dropout, layer in zip(self.hidden, self.dropout, following, strict=True):
            x = layer(dropout(neurons(self.activation(x)), draw))
        return x


def _check_shape(hidden: Sequence[int], dropout: float) -> None:
    if min(hidden, default=1) < 1:
        raise UserError(f"model.network.hidden is {hidden}; each must be at least 1")
    if dropout and not hidden:
        raise UserError(f"model.network.dropout is {dropout}, but model.network.hidden is []; give 0")
