"""Optimizer steps of a stack: one, many in a row, or one captured as a CUDA graph and replayed."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from grok_lightning.batch import Batch, Beginnings, Draw
from grok_lightning.errors import UserError, show
from grok_lightning.hardware.default_type import float32_by_default
from grok_lightning.models import SequenceModel
from grok_lightning.models.base import device_of
from grok_lightning.optim.base import StackOptimizer
from grok_lightning.optim.filters import GradientFilter
from grok_lightning.optim.rates import advance, can_be_captured
from grok_lightning.training.separate import note_losses

CALL_SECONDS = 0.2  # after which a call returns, so that signals, progress lines and heartbeats are served
CAPTURED_STEPS = 300  # the fewest steps to come for which a CUDA graph is captured
EAGER_STEPS = 3  # taken before a capture: optimizer states are allocated, kernels chosen and compiled
BLOCK_STEPS, BLOCK_ROWS = 64, 2**20  # most batches, and most rows of all runs, that a captured step finds on the device

Losses = Callable[[Tensor, Tensor, Beginnings | None, Draw | None], Tensor]
Batches = Callable[[int, int], Iterator[Batch]]  # of a step, and of how many steps from there on


@contextmanager
def leave_forward_context(device: torch.device) -> Iterator[None]:
    """Leaves the Trainer's context of the forward pass, in which it calls the whole training step."""
    with float32_by_default(), torch.autocast(device.type, enabled=False):
        yield


def filter_gradients(
    network: SequenceModel,
    filters: list[GradientFilter],
    step: Tensor,
    seeds: list[int],
    filtered_R: Tensor | None = None,
) -> None:
    """Passes the gradients of a network through filters, in their order.

    Args:
        network: The stack.
        filters: The filters, which see every gradient.
        step: The optimizer step, int64, without dimensions, on the device.
        seeds: One seed for each run.
        filtered_R: The runs whose gradients become the filtered ones; default: all.

    Raises:
        UserError: If a filter does not return a gradient for each weight.
    """
    if not filters:
        return
    weights: dict[str, Tensor] = dict(network.named_parameters())
    gradients = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
    weights = {name: weights[name] for name in gradients}
    with torch.no_grad():
        before = {} if filtered_R is None else {name: gradient.clone() for name, gradient in gradients.items()}
        for gradient_filter in filters:
            gradients = _check_filtered(gradient_filter, gradient_filter(weights, gradients, step, seeds), weights)
        for name, gradient in before.items():
            chosen = filtered_R.reshape(-1, *[1] * (gradient.dim() - 1))  # type: ignore[union-attr]
            gradients[name] = torch.where(chosen, gradients[name], gradient)
    for name, gradient in gradients.items():
        weights[name].grad = gradient


def _check_filtered(gradient_filter: GradientFilter, found: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a filter returned; its names are compared at each call, types and shapes at the first.

    Raises:
        UserError: If it is not a gradient for each weight.
    """
    where = f"model.filters: {type(gradient_filter).__name__} returns"
    if not isinstance(found, dict):
        raise UserError(f"{where} {type(found).__name__}; expected: a dictionary of the new gradients")
    if found.keys() != weights.keys():
        missing = next((name for name in weights if name not in found), None)
        if missing is not None:
            raise UserError(f"{where} no gradient for {show(missing)}; expected: one for each name that it is given")
        other = next(name for name in found if name not in weights)
        raise UserError(f"{where} a gradient for {show(other)}; expected: only the names that it is given")
    if not gradient_filter.checked:
        for name, weight in weights.items():
            shape = getattr(found[name], "shape", None)
            if shape != weight.shape:
                given = type(found[name]).__name__ if shape is None else tuple(shape)
                raise UserError(f"{where} {given} for {show(name)}; expected: a tensor of shape {tuple(weight.shape)}")
            if found[name].dtype != weight.dtype:
                raise UserError(f"{where} {found[name].dtype} for {show(name)}; expected: {weight.dtype}")
        gradient_filter.checked = True
    return found


@dataclass
class Updates:
    """Takes optimizer steps without the Trainer's hooks.

    Attributes:
        network: The stack.
        losses: The summed loss (R,) of tokens, targets, beginnings and draw.
        optimizer: Of the network's parameters.
        filters: The gradient filters, in this order.
        seeds: One seed for each run.
        after: Called after each update, for example to restore a weight norm.
        schedule: The schedule of the optimizer's learning rates.
        forward_context: The precision of the forward pass.
        filtered_R: The runs in which the filters act; None for all.
        capturable_after: Whether ``after`` can be captured.
    """

    network: SequenceModel
    losses: Losses
    optimizer: Optimizer
    filters: list[GradientFilter]
    seeds: list[int]
    after: Callable[[], None]
    schedule: LRScheduler
    forward_context: Callable[[], AbstractContextManager[Any]]
    filtered_R: Tensor | None = None
    capturable_after: bool = True

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return device_of(self.network)

    def many(self, step: int, steps: int, batches: Batches, interrupted: Callable[[], bool]) -> list[Tensor]:
        """Takes steps one after the other.

        It ends early on a signal, after ``CALL_SECONDS`` and, on a CPU, where the check costs nothing,
        when no run's loss is finite any more.

        Args:
            step: The first step.
            steps: Their largest number.
            batches: Gives the batches.
            interrupted: Whether a signal was received.

        Returns:
            The losses (R,) of each step taken.
        """
        taken: list[Tensor] = []
        deadline = time.monotonic() + CALL_SECONDS
        for batch in batches(step, steps):
            step_T = torch.full((), batch.step, device=self.device)
            loss_R = self.update(batch.tokens_RBT, batch.targets_RBA, batch.beginnings, step_T, 1 / batch.whole)
            taken.append(loss_R)
            advance(self.schedule, batch.step + 1)
            if interrupted() or time.monotonic() > deadline or (loss_R.is_cpu and _is_lost(loss_R)):
                break
        return taken

    def update(
        self, tokens_RBT: Tensor, targets_RBA: Tensor, beginnings: Beginnings | None, step: Tensor, share: float
    ) -> Tensor:
        """One step on one batch.

        Args:
            tokens_RBT: Inputs.
            targets_RBA: Targets.
            beginnings: The shared beginnings of the equations, or None.
            step: The optimizer step, int64, without dimensions, on the device.
            share: Factor of each equation's loss.

        Returns:
            Each run's loss (R,).
        """
        losses: list[Tensor] = []

        def closure() -> Tensor:  # for optimizers that ask for the gradient several times a step, such as LBFGS
            with self.forward_context():
                loss_R = self.losses(tokens_RBT, targets_RBA, beginnings, Draw(step)) * share
            self.optimizer.zero_grad()
            loss = loss_R.sum()
            loss.backward()
            filter_gradients(self.network, self.filters, step, self.seeds, self.filtered_R)
            losses.append(loss_R.detach())
            return loss

        note_losses(self.optimizer, losses)
        self.optimizer.step(closure)  # type: ignore[arg-type]
        self.after()
        return losses[0]

    def can_be_captured(self) -> bool:
        """Whether every part of a step does the same operations on the same tensors at every step."""
        parts: list[Any] = [self.network, self.optimizer, *self.filters]
        return (
            all(getattr(part, "capturable", False) for part in parts)
            and self.capturable_after
            and can_be_captured(self.schedule)
            and not torch.is_anomaly_enabled()
        )


class CudaGraphs:
    """Captures by CUDA graphs, as https://docs.pytorch.org/docs/stable/notes/cuda.html has it."""

    def rehearse(self, function: Callable[[], None]) -> None:
        """Runs a function that is to be captured later, on a separate stream, as captures do."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function()
        torch.cuda.current_stream().wait_stream(stream)

    def capture(self, function: Callable[[], None]) -> Callable[[], Any]:
        """Records what a function does on the device, without doing it; what it returns does it."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            function()
        return graph.replay


class CapturedUpdates:
    """A step captured as one graph, from its batch to the new weights: one launch a step instead of some 80.

    What differs from step to step lies on the device: the step, a block of batches and a place in it, the factor of the
    learning rates. The host renews the block when it is used up and the factor when it changes; no step waits for it.

    Args:
        updates: The step that is captured.
        capture: Captures by CUDA graphs, or whatever has the same methods.
    """

    def __init__(self, updates: Updates, capture: CudaGraphs) -> None:
        assert isinstance(updates.optimizer, StackOptimizer)
        self.updates, self._capture = updates, capture
        self.optimizer = updates.optimizer
        self._first = self._next = -1
        self._length, self._share, self._factor = 1, math.nan, math.nan
        self._rehearsed = 0
        self._replay: Callable[[], Any] | None = None

    def many(self, step: int, steps: int, batches: Batches, interrupted: Callable[[], bool]) -> list[Tensor]:
        """As ``Updates.many``, but without checking that losses are finite."""
        taken: list[Tensor] = []
        end = step + steps
        if self._first < 0:
            self._allocate(next(batches(step, 1)))
        deadline = time.monotonic() + CALL_SECONDS
        self.optimizer.factor, ended = self._factor_T, False
        try:
            while step < end and not ended:
                if step != self._next or step == self._first + self._length:
                    self._load(step, list(batches(step, self._length)))
                place = step - self._first
                while step < min(end, self._first + self._length) and not ended:
                    self._take(step)
                    step += 1
                    # asked after a step: a call takes one at least
                    ended = interrupted() or time.monotonic() > deadline
                self._next = step
                taken += self._losses_SR[place : step - self._first].clone().unbind(0)
        finally:
            self.optimizer.factor = None  # steps taken otherwise have the rate of their own
        return taken

    def _allocate(self, batch: Batch) -> None:
        """Allocates the tensors that stay on the device."""
        device, runs = self.updates.device, len(self.updates.seeds)
        self._share = 1 / batch.whole
        self._length = max(1, min(BLOCK_STEPS, BLOCK_ROWS // (batch.whole * runs)))
        self._tokens_SRBT, self._targets_SRBA = (
            part.new_empty(self._length, *part.shape) for part in (batch.tokens_RBT, batch.targets_RBA)
        )
        self._step, self._place = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(2))
        self._losses_SR = torch.zeros(self._length, runs, dtype=torch.float32, device=device)
        self._factor_T = torch.ones((), dtype=torch.float32, device=device)  # the type that fused kernels read

    def _load(self, step: int, batches: list[Batch]) -> None:
        """Copies the batches of the next steps into the block that the captured step reads."""
        torch.stack([batch.tokens_RBT for batch in batches], out=self._tokens_SRBT)
        torch.stack([batch.targets_RBA for batch in batches], out=self._targets_SRBA)
        self._first = step
        self._step.fill_(step)
        self._place.zero_()

    def _take(self, step: int) -> None:
        factor = self.optimizer.read_factor(self.optimizer.param_groups[0])
        if factor != self._factor:
            self._factor_T.fill_(factor)
            self._factor = factor
        if self._replay is None and self._rehearsed >= EAGER_STEPS:
            self._replay = self._capture.capture(self._take_captured)
        if self._replay is None:
            self._capture.rehearse(self._take_captured)
            self._rehearsed += 1
        else:
            self._replay()
        advance(self.updates.schedule, step + 1)

    def _take_captured(self) -> None:
        tokens_RBT = self._tokens_SRBT.index_select(0, self._place)[0]
        targets_RBA = self._targets_SRBA.index_select(0, self._place)[0]
        loss_R = self.updates.update(tokens_RBT, targets_RBA, None, self._step[0], self._share)
        self._losses_SR.index_copy_(0, self._place, loss_R[None].to(self._losses_SR.dtype))
        torch._foreach_add_([self._place, self._step], 1)


def _is_lost(loss_R: Tensor) -> bool:
    """Whether no run's loss is finite."""
    return not math.isfinite(loss_R.sum()) and not bool(loss_R.isfinite().any())
