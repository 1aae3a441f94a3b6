"""Weights in files of other programs, and in those that ``export`` writes: read without running code."""

import io
import re
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from grok_lightning.reading import read_bytes
from grok_lightning.records.checkpoint_form import check_archive, check_plain

# settings of a network, and the numbers of NumPy that are among them
_SETTINGS = re.compile(
    r"transformer_lens(\.[A-Za-z_]\w*)* [A-Za-z_]\w*Config|numpy\._?core\.multiarray scalar|numpy dtype", re.ASCII
)


class Settings:
    """What an object of another program is read as: its attributes, and what it was built from, without its class."""

    def __init__(self, *built_from: Any) -> None:
        self.built_from = built_from

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            vars(self).update(state)


def _read_number(value: Any) -> Any:
    """A float64 of NumPy as a number; anything else as it is."""
    match value:
        case Settings(built_from=(Settings(built_from=("f8", *_)), bytes(content))) if len(content) == 8:
            return struct.unpack("<d", content)[0]
    return value


class Foreign(NamedTuple):
    """Weights from another program.

    Attributes:
        weights: By name.
        settings: What is known of the network beside them, by name.
        lens: Whether they are those of a ``HookedTransformer``; else of a ``PlainNetwork``.
        described: Of a file that ``export`` wrote, its ``vocabulary``, ``length`` and other entries; else empty.
    """

    weights: dict[str, Tensor]
    settings: Mapping[str, Any]
    lens: bool
    described: Mapping[str, Any]


def read_foreign(path: Path) -> Foreign:
    """Reads a file of ``torch.save``: a state dict, or a mapping with one under ``model`` or ``state_dict``.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no archive of plain data, or holds no such state dict.
    """
    content = read_bytes(path, sys.maxsize)
    classes = check_archive(content, _SETTINGS)
    stand_ins: list[Any] = [(Settings, name.replace(" ", ".")) for name in classes]
    try:
        with torch.serialization.safe_globals(stand_ins):
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds over what is no file of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise ValueError(f"it is no file of torch.save ({reason})") from None
    if not isinstance(found, dict):
        raise ValueError("it holds no state dict")
    key = next((key for key in ("state_dict", "model") if isinstance(found.get(key), dict)), None)
    weights = found if key is None else found[key]
    wrong = next((name for name, weight in weights.items() if not isinstance(weight, Tensor)), None)
    if not weights or wrong is not None or not all(isinstance(name, str) for name in weights):
        inside = "is empty" if not weights else f"has {str(wrong)[:50]!r}, which is no weight"
        raise ValueError(f"it is no state dict, nor has it one under 'model' or 'state_dict': it {inside}")
    check_plain(weights, len(content))
    settings: Any = next(
        (found[name] for name in ("transformer_lens_config", "config", "cfg") if name in found and key), {}
    )
    settings = vars(settings) if isinstance(settings, Settings) else settings
    if isinstance(settings, dict):
        settings = {str(name): _read_number(value) for name, value in settings.items()}
    weights = {name: weight for name, weight in weights.items() if not name.endswith((".mask", ".IGNORE"))}
    lens = "embed.W_E" in weights
    return Foreign(weights, settings if lens and isinstance(settings, dict) else {}, lens, found if key else {})
