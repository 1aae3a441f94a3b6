"""The DataModules under the dotted names that they had in one file, which configs and checkpoints may hold."""

from grok_lightning.data.integers import ModularArithmeticDataModule
from grok_lightning.data.permutations import PermutationDataModule
from grok_lightning.data.signed import SignedRemaindersDataModule
from grok_lightning.data.table_datamodule import TableDataModule

__all__ = ["ModularArithmeticDataModule", "PermutationDataModule", "SignedRemaindersDataModule", "TableDataModule"]
