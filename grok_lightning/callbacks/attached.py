"""What a Trainer holds that its type does not tell."""

from typing import Any, cast

from lightning.pytorch import Trainer


def datamodule(trainer: Trainer) -> Any:
    """The data that it trains with: a ``SequenceDataModule``, of tables a ``TableDataModule``."""
    return cast(Any, trainer).datamodule
