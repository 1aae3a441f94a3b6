"""Writes a model's answers to the equations of some splits as a CSV file."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.data import SequenceDataModule
from grok_lightning.errors import UserError, show
from grok_lightning.files import refuse_unwritable, write_durably
from grok_lightning.models.continuing import until_end
from grok_lightning.records.checkpoint import refuse_part_of_run


class Predictions(Callback):
    """Collects the answers of ``predict`` and writes them at the end.

    Columns: the operands by name and the true answer, or a string as ``text``; then prediction, probability, correct
    and split. Of an answer of several tokens each is predicted after the model's own, as ``generate`` does; of a string
    after the right ones, for nothing else tells which string is asked for. The probability is the product over the
    prediction's tokens, its end mark included, or over those of the string. A training row with noise on its answer
    shows the true one, which ``correct`` is about.

    Args:
        output: The CSV file.
        split: train, val, test, or all for those that have rows.
        data: The data that are predicted.

    Raises:
        UserError: If the file cannot be written or is a part of a run, or the split has no rows.
    """

    def __init__(self, output: Path, split: str, data: SequenceDataModule) -> None:
        refuse_unwritable("output", output.parent)
        if output.is_dir() or not output.name:
            raise UserError(f"--output is {str(output)!r}; the path of a CSV file is expected")
        refuse_part_of_run(output)
        splits = ["train", "val", "test"] if split == "all" else [split]
        data.predict_splits = [name for name in splits if max(data.counts(name))]
        if not data.predict_splits:
            raise UserError(f"--split is {show(split)}, which has no rows in this run; use train, val or all")
        self.output, self.data = output, data
        self._rows: list[list[Any]] = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        rows_B, prediction_BA, probability_BA, targets_BA = (
            part[0].cpu() for part in (batch.rows_RB, *outputs, batch.targets_RBA)
        )
        own_BA = targets_BA >= 0 if batch.recited else until_end(prediction_BA, self.data.end)
        probability_B = probability_BA.masked_fill(~own_BA, 1).prod(-1)
        for row, tokens_A, own_A, probable in zip(
            rows_B.tolist(), prediction_BA, own_BA, probability_B.tolist(), strict=True
        ):
            shown = self.data.describe(row)
            given = self.data.decode(tokens_A[own_A].tolist())
            self._rows.append([*shown, given, f"{probable:.6f}", given == shown[-1], batch.split])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*self.data.columns, "prediction", "probability", "correct", "split"])
        writer.writerows(self._rows)
        write_durably(self.output, text.getvalue().encode())
