"""Checkpoints: written durably, read only when whole, and never as a program.

A checkpoint is an ordinary ``torch.save`` file (a zip archive) whose archive comment carries the SHA-256 of every byte
before it; ``torch.load`` reads it as it is. Torch alone would load a file with a flipped bit.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from grok_lightning.errors import UserError
from grok_lightning.files import write_durably

CONFIG_KEY = "grok_lightning_config"
_MARK = b"grok_lightning sha256 "
_COMMENT_LENGTH = len(_MARK) + 64


def save(checkpoint: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint so that, whatever happens, ``path`` is the old file or the whole new one."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    content = bytearray(buffer.getbuffer())
    content[-2:] = _COMMENT_LENGTH.to_bytes(2, "little")  # the archive's last field: the length of its comment
    content += _MARK
    content += hashlib.sha256(content).hexdigest().encode()
    write_durably(path, bytes(content))


def load(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Reads a checkpoint.

    Args:
        path: The file.
        map_location: Where its tensors go, as for ``torch.load``.

    Returns:
        Its dictionary; the resolved config of its run is under ``CONFIG_KEY``.

    Raises:
        UserError: If the file is missing, empty, of another program, damaged, or holds anything but plain data.
    """
    wanted = "a checkpoint written by grok-lightning is expected"
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"ckpt_path {str(path)!r} cannot be read ({reason}); {wanted}") from None
    if not content:
        raise UserError(f"ckpt_path {str(path)!r} is empty; {wanted}")
    if content[-_COMMENT_LENGTH:-64] != _MARK:
        raise UserError(f"ckpt_path {str(path)!r} is cut short or was written by another program; {wanted}")
    if hashlib.sha256(content[:-64]).hexdigest().encode() != content[-64:]:
        raise UserError(f"ckpt_path {str(path)!r} is damaged: its checksum does not agree; use another checkpoint")
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:100]
        raise UserError(f"ckpt_path {str(path)!r} holds more than plain data and was not run ({reason})") from None
    config = checkpoint.get(CONFIG_KEY) if isinstance(checkpoint, dict) else None
    complete = isinstance(config, dict) and {"data", "model", "trainer", "seed_everything"} <= config.keys()
    if not complete or not {"state_dict", "global_step"} <= checkpoint.keys():
        raise UserError(f"ckpt_path {str(path)!r} has no config or weights of a run; {wanted}")
    return checkpoint


class DurableCheckpointIO(TorchCheckpointIO):
    """Lightning's way to our ``save`` and ``load``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load(Path(path), map_location or "cpu")
