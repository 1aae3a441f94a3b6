"""Writes a model's answer to every equation of chosen splits as a CSV file."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from grok_lightning.files import write_durably


class Predictions(Callback):
    """Collects what ``predict`` answers and writes it at the end.

    Columns: the operands by name, answer, prediction, probability, correct, split.

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
        data = trainer.datamodule  # type: ignore[attr-defined]
        prediction, probability = (part[0].cpu() for part in outputs)
        names = data.tokenizer.elements
        rows = batch.rows_RB[0].tolist()
        for row, answer, probable in zip(rows, prediction.tolist(), probability.prod(-1).tolist(), strict=True):
            operands = [names[operand] for operand in data.operation.operands_NK[row]]
            right = names[data.operation.results_N[row]]
            given = "".join(data.tokenizer.vocabulary[token] for token in answer)
            self._rows.append([*operands, right, given, f"{probable:.6f}", given == right, batch.split])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            [*data.operation.formula.operand_names, "answer", "prediction", "probability", "correct", "split"]
        )
        writer.writerows(self._rows)
        write_durably(self.output, text.getvalue().encode())
