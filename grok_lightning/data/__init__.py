"""Operations, their tables, splits, tokens and batches."""

from grok_lightning.data.datamodule import ModularArithmeticDataModule, PermutationDataModule, TableDataModule

__all__ = ["ModularArithmeticDataModule", "PermutationDataModule", "TableDataModule"]
