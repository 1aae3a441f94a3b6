import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset, random_split


class ParityData(LightningDataModule):
    """Parity of the first bits of random strings of bits.

    Args:
        bits: Length of a string.
        counted: Bits that count.
        rows: Number of strings.
    """

    def __init__(self, bits: int = 12, counted: int = 3, rows: int = 400) -> None:
        super().__init__()
        self.bits, self.counted, self.rows = bits, counted, rows
        self.title = f"parity of {counted} of {bits} bits"

    def setup(self, stage: str) -> None:
        inputs = torch.randint(2, (self.rows, self.bits))
        whole = TensorDataset(inputs, inputs[:, : self.counted].sum(1) % 2)
        self.train, self.val = random_split(whole, [0.5, 0.5])

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=64, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, batch_size=64)
