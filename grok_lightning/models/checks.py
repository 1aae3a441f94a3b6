"""Checks of the models' options."""

import math
from typing import Any, get_args

from grok_lightning.errors import UserError

LARGEST_MODEL_BYTES = 16 * 1024**3


def check_counts(**counts: int) -> None:
    """Refuses ``model.network`` options that are below 1."""
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"model.network.{name} is {count}; it must be at least 1")


def check_dropout(rate: float) -> None:
    """Refuses a ``model.network.dropout`` that is no rate."""
    if not 0 <= rate < 1:
        raise UserError(f"model.network.dropout is {rate}; it must be at least 0 and below 1")


def check_scales(**scales: float) -> None:
    """Refuses ``model.network`` options that are negative or not finite."""
    for name, scale in scales.items():
        if not 0 <= scale < math.inf:
            raise UserError(f"model.network.{name} is {scale}; it must be a finite number of at least 0")


def check_choices(**choices: tuple[object, Any]) -> None:
    """Refuses ``model.network`` options outside their ``Literal``: each name with its value and that type."""
    for name, (value, words) in choices.items():
        if value not in get_args(words):
            raise UserError(f"model.network.{name} is {value}; it must be one of {', '.join(get_args(words))}")


def check_memory(option: str, weights: int) -> None:
    """Refuses a stack whose weights do not fit into memory, before they are allocated.

    Args:
        option: The options that determine their number, such as ``model.network.width is 128 with 2 layers``.
        weights: Their number in all runs, of 4 bytes each.
    """
    size = 4 * weights
    if size > LARGEST_MODEL_BYTES:
        raise UserError(
            f"{option}, about {(size + 2**29) // 2**30:,} GiB of weights; "
            f"at most {LARGEST_MODEL_BYTES / 1024**3:.0f} GiB are accepted"
        )
