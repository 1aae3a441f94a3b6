"""GrokModule: a stack of models, its objective, optimizer and evaluations, as one LightningModule."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.func import functional_call
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from grok_lightning.checkpoint import DIVERGED_KEY, FILTERS_KEY, KEPT_NORMS_KEY
from grok_lightning.data.batches import Batch
from grok_lightning.errors import UserError
from grok_lightning.measures.norms import gradient_norm, weight_norm, weight_norms
from grok_lightning.models import Beginnings, SequenceModel, Transformer
from grok_lightning.models.stacked import Draw
from grok_lightning.objective import LossName, Score, equation_targets, probabilities, score
from grok_lightning.optim import AdamW
from grok_lightning.optim.base import StackOptimizer, check_range, check_runs, per_run
from grok_lightning.optim.filters import GradientFilter
from grok_lightning.randomness import derive_keys, gaussian

NetworkCallable = Callable[[int, int, Sequence[int], bool], SequenceModel]
OptimizerCallable = Callable[[Iterable[Any]], Optimizer]


class GrokModule(LightningModule):
    """Trains and evaluates a stack of R runs; one run is a stack of one.

    Args:
        vocabulary: V.
        length: T, the number of input tokens.
        answer_length: A; the answer's logits stand at the last A positions.
        seeds: One seed for each run.
        padded: Whether equations differ in length.
        network: What builds the model from (vocabulary, length, seeds, padded).
        optimizer: What builds the optimizer from the parameters.
        filters: What gradients pass through before the optimizer, in this order.
        warmup: Steps over which the learning rate rises linearly from 0; the first update has rate 0.
        schedule: What the learning rate does after the warmup: stay, or fall to 0 along half a cosine at the budget.
        loss: Cross-entropy; stablemax cross-entropy; or mean squared error on one-hot answers.
        loss_precision: Bits in which the loss is computed from the logits, at least; in 32 small losses round to 0.
        loss_on: The answer, or every token of the equation after the first. Accuracy is the answer's in either case.
        mask_first_n: How many of the first predictions of each equation or string do not count.
        weight_noise: Standard deviation of fresh normal noise on every weight at each training forward, which leaves
            the weights as they are (arXiv 2201.02177); one number, or one for each run.
        weight_norm: The norm of all weights of a run together: free, kept as it is at the start, or kept at a number
            (one, or one for each run) by rescaling after each step (Omnigrok, arXiv 2210.01117).
        compile: Whether the training step is compiled by torch.compile; what cannot be compiled is an error. ``auto``,
            where the command line's steps to come are worth it; to a module built from Python it means false.

    Attributes:
        compiled: Whether the training step is compiled.
        evaluation: The newest evaluation: a float64 tensor (R,) for each metric key.
        diverged_at_R: The step at which each run's loss stopped being finite, -1 while it is.

    Raises:
        UserError: If the warmup is negative.
    """

    diverged_at_R: Tensor
    noise_keys: Tensor | None

    def __init__(
        self,
        vocabulary: int,
        length: int,
        answer_length: int,
        seeds: Sequence[int] = (0,),
        padded: bool = False,
        network: NetworkCallable = Transformer,
        optimizer: OptimizerCallable = AdamW,
        filters: list[GradientFilter] | None = None,
        warmup: int = 10,
        schedule: Literal["constant", "cosine"] = "constant",
        loss: LossName = "cross_entropy",
        loss_precision: Literal[32, 64] = 32,
        loss_on: Literal["answer", "equation"] = "answer",
        mask_first_n: int = 0,
        weight_noise: float | list[float] = 0.0,
        weight_norm: Literal["free", "initial"] | float | list[float] = "free",
        compile: bool | Literal["auto"] = False,
    ) -> None:
        super().__init__()
        for name, value in (("warmup", warmup), ("mask_first_n", mask_first_n)):
            if value < 0:
                raise UserError(f"model.{name} is {value}; it must be at least 0")
        if mask_first_n >= length:
            raise UserError(f"model.mask_first_n is {mask_first_n}; of {length} predictions at least 1 must count")
        check_range("model.weight_noise", weight_noise)
        check_runs("model.weight_noise", weight_noise, len(seeds))
        self.answer_length = answer_length
        self.seeds = list(seeds)
        self.runs = len(seeds)
        self.network = network(vocabulary, length, seeds, padded)
        if not self.network.causal and (loss_on == "equation" or answer_length > 1):
            why = f"an answer has {answer_length} tokens (data.tokenizer)"
            why = f"model.loss_on is {loss_on}" if loss_on == "equation" else why
            name = type(self.network).__name__
            raise UserError(
                f"{why}, but {name} reads all tokens at once and answers with one; use Transformer, LSTM or GRU"
            )
        self.filters = filters or []
        for gradient_filter in self.filters:
            gradient_filter.check_stack(self.runs, sum(weight.numel() for weight in self.network.parameters()))
        self.loss_precision = loss_precision
        self.schedule, self.loss, self.loss_on, self.mask_first_n = schedule, loss, loss_on, mask_first_n
        self.weight_noise, self.weight_norm = weight_noise, weight_norm
        names = [name for name, _ in self.network.named_parameters()]
        keys = [derive_keys(seeds, "weight noise", name) for name in names]
        noisy = any(weight_noise) if isinstance(weight_noise, list) else weight_noise > 0
        self.register_buffer("noise_keys", torch.stack(keys) if noisy else None, persistent=False)
        self.kept_norms: list[float] = []  # of each run; the initial ones are known when training starts
        if not isinstance(weight_norm, str):
            check_range("model.weight_norm", weight_norm, least=1e-30)
            check_runs("model.weight_norm", weight_norm, self.runs)
            self.kept_norms = weight_norm if isinstance(weight_norm, list) else [weight_norm] * self.runs
        self.build_optimizer = optimizer
        self.warmup = warmup
        self.compiled = compile is True
        # fullgraph: a part that dynamo cannot compile, or one compilation too many, raises instead of running eagerly
        self._training_score = torch.compile(self._step, fullgraph=True, dynamic=False) if self.compiled else self._step
        self.register_buffer("diverged_at_R", torch.full((self.runs,), -1), persistent=False)
        self.evaluation: dict[str, Tensor] = {}
        self._sums: dict[str, Score] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the hook it is in some 45 times a step, each time through the slow setter of torch's modules
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def new_optimizer(self, named: Iterable[tuple[str, Tensor]]) -> Optimizer:
        """The optimizer over parameters of the network, or copies of them, with their names."""
        optimizer = self.build_optimizer(named)
        if isinstance(optimizer, StackOptimizer):
            optimizer.seeds = self.seeds
        return optimizer

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.new_optimizer(self.network.named_parameters())
        schedule = LambdaLR(optimizer, self._rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate_factor(self, step: int) -> float:
        factor = min(1.0, step / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            rest = max(1, self.trainer.max_steps - self.warmup)
            factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, max(0, step - self.warmup) / rest)))
        return factor

    def _step(self, tokens_RBT: Tensor, targets_RBA: Tensor, beginnings: Beginnings | None, draw: Draw | None) -> Score:
        targets = self.targets(tokens_RBT, targets_RBA)
        inputs = (tokens_RBT, targets.shape[-1], draw, beginnings)
        if draw is None or self.noise_keys is None:
            logits = self.network(*inputs)
        else:
            logits = functional_call(self.network, self._noisy_weights(draw), inputs)
        return score(logits, targets, self.loss, self.answer_length, self.loss_precision == 64)

    def targets(self, tokens_RBT: Tensor, targets_RBA: Tensor) -> Tensor:
        """What has a loss, shape (R, B, A), or (R, B, T) with the loss on whole equations; -100 where nothing has."""
        if self.loss_on == "answer" and not self.mask_first_n:
            return targets_RBA
        targets = equation_targets(tokens_RBT, targets_RBA, self.mask_first_n)
        return targets if self.loss_on == "equation" else targets[..., -self.answer_length :]

    def _noisy_weights(self, draw: Draw) -> dict[str, Tensor]:
        """The weights with fresh noise; gradients reach the weights themselves, which stay as they are."""
        assert self.noise_keys is not None
        named = self.network.named_parameters()
        return {
            name: weight + per_run(self.weight_noise, weight) * gaussian(keys_R, draw.step, weight)
            for (name, weight), keys_R in zip(named, self.noise_keys, strict=True)
        }

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Passes the gradients through the filters, in their order."""
        weights: dict[str, Tensor] = dict(self.network.named_parameters())
        gradients = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
        if not self.filters or not self._will_step(gradients.values()):
            return
        with torch.no_grad():
            weights = {name: weights[name] for name in gradients}
            for gradient_filter in self.filters:
                gradients = gradient_filter(weights, gradients, self.trainer.global_step, self.seeds)
        for name, gradient in gradients.items():
            weights[name].grad = gradient

    def _will_step(self, gradients: Iterable[Tensor]) -> bool:
        """Whether the optimizer will take the gradients: a scaler of 16-mixed leaves out those that overflowed."""
        return self.trainer.precision != "16-mixed" or all(bool(part.isfinite().all()) for part in gradients)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One update; then all weights of a run together are brought back to the norm they must keep."""
        super().optimizer_step(*args, **kwargs)
        if self.kept_norms:
            with torch.no_grad():
                norms_R = weight_norm(self.network)
                factors_R = torch.tensor(self.kept_norms, dtype=norms_R.dtype, device=norms_R.device) / norms_R
                for weight in self.network.parameters():
                    weight.mul_(factors_R.to(weight.dtype).view(-1, *[1] * (weight.dim() - 1)))

    def on_train_start(self) -> None:
        if self.weight_norm == "initial" and self.trainer.global_step == 0:
            self.kept_norms = weight_norm(self.network).tolist()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEPT_NORMS_KEY] = self.kept_norms
        checkpoint[DIVERGED_KEY] = self.diverged_at_R.tolist()
        checkpoint[FILTERS_KEY] = [gradient_filter.state_dict() for gradient_filter in self.filters]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.kept_norms = list(checkpoint.get(KEPT_NORMS_KEY, []))
        self.diverged_at_R.copy_(torch.tensor(checkpoint.get(DIVERGED_KEY, [-1])))
        for gradient_filter, state in zip(self.filters, checkpoint.get(FILTERS_KEY, []), strict=True):
            gradient_filter.load_state_dict(state)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one step: the sum over runs of each run's mean over the whole batch.

        Where several processes share a batch, each adds its share, scaled so that their average is the whole.
        """
        draw = Draw(torch.tensor(batch.step, device=self.device), batch.first_row)
        loss_R = self._training_score(batch.tokens_RBT, batch.targets_RBA, _beginnings(batch), draw).loss
        loss_R = loss_R * (self.trainer.world_size / batch.whole)
        newly = ~loss_R.detach().isfinite() & (self.diverged_at_R < 0)
        self.diverged_at_R.masked_fill_(newly, batch.step)
        return loss_R.sum()

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._add(batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._add(batch)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> tuple[Tensor, Tensor]:
        """The answer with the highest probability and that probability, each of shape (R, B, A)."""
        logits = self.network(batch.tokens_RBT, self.answer_length)
        probability, prediction = probabilities(logits, self.loss).max(-1)
        return prediction, probability

    def on_validation_epoch_start(self) -> None:
        self._begin("train", "val")

    def on_validation_epoch_end(self) -> None:
        self._finish()

    def on_test_epoch_start(self) -> None:
        self._begin("test")

    def on_test_epoch_end(self) -> None:
        self._finish()

    def on_validation_model_zero_grad(self) -> None:
        """Keeps the gradient, whose norm the evaluation records."""

    def _begin(self, *splits: str) -> None:
        zero = torch.zeros(self.runs, dtype=torch.int64, device=self.device)
        self._sums = {split: Score(zero.double(), zero, zero) for split in splits}

    def _add(self, batch: Batch) -> None:
        sums = self._sums[batch.split]
        new = self._step(batch.tokens_RBT, batch.targets_RBA, _beginnings(batch), None)
        self._sums[batch.split] = Score(*(old + more for old, more in zip(sums, new, strict=True)))

    def _finish(self) -> None:
        evaluation = {}
        for split, sums in self._sums.items():
            whole = Score(*(self.trainer.strategy.reduce(part, reduce_op="sum") for part in sums))
            evaluation[f"{split}/loss"] = whole.loss / whole.equations
            evaluation[f"{split}/acc"] = whole.correct.double() / whole.equations
        if "val" in self._sums:
            evaluation |= weight_norms(self.network) | gradient_norm(self.network)
        self.evaluation = {key: value.double().cpu() for key, value in evaluation.items()}
        if self.trainer.state.fn == "fit":
            losses = torch.stack([evaluation["train/loss"], evaluation["val/loss"]])
            newly = ~losses.isfinite().all(0) & (self.diverged_at_R < 0)
            self.diverged_at_R.masked_fill_(newly, self.trainer.global_step)
        for key, value in self.evaluation.items():
            # for user callbacks that monitor a key; the loggers are written by the record, at the right step
            self.log(key, value.mean(), logger=False, batch_size=1, sync_dist=False)


def _beginnings(batch: Batch) -> Beginnings | None:
    if batch.beginnings_PS is None or batch.beginning_RB is None:
        return None
    return Beginnings(batch.beginnings_PS, batch.beginning_RB)
