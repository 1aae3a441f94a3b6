"""A trial of a network on rows of its data, before anything is written."""

import copy
import sys
from collections.abc import Collection

import torch
from torch import Tensor

from grok_lightning.batch import Draw
from grok_lightning.data import SequenceDataModule
from grok_lightning.data.batches import Chunk
from grok_lightning.errors import UserError
from grok_lightning.models import SequenceModel
from grok_lightning.models.ordinary import ModuleStack
from grok_lightning.module import GrokModule
from grok_lightning.objective import equation_losses
from grok_lightning.randomness import seeded


def refuse_network(module: GrokModule, data: SequenceDataModule) -> None:
    """Takes a training forward pass of a user's network, and its gradient, on some training rows.

    It is done on a copy, if the network can be copied. An exception that the network raises is a bug in it, and is not
    caught. Logits that are not finite are told on stderr.

    Args:
        module: The module.
        data: Its data.

    Raises:
        UserError: If its parameters do not lead with R, logits have another shape or type than they must, no parameter
            has a gradient, an ordinary module keeps numbers where no checkpoint finds them, or cannot be compiled.
    """
    network = module.network
    if type(network).__module__.startswith("grok_lightning.models.") and not isinstance(network, ModuleStack):
        return
    where = f"model.network is {network._get_name()}"
    _refuse_parameters(network, module.runs, where)
    # other numbers of rows than of tokens, so that the two cannot be taken for each other
    batch = data.chunk(
        Chunk("train", 0, min(data.length + 1, data.batch_size, *data.counts("train"))), torch.device("cpu")
    )
    targets = module.targets(batch.tokens_RBT, batch.targets_RBA)
    trial = _copy(network)
    buffers = [buffer.clone() for buffer in trial.buffers()]
    inputs = (batch.tokens_RBT, targets.shape[-1], Draw(torch.zeros((), dtype=torch.int64)))
    try:
        with seeded(0, "trial"), torch.enable_grad():
            logits = trial(*inputs)
            _refuse_logits(logits, (*targets.shape, data.vocabulary_size), where)
            weights = [weight for weight in trial.parameters() if weight.requires_grad]
            losses = equation_losses(logits, targets, module.loss, module.loss_precision == 64)
            found = torch.autograd.grad(losses.sum(), weights, allow_unused=True) if logits.requires_grad else ()
            if all(gradient is None for gradient in found):
                raise UserError(f"{where}, on none of whose parameters the loss depends; let forward compute with them")
            if isinstance(network, ModuleStack):
                _restore(trial, buffers, set(trial.state_dict()))
                _refuse_hidden_state(logits, trial(*inputs), where)
                if module.compiled:
                    _refuse_uncompilable(trial, inputs, where)
    finally:
        _restore(trial, buffers)
    if not bool(logits.isfinite().all()):
        print(f"grok-lightning: {where}, whose logits are not finite at the start", file=sys.stderr)


def _copy(network: SequenceModel) -> SequenceModel:
    try:
        return copy.deepcopy(network)
    except Exception:  # it holds something that no copy can be made of
        return network


@torch.no_grad()
def _restore(network: SequenceModel, buffers: list[Tensor], names: Collection[str] | None = None) -> None:
    """Puts buffers back: all of them, or those of some names, such as those that a checkpoint holds."""
    for (name, buffer), before in zip(network.named_buffers(), buffers, strict=True):
        if names is None or name in names:
            buffer.copy_(before)


def _refuse_parameters(network: SequenceModel, runs: int, where: str) -> None:
    named = dict(network.named_parameters())
    if not any(weight.requires_grad for weight in named.values()):
        raise UserError(f"{where}, which has no parameters to train")
    for name, weight in named.items():
        if weight.dim() == 0 or len(weight) != runs:
            raise UserError(
                f"{where}, whose parameter {name} has shape {tuple(weight.shape)}, but parameters of a SequenceModel "
                f"lead with the number of runs, here {runs}; an ordinary nn.Module can be named itself"
            )


def _refuse_logits(logits: object, wanted: tuple[int, ...], where: str) -> None:
    if not isinstance(logits, Tensor):
        raise UserError(f"{where}, whose forward returns a {type(logits).__name__}; a tensor of logits is expected")
    if not logits.is_floating_point():
        raise UserError(f"{where}, whose forward gives numbers of type {logits.dtype}; floats are expected")
    fits = logits.dim() == 4 and logits.shape[:3] == wanted[:3] and logits.shape[3] <= wanted[3]
    if not fits:
        raise UserError(f"{where}, whose forward gives logits of shape {tuple(logits.shape)}; {wanted} is expected")


def _refuse_hidden_state(first: Tensor, second: Tensor, where: str) -> None:
    if not torch.equal(first.nan_to_num(), second.nan_to_num()):
        raise UserError(
            f"{where}, whose forward gives other logits when it is repeated with the same weights, buffers and seeds: "
            "it counts, or draws numbers, where no checkpoint finds it; use persistent buffers, and torch's global "
            "generator"
        )


def _refuse_uncompilable(network: SequenceModel, inputs: tuple[Tensor, int, Draw], where: str) -> None:
    try:
        torch.compile(network, fullgraph=True, dynamic=False, backend="aot_eager")(*inputs)
    except Exception as error:  # of many kinds; the network itself has just been called
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model.compile is true, but {where}, which cannot be compiled: {reason}") from error
    finally:
        torch._dynamo.reset()
