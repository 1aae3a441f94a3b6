"""Which moments of a run are looked at, and what the page says of its network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.errors import UserError, show
from grok_lightning.inspection.subject import Subject
from grok_lightning.models import SequenceModel

MOST = 12  # moments, so that the page stays below 15 MB
ABLATED = 2048  # rows, where there are several moments
SIZES = ("inputs", "layers", "width", "heads", "hidden", "feedforward")


def choose_moments(saved: Mapping[int, Path], own: int, most: int) -> dict[int, Path | None]:
    """Chooses checkpoints by step: the one that is asked for, the first, the last, and others evenly between them.

    Args:
        saved: Those of the run, by step.
        own: The step that is asked for.
        most: At most so many.

    Returns:
        Their files by step; None for that of ``own``.

    Raises:
        UserError: If ``most`` is not from 1 to 12.
    """
    if not 1 <= most <= MOST:
        raise UserError(f"--checkpoints is {show(most)}; 1 to {MOST} are accepted, so that the page stays below 15 MB")
    others = sorted(saved.keys() - {own})
    places = np.linspace(0, len(others) - 1, min(most - 1, len(others))).round().astype(int)
    return {own: None} | {others[place]: saved[others[place]] for place in places}


def make_subject(network: SequenceModel, data: SequenceDataModule, step: int, several: bool) -> Subject:
    """A moment as it is looked at; of several, ablations are of a part of the rows."""
    return Subject(network, data, step, ABLATED if several else None)


def describe_network(options: Mapping[str, Any], network: SequenceModel) -> str:
    """The network's class, sizes and number of parameters in a line."""
    sizes = [f"{name} {options[name]}" for name in SIZES if options.get(name) is not None]
    count = sum(weight.numel() for weight in network.parameters())
    return ", ".join([network._get_name(), *sizes, f"{count:,} parameters"])
