"""Evaluation: one pass over a stack's whole table, from which loss, accuracy, measures and pictures are taken."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from grok_lightning.batch import Beginnings
from grok_lightning.data.batches import share
from grok_lightning.data.table import Table
from grok_lightning.hardware.doubles import to_double
from grok_lightning.models import SequenceModel
from grok_lightning.models.base import count_runs, device_of
from grok_lightning.models.continuing import continue_rows
from grok_lightning.objective import LossName, Score, row_scores
from grok_lightning.training.norms import gradient_norm, weight_norms

ROWS_AT_ONCE = 4096  # on a CPU: what they need stays in a shared cache, and calls are few
NUMBERS_AT_ONCE = 2**18  # on a GPU, rows of all runs together


@dataclass(frozen=True)
class TablePass:
    """Losses and answers of a stack on the N rows of its table.

    Attributes:
        computed_N: Mask of the rows that were computed; None for all.
        losses_RN: Each row's loss; 0 where there is no target.
        predictions_RNA: The answers with the highest logits, int64.
        right_RN: Whether the whole answer is right; false where there is none.
        counted_RN: Whether there is an answer.
        logits_RNAV: The answers' logits, if they were kept.
    """

    computed_N: Tensor | None
    losses_RN: Tensor
    predictions_RNA: Tensor
    right_RN: Tensor
    counted_RN: Tensor
    logits_RNAV: Tensor | None

    def score(self, rows_Rn: Tensor) -> Score:
        """Sums over some rows in each run, those that were computed here.

        Args:
            rows_Rn: Their numbers; -1 for none.
        """
        known = rows_Rn.clamp(min=0)
        here = rows_Rn >= 0
        if self.computed_N is not None:
            here &= self.computed_N[known]
        losses, right, counted = (part.gather(1, known) for part in (self.losses_RN, self.right_RN, self.counted_RN))
        loss_R = to_double(losses.masked_fill(~here, 0)).sum(-1)
        return Score(loss_R, (right & here).sum(-1), (counted & here).sum(-1))


def table_pass(
    network: SequenceModel,
    table: Table,
    targets: Callable[[Tensor, Tensor], Tensor],
    loss: LossName = "cross_entropy",
    double: bool = False,
    keep_logits: bool = False,
) -> TablePass:
    """Passes a table through a stack, once.

    Where the rows fill most of a grid and only their answers have a loss, the whole grid is computed: every cell costs
    less than a row. Else, where fewer than half of the rows are evaluated, only these are.

    Args:
        network: The stack, R runs.
        table: The table.
        targets: Maps tokens (R, B, T) and answers (R, B, A) to the targets of the loss (R, B, L); -100 where none.
        loss: Name of the loss.
        double: Whether it is computed in float64.
        keep_logits: Whether the logits of all rows are kept.
    """
    runs = count_runs(network)
    tokens_RNT = table.tokens_XNT.expand(runs, -1, -1)
    scored_RNL = targets(tokens_RNT, table.targets_XNA.expand(runs, -1, -1))
    chosen: Tensor | None = None
    if table.grid_tokens is not None and scored_RNL.shape[-1] == 1 and table.world_size == 1:
        parts = _pass_grid(network, table)
    else:
        chosen = _select_rows(table, keep_logits)
        parts = _pass_rows(network, table, tokens_RNT, chosen, scored_RNL.shape[-1])
    double = double or next(network.parameters()).dtype == torch.float64
    return _score_rows(parts, chosen, scored_RNL, table.targets_XNA.shape[2], loss, double, keep_logits)


def _score_rows(
    parts: Iterable[tuple[Tensor | slice, Tensor]],
    chosen: Tensor | None,
    scored_RNL: Tensor,
    answers: int,
    loss: LossName,
    double: bool,
    keep_logits: bool,
) -> TablePass:
    """Losses and answers of blocks of rows, from their numbers and logits."""
    (runs, rows), device = scored_RNL.shape[:2], scored_RNL.device
    losses_RN = torch.zeros(runs, rows, dtype=torch.float64 if double else torch.float32, device=device)
    right_RN, counted_RN = (torch.zeros(runs, rows, dtype=torch.bool, device=device) for _ in range(2))
    predictions_RNA = torch.zeros(runs, rows, answers, dtype=torch.int64, device=device)
    logits_RNAV = None
    for place, logits_RBLV in parts:
        found = row_scores(logits_RBLV, scored_RNL[:, place], loss, answers, double)
        losses_RN[:, place], right_RN[:, place], counted_RN[:, place], predictions_RNA[:, place] = found
        if keep_logits:
            own_RBAV = logits_RBLV[:, :, -answers:]
            if logits_RNAV is None:
                logits_RNAV = own_RBAV.new_zeros(runs, rows, *own_RBAV.shape[2:])
            logits_RNAV[:, place] = own_RBAV
    computed_N = None
    if chosen is not None:
        computed_N = torch.zeros(rows, dtype=torch.bool, device=device)
        computed_N[chosen] = True
    return TablePass(computed_N, losses_RN, predictions_RNA, right_RN, counted_RN, logits_RNAV)


def evaluate(
    network: SequenceModel,
    table: Table,
    targets: Callable[[Tensor, Tensor], Tensor],
    loss: LossName,
    double: bool,
    keep_logits: bool,
    reduce: Callable[[Tensor], Tensor],
) -> tuple[dict[str, Tensor], TablePass]:
    """Loss and accuracy of whole splits, and with the validation split the norms of weights and gradient.

    Args:
        network, table, targets, loss, double, keep_logits: As for ``table_pass``.
        reduce: Sums a tensor over the processes that share the rows.

    Returns:
        A float64 tensor (R,) on the CPU for each metric's key; and the pass that they are taken from.
    """
    found = table_pass(network, table, targets, loss, double, keep_logits)
    metrics: dict[str, Tensor] = {}
    for split in table.evaluated:
        whole = Score(*map(reduce, found.score(table.rows_RN[split])))
        metrics[f"{split}/loss"] = whole.loss / whole.equations.to(whole.loss)
        metrics[f"{split}/acc"] = to_double(whole.correct) / whole.equations.to(whole.loss)
    if "val" in table.evaluated:
        metrics |= weight_norms(network) | gradient_norm(network)
    return {key: to_double(value).cpu() for key, value in metrics.items()}, found


def _select_rows(table: Table, whole: bool) -> Tensor:
    """This process's share of the rows that any run evaluates, or of the whole table where these are half of it."""
    count, device = table.targets_XNA.shape[1], table.targets_XNA.device
    rows = torch.arange(count, device=device)
    if not whole:
        evaluated = torch.cat([table.rows_RN[split].flatten() for split in table.evaluated]).unique()
        evaluated = evaluated[evaluated >= 0]
        rows = evaluated if 2 * len(evaluated) < count else rows
    return rows[slice(*share(len(rows), table.rank, table.world_size))]


def _pass_rows(
    network: SequenceModel, table: Table, tokens_RNT: Tensor, chosen: Tensor, length: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Row numbers, and the logits (R, B, L, V) of their last L positions, block by block."""
    for rows in chosen.split(_count_rows_at_once(network)):
        beginnings = None
        if table.beginnings_PS is not None and table.beginning_N is not None:
            index_RB = table.beginning_N[rows].expand(len(tokens_RNT), -1)
            beginnings = Beginnings(table.beginnings_PS, index_RB)
        yield rows, network(tokens_RNT[:, rows], length, None, beginnings)


def _pass_grid(network: SequenceModel, table: Table) -> Iterator[tuple[Tensor | slice, Tensor]]:
    """Row numbers, and the logits (R, B, 1, V) of their answers, block by block."""
    assert table.grid_tokens is not None
    shape = torch.broadcast_shapes(*(tokens.shape for tokens in table.grid_tokens))
    first = next(axis for axis, size in enumerate(shape) if size > 1 or axis == len(shape) - 1)
    inner = shape[first + 1 :].numel()
    size = max(1, _count_rows_at_once(network) // inner)
    row_of_cell = None
    if table.cells_N is not None:
        row_of_cell = torch.full((shape.numel(),), -1, device=table.cells_N.device)
        row_of_cell[table.cells_N] = torch.arange(len(table.cells_N), device=table.cells_N.device)
    for start in range(0, shape[first], size):
        stop = min(start + size, shape[first])
        part = [
            tokens.narrow(first, start, stop - start) if tokens.shape[first] > 1 else tokens
            for tokens in table.grid_tokens
        ]
        logits_RBV = network.grid_logits(part).flatten(1, -2)
        if row_of_cell is None:
            yield slice(start * inner, stop * inner), logits_RBV[:, :, None]
        else:
            rows = row_of_cell[start * inner : stop * inner]
            yield rows[rows >= 0], logits_RBV[:, rows >= 0, None]


@torch.no_grad()
def continue_table(network: SequenceModel, table: Table) -> Tensor:
    """The answers that a stack gives to the rows of its table, each token predicted after its own: (R, N, A), int64."""
    count = table.targets_XNA.shape[-1]
    prompts_RNT = table.tokens_XNT.expand(count_runs(network), -1, -1)
    prompts_RNT = prompts_RNT[..., : prompts_RNT.shape[-1] + 1 - count]
    blocks = prompts_RNT.split(_count_rows_at_once(network), dim=1)
    return torch.cat([continue_rows(network, block, count)[0] for block in blocks], dim=1)


def _count_rows_at_once(network: SequenceModel) -> int:
    """Number of rows of each run in one block."""
    runs = count_runs(network)
    return max(ROWS_AT_ONCE // min(runs, 8), NUMBERS_AT_ONCE // runs if device_of(network).type != "cpu" else 1)
