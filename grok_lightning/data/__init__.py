"""Operations, their tables, splits, tokens and batches."""

from grok_lightning.data.alternating import AlternatingDataModule
from grok_lightning.data.cyclic import CyclicProductDataModule
from grok_lightning.data.dihedral import DihedralDataModule
from grok_lightning.data.fields import FiniteFieldDataModule
from grok_lightning.data.integers import ModularArithmeticDataModule
from grok_lightning.data.matrices import MatrixDataModule
from grok_lightning.data.permutations import PermutationDataModule
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.signed import SignedRemaindersDataModule
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.data.tabulated import TabulatedAlgebra
from grok_lightning.data.text import TextDataModule

__all__ = [
    "AlternatingDataModule",
    "CyclicProductDataModule",
    "DihedralDataModule",
    "FiniteFieldDataModule",
    "MatrixDataModule",
    "ModularArithmeticDataModule",
    "PermutationDataModule",
    "SequenceDataModule",
    "SignedRemaindersDataModule",
    "TableDataModule",
    "TabulatedAlgebra",
    "TextDataModule",
]
