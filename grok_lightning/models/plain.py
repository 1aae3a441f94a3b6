"""One run of a stack as an ordinary module, without the leading dimension R."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from grok_lightning.models.base import SequenceModel


class PlainNetwork(nn.Module):
    """One run's network as an ordinary module: from tokens (B, T) to logits (B, A, V).

    Its parameters have the names of the stack's and lead with their own dimensions: matrices are (in, out), biases and
    gains (D,), embeddings (V, D). It can be trained, moved, saved, and given to ``torch.func``.

    Args:
        network: The stack.
        run: Which of its runs.
        answer_length: A, the number of answer tokens.

    Attributes:
        answer_length: As above.
    """

    answer_length: int

    def __init__(self, network: SequenceModel, run: int = 0, answer_length: int = 1) -> None:
        super().__init__()
        self.answer_length = answer_length
        # in a list: its own parameters are not this module's
        self._stack = [network]
        self._shapes: dict[str, torch.Size] = {}
        for name, stacked in network.named_parameters():
            weight = stacked.detach()[run]
            self._shapes[name] = weight.shape
            weight = weight[0] if weight.dim() > 1 and len(weight) == 1 and name.endswith(("bias", "gain")) else weight
            _register(self, name, nn.Parameter(weight.clone()))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits of the answer's tokens, (B, A, V).

        Args:
            tokens_BT: Input tokens, int64.
        """
        weights = {name: weight.view(1, *self._shapes[name]) for name, weight in self.named_parameters()}
        logits: Tensor = functional_call(self._stack[0], weights, (tokens_BT[None], self.answer_length))
        return logits[0]


def _register(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Registers a parameter under a dotted name, in modules made for it."""
    *path, last = name.split(".")
    for part in path:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    module.register_parameter(last, parameter)
