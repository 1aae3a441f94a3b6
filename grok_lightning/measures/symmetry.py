"""Validation accuracy by whether the mirrored row is in the training split."""

import torch
from torch import Tensor

from grok_lightning.batch import NOTHING_TO_ANSWER
from grok_lightning.data.operation import find_mirrors
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.errors import UserError
from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View
from grok_lightning.models import SequenceModel


class Symmetry(Measure):
    """Accuracy on the validation rows (x, y) whose mirror (y, x) is in training, and on those whose mirror is not.

    A row that is its own mirror is not mirrored in training. NaN where a run has no such rows.
    """

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        self._table(data)

    def __call__(self, view: View) -> dict[str, Tensor]:
        data = self._table(view.data)  # whose rows are those of all formulas of a stack
        mirrors_N = torch.from_numpy(find_mirrors(data.operands_NK, data.operation.algebra.size)).to(view.device)
        counts = []
        for run, (train, val) in enumerate(zip(view.rows("train"), view.rows("val"), strict=True)):
            in_train = torch.zeros(len(mirrors_N) + 1, dtype=torch.bool, device=view.device)
            in_train[train] = True  # the last place answers for mirror -1
            mirrored = in_train[mirrors_N[val]]
            targets = view.targets_RNA[run, val]
            predictions = view.logits_RNAV[run, val].argmax(-1)
            right = ((predictions == targets) | (targets == NOTHING_TO_ANSWER)).all(-1)
            counts.append(
                torch.stack([(right & mirrored).sum(), mirrored.sum(), (right & ~mirrored).sum(), (~mirrored).sum()])
            )
        right_with, with_mirror, right_without, without = to_double(torch.stack(counts)).unbind(1)
        return {"symmetry/mirrored_acc": right_with / with_mirror, "symmetry/unmirrored_acc": right_without / without}

    @staticmethod
    def _table(data: SequenceDataModule) -> TableDataModule:
        if not isinstance(data, TableDataModule) or data.operation.formula.arity != 2:
            raise UserError("measures names Symmetry, which needs mirrored rows: a data.formula of two operands")
        return data
