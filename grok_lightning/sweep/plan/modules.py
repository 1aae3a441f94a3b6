"""Whether the runs of an ordinary module can be stacked, found out by trying it."""

import json
from collections.abc import Sequence

import torch

from grok_lightning.build import build
from grok_lightning.data.batches import Chunk
from grok_lightning.models.ordinary import ModuleStack
from grok_lightning.models.stackable import find_obstacle
from grok_lightning.options.classes import Nested, is_module

_KNOWN: dict[str, str | None] = {}


def find_module_obstacle(resolved: Nested) -> str | None:
    """Why the runs of a config cannot be stacked on account of their network, an ordinary module; None if they can.

    Args:
        resolved: Resolved config of one of the runs.
    """
    network = resolved["model"]["network"]
    if not is_module(network):
        return None
    key = json.dumps([resolved["data"], network, resolved["model"]["loss_on"]], sort_keys=True, default=str)
    if key not in _KNOWN:
        _KNOWN[key] = _try(resolved)
    return _KNOWN[key]


def _try(resolved: Nested) -> str | None:
    module, data = build(resolved)
    batch = data.chunk(Chunk("train", 0, min(data.length + 1, *data.counts("train"))), torch.device("cpu"))

    def of_seeds(seeds: Sequence[int]) -> ModuleStack:
        built = build(resolved | {"seed_everything": list(seeds)})[0].network
        assert isinstance(built, ModuleStack)
        return built

    return find_obstacle(of_seeds, batch.tokens_RBT[0], module.targets(batch.tokens_RBT, batch.targets_RBA).shape[-1])
