"""The weights that a fit or an evaluation begins with: a checkpoint's, or those of another run or program."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grok_lightning.data import SequenceDataModule
from grok_lightning.errors import UserError, show
from grok_lightning.models import Transformer
from grok_lightning.models.lens import read_lens_weights
from grok_lightning.models.ordinary import ModuleStack
from grok_lightning.models.plain import PlainNetwork
from grok_lightning.models.transfer import list_maps, list_weights, take_parts
from grok_lightning.module import GrokModule
from grok_lightning.optim.base import OF_MODULES
from grok_lightning.options.config import Config
from grok_lightning.options.trust import find_names
from grok_lightning.records.checkpoint import is_ours
from grok_lightning.records.foreign import Foreign, read_foreign
from grok_lightning.run import load_run


def set_initial_weights(module: GrokModule, data: SequenceDataModule, config: Config) -> None:
    """Gives a module the precision of a config, and the weights of its checkpoint or of ``init_from``.

    Raises:
        UserError: If weights do not fit the module.
    """
    saved, init_from, parts = config.saved, config.options.get("init_from"), config.options.get("init_parts")
    if config.options["trainer"]["precision"] == "64-true":
        module.double()  # Lightning loads a checkpoint before it converts: 64-bit weights would be rounded
    if saved is not None:
        own, theirs = (
            {name: (weight.shape, weight.is_floating_point()) for name, weight in weights.items()}
            for weights in (module.state_dict(), saved.weights)
        )
        if own != theirs:
            raise UserError(f"ckpt_path {str(saved.path)!r}: its weights are not those of its config's model")
        module.load_state_dict(saved.weights)  # of step 0 nothing more is needed than the weights
    elif init_from == "":
        raise UserError("--init_from is ''; a checkpoint file, or a directory of checkpoints, is expected")
    elif init_from is not None:
        _start_from(Path(init_from), _list_parts(parts), module, data, config)
        module.constraints.begin()  # what was done to initial weights is done to these
    elif parts is not None:
        raise UserError(f"--init_parts is {show(parts)}, but there is no --init_from to take them from")


def _list_parts(parts: Any) -> list[str] | None:
    """The parts that are taken, None for all.

    Raises:
        UserError: If the list is empty.
    """
    if parts in ([], ""):
        raise UserError(f"--init_parts is {show(parts)}; give a part such as embeddings, or leave it out for all")
    return [parts] if isinstance(parts, str) else parts


def _start_from(
    path: Path, parts: list[str] | None, module: GrokModule, data: SequenceDataModule, config: Config
) -> None:
    """Gives all runs of a module the weights of another run, whose tokens must be the same ones.

    Args:
        path: The other run's checkpoint, or a directory of checkpoints; or a file of another program or of ``export``.
        parts: Names of the parts that are taken, see ``take_parts``; None for all.
        module: Whose network takes the weights.
        data: The data that it will be trained on.
        config: The new run's, whose own classes may be imported.

    Raises:
        UserError: If the vocabularies, the lengths or the weights do not fit; it says how they differ.
    """
    where = f"--init_from {str(path)!r}"
    if path.is_file() and not is_ours(path):
        _start_from_foreign(path, parts, module, data, config, where)
        return
    try:
        other = load_run(path, config.trust, root=config.root, named=find_names(config.options))
    except UserError as error:
        raise UserError(str(error).replace("ckpt_path", "--init_from", 1)) from None
    _refuse_other_tokens(where, _tokens(other.data), None if parts else other.data.length, data)
    if parts:
        try:
            take_parts(list_weights(other.model), parts, module.network, list_maps(other.model))
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        return
    weights, wanted = other.model.state_dict(), module.network.state_dict()
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name, weight in wanted.items():
        shape = (1, *weight.shape[1:]) if weight.dim() else ()
        if shapes.get(name) != shape:
            found = f"has shape {shapes[name]}" if name in shapes else "is missing"
            raise UserError(f"{where}: its weight {show(name)} {found}, this run's has shape {shape}")
    surplus = sorted(shapes.keys() - wanted.keys())
    if surplus:
        raise UserError(f"{where}: it has a weight {show(surplus[0])}, which this run's model has not")
    module.network.load_state_dict({name: weights[name].expand(part.shape) for name, part in wanted.items()})


def _start_from_foreign(
    path: Path, parts: list[str] | None, module: GrokModule, data: SequenceDataModule, config: Config, where: str
) -> None:
    """Gives all runs of a module the weights in a file of another program, or in one that ``export`` wrote.

    Raises:
        UserError: If it cannot be read, or its network is another.
    """
    network, options = module.network, config.options["model"]["network"]
    try:
        foreign = read_foreign(path)
        _refuse_other_program(foreign, data, where, bool(parts))
        buffers = {name.removeprefix(OF_MODULES) for name, _ in network.named_buffers()}
        for name, weight in foreign.weights.items():  # a buffer may hold counts, or infinities as a mask does
            if name not in buffers and not (weight.is_floating_point() and bool(weight.isfinite().all())):
                raise ValueError(f"its weight {name[:80]!r} is not of finite numbers")
        if parts:
            take_parts(foreign.weights, parts, network)
            return
        if foreign.lens and not isinstance(network, Transformer):
            raise ValueError(f"it is a transformer of TransformerLens, but model.network is {network._get_name()}")
        if foreign.lens:
            _refuse_few_answers(foreign, data)
            assert isinstance(network, Transformer)
            weights = read_lens_weights(foreign.weights, foreign.settings, network, options)
        else:
            weights = _check_plain_weights(foreign, network)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{where}: {reason}" if not isinstance(error, OSError) else f"{where} cannot be read ({reason})"
        ) from None
    own = _parts_in_module(network) if isinstance(network, ModuleStack) else dict(network.named_parameters())
    with torch.no_grad():
        for name, part in own.items():
            part.copy_(weights[name].reshape(part.shape[1:]))


def _parts_in_module(network: ModuleStack) -> dict[str, Tensor]:
    """What an ordinary module has in its state dict, by its own names, led by R: views of the stack."""
    return {name.removeprefix(OF_MODULES): part for name, part in network.state_dict().items()}


def _check_plain_weights(foreign: Foreign, network: Any) -> dict[str, Any]:
    """The weights of an exported network, as they are.

    Raises:
        ValueError: If a name or a shape is another.
    """
    ordinary = isinstance(network, ModuleStack)
    own = {name: part[0] for name, part in _parts_in_module(network).items()} if ordinary else {}
    wanted = own or PlainNetwork(network).state_dict()
    for name in [*wanted, *sorted(foreign.weights)]:
        if name not in wanted:
            raise ValueError(
                f"it has a weight {show(name)}, which this run's model has not; a checkpoint of grok-lightning, a file "
                "that export wrote, or a HookedTransformer's state dict is expected"
            )
        found = foreign.weights.get(name)
        if found is None or found.shape != wanted[name].shape:
            has = "is missing" if found is None else f"has shape {tuple(found.shape)}"
            raise ValueError(f"its weight {show(name)} {has}, this run's has shape {tuple(wanted[name].shape)}")
    return foreign.weights


def _refuse_few_answers(foreign: Foreign, data: SequenceDataModule) -> None:
    """Refuses a head without an output for every answer of this run."""
    head, largest = foreign.weights.get("unembed.W_U"), int(data.rows().answers_XNA.max())
    if head is not None and head.shape[-1:].numel() <= largest:
        raise ValueError(
            f"its head has {head.shape[-1:].numel()} outputs; answers of this run are tokens up to {largest}"
        )


def _refuse_other_program(foreign: Foreign, data: SequenceDataModule, where: str, of_parts: bool) -> None:
    """Refuses other tokens than this run's, where a file tells them; of parts the length may be another."""
    described = foreign.described
    vocabulary, length = described.get("vocabulary"), described.get("length")
    if isinstance(vocabulary, list) and isinstance(length, int):
        theirs = _without_operator(data, list(map(str, vocabulary)))
        _refuse_other_tokens(where, theirs, None if of_parts else length, data)


def _refuse_other_tokens(where: str, theirs: list[str], length: int | None, data: SequenceDataModule) -> None:
    """Refuses a vocabulary or a length that is not this run's; None for a length that does not matter.

    Raises:
        UserError: It says how they differ.
    """
    ours = _tokens(data)
    if length not in (None, data.length):
        raise UserError(f"{where}: its equations have {length} input tokens, this run's have {data.length}")
    if len(theirs) != len(ours):
        raise UserError(f"{where}: its vocabulary has {len(theirs)} tokens, this run's has {len(ours)}")
    different = next((place for place, token in enumerate(ours) if theirs[place] != token), None)
    if different is not None:
        raise UserError(
            f"{where}: token {different} of its vocabulary is {show(theirs[different])}, "
            f"of this run's {show(ours[different])}"
        )


def _tokens(data: SequenceDataModule) -> list[str]:
    """The vocabulary; the operator's own token is the same, however a formula shows it."""
    return _without_operator(data, list(data.vocabulary))


def _without_operator(data: SequenceDataModule, vocabulary: list[str]) -> list[str]:
    return ["operator" if place == data.operator_place else token for place, token in enumerate(vocabulary)]
