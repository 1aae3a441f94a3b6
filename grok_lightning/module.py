"""GrokModule: a stack of models, its objective, optimizer and evaluations, as one LightningModule."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.func import functional_call
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from grok_lightning import provided
from grok_lightning.batch import Batch, Beginnings, Draw
from grok_lightning.data.table import Table
from grok_lightning.errors import UserError
from grok_lightning.hardware.compilation import share_caches
from grok_lightning.hardware.denormals import flush_denormals
from grok_lightning.models import SequenceModel, Transformer
from grok_lightning.models.continuing import continue_rows
from grok_lightning.models.ordinary import ModuleStack, build_network
from grok_lightning.models.stacked import ordinary_forms
from grok_lightning.objective import LossName, equation_losses, equation_targets, probabilities
from grok_lightning.optim import AdamW
from grok_lightning.optim.base import PerRun, check_range, check_runs
from grok_lightning.optim.constraints import Constraint
from grok_lightning.optim.filters import GradientFilter
from grok_lightning.optim.rates import RateSchedule, advance
from grok_lightning.randomness import derive_keys
from grok_lightning.records.checkpoint import (
    DIVERGED_KEY,
    FILTERS_KEY,
    INTERVENTIONS_KEY,
    KEPT_NORMS_KEY,
    move_step_count,
)
from grok_lightning.training.constraints import Constraints
from grok_lightning.training.evaluation import TablePass, evaluate
from grok_lightning.training.interventions import FREE, Interventions
from grok_lightning.training.noise import add_noise
from grok_lightning.training.norms import AT_MOST, read_norm, weight_norm
from grok_lightning.training.separate import build_optimizer, note_losses
from grok_lightning.training.updates import (
    CAPTURED_STEPS,
    CapturedUpdates,
    CudaGraphs,
    Updates,
    filter_gradients,
    leave_forward_context,
)

NetworkCallable = Callable[[int, int, Sequence[int], bool], SequenceModel]
OptimizerCallable = Callable[[Iterable[Any]], Optimizer]
SchedulerCallable = Callable[[Optimizer], LRScheduler]
NormOption = dict[str, Literal["initial"] | float | list[float]]


def one_by_one() -> int:
    """Default of ``steps_ahead``: single steps."""
    return 0


def never() -> bool:
    """Default of ``interrupted``."""
    return False


class GrokModule(LightningModule):
    """Trains and evaluates a stack of R runs; one run is a stack of one.

    A call of ``training_step`` takes as many optimizer steps as ``steps_ahead`` allows: one, unless the callback
    ``Pace`` allows more. The Trainer's counts of steps and batches are exact at the end of each call.

    Args:
        vocabulary: V.
        length: T, the number of input tokens.
        answer_length: A; the answer's logits stand at the last A positions.
        seeds: One seed for each run.
        padded: Whether equations differ in length.
        network: The network. A callable of (vocabulary, length, seeds, padded), or an ordinary module's class.
        optimizer: The optimizer. A callable of the parameters.
        filters: Gradient filters, applied in this order. Before the optimizer's step.
        warmup: Steps of linear learning rate warmup. It rises from 0; the first update has rate 0.
        schedule: Rate after the warmup. It stays, or falls to 0 along half a cosine at the budget.
        scheduler: Scheduler of the learning rate. It replaces warmup and schedule. A callable of the optimizer; stepped
            after each update.
        loss: Loss. Cross-entropy; stablemax cross-entropy; or mean squared error on one-hot answers.
        loss_precision: Bits of the loss, at least. It is computed from the logits; in 32 bits small losses round to 0.
        loss_on: Tokens with a loss. The answer, or every token of the equation after the first. Accuracy is the
            answer's in either case.
        mask_first_n: Number of first predictions without a loss. Of each equation or string.
        outputs: Classes of the output. One for each token of the vocabulary; or for the tokens that an answer can be
            alone, so that operator and equals sign have none (answers).
        weight_noise: Standard deviation of noise on the weights. Fresh normal noise at each training forward, which
            leaves the weights as they are (arXiv 2201.02177); one number, or one for each run.
        weight_norm: Norm of all weights. Free, kept as it is at the start (initial), or kept at a number (one, or one
            for each run) by rescaling after each step (Omnigrok, arXiv 2210.01117); or at most that, ``{at_most: 30}``.
        constraints: Constraints on the weights, in this order. After each update, before the norm of all weights.
        interventions: Changes at a step, memorized or grokked. Each a mapping with ``at`` and what
            changes: ``set`` (options of the optimizer), ``freeze`` (parts), ``weight_norm``, ``filters`` (on, off).
        compile: Compile the training step. By torch.compile; what cannot be compiled is an error. ``auto``: where the
            command line's steps to come are worth it; to a module built from Python it means false.
        classes: Number of tokens that an answer can be, for networks that ask for it; default: V.

    Attributes:
        compiled: Whether the training step is compiled.
        evaluation: The newest evaluation: a float64 tensor (R,) for each metric key.
        passed: Its pass over the whole table; None before the first, and where processes share rows.
        passed_at: The optimizer step of that evaluation.
        keep_logits: Whether that includes all rows' logits, as measures need them.
        diverged_at_R: The step at which each run's loss stopped being finite, -1 while it is.
        steps_ahead: Returns the number of steps that the next call of ``training_step`` may take without the Trainer's
            hooks; 0 for one step with all of them.
        interrupted: Returns whether a signal asks to stop at the next step boundary.

    Raises:
        UserError: If a number is out of range, a list does not have one value for each run, or the network answers with
            one token where more are to be predicted.
    """

    diverged_at_R: Tensor
    noise_keys_R: Tensor | None
    noise_std_R: Tensor
    keep_logits = False
    passed: TablePass | None = None
    passed_at = -1
    _updates: Updates | None = None
    _captured: CapturedUpdates | None = None

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
        scheduler: SchedulerCallable | None = None,
        loss: LossName = "cross_entropy",
        loss_precision: Literal[32, 64] = 32,
        loss_on: Literal["answer", "equation"] = "answer",
        mask_first_n: int = 0,
        outputs: Literal["vocabulary", "answers"] = "vocabulary",
        weight_noise: float | list[float] = 0.0,
        weight_norm: Literal["free", "initial"] | float | list[float] | NormOption = "free",
        constraints: list[Constraint] | None = None,
        interventions: list[dict[str, Any]] | None = None,
        compile: bool | Literal["auto"] = False,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        _check_options(length, len(seeds), warmup, mask_first_n, weight_noise)
        _check_schedule(warmup, schedule, scheduler)
        self.seeds, self.runs = list(seeds), len(seeds)
        self.answer_length, self.mask_first_n = answer_length, mask_first_n
        self.loss, self.loss_precision, self.loss_on = loss, loss_precision, loss_on
        self.warmup, self.schedule = warmup, schedule
        self.build_optimizer, self.build_scheduler = optimizer, scheduler
        self.weight_noise, self.weight_norm = weight_noise, weight_norm
        classes = vocabulary if loss_on == "equation" else classes
        self.network = build_network(network, vocabulary, length, seeds, padded, classes)
        _check_answers(self.network, loss_on, answer_length)
        _choose_outputs(self.network, outputs, loss_on, classes or vocabulary, seeds)
        self.filters = filters or []
        parts = self.network.parts() if isinstance(self.network, ModuleStack) else {}
        for gradient_filter in self.filters:
            gradient_filter.parts = parts
            gradient_filter.check_network({name: weight.shape for name, weight in self.network.named_parameters()})
        noisy = any(weight_noise) if isinstance(weight_noise, list) else weight_noise > 0
        self.register_buffer("noise_keys_R", derive_keys(seeds, "weight noise") if noisy else None, persistent=False)
        self.register_buffer("noise_std_R", torch.tensor(weight_noise).reshape(-1), persistent=False)
        self.register_buffer("diverged_at_R", torch.full((self.runs,), -1), persistent=False)
        self.whole_norm = read_norm(weight_norm, self.runs)
        kept = weight_norm != "free"
        self.interventions = Interventions(interventions, self.network, self.runs, bool(filters), kept)
        for constraint in constraints or []:
            constraint.parts = parts
            constraint.check_stack(self.runs)
        maps = ordinary_forms(self.network)[0]
        self.constraints = Constraints(self.network, constraints or [], self.whole_norm, maps)
        self.constraints.begin()
        self.compiled = compile is True
        if self.compiled:
            share_caches()
        # fullgraph: a part that dynamo cannot compile, or one compilation too many, raises instead of running eagerly
        losses = self._losses
        self._training_losses = torch.compile(losses, fullgraph=True, dynamic=False) if self.compiled else losses
        if self.compiled and isinstance(self.network, ModuleStack):
            self._training_losses = self.network.seed_around(self._training_losses)
        self.evaluation: dict[str, Tensor] = {}
        self.steps_ahead: Callable[[], int] = one_by_one
        self.interrupted: Callable[[], bool] = never

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: str | torch.device | None = None,
        hparams_file: None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        trust: bool = False,
        **options: Any,
    ) -> "GrokModule":
        """Builds the module of a checkpoint, of any version, with its weights.

        Args:
            checkpoint_path: A checkpoint, or a directory of checkpoints, as for ``load_run``.
            map_location: The device of the module; default: the CPU.
            hparams_file: None; the checkpoint holds its options.
            strict: Whether the names of its weights must be the module's; default: they must.
            weights_only: Without effect: nothing but plain data is ever read.
            trust: Whether classes that it names are imported whatever they are, as for ``load_run``.
            options: Options of the module in place of the checkpoint's, such as ``warmup=0``.

        Raises:
            UserError: If there is no whole checkpoint of ours, it names a class that is not imported, or an option is
                unknown.
        """
        if hparams_file is not None:
            raise UserError(f"hparams_file is {str(hparams_file)!r}, but a checkpoint holds its options; leave it out")
        module: GrokModule = provided.load_module(checkpoint_path, map_location, strict is not False, trust, options)
        return module

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the hook it is in some 45 times a step, each time through the slow setter of torch's modules
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def new_optimizer(self, named: Iterable[tuple[str, Tensor]]) -> Optimizer:
        """The optimizer over parameters of the network, or copies of them, with their names."""
        hidden = self.network.hidden_matrices() if isinstance(self.network, ModuleStack) else None
        forms, apart = ordinary_forms(self.network), bool(self.interventions.settings)
        return build_optimizer(self.build_optimizer, list(named), self.seeds, *forms, hidden, apart)

    def new_schedule(self, optimizer: Optimizer, factor: Callable[[int], float] | None = None) -> LRScheduler:
        """The scheduler of an optimizer's learning rates.

        Args:
            optimizer: The optimizer.
            factor: Of the rates at a step, in place of warmup and schedule, for which a Trainer is needed.
        """
        if self.build_scheduler is None:
            return RateSchedule(optimizer, factor or self._rate_factor)
        return self.build_scheduler(optimizer)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.new_optimizer(self.network.named_parameters())
        schedule = self.new_schedule(optimizer)
        self._updates = self._captured = None  # those of an earlier fit had another optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def warmup_factor(self, step: int) -> float:
        """What the warmup leaves of a learning rate at a step: 0 at the first, 1 after ``warmup`` steps."""
        return min(1.0, step / self.warmup) if self.warmup else 1.0

    def _rate_factor(self, step: int) -> float:
        factor = self.warmup_factor(step)
        if self.schedule == "cosine":
            rest = max(1, self.trainer.max_steps - self.warmup)
            factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, max(0, step - self.warmup) / rest)))
        return factor

    def _losses(
        self, tokens_RBT: Tensor, targets_RBA: Tensor, beginnings: Beginnings | None, draw: Draw | None
    ) -> Tensor:
        """The sum of the equations' losses in each run (R,), which training needs; nothing else is computed."""
        targets = self.targets(tokens_RBT, targets_RBA)
        inputs = (tokens_RBT, targets.shape[-1], draw, beginnings)
        if draw is None or self.noise_keys_R is None:
            logits = self.network(*inputs)
        else:
            noisy = add_noise(self.network, self.noise_keys_R, self.noise_std_R, draw.step)
            logits = functional_call(self.network, noisy, inputs)
        return equation_losses(logits, targets, self.loss, self.loss_precision == 64).sum(-1)

    def targets(self, tokens_RBT: Tensor, targets_RBA: Tensor) -> Tensor:
        """Targets of the loss, shape (R, B, A), or (R, B, T) with the loss on whole equations; -100 for none."""
        if self.loss_on == "answer" and not self.mask_first_n:
            return targets_RBA
        targets = equation_targets(tokens_RBT, targets_RBA, self.mask_first_n)
        return targets if self.loss_on == "equation" else targets[..., -self.answer_length :]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Passes the gradients through the filters, in their order."""
        gradients = [weight.grad for weight in self.network.parameters() if weight.grad is not None]
        scaled = self.trainer.precision == "16-mixed"  # its scaler leaves out a step whose gradients overflowed
        if self.filters and (not scaled or all(bool(part.isfinite().all()) for part in gradients)):
            step = torch.full((), self.trainer.global_step, device=self.device)
            filter_gradients(self.network, self.filters, step, self.seeds, self.interventions.filtered_R)

    def intervene(self, reached: Mapping[int, Sequence[str]]) -> None:
        """Makes the interventions that are due before the next update.

        Args:
            reached: What each run in training has reached: memorized, grokked.
        """
        step = self.trainer.global_step
        due = {run: self.interventions.find_due(run, step, moments) for run, moments in reached.items()}
        if any(due.values()) and self.interventions.keeps_norms and not self.whole_norm.norms:
            self.whole_norm.norms = [FREE] * self.runs
        for run, places in due.items():
            for place in places:
                optimizer = cast(Optimizer, self.optimizers(use_pl_optimizer=False))
                self.interventions.make(run, place, step, optimizer, self.whole_norm)
                self._updates = self._captured = None  # which hold what has changed

    def _constrain(self) -> None:
        """Brings the weights back to where their constraints have them, and frozen ones to their values."""
        if self.constraints:
            self.constraints()
        self.interventions.hold_frozen()

    def on_train_start(self) -> None:
        if self.weight_norm in ("initial", {AT_MOST: "initial"}) and self.trainer.global_step == 0:
            self.whole_norm.norms = weight_norm(self.network, trained=True).tolist()
        self.interventions.restore(cast(Optimizer, self.optimizers(use_pl_optimizer=False)), self.whole_norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEPT_NORMS_KEY] = self.whole_norm.norms
        if self.interventions:
            checkpoint[INTERVENTIONS_KEY] = self.interventions.steps
        checkpoint[DIVERGED_KEY] = self.diverged_at_R.tolist()
        checkpoint[FILTERS_KEY] = [gradient_filter.state_dict() for gradient_filter in self.filters]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        move_step_count(checkpoint)
        self.whole_norm.norms = list(checkpoint.get(KEPT_NORMS_KEY, []))
        self.diverged_at_R.copy_(torch.tensor(checkpoint.get(DIVERGED_KEY, [-1])))
        self.interventions.steps = checkpoint.get(INTERVENTIONS_KEY, self.interventions.steps)
        if FILTERS_KEY in checkpoint:  # not where only weights are kept
            for gradient_filter, state in zip(self.filters, checkpoint[FILTERS_KEY], strict=True):
                gradient_filter.load_state_dict(state)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Takes one step, or as many as ``steps_ahead`` allows.

        A step's loss is the sum over runs of each run's mean over the whole batch. Where several processes share a
        batch, each adds its share, scaled so that their average is the whole.

        Returns:
            The last step's loss.
        """
        steps = self.steps_ahead()
        with leave_forward_context(self.device), flush_denormals():
            losses = self._take_many_steps(batch, steps) if steps and batch.following else [self._take_one_step(batch)]
        self._note_divergence(batch.step, losses)
        return losses[-1].sum()

    def _take_one_step(self, batch: Batch) -> Tensor:
        """Takes one step with all of the Trainer's hooks."""
        optimizer: Any = self.optimizers()
        draw = Draw(torch.full((), batch.step, device=self.device), batch.first_row)
        losses: list[Tensor] = []

        def closure() -> Tensor:
            with self.trainer.precision_plugin.forward_context():
                loss_R = self._training_losses(batch.tokens_RBT, batch.targets_RBA, batch.beginnings, draw)
                loss_R = loss_R * (self.trainer.world_size / batch.whole)
            optimizer.zero_grad()
            loss = loss_R.sum()
            self.manual_backward(loss)
            losses.append(loss_R.detach())
            return loss

        note_losses(optimizer.optimizer, losses)
        optimizer.step(closure)
        self._constrain()
        advance(cast(LRScheduler, self.lr_schedulers()), batch.step + 1)
        return losses[0]

    def _take_many_steps(self, batch: Batch, steps: int) -> list[Tensor]:
        """Takes steps without the Trainer's hooks; its counts are set afterwards."""
        assert batch.following is not None
        if self._updates is None:
            self._updates = self._build_updates()
        updates: Updates | CapturedUpdates = self._captured or self._updates
        losses = updates.many(batch.step, steps, batch.following, self.interrupted)
        loop = self.trainer.fit_loop.epoch_loop
        loop.manual_optimization.optim_step_progress.increment_by(len(losses))
        loop.batch_progress.increment_by(len(losses) - 1)  # the Trainer counts this call itself
        loop._batches_that_stepped += len(losses) - 1
        return losses

    def _build_updates(self) -> Updates:
        updates = Updates(
            self.network,
            self._training_losses,
            cast(Optimizer, self.optimizers(use_pl_optimizer=False)),
            self.filters,
            self.seeds,
            self._constrain,
            cast(LRScheduler, self.lr_schedulers()),
            self.trainer.precision_plugin.forward_context,
            self.interventions.filtered_R,
            self.constraints.capturable,
        )
        to_come = int(self.trainer.max_steps) - self.trainer.global_step
        if self.device.type == "cuda" and to_come >= CAPTURED_STEPS and updates.can_be_captured():
            self._captured = CapturedUpdates(updates, CudaGraphs())
        return updates

    def _note_divergence(self, step: int, losses: list[Tensor]) -> None:
        """Records at which of several steps, from ``step`` on, each run's loss stopped being finite."""
        lost_SR = ~torch.stack(losses).isfinite()
        newly_R = lost_SR.any(0) & (self.diverged_at_R < 0)
        self.diverged_at_R.copy_(torch.where(newly_R, step + lost_SR.int().argmax(0), self.diverged_at_R))

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> tuple[Tensor, Tensor]:
        """The answer's tokens and the probability of each, of shape (R, B, A): those with the highest, each after the
        network's own, or where ``batch.recited`` after the right ones."""
        if batch.recited or self.answer_length == 1:
            logits = self.network(batch.tokens_RBT, self.answer_length)
        else:
            prompts = batch.tokens_RBT[..., : 1 - self.answer_length]
            _, logits = continue_rows(self.network, prompts, self.answer_length)
        probability, prediction = probabilities(logits, self.loss).max(-1)
        return prediction, probability

    def on_validation_model_zero_grad(self) -> None:
        """Keeps the gradient, whose norm the evaluation records."""

    def validation_step(self, batch: Table, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Evaluates whole splits, for ``evaluation`` and ``passed``."""
        reduce = partial(self.trainer.strategy.reduce, reduce_op="sum")
        double = self.loss_precision == 64
        with flush_denormals():
            evaluation, passed = evaluate(
                self.network, batch, self.targets, self.loss, double, self.keep_logits, reduce
            )
        self.evaluation, self.passed_at = evaluation, self.trainer.global_step
        self.passed = passed if batch.world_size == 1 else None
        self.log_values(evaluation)

    def log_values(self, values: dict[str, Tensor]) -> None:
        """Logs values (R,) of an evaluation for callbacks that monitor them: their mean over the runs.

        Loggers get them from the record, at the right step.
        """
        for key, value in values.items():
            self.log(key, value.mean(), logger=False, batch_size=1, sync_dist=False)

    def lost_R(self) -> Tensor:
        """Whether each run's loss is no longer finite, in training or in the newest evaluation."""
        losses = torch.stack([self.evaluation["train/loss"], self.evaluation["val/loss"]])
        return (~losses.isfinite().all(0)).to(self.device) | (self.diverged_at_R >= 0)

    def on_validation_epoch_end(self) -> None:
        """Notes divergence: here, since a callback that averages weights has put the run's own buffers back."""
        if self.trainer.state.fn == "fit":
            newly_R = self.lost_R() & (self.diverged_at_R < 0)
            self.diverged_at_R.masked_fill_(newly_R, self.trainer.global_step)

    def test_step(self, batch: Table, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validation_step(batch, batch_idx)


def _check_options(length: int, runs: int, warmup: int, mask_first_n: int, weight_noise: PerRun) -> None:
    for name, value in (("warmup", warmup), ("mask_first_n", mask_first_n)):
        if value < 0:
            raise UserError(f"model.{name} is {value}; it must be at least 0")
    if mask_first_n >= length:
        raise UserError(f"model.mask_first_n is {mask_first_n}; of {length} predictions at least 1 must count")
    check_range("model.weight_noise", weight_noise)
    check_runs("model.weight_noise", weight_noise, runs)


def _check_schedule(warmup: int, schedule: str, scheduler: SchedulerCallable | None) -> None:
    """Refuses a warmup or schedule beside a scheduler that replaces both; a warmup of 10 is the default."""
    for name, value, none in (("warmup", warmup, (0, 10)), ("schedule", schedule, ("constant",))):
        if scheduler is not None and value not in none:
            raise UserError(f"model.{name} is {value}, but model.scheduler replaces it; give --model.{name} {none[0]}")


def _check_answers(network: SequenceModel, loss_on: str, answer_length: int) -> None:
    """Refuses more than one token to predict from a network that predicts one."""
    if network.causal or (loss_on == "answer" and answer_length == 1):
        return
    why = f"an answer has {answer_length} tokens (data.tokenizer)"
    why = f"model.loss_on is {loss_on}" if loss_on == "equation" else why
    raise UserError(
        f"{why}, but {network._get_name()} reads all tokens at once and answers with one; use Transformer, LSTM or GRU"
    )


def _choose_outputs(network: SequenceModel, outputs: str, loss_on: str, classes: int, seeds: Sequence[int]) -> None:
    """Leaves the network outputs for answers alone, where that is asked for, and draws its weights again."""
    if outputs not in ("vocabulary", "answers"):
        raise UserError(f"model.outputs is {outputs}; it must be vocabulary or answers")
    if outputs == "answers":
        if loss_on == "equation":
            raise UserError("model.outputs is answers, but model.loss_on is equation, of which any token is predicted")
        network.limit_outputs(classes)
        network.reset(seeds)
