"""Recurrent networks: LSTM and GRU."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from grok_lightning.batch import Beginnings, Draw
from grok_lightning.errors import UserError
from grok_lightning.models.base import SequenceModel
from grok_lightning.models.checks import check_choices, check_counts, check_dropout, check_memory, check_scales
from grok_lightning.models.embeddings import FactoredEmbedding, build_table
from grok_lightning.models.stacked import Dropout, Embedding, Linear, LinearMaps, gather, on_cpu

Initialization = Literal["torch", "scaled"]
State = tuple[Tensor, ...]  # each (R, B, H), the hidden state first
Cell = Callable[[Tensor, Tensor, State], State]


def lstm_cell(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
    """One step of an LSTM, with the gates in torch.nn.LSTM's order: input, forget, candidate, output.

    Args:
        from_input: Contribution of the input to each gate, (R, B, 4 H).
        from_hidden: Contribution of the last hidden state, (R, B, 4 H).
        state: Hidden state and memory.

    Returns:
        The new hidden state and memory.
    """
    _, memory = state
    take, keep, candidate, show = (from_input + from_hidden).chunk(4, dim=-1)
    memory = keep.sigmoid() * memory + take.sigmoid() * candidate.tanh()
    return show.sigmoid() * memory.tanh(), memory


def gru_cell(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
    """One step of a GRU, with the gates in torch.nn.GRU's order: reset, update, candidate.

    As there, the reset gate acts on what the hidden state adds to the candidate, its bias included.

    Args:
        from_input: Contribution of the input to each gate, (R, B, 3 H).
        from_hidden: Contribution of the last hidden state, (R, B, 3 H).
        state: The hidden state alone.

    Returns:
        The new hidden state.
    """
    (hidden,) = state
    reset, update, candidate = from_input.chunk(3, dim=-1)
    reset_too, update_too, candidate_too = from_hidden.chunk(3, dim=-1)
    candidate = (candidate + (reset + reset_too).sigmoid() * candidate_too).tanh()
    return (candidate + (update + update_too).sigmoid() * (hidden - candidate),)


class RecurrentLayer(nn.Module):
    """A cell applied to one position after another.

    ``hidden`` is its output (R, B, T, H), which the next layer reads. ``hidden_at.t`` and, of an LSTM, ``memory_at.t``
    are the state (R, B, H) after position t, which the next position reads too.

    Args:
        cell: The step.
        from_input: The map from inputs to gates.
        from_hidden: The map from hidden states to gates.
        length: The most tokens whose states have a name.
        states: Number of tensors of a state.
    """

    def __init__(self, cell: Cell, from_input: Linear, from_hidden: Linear, length: int, states: int) -> None:
        super().__init__()
        self.cell = cell
        self.from_input, self.from_hidden = from_input, from_hidden
        self.hidden = nn.Identity()
        self.hidden_at = nn.ModuleList(nn.Identity() for _ in range(length))
        self.memory_at = nn.ModuleList(nn.Identity() for _ in range(length if states > 1 else 0))

    def unroll(self, x_RBTD: Tensor, state: State, real_RBT: Tensor | None) -> tuple[Tensor, State]:
        """Hidden states (R, B, T, H) at all positions, and the state after the last.

        Args:
            x_RBTD: Inputs.
            state: The state before the first.
            real_RBT: Mask of inputs that are no padding; elsewhere the state is kept. None: no padding.
        """
        outputs = []
        for position, from_input in enumerate(self.from_input(x_RBTD).unbind(2)):
            # not called as a module: a forward hook would see the last position's output only
            new = self.cell(from_input, self.from_hidden.forward(state[0]), state)
            if real_RBT is not None:
                real = real_RBT[:, :, position, None]
                new = tuple(torch.where(real, after, before) for after, before in zip(new, state, strict=True))
            for part, named in enumerate((self.hidden_at, self.memory_at)):
                if position < len(named):
                    new = (*new[:part], named[position](new[part]), *new[part + 1 :])
            state = new
            outputs.append(state[0])
        return self.hidden(torch.stack(outputs, dim=2)), state


class Recurrent(SequenceModel):
    """A stack of recurrent networks: token embeddings, layers of one kind of cell, and a linear head with biases.

    Equations that begin alike share the states of their beginning, computed once: 1.6 times the speed for an LSTM on
    512 prompts ``x + y =`` mod 97 (compiled, fp32, 1 CPU core). Dropout between layers, which makes equations of one
    beginning differ, switches this off. Padding leaves a state as it was.

    Initial weights by ``initialization`` (s is ``init_scale``, h ``head_scale``, H the hidden width, n the number of
    a map's inputs; a normal's number is its standard deviation, a uniform one lies within plus and minus its number):

    ===================  =========================  =========================
    part                 torch                      scaled
    ===================  =========================  =========================
    token embeddings     normal, s * embedding_std  normal, s * embedding_std
    maps into the gates  uniform, s / sqrt(H)       normal, s / sqrt(n)
    head                 uniform, s h / sqrt(H)     normal, s h / sqrt(H)
    biases               as their map's weights     0
    ===================  =========================  =========================

    With ``embedding_rank`` K the token embeddings are a product A B, A normal of the standard deviation in the table, B
    of 1 / sqrt(K).

    Args:
        vocabulary: V.
        length: T, the most tokens it reads (any number will do).
        seeds: One seed for each run of the stack.
        padded: Whether equations may be padded.
        layers: Number of recurrent layers.
        hidden: H, hidden units of each layer.
        width: D, embedding dimension.
        dropout: Dropout rate between layers.
        embedding_std: Standard deviation of the initial embeddings.
        initialization: Initial weights. As torch.nn's (torch), or scaled normal ones.
        init_scale: Factor on all initial weights and biases.
        head_scale: Additional factor on the initial head.
        embedding_rank: Rank of the embeddings. They are a product A B of two trained matrices, A with so many columns
            (GrokTransfer, arXiv 2504.13292); default: one matrix.

    Attributes:
        gates: Number of gates of its cell, candidate included.
        states: Number of tensors of a state.

    Raises:
        UserError: If a number is out of range.
    """

    capturable = True
    gates: ClassVar[int]
    states: ClassVar[int]

    def __init__(
        self,
        vocabulary: int,
        length: int,
        seeds: Sequence[int],
        padded: bool = False,
        *,
        layers: int = 2,
        hidden: int = 128,
        width: int = 128,
        dropout: float = 0.0,
        embedding_std: float = 0.1,
        initialization: Initialization = "torch",
        init_scale: float = 1.0,
        head_scale: float = 1.0,
        embedding_rank: int | None = None,
    ) -> None:
        super().__init__()
        check_counts(layers=layers, hidden=hidden, width=width)
        check_dropout(dropout)
        check_scales(embedding_std=embedding_std, init_scale=init_scale, head_scale=head_scale)
        check_choices(initialization=(initialization, Initialization))
        if dropout and layers == 1:
            raise UserError(
                f"model.network.dropout is {dropout}, but it acts between layers and model.network.layers is 1; "
                "give 0, or more layers"
            )
        runs = len(seeds)
        into_gates = self.gates * hidden * (width + hidden + (layers - 1) * 2 * hidden)
        weights = runs * (into_gates + vocabulary * (width + hidden))
        check_memory(f"model.network.hidden is {hidden} with {layers} layers and width {width}", weights)

        # torch's recurrent layers and their maps go by the hidden width, whatever the number of inputs
        linear = LinearMaps(runs, initialization, init_scale, hidden if initialization == "torch" else None)

        def layer(inputs: int) -> RecurrentLayer:
            from_input, from_hidden = (linear(n, self.gates * hidden) for n in (inputs, hidden))
            return RecurrentLayer(self.cell, from_input, from_hidden, length, self.states)

        self.padded, self.dropout_rate = padded, dropout
        table = build_table(runs, vocabulary, width, init_scale * embedding_std, embedding_rank)
        self.embeddings = nn.ModuleDict({"tokens": table})
        self.recurrent = nn.ModuleList(layer(hidden if position else width) for position in range(layers))
        self.dropout = nn.ModuleList(Dropout(runs, dropout) for _ in range(layers - 1))
        self.head = linear(hidden, vocabulary, scale=head_scale)
        self.reset(seeds)

    @staticmethod
    @abstractmethod
    def cell(from_input: Tensor, from_hidden: Tensor, state: State) -> State:
        """One step: maps the contributions of input and hidden state to the gates, and the state, to the next state."""

    def forward(
        self, tokens_RBT: Tensor, answer_length: int = 1, draw: Draw | None = None, beginnings: Beginnings | None = None
    ) -> Tensor:
        states: list[State] | None = None
        if beginnings is not None and self._can_share(beginnings, tokens_RBT, answer_length, draw):
            kinds, shared = beginnings.tokens_PS.shape
            _, first = self._unroll(beginnings.tokens_PS.expand(len(tokens_RBT), kinds, shared), None, None)
            states = [tuple(gather(part, beginnings.index_RB) for part in state) for state in first]
            tokens_RBT = tokens_RBT[:, :, shared:]
        x, _ = self._unroll(tokens_RBT, states, draw)
        logits: Tensor = self.head(x[:, :, -answer_length:])
        return logits

    def grid_logits(self, tokens: Sequence[Tensor]) -> Tensor:
        embedding = self.embedding
        xs = [embedding[:, of_position] for of_position in tokens]
        for layer in cast(list[RecurrentLayer], self.recurrent):
            state: State = (xs[0].new_zeros(*xs[0].shape[:-1], layer.from_hidden.weight.shape[1]),) * self.states
            shown = []
            for x in xs:
                state = layer.cell(layer.from_input(x), layer.from_hidden(state[0]), state)
                shown.append(state[0])
            xs = shown
        logits: Tensor = self.head(xs[-1])
        return logits

    @property
    def embedding(self) -> Tensor:
        return cast(Embedding | FactoredEmbedding, self.embeddings["tokens"]).weight

    @property
    def unembedding(self) -> Tensor:
        return self.head.weight

    def _can_share(self, beginnings: Beginnings, tokens_RBT: Tensor, answer_length: int, draw: Draw | None) -> bool:
        """Whether the states of beginnings can be computed once, and that costs less."""
        kinds, shared = beginnings.tokens_PS.shape
        _, batch, length = tokens_RBT.shape
        per_row_noise = draw is not None and self.dropout_rate > 0
        # on a GPU launches count, not products
        return on_cpu(tokens_RBT) and not per_row_noise and kinds < batch and answer_length <= length - shared

    def _unroll(self, tokens_RBT: Tensor, states: list[State] | None, draw: Draw | None) -> tuple[Tensor, list[State]]:
        """The last layer's hidden states (R, B, T, H), and every layer's state after the last position."""
        real_RBT = tokens_RBT >= 0 if self.padded else None
        x = self.embeddings["tokens"](tokens_RBT.clamp(min=0) if self.padded else tokens_RBT)
        if states is None:
            zeros = x.new_zeros(*x.shape[:2], self.head.weight.shape[1])
            states = [(zeros,) * self.states for _ in self.recurrent]
        after: list[State] = []
        for layer, state in zip(cast(list[RecurrentLayer], self.recurrent), states, strict=True):
            if after:
                x = self.dropout[len(after) - 1](x, draw)
            x, state = layer.unroll(x, state, real_RBT)
            after.append(state)
        return x, after


class LSTM(Recurrent):
    """A stack of long short-term memory networks, step by step as torch.nn.LSTM's."""

    gates, states = 4, 2
    cell = staticmethod(lstm_cell)


class GRU(Recurrent):
    """A stack of gated recurrent units, step by step as torch.nn.GRU's."""

    gates, states = 3, 1
    cell = staticmethod(gru_cell)
