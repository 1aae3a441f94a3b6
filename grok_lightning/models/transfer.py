"""Parts of another network's weights: which of them are taken, and where they go."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from grok_lightning.errors import show
from grok_lightning.models.base import SequenceModel
from grok_lightning.models.ordinary import ModuleStack
from grok_lightning.models.plain import PlainNetwork
from grok_lightning.models.stacked import ordinary_forms

_WHOLE, _FIRST, _SECOND = ".weight", ".table.weight", ".map.weight"  # of an embedding, or of its two factors


def list_weights(network: SequenceModel) -> dict[str, Tensor]:
    """The parameters of a stack's first run without R, by the names that ``export`` gives them."""
    return {_plain_name(network, name): weight for name, weight in PlainNetwork(network).state_dict().items()}


def list_maps(network: SequenceModel) -> set[str]:
    """Names in ``list_weights`` of matrices (in, out), which layers of torch have as (out, in)."""
    return {_plain_name(network, name) for name in ordinary_forms(network)[0]}


def _plain_name(network: SequenceModel, name: str) -> str:
    return name.removeprefix("module.") if isinstance(network, ModuleStack) else name


def take_parts(
    weights: Mapping[str, Tensor],
    parts: Sequence[str],
    network: SequenceModel,
    maps: Collection[str] | None = None,
) -> None:
    """Puts parts of another network's weights into a network, in all runs of a stack.

    A name stands for all parameters in whose dotted names it occurs as a word, or as several words in a row:
    ``embeddings``, ``layers.0``, ``head.weight``. A token embedding goes into the first factor of one that is a product
    of two, and one that is a product is multiplied out where the network here has not the same factors.

    Args:
        weights: The other network's, in the form of ``list_weights``.
        parts: Names, or ``THEIRS=OURS`` where the network here has another name for a part.
        network: The network that takes them.
        maps: Names of the other network's matrices (in, out); where a map's matrix here is the other way round, the
            transpose is taken. None where that is not known.

    Raises:
        ValueError: If a part has no weights, or one has no place of its shape here; nothing is taken then.
    """
    own, own_maps = list_weights(network), list_maps(network)
    theirs = _multiply_out(weights, own)
    found: dict[str, Tensor] = {}
    for part in parts:
        source, _, target = part.partition("=")
        chosen = [name for name in theirs if source and f".{source}." in f".{name}."]
        if not chosen:
            words = sorted({word for name in theirs for word in name.split(".")[:-1] if not word.isdigit()})
            raise ValueError(f"--init_parts names {show(source)}, of which it has no weight; it has {', '.join(words)}")
        for name in chosen:
            place = _find_place(f".{name}.".replace(f".{source}.", f".{target or source}.", 1)[1:-1], own)
            turned = maps is not None and theirs[name].dim() == 2 and (name in maps) != (place in own_maps)
            weight = theirs[name].mT if turned else theirs[name]
            _check_place(name, weight, place, own)
            if place in found:
                raise ValueError(f"--init_parts has two weights for {show(place)}; name one of them")
            found[place] = weight
    parameters = {_plain_name(network, name): parameter for name, parameter in network.named_parameters()}
    with torch.no_grad():
        for place, weight in found.items():
            parameters[place].copy_(weight.reshape(parameters[place].shape[1:]))


def _multiply_out(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with embeddings that are products as one matrix, but where the network here has the same factors."""
    found = dict(weights)
    for name, table in weights.items():
        first, second = name, f"{name.removesuffix(_FIRST)}{_SECOND}"
        factor = weights.get(second) if name.endswith(_FIRST) else None
        if factor is None or not table.dim() == factor.dim() == 2 or table.shape[1] != factor.shape[0]:
            continue
        if not all(key in own and own[key].shape == weights[key].shape for key in (first, second)):
            del found[first], found[second]
            found[f"{name.removesuffix(_FIRST)}{_WHOLE}"] = table @ factor
    return found


def _find_place(place: str, own: Mapping[str, Tensor]) -> str:
    """The parameter of a name; of an embedding that is a product of two its first factor."""
    factor = f"{place.removesuffix(_WHOLE)}{_FIRST}"
    return factor if place not in own and place.endswith(_WHOLE) and factor in own else place


def _check_place(name: str, weight: Tensor, place: str, own: Mapping[str, Tensor]) -> None:
    if place not in own:
        raise ValueError(
            f"its weight {show(name)} would be {show(place)}, which this run's model has not; name parts as THEIRS=OURS"
        )
    if weight.shape == own[place].shape:
        return
    is_table = (
        weight.dim() == own[place].dim() == 2 and len(weight) == len(own[place]) and "embeddings.tokens." in place
    )
    hint = f"; model.network.embedding_rank {weight.shape[1]} would take it as the first factor" if is_table else ""
    raise ValueError(
        f"its weight {show(name)} has shape {tuple(weight.shape)}, this run's {show(place)} has shape "
        f"{tuple(own[place].shape)}{hint}"
    )
