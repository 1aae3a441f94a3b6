"""Writes a model's answer to every equation of chosen splits as a CSV file."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.callbacks.attached import datamodule
from grok_lightning.files import write_durably


class Predictions(Callback):
    """Collects what ``predict`` answers and writes it at the end.

    Columns: the operands by name and the true answer, or a string as ``text``; then prediction, probability, correct
    and split. An answer of several tokens is predicted token by token, each after the tokens before it as they were
    taught (teacher forcing); ``generate`` lets a model follow its own. The probability is the product over the answer's
    own tokens, its end mark included. A training row with noise on its answer shows the true one.

    Args:
        output: The CSV file.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
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
        data = datamodule(trainer)
        rows_B, prediction_BA, probability_BA, targets_BA = (
            part[0].cpu() for part in (batch.rows_RB, *outputs, batch.targets_RBA)
        )
        own_BA = targets_BA >= 0  # the places of an answer's tokens; after its end mark nothing is asked
        probability_B = probability_BA.masked_fill(~own_BA, 1).prod(-1)
        for row, tokens_A, own_A, probable in zip(
            rows_B.tolist(), prediction_BA, own_BA, probability_B.tolist(), strict=True
        ):
            shown = data.describe(row)
            given = data.decode(tokens_A[own_A].tolist())
            self._rows.append([*shown, given, f"{probable:.6f}", given == shown[-1], batch.split])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = datamodule(trainer)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*data.columns, "prediction", "probability", "correct", "split"])
        writer.writerows(self._rows)
        write_durably(self.output, text.getvalue().encode())
