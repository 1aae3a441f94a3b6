"""Options as they are given, in words and in files, and the classes that they may name."""

from pathlib import Path

import yaml

from grok_lightning.options.arguments import given_options, split_arguments
from grok_lightning.options.classes import Nested

CLASSES = {
    "model.optimizer": [
        "grok_lightning.optim.AdamW",
        "grok_lightning.optim.Muon",
        "torch.optim.SGD",
        "torch.optim.Adam",
        "torch.optim.RMSprop",
    ],
    "model.network": [f"grok_lightning.models.{name}" for name in ("Transformer", "MLP", "ResidualMLP", "LSTM", "GRU")],
    "data": [
        f"grok_lightning.data.{name}DataModule"
        for name in ("ModularArithmetic", "Permutation", "SignedRemainders", "Text")
    ],
}
KNOWN = {
    *("run", "experiment", "overwrite", "trainer.max_steps", "trainer.logger", "trainer.logger.help", "model.warmup"),
    *("model.filters", "model.constraints", "measures"),
}


def given(*arguments: str) -> Nested:
    """What these words and the files that they name say together."""
    return given_options(*split_arguments(list(arguments)), {})


def config_file(directory: Path, content: Nested | str) -> str:
    """Writes a YAML file beside those that are there: its path."""
    path = directory / f"config{len(list(directory.iterdir()))}.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)
