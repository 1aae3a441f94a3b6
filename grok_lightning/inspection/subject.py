"""A trained network and its data as they are looked at: which rows are computed, and what is seen on them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from grok_lightning.data.algebra import Column
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.table import Table
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError
from grok_lightning.figures.elements import NothingToShow
from grok_lightning.inspection.basis import find_basis
from grok_lightning.models import MLP, ResidualMLP, SequenceModel, Transformer
from grok_lightning.models.base import count_runs, device_of
from grok_lightning.models.continuing import until_end
from grok_lightning.models.hooks import LOGITS
from grok_lightning.models.ordinary import ModuleStack
from grok_lightning.models.recurrent import Recurrent
from grok_lightning.models.stacked import Linear
from grok_lightning.training.evaluation import TablePass, continue_table, table_pass

SPLITS = ("train", "val", "test")
MOST_ROWS = 2**14  # of a table that is computed whole; of a larger one, a part of each split
MOST_SIDE = 128  # values of an operand in a map
MOST_ANSWERS = 256
ROWS_AT_ONCE = 2048
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Cells:
    """The pairs of two operands that maps are drawn over, any further operands held fixed.

    Attributes:
        names: Names of the two operands.
        values: The element numbers that they take, (X,) and (Y,), in the order of the task's basis if it has one.
        rows_XY: The row of each pair, -1 where the table has none.
        note: What is left out of the table, in a sentence; empty if nothing is.
    """

    names: tuple[str, str]
    values: tuple[Column, Column]
    rows_XY: Column
    note: str

    def spread(self, values_M: NDArray) -> Floats:
        """Values (..., M) of the M pairs with a row as maps (..., X, Y); NaN where there is no row."""
        maps = np.full((*values_M.shape[:-1], self.rows_XY.size), np.nan, np.float32)
        maps[..., self.rows_XY.ravel() >= 0] = values_M
        return maps.reshape(*values_M.shape[:-1], *self.rows_XY.shape)


class Answers(NamedTuple):
    """The answers to some rows, as classes.

    Attributes:
        names: The C answers that occur, as they are written, in the order of their tokens.
        true_M: The number of each row's answer, as the run was shown it.
        predicted_M: That of the network's; C where it answers with none of them.
        rows_M: The rows.
    """

    names: list[str]
    true_M: Column
    predicted_M: Column
    rows_M: Column


class Subject:
    """One run's network and data at one moment. Everything is computed once, when it is first asked for.

    Rows are those of the table, or of the data where there is none. The answer's position is where the first token of
    the answer is predicted.

    Args:
        network: A stack of one run, such as ``run.model``.
        data: Its data, ``run.data``.
        step: The optimizer step of its weights.
        ablated: About how many rows ablations are of, those of every n-th first operand; default: all that are scored.

    Raises:
        UserError: If the network is a stack of several runs.
    """

    def __init__(
        self, network: SequenceModel, data: SequenceDataModule, step: int = 0, ablated: int | None = None
    ) -> None:
        if count_runs(network) > 1:
            raise UserError(f"inspect looks at one run, but the network is a stack of {count_runs(network)}")
        self.network, self.data, self.step, self._ablated = network, data, step, ablated

    @cached_property
    def scored_N(self) -> Column:
        """The rows that accuracies and losses are of: all, or of a large table evenly chosen ones of each split."""
        count = len(self.data.rows().answers_XNA[0])
        if count <= MOST_ROWS:
            return np.arange(count)
        most = MOST_ROWS // len(SPLITS)
        parts = [getattr(self.data.splits[0], split) for split in SPLITS]
        return np.unique(np.concatenate([np.sort(part)[:: -(-len(part) // most) or 1] for part in parts]))

    @cached_property
    def table(self) -> Table:
        """The scored rows."""
        return self._take(self.scored_N)

    @cached_property
    def ablated_table(self) -> Table:
        """The rows that ablations are of; they stay a grid, whose cells cost a fourth of what rows do."""
        whole, every = self.table, 1 if self._ablated is None else len(self.scored_N) // self._ablated
        if every < 2 or whole.grid_tokens is None:
            return whole
        shape = torch.broadcast_shapes(*(tokens.shape for tokens in whole.grid_tokens))
        rows = whole.targets_XNA.shape[1]
        cells_N = torch.arange(rows) if whole.cells_N is None else whole.cells_N.cpu()
        first_N, rest_N = cells_N // shape[1:].numel(), cells_N % shape[1:].numel()
        chosen = (first_N % every == 0).nonzero()[:, 0]
        part = self._take(chosen.numpy())
        tokens = [each[::every] if each.shape[0] > 1 else each for each in whole.grid_tokens]
        cells = (first_N // every * shape[1:].numel() + rest_N)[chosen].to(whole.targets_XNA.device)
        return replace(part, grid_tokens=tokens, cells_N=cells)

    @cached_property
    def passed(self) -> TablePass:
        """The pass over the scored rows."""
        return self.score()

    @torch.no_grad()
    def score(self, table: Table | None = None) -> TablePass:
        """Passes the scored rows, or those of another table, through the network as it is at present."""
        return table_pass(self.network, table or self.table, lambda _, targets: targets)

    def _take(self, rows_M: Column) -> Table:
        """Some rows as a table, numbered anew."""
        whole = replace(self.data.table(device_of(self.network)), evaluated=SPLITS)
        count = whole.tokens_XNT.shape[1]
        if np.array_equal(rows_M, np.arange(count)):
            return whole
        place_N = torch.full((count,), -1, device=whole.tokens_XNT.device)
        chosen = torch.from_numpy(rows_M).to(place_N.device)
        place_N[chosen] = torch.arange(len(chosen), device=place_N.device)
        rows_RN = {split: place_N[rows] for split, rows in whole.rows_RN.items()}
        tokens, targets = whole.tokens_XNT[:, chosen], whole.targets_XNA[:, chosen]
        return Table(tokens, targets, rows_RN, None, None, None, None, SPLITS)

    @cached_property
    def cells(self) -> Cells:
        """The pairs of operands that maps are drawn over.

        Raises:
            NothingToShow: If there are no two operands, or hardly any of their pairs has a row.
        """
        return _find_cells(self.data)

    @cached_property
    def seen_M(self) -> Column:
        """The rows that activations are of: those of the cells, or where there are none evenly chosen ones."""
        try:
            rows = self.cells.rows_XY.ravel()
            return rows[rows >= 0]
        except NothingToShow:
            return self.scored_N[:: -(-len(self.scored_N) // 4096)]

    @cached_property
    def cells_passed(self) -> TablePass:
        """The pass over the rows of ``seen_M``."""
        if len(self.seen_M) == len(self.scored_N) and np.array_equal(self.seen_M, self.scored_N):
            return self.passed
        return self.score(self._take(self.seen_M))

    @cached_property
    def answers(self) -> Answers:
        """What is answered to the scored rows.

        Raises:
            NothingToShow: If there are more than 256 different answers, or the logits are not finite.
        """
        if not bool(self.passed.losses_RN.isfinite().all()):
            raise NothingToShow("the logits are not finite")
        targets_NA = self.table.targets_XNA[0].cpu().numpy()
        counted = (targets_NA >= 0).any(axis=1)
        targets_NA, rows = targets_NA[counted], self.scored_N[counted]
        targets_NA = np.where(targets_NA >= 0, targets_NA, -1)
        if self.data.answer_length > 1 and not self.data.recited:
            tokens_NA = continue_table(self.network, self.table)[0].cpu()
            predicted_NA = torch.where(until_end(tokens_NA, self.data.end), tokens_NA, -1).numpy()[counted]
        else:
            predicted_NA = np.where(targets_NA >= 0, self.passed.predictions_RNA[0].cpu().numpy()[counted], -1)
        distinct, true = np.unique(targets_NA, axis=0, return_inverse=True)
        if len(distinct) > MOST_ANSWERS:
            raise NothingToShow(f"there are {len(distinct):,} different answers; at most {MOST_ANSWERS} can be seen")
        numbers = {tokens.tobytes(): number for number, tokens in enumerate(distinct)}
        predicted = [numbers.get(tokens.tobytes(), len(distinct)) for tokens in predicted_NA]
        names = [self.data.decode([token for token in tokens.tolist() if token >= 0]) for tokens in distinct]
        return Answers(names, true.reshape(-1), np.array(predicted, np.int64), rows)

    @property
    def place(self) -> int:
        """Position of the answer among the T tokens, from the end: -A."""
        return -self.data.answer_length

    @cached_property
    def neuron_names(self) -> list[str]:
        """The parts whose outputs are taken for neurons, in their order, by their names in ``activations``."""
        if isinstance(self.network, Transformer | MLP | ResidualMLP | Recurrent):
            ending = "feedforward.hidden" if isinstance(self.network, Transformer | ResidualMLP) else "hidden"
            return [name for name in self._shapes if ending in name and "hidden_at" not in name]
        owner = self.network.module if isinstance(self.network, ModuleStack) else self.network
        modules = dict(owner.named_modules())
        flat = [name for name, shape in self._shapes.items() if name in modules and _is_per_row(shape, self)]
        flat = [name for name in flat if not isinstance(modules[name], nn.MultiheadAttention)]
        own = [name for name in flat if type(modules[name]).__module__ == nn.ReLU.__module__]
        maps = [name for name in flat if isinstance(modules[name], Linear | nn.Linear | nn.RNNBase)]
        return own or maps[:-1]  # the last one gives the logits

    @cached_property
    def pattern_names(self) -> list[str]:
        """The parts whose outputs are attention patterns, by their names in ``activations``."""
        length = self.table.tokens_XNT.shape[-1]
        found = [name for name, shape in self._shapes.items() if len(shape) == 5 and shape[-2:] == (length, length)]
        return [name for name in found if not isinstance(self.network, Transformer) or name.endswith(".pattern")]

    @cached_property
    def _shapes(self) -> dict[str, torch.Size]:
        """Shapes of all activations on two rows."""
        return {name: part.shape for name, part in self.network.activations(self.table.tokens_XNT[:, :2]).items()}

    @cached_property
    def captured(self) -> dict[str, Floats]:
        """Activations at the answer's position on the M rows of ``seen_M``, by name.

        Neurons are (F, M), attention patterns (H, T, M), ``logits`` (V, M).
        """
        names = [*self.neuron_names, *self.pattern_names, LOGITS]
        blocks: dict[str, list[Floats]] = {name: [] for name in names}
        for tokens_RBT in self._take(self.seen_M).tokens_XNT.split(ROWS_AT_ONCE, dim=1):
            for name, part in self._look(names, tokens_RBT):
                blocks[name].append(np.moveaxis(part.float().cpu().numpy(), 0, -1))
        return {name: np.concatenate(parts, axis=-1) for name, parts in blocks.items()}

    @torch.no_grad()
    def _look(self, names: list[str], tokens_RBT: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What parts compute at the answer's position: a row for each equation."""
        found: dict[str, Tensor] = {}
        length = tokens_RBT.shape[-1]

        def keep(name: str, value: Tensor) -> None:
            if name in self.pattern_names:
                found[name] = value[0, :, :, self.place]
            else:
                every = value.dim() == 4 and value.shape[2] == length
                found[name] = value[0, :, self.place if every else -1] if value.dim() == 4 else value[0]

        on_logits = isinstance(self.network, ModuleStack)  # whose hook on the whole may be of one position only
        functions = {name: (lambda value, name=name: keep(name, value)) for name in names if name != LOGITS}
        with self.network.hooks(functions):
            logits = self.network(tokens_RBT, self.data.answer_length)
        yield from found.items()
        yield LOGITS, logits[0, :, self.place if not on_logits or logits.shape[2] > 1 else -1]


def _is_per_row(shape: torch.Size, subject: Subject) -> bool:
    """Whether an activation (R, B, F) or (R, B, T, F) of two rows has a vector for each row."""
    length = subject.table.tokens_XNT.shape[-1]
    return shape[:2] == (1, 2) and (len(shape) == 3 or (len(shape) == 4 and shape[2] == length))


def _find_cells(data: SequenceDataModule) -> Cells:
    if not isinstance(data, TableDataModule):
        raise NothingToShow("there is no table of two operands to draw it over")
    operands_NK, names = data.operands_NK, data.operation.formula.operand_names
    if operands_NK.shape[1] < 2:
        raise NothingToShow("the formula has one operand only, so there are no pairs to draw it over")
    held = operands_NK[0, 2:]
    rows = np.flatnonzero((operands_NK[:, 2:] == held).all(axis=1))
    values = [np.unique(column) for column in operands_NK[rows, :2].T]
    shown = [_order(value[_spread_evenly(len(value))], data, operand) for operand, value in enumerate(values)]
    places = [np.full(data.operation.algebra.size, -1) for _ in shown]
    for place, value in zip(places, shown, strict=True):
        place[value] = np.arange(len(value))
    x, y = (place[operands_NK[rows, axis]] for axis, place in enumerate(places))
    rows_XY = np.full((len(shown[0]), len(shown[1])), -1)
    inside = (x >= 0) & (y >= 0)
    rows_XY[x[inside], y[inside]] = rows[inside]
    count = int((rows_XY >= 0).sum())
    if 4 * count < rows_XY.size:
        raise NothingToShow(f"only {count:,} of the {rows_XY.size:,} pairs of {names[0]} and {names[1]} have a row")
    elements = data.operation.algebra.names
    fixed = [f"{name} = {elements[number]}" for name, number in zip(names[2:], held, strict=True)]
    note = f"Maps hold {', '.join(fixed)}. " if fixed else ""
    if max(map(len, values)) > MOST_SIDE:
        note += f"Maps have {MOST_SIDE} of the {max(map(len, values)):,} values of an operand, evenly chosen. "
    return Cells((names[0], names[1]), (shown[0], shown[1]), rows_XY, note)


def _order(values: Column, data: SequenceDataModule, operand: int) -> Column:
    """Numbers of an operand in the order of the task's basis, such as that of discrete logarithms, any others last."""
    try:
        basis = find_basis(data)
    except NothingToShow:
        return values
    place = {int(element): number for number, element in enumerate(basis.operands_N[operand])}
    return np.array(sorted(values.tolist(), key=lambda element: (place.get(element, len(place)), element)))


def _spread_evenly(count: int) -> Column:
    return np.unique(np.linspace(0, count - 1, min(count, MOST_SIDE)).round().astype(np.int64))
