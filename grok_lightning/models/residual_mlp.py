"""The multilayer perceptron of residual blocks."""

from collections.abc import Sequence
from typing import Literal, cast

from torch import Tensor, nn

from grok_lightning.batch import Draw
from grok_lightning.errors import UserError
from grok_lightning.models.checks import check_choices, check_counts, check_dropout, check_memory, check_scales
from grok_lightning.models.feedforward import FeedForward
from grok_lightning.models.perceptron import (
    Initialization,
    Inputs,
    OneHotLinear,
    Perceptron,
    count_inputs,
    refuse_padding,
)
from grok_lightning.models.stacked import Dropout, LayerNorm, Linear, LinearMaps

Activation = Literal["relu", "gelu", "square"]
Norm = Literal["pre", "none"]


class ResidualBlock(nn.Module):
    """x + factor * outer(activation(inner(norm(x)))).

    Args:
        feedforward: The two maps with the activation between.
        norm: The norm before them, or nothing.
        factor: Of what they add.
        dropout: Of what they add.
    """

    def __init__(self, feedforward: FeedForward, norm: nn.Module, factor: float, dropout: Dropout) -> None:
        super().__init__()
        self.feedforward, self.norm, self.dropout = feedforward, norm, dropout
        self.factor = factor

    def forward(self, x: Tensor, draw: Draw | None) -> Tensor:
        """Maps (R, ..., D) to (R, ..., D)."""
        added = self.dropout(self.feedforward(self.norm(x)), draw)
        return x + self.factor * added


class ResidualMLP(Perceptron):
    """A multilayer perceptron of residual blocks on the T tokens of an equation; it answers with one token.

    ``h <- h + factor * FC2(activation(FC1(LN(h))))`` in each block, from the inputs mapped to D numbers, and a linear
    map to the logits: the residual MLP of Manir and Rupa, arXiv 2603.25009, which has a factor of 0.5, GELU, summed
    embeddings and 8 blocks of width 512. Its neurons are named ``layers.0.feedforward.hidden`` and so on.

    Initial weights by ``initialization`` (s is ``init_scale``, h ``head_scale``, n the number of a map's inputs; a
    normal's number is its standard deviation, a uniform one lies within plus and minus its number):

    ====================  =========================  =========================
    part                  scaled                     torch
    ====================  =========================  =========================
    token embeddings      normal, s * embedding_std  normal, s * embedding_std
    first map, blocks     normal, s / sqrt(n)        uniform, s / sqrt(n)
    head                  normal, s h / sqrt(n)      uniform, s h / sqrt(n)
    biases                0                          as their map's weights
    norms                 gain 1, bias 0             gain 1, bias 0
    ====================  =========================  =========================

    With ``embedding_rank`` K the token embeddings are a product A B, A normal of the standard deviation in the table, B
    of 1 / sqrt(K).

    Args:
        vocabulary: V.
        length: T, the number of tokens it reads.
        seeds: One seed for each run of the stack.
        padded: Whether equations may be padded, which an MLP cannot mask.
        inputs: Input encoding. Learned embeddings of the tokens, joined and mapped to the width (embeddings), or added
            up, so that their order is lost (summed); or one-hot tokens, mapped to the width.
        layers: Number of blocks.
        width: D, embedding dimension. It is also that of what the blocks add to.
        feedforward: Hidden units per block; default: the width.
        activation: Activation. That of the blocks.
        norm: Place of the norms. A layer norm before each block, or none.
        factor: Factor on what each block adds.
        bias: Use biases. All linear maps and norms have them, the head included.
        dropout: Dropout rate of what each block adds.
        embedding_std: Standard deviation of the initial embeddings. Only with embeddings.
        initialization: Initial weights. Scaled normal ones, or as torch.nn.Linear's (torch).
        init_scale: Factor on all initial weights except norms.
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
        layers: int = 8,
        width: int = 128,
        feedforward: int | None = None,
        activation: Activation = "gelu",
        norm: Norm = "pre",
        factor: float = 0.5,
        bias: bool = True,
        dropout: float = 0.0,
        embedding_std: float = 0.1,
        initialization: Initialization = "scaled",
        init_scale: float = 1.0,
        head_scale: float = 1.0,
        embedding_rank: int | None = None,
    ) -> None:
        super().__init__()
        runs, inner = len(seeds), width if feedforward is None else feedforward
        check_counts(layers=layers, width=width, feedforward=inner)
        check_dropout(dropout)
        check_scales(factor=factor, embedding_std=embedding_std, init_scale=init_scale, head_scale=head_scale)
        check_choices(inputs=(inputs, Inputs), activation=(activation, Activation), norm=(norm, Norm))
        check_choices(initialization=(initialization, Initialization))
        refuse_padding("ResidualMLP", padded)
        if factor == 0:
            raise UserError("model.network.factor is 0, with which no block does anything; give a number above 0")
        first = 0 if inputs == "summed" else count_inputs(inputs, vocabulary, length, width) * width
        weights = runs * (first + layers * 2 * width * inner + 2 * vocabulary * width)
        check_memory(f"model.network.width is {width} with {layers} layers", weights)
        linear = LinearMaps(runs, initialization, init_scale)
        self.inputs = inputs
        self.embeddings = self.build_embeddings(runs, vocabulary, width, init_scale * embedding_std, embedding_rank)
        maps: list[nn.Module] = []
        if inputs != "summed":
            entrance = linear(count_inputs(inputs, vocabulary, length, width), width, bias)
            maps = [OneHotLinear(entrance, length) if inputs == "one-hot" else entrance]
        self.feedforward = nn.ModuleList(maps)  # as an MLP's first layer

        def block() -> ResidualBlock:
            two = FeedForward(linear(width, inner, bias), linear(inner, width, bias), activation)
            layer_norm = LayerNorm(runs, width, bias) if norm == "pre" else nn.Identity()
            return ResidualBlock(two, layer_norm, factor, Dropout(runs, dropout))

        self.layers = nn.ModuleList(block() for _ in range(layers))
        self.head = linear(width, vocabulary, bias, head_scale)
        self.reset(seeds)

    @property
    def entrance(self) -> Linear | OneHotLinear | None:
        return cast(Linear | OneHotLinear, self.feedforward[0]) if len(self.feedforward) else None

    def finish(self, x: Tensor, draw: Draw | None) -> Tensor:
        for block in self.layers:
            x = block(x, draw)
        logits: Tensor = self.head(x)
        return logits
