"""Evaluation of the test rows of runs that are over."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from grok_lightning.data import SequenceDataModule
from grok_lightning.models import SequenceModel
from grok_lightning.module import GrokModule
from grok_lightning.records.record import Row
from grok_lightning.training.evaluation import evaluate

NETWORK = "network."


class FinalTest:
    """Loss and accuracy of runs on their test rows, with the weights that they have when they are over.

    Nothing else reads test rows, so that they can choose nothing. Runs of a stack that end at the same step are tested
    in one pass. The module is left as it was.

    Args:
        data: The stack's data.
    """

    def __init__(self, data: SequenceDataModule) -> None:
        self.data = data
        self._step, self._found = -1, dict[str, Tensor]()

    def take(self, trainer: Trainer, module: GrokModule, run: int, weights: Mapping[str, Tensor] | None = None) -> Row:
        """Evaluates a run's test rows; every process of a fit must call it.

        Args:
            trainer: The Trainer, at the run's last step.
            module: The stack.
            run: Index of the run.
            weights: The state dict that the run leaves; None: the module's own weights, as they are.

        Returns:
            ``test/loss`` and ``test/acc``; empty if the run has no test rows.
        """
        if not self.data.counts("test")[run]:
            return {}
        if self._step != trainer.global_step:
            self._step, self._found = trainer.global_step, self._evaluate(trainer, module, weights)
        return {key: float(value_R[run]) for key, value_R in self._found.items()}

    def _evaluate(
        self, trainer: Trainer, module: GrokModule, weights: Mapping[str, Tensor] | None
    ) -> dict[str, Tensor]:
        rank, world_size = trainer.global_rank, trainer.world_size
        table = replace(self.data.table(module.device), evaluated=("test",), rank=rank, world_size=world_size)
        reduce = partial(trainer.strategy.reduce, reduce_op="sum")
        double = module.loss_precision == 64
        with torch.no_grad(), _evaluated(module.network, weights), trainer.precision_plugin.forward_context():
            return evaluate(module.network, table, module.targets, module.loss, double, False, reduce)[0]


@contextmanager
def _evaluated(network: SequenceModel, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Within it a network is in eval mode and has other weights, if any; then it is as before, with its buffers."""
    modes = [(part, part.training) for part in network.modules()]
    own = dict(network.named_buffers()) if weights is None else network.state_dict()
    before = {name: part.clone() for name, part in own.items()}
    try:
        if weights is not None:
            for name, part in own.items():
                part.copy_(weights[NETWORK + name])
        network.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training
        for name, values in before.items():
            own[name].copy_(values)
