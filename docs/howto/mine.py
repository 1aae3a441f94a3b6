from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.optimizer import ParamsT

from grok_lightning.errors import UserError
from grok_lightning.measures import Measure, View
from grok_lightning.models import SequenceModel
from grok_lightning.models.stacked import Embedding, Linear
from grok_lightning.optim import Constraint, GradientFilter
from grok_lightning.optim.base import StackOptimizer, per_run, spread


class EmbeddingNorm(Measure):
    """Frobenius norm of the token embedding."""

    def __call__(self, view: View) -> dict[str, Tensor]:
        return {"mine/embedding_norm": view.network.embedding.detach().flatten(1).norm(dim=1).double()}


class Scale(GradientFilter):
    """Multiplies each run's gradient by a constant."""

    def __init__(self, factor: float | list[float] = 0.5) -> None:
        self.factor = factor

    @property
    def hyperparameters(self) -> dict[str, float | list[float]]:
        return {"factor": self.factor}

    def __call__(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor], step: Tensor, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        return {name: part * spread(per_run(self.factor, part), part) for name, part in gradients.items()}


class NonNegative(Constraint):
    """No weight of the head is below zero."""

    def __call__(self, weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        for name, weight in weights.items():
            if name.startswith("head."):
                weight.clamp_(min=0)


class SignSGD(StackOptimizer):
    """w <- w - lr sign(g), with a learning rate for each run."""

    def __init__(self, params: ParamsT, lr: float | list[float] = 1e-4) -> None:
        super().__init__(params)
        self.lr_R = self.hyperparameter("lr", lr)

    def update(self, weights: dict[str, Tensor], factor: float | Tensor) -> None:
        for weight in weights.values():
            rates = spread(self.numbers(self.lr_R, weight) * factor, weight)
            weight.sub_(rates * weight.grad.sign())


class Bag(SequenceModel):
    """Two linear maps on the sum of the token embeddings: blind to the order of the tokens."""

    causal = False  # it reads all tokens at once and answers with one

    def __init__(
        self, vocabulary: int, length: int, seeds: Sequence[int], padded: bool = False, width: int = 64
    ) -> None:
        super().__init__()
        if padded:
            raise UserError("model.network is Bag, which cannot mask padding; use data.tokenizer elements")
        runs = len(seeds)
        self.tokens = Embedding(runs, vocabulary, width, 0.1)
        self.inner = Linear(runs, width, 4 * width, True, width**-0.5)
        self.head = Linear(runs, 4 * width, vocabulary, True, (4 * width) ** -0.5)
        self.reset(seeds)

    def forward(self, tokens_RBT: Tensor, answer_length: int, draw: Any = None, beginnings: Any = None) -> Tensor:
        x_RBD = self.tokens(tokens_RBT).sum(2)
        return self.head(torch.relu(self.inner(x_RBD)))[:, :, None]

    @property
    def embedding(self) -> Tensor:
        return self.tokens.weight

    @property
    def unembedding(self) -> Tensor:
        return self.head.weight


class PrintAccuracy(Callback):
    """Prints validation accuracy at every evaluation."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        accuracy_R = pl_module.evaluation["val/acc"]
        print(f"step {trainer.global_step}: {accuracy_R[0]:.1%}")
