"""Measures of stacks whose runs may have different formulas: each formula's runs for themselves."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from grok_lightning.data.operation import Operation
from grok_lightning.data.stacking import unite_tables
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.data.tokenizer import ElementTokenizer
from grok_lightning.errors import UserError
from grok_lightning.groups.law import GroupLaw
from grok_lightning.hardware.doubles import double_device
from grok_lightning.measures.base import View


@dataclass(frozen=True, eq=False)
class RunsOfOperation:
    """The runs of a stack that have one operation.

    Attributes:
        operation: The operation.
        runs: The numbers of the runs; all of them as a slice.
        rows_N: The numbers of the operation's rows among those of the stack; all of them as a slice.
    """

    operation: Operation
    runs: list[int] | slice
    rows_N: Tensor | slice


def measure_each(data: TableDataModule, measure: Callable[[RunsOfOperation], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Takes a measure of the runs of each operation, and puts the values of all runs together.

    Args:
        data: The data of the stack, R runs.
        measure: Values by key, of the runs it is given.

    Returns:
        Values (R,) by key; NaN where a run's operation has no such key.
    """
    if len(data.operations) == 1:
        return measure(RunsOfOperation(data.operation, slice(None), slice(None)))
    places = dict(zip(data.operations, unite_tables(data.operations)[1], strict=True))
    found: dict[str, Tensor] = {}
    for operation, rows in places.items():
        runs = [run for run, other in enumerate(data.operations) if other is operation]
        for key, value in measure(RunsOfOperation(operation, runs, torch.from_numpy(rows))).items():
            whole = found.setdefault(key, value.new_full((len(data.operations),), torch.nan))
            whole[runs] = value
    return found


def require_elements(measure: str, data: TableDataModule) -> None:
    """Checks that each element has a token.

    Raises:
        UserError: If elements are written otherwise.
    """
    if not isinstance(data.tokenizer, ElementTokenizer):
        raise UserError(f"measures names {measure}, which needs one token for each number: data.tokenizer elements")


@dataclass(frozen=True, eq=False)
class RowsOfLaw:
    """Logits and rows of the runs of one operation, by its products in a group of S elements.

    Attributes:
        logits_RNP: Logits of all P elements on the operation's rows.
        targets_RN: The answers that are trained on.
        products_N: The product of each row, -1 where it is left out.
        kept: The rows that are not left out; all of them as a slice.
        train: Each run's training rows, those left out aside.
        answers_S: The answer of each product.
        counts_S: The number of rows of each product.
    """

    logits_RNP: Tensor
    targets_RN: Tensor
    products_N: Tensor
    kept: Tensor | slice
    train: list[Tensor]
    answers_S: Tensor
    counts_S: Tensor


def rows_of_law(view: View, law: GroupLaw, own: RunsOfOperation) -> RowsOfLaw:
    """The logits and rows that measures of an operation's products need, on a device with float64."""
    device = double_device(view.device)
    products_N = torch.from_numpy(law.products_N).to(device)
    results_N = torch.from_numpy(own.operation.results_N).to(device)
    kept = products_N >= 0
    answers_S = torch.zeros(len(law.group), dtype=torch.int64, device=device)
    answers_S[products_N[kept]] = results_N[kept]
    train = [rows.to(device) for rows in view.rows("train")]
    runs = range(view.runs)[own.runs] if isinstance(own.runs, slice) else own.runs
    if not isinstance(own.rows_N, slice):  # the rows of the stack as those of the operation
        row_of = torch.full((view.logits_RNAV.shape[1],), -1, device=device)
        row_of[own.rows_N.to(device)] = torch.arange(len(products_N), device=device)
        train = [row_of[rows] for rows in train]
    return RowsOfLaw(
        view.logits_RNAV[own.runs][:, own.rows_N, 0, : own.operation.algebra.size].to(device),
        view.targets_RNA[own.runs][:, own.rows_N, 0].to(device),
        products_N,
        slice(None) if kept.all() else kept,
        [train[run][kept[train[run]]] for run in runs],
        answers_S,
        products_N[kept].bincount(minlength=len(law.group)),
    )
