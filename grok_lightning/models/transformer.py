"""The decoder-only transformer."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from grok_lightning.batch import Beginnings, Draw
from grok_lightning.errors import UserError
from grok_lightning.models.attention import Attention, rotations
from grok_lightning.models.base import SequenceModel
from grok_lightning.models.checks import check_choices, check_counts, check_dropout, check_memory, check_scales
from grok_lightning.models.embeddings import Embeddings
from grok_lightning.models.feedforward import FeedForward
from grok_lightning.models.layout import Layout
from grok_lightning.models.stacked import Dropout, LayerNorm, LinearMaps, RMSNorm, on_cpu

Norm = Literal["pre", "stream", "post", "none"]
BEFORE: tuple[Norm, ...] = ("pre", "stream")
Normalization = Literal["layer", "rms"]
Positions = Literal["learned", "sinusoidal", "rotary"]
Activation = Literal["relu", "gelu", "square", "swiglu"]
Initialization = Literal["scaled", "width", "torch", "multihead"]
Bias = bool | Literal["feedforward", "norms"]
Place = Literal["input", "pattern", "attention", "hidden", "feedforward"]


class Block(nn.Module):
    """Attention and feed-forward, each on a residual branch, with a norm before, after or not at all.

    Where the norm is that of the ``stream``, attention adds to its normed input.

    Its arguments are those of ``Transformer``; ``dropout`` builds the dropout of a place, ``norm_layer`` a norm, or
    nothing where it is not wanted.
    """

    def __init__(
        self,
        linear: LinearMaps,
        length: int,
        width: int,
        heads: int,
        feedforward: int,
        dropout: Callable[[Place], Dropout],
        norm: Norm,
        norm_layer: Callable[[bool], nn.Module],
        activation: Activation,
        bias: Bias,
        residual_scale: float,
    ) -> None:
        super().__init__()
        maps = linear.attention(width, bias is True, residual_scale)
        self.attention = Attention(maps, length, heads, dropout("pattern"))
        inner_bias = bias in (True, "feedforward")
        inner = linear(width, feedforward, inner_bias)
        outer = linear(feedforward, width, inner_bias, residual_scale)
        gate = linear(width, feedforward, inner_bias) if activation == "swiglu" else None
        self.feedforward = FeedForward(inner, outer, activation, gate)
        self.attention_dropout, self.hidden_dropout = dropout("attention"), dropout("hidden")
        self.dropout = dropout("feedforward")
        self.attention_norm, self.feedforward_norm = norm_layer(norm != "none"), norm_layer(norm != "none")
        self.norm = norm

    def forward(self, x: Tensor, layout: Layout, answers: int | None, draw: Draw | None) -> Tensor:
        """Maps all rows (R, M, D), or only the last ``answers`` positions of each equation: (R, B * answers, D)."""
        x = self.attention_norm(x) if self.norm == "stream" else x
        mixed = self.attention(self.attention_norm(x) if self.norm == "pre" else x, layout, answers, draw)
        x = layout.map(lambda rows: rows, x, answers) + _drop(self.attention_dropout, mixed, layout, draw)
        x = self.attention_norm(x) if self.norm == "post" else x
        normed = self.feedforward_norm(x) if self.norm in BEFORE else x
        added = self.feedforward(normed, lambda hidden: _drop(self.hidden_dropout, hidden, layout, draw))
        x = x + _drop(self.dropout, added, layout, draw)
        return self.feedforward_norm(x) if self.norm == "post" else x

    def on_grid(self, xs: list[Tensor], rotations: Tensor | None, last: bool) -> list[Tensor]:
        """``forward`` where each position has its own shape; see ``Attention.on_grid``."""
        before, post = self.norm in BEFORE, self.norm == "post"
        normed = [self.attention_norm(x) for x in xs] if before else xs
        xs = normed if self.norm == "stream" else xs
        mixed = self.attention.on_grid(normed, rotations, last)
        out = []
        for x, attended in zip(xs[-len(mixed) :], mixed, strict=True):
            x = x + attended
            x = self.attention_norm(x) if post else x
            x = x + self.feedforward.without_trace(self.feedforward_norm(x) if before else x)
            out.append(self.feedforward_norm(x) if post else x)
        return out


def _drop(dropout: Dropout, rows: Tensor, layout: Layout, draw: Draw | None) -> Tensor:
    """Drops out of the rows (R, B * n, D) of B equations."""
    if draw is None or dropout.rate == 0:
        return rows
    return cast(Tensor, dropout(rows.unflatten(1, (layout.batch, -1)), draw)).flatten(1, 2)


def _norm_layer(runs: int, width: int, normalization: Normalization, bias: Bias, wanted: bool) -> nn.Module:
    if not wanted:
        return nn.Identity()
    return LayerNorm(runs, width, bias in (True, "norms")) if normalization == "layer" else RMSNorm(runs, width)


class Transformer(SequenceModel):
    """A decoder-only transformer that computes only what the answer needs.

    The last layer works only at the positions whose logits are asked for. Where equations share their beginnings, the
    states of a beginning are computed once: a causal model's state depends only on the tokens up to it. There the
    first layer's queries, keys and values, too, are computed once for each pair of token and position.

    Initial weights by ``initialization`` (s is ``init_scale``, r ``residual_scale``, h ``head_scale``, D the width,
    F ``feedforward``; a normal's number is its standard deviation, uniform numbers lie within plus and minus it):

    ========================  ======================  ======================  ======================
    part                      scaled                  width                   torch
    ========================  ======================  ======================  ======================
    token and position        normal,                 normal,                 normal,
                              s * embedding_std       s * embedding_std       s * embedding_std
    query, key, value         normal, s / sqrt(D)     normal, s / sqrt(D)     uniform, s / sqrt(D)
    attention output          normal, s r / sqrt(D)   normal, s r / sqrt(D)   uniform, s r / sqrt(D)
    feed-forward inner, gate  normal, s / sqrt(D)     normal, s / sqrt(D)     uniform, s / sqrt(D)
    feed-forward outer        normal, s r / sqrt(F)   normal, s r / sqrt(D)   uniform, s r / sqrt(F)
    head (untied)             normal, s h / sqrt(D)   normal, s h / sqrt(D)   uniform, s h / sqrt(D)
    biases of linear maps     0                       0                       as their map's weights
    norms                     gain 1, bias 0          gain 1, bias 0          gain 1, bias 0
    ========================  ======================  ======================  ======================

    ``multihead`` is as torch, but query, key and value are uniform within s sqrt(1.5 / D) and the biases of attention
    zero, as in torch.nn.MultiheadAttention (and so TransformerEncoderLayer). With ``embedding_rank`` K the token
    embeddings are a product A B, A normal of the standard deviation in the table, B of 1 / sqrt(K).

    Args:
        vocabulary: V.
        length: T, the most tokens it reads.
        seeds: One seed for each run of the stack.
        padded: Whether equations may be padded. Padding is not attended to, and positions count from an equation's
            first token; beginnings are not shared then.
        layers: Number of blocks.
        width: D, embedding dimension.
        heads: H, attention heads; a divisor of the width.
        feedforward: Hidden units per block; default: 4 * width.
        dropout: Dropout rate, at the places of ``dropout_on``.
        dropout_on: input, pattern, attention, hidden, feedforward. Some of these: the first layer's input (embeddings
            of tokens and positions, added up), the attention pattern, what attention adds, the hidden activations of
            the feed-forward layers, and what these add. torch.nn.TransformerEncoderLayer has all but the first.
        norm: Place of the norms. Before attention and feed-forward (pre); the same, but attention adds to its normed
            input (stream, as in Grokfast's code: arXiv 2405.20233); after them, as in the original paper (post); or
            none.
        final_norm: Put a norm before the head; default: if pre-norm. That is with pre and stream.
        normalization: Kind of norm. Layer norm, or division by the root mean square (no bias, eps 1e-5).
        positions: Position encoding. Learned, or fixed sinusoidal ones (added to the tokens in either case), or rotary
            ones, by which queries and keys are rotated (RoFormer, base 10,000).
        activation: Activation. That of the feed-forward layers: relu, gelu, square, or swiglu, which is silu(x gate) *
            (x inner) with a third matrix.
        bias: Use biases. In linear maps and layer norms, only in the feed-forward maps, or only in the norms; RMS norms
            never have one, the head as ``head_bias`` says.
        tied: Use the token embedding as the head.
        embedding_std: Standard deviation of the initial embeddings.
        initialization: Initial weights. Of linear maps: normal with a variance of 1 / inputs (scaled), or of 1 / width
            for all of them (width), or uniform as in torch's own layers: as its Linear (torch), or where attention is
            its MultiheadAttention (multihead).
        init_scale: Factor on all initial weights except norms.
        residual_scale: Factor on the initial residual outputs. These are the attention output and the feed-forward
            outer map.
        head_scale: Factor on the initial head.
        head_bias: Use a bias in the head.
        embedding_rank: Rank of the embeddings. They are a product A B of two trained matrices, A with so many columns
            (GrokTransfer, arXiv 2504.13292); default: one matrix.

    Raises:
        UserError: If the heads do not divide the width, or an option is out of range.
    """

    capturable = True
    flat_rows = True
    rotations: Tensor | None

    def __init__(
        self,
        vocabulary: int,
        length: int,
        seeds: Sequence[int],
        padded: bool = False,
        *,
        layers: int = 2,
        width: int = 128,
        heads: int = 4,
        feedforward: int | None = None,
        dropout: float = 0.0,
        dropout_on: Sequence[Place] = ("feedforward",),
        norm: Norm = "pre",
        final_norm: bool | None = None,
        normalization: Normalization = "layer",
        positions: Positions = "learned",
        activation: Activation = "relu",
        bias: Bias = True,
        tied: bool = False,
        embedding_std: float = 0.1,
        initialization: Initialization = "scaled",
        init_scale: float = 1.0,
        residual_scale: float = 1.0,
        head_scale: float = 1.0,
        head_bias: bool = False,
        embedding_rank: int | None = None,
    ) -> None:
        super().__init__()
        runs, feedforward = len(seeds), 4 * width if feedforward is None else feedforward
        check_counts(layers=layers, width=width, heads=heads, feedforward=feedforward)
        check_dropout(dropout)
        _check_places(dropout, dropout_on)
        check_scales(embedding_std=embedding_std, init_scale=init_scale)
        check_scales(residual_scale=residual_scale, head_scale=head_scale)
        check_choices(norm=(norm, Norm), normalization=(normalization, Normalization))
        check_choices(positions=(positions, Positions), activation=(activation, Activation))
        check_choices(initialization=(initialization, Initialization))
        _check_combination(width, heads, positions, bias)
        _check_tied(tied, head_scale, head_bias)
        block_weights = 4 * width**2 + (3 if activation == "swiglu" else 2) * width * feedforward
        weights = runs * (layers * block_weights + 2 * vocabulary * width)
        check_memory(f"model.network.width is {width} with {layers} layers", weights)
        linear = LinearMaps(runs, initialization, init_scale, width if initialization == "width" else None)
        norms = partial(_norm_layer, runs, width, normalization, bias)

        def dropout_of(place: Place) -> Dropout:
            return Dropout(runs, dropout if place in dropout_on else 0.0)

        self.padded, self.dropout = padded, dropout
        self.embeddings = Embeddings(
            runs, vocabulary, length, width, positions, init_scale * embedding_std, embedding_rank
        )
        self.input_dropout = dropout_of("input")
        turns = rotations(length, width // heads) if positions == "rotary" else None
        self.register_buffer("rotations", turns, persistent=False)
        self.layers = nn.ModuleList(
            Block(linear, length, width, heads, feedforward, dropout_of, norm, norms, activation, bias, residual_scale)
            for _ in range(layers)
        )
        self.final_norm = norms(norm in BEFORE if final_norm is None else final_norm)
        self.outputs = vocabulary
        self.head = None if tied else linear(width, vocabulary, head_bias, head_scale)
        self.reset(seeds)

    def forward(
        self, tokens_RBT: Tensor, answer_length: int = 1, draw: Draw | None = None, beginnings: Beginnings | None = None
    ) -> Tensor:
        batch, length = tokens_RBT.shape[1:]
        if self.padded or (draw is not None and self.dropout > 0) or not on_cpu(tokens_RBT):
            beginnings = None  # the equations of a beginning would differ; on a GPU launches count, not products
        kinds = batch if beginnings is None else len(beginnings.tokens_PS)
        # the first layer's maps see no more inputs than there are pairs of token and position
        distinct = beginnings is not None and min(kinds, self.embeddings.vocabulary) < batch
        if kinds >= batch:
            beginnings = None  # sharing them would cost more
        layout = Layout(batch, length, beginnings, tokens_RBT if self.padded else None, self.rotations)
        # answers that reach into the beginnings need all rows to the end
        answers = answer_length if answer_length <= layout.own_length else None
        if distinct:
            x, layout.inputs_RM = self.embeddings.distinct(length), self.embeddings.inputs(tokens_RBT, layout)
        else:
            x = _drop(self.input_dropout, self.embeddings(tokens_RBT, layout), layout, draw)
        for block in self.layers:
            x = block(x, layout, answers if block is self.layers[-1] else None, draw)
            layout.inputs_RM = None  # from here on every row is its own
        x = self.final_norm(x)
        logits: Tensor = torch.bmm(x, self.unembedding) if self.head is None else self.head(x)
        if answers is None:
            return layout.whole(logits)[:, :, -answer_length:]
        return logits.unflatten(1, (batch, answer_length))

    def grid_logits(self, tokens: Sequence[Tensor]) -> Tensor:
        xs = self.embeddings.on_grid(tokens)
        for block in cast(list[Block], self.layers):
            xs = block.on_grid(xs, self.rotations, block is self.layers[-1])
        x: Tensor = self.final_norm(xs[-1])
        if self.head is None:
            return (x.flatten(1, -2) @ self.unembedding).unflatten(1, x.shape[1:-1])
        logits: Tensor = self.head(x)
        return logits

    @property
    def embedding(self) -> Tensor:
        return self.embeddings.tokens.weight

    @property
    def unembedding(self) -> Tensor:
        if self.head is not None:
            return self.head.weight
        table = self.embedding
        return (table if self.outputs == table.shape[1] else table[:, : self.outputs]).transpose(1, 2)

    def limit_outputs(self, classes: int) -> None:
        self.outputs = classes
        if self.head is not None:
            self.head.limit(classes)


def _check_places(dropout: float, places: Collection[str]) -> None:
    for place in places:
        check_choices(dropout_on=(place, Place))
    if len(set(places)) < len(places):
        raise UserError(f"model.network.dropout_on is {list(places)}; each place is expected once")
    if dropout and not places:
        raise UserError(
            f"model.network.dropout is {dropout}, but model.network.dropout_on is []; give a dropout of 0, or some of "
            f"{', '.join(get_args(Place))}"
        )


def _check_combination(width: int, heads: int, positions: Positions, bias: Bias) -> None:
    if bias not in (True, False, "feedforward", "norms"):
        raise UserError(f"model.network.bias is {bias}; it must be true, false, feedforward or norms")
    if width % heads:
        raise UserError(f"model.network.heads is {heads}, which does not divide model.network.width {width}")
    if positions == "rotary" and width // heads % 2:
        raise UserError(
            f"model.network.positions is rotary, which turns pairs of numbers, but each of the {heads} heads has "
            f"{width // heads}; choose model.network.width and model.network.heads so that it is an even number"
        )


def _check_tied(tied: bool, head_scale: float, head_bias: bool) -> None:
    for name, value, none in (("head_scale", head_scale, 1), ("head_bias", head_bias, False)):
        if tied and value != none:
            raise UserError(
                f"model.network.{name} is {value}, but a tied head has no weights of its own; "
                f"it must be {str(none).lower()} where model.network.tied is true"
            )
