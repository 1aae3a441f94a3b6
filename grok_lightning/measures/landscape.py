"""The training loss of the runs of a stack as a function of their weights: values, gradients and Hessian products."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from grok_lightning.batch import Beginnings
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.errors import UserError
from grok_lightning.hardware.doubles import double_device, to_double
from grok_lightning.measures.base import Measure, View
from grok_lightning.models import SequenceModel
from grok_lightning.models.base import device_of
from grok_lightning.models.ordinary import ModuleStack
from grok_lightning.objective import equation_losses
from grok_lightning.randomness import derive_keys, gaussian, permutations

NUDGE, STEP = 0.02, 1e-6  # of the weights, where it is tried whether a second derivative is right
ROWS_AT_ONCE = 4096  # of all runs together, whose intermediate results are held at a time


@contextmanager
def differentiable(device: torch.device) -> Iterator[None]:
    """Gradients, and gradients of these, in full precision: within an evaluation too, and through fused kernels."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {device.type, double_device(device).type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # the others have no second derivative
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # nor have its recurrent layers
        yield


def draw_rows(
    rows_RN: Tensor, counts: Sequence[int], seeds: Sequence[int], rows: int | None, *purpose: str | int
) -> Tensor:
    """Rows of a split drawn without repetition, other ones in each run: (R, B) numbers of rows; -1 for none.

    Args:
        rows_RN: Numbers of the rows of the split; -1 at the end of a shorter one.
        counts: Their number in each run.
        seeds: One seed for each run. With the purpose it decides which are drawn.
        rows: B, at most; a run with fewer rows has all of them. None for all rows of all runs.
        purpose: What they are drawn for.
    """
    most = rows_RN.shape[1] if rows is None else min(rows, max(counts))
    keys = derive_keys(seeds, "measures", *purpose).to(rows_RN.device)
    drawn_RB = rows_RN.new_full((len(counts), most), -1)
    for run, count in enumerate(counts):
        own = rows_RN[run, permutations(keys[run : run + 1], count)[0][:most]]
        drawn_RB[run, : len(own)] = own
    return drawn_RB


class Landscape:
    """The mean loss of training rows in each run, as a function of all weights that are trained, joined: (R, P).

    The loss is that of training, without dropout and noise on the weights, computed in float64, on the CPU where the
    device has none: the gradient of a memorized split is too small for differences of it in float32. It is made and
    used within ``differentiable``.

    Args:
        view: The stack and its data.

    Attributes:
        weights_RP: The weights as they are.
        counts: Number of training rows of each run.
        rows_RN: Numbers of the training rows of each run; -1 at the end of a shorter split.
        takes_more_runs: Whether weights of several times as many runs can be given, each run's copies together.
    """

    def __init__(self, view: View) -> None:
        self.network, self.objective, self.seeds = view.network, view.objective, list(view.data.seeds)
        self.device = double_device(view.device)
        self.counts = view.data.counts("train")
        self._table = view.data.table(self.device)
        self.rows_RN = self._table.rows_RN["train"].clone()  # an evaluation's tensors cannot be saved for a gradient
        named = {name: to_double(weight.detach()).clone() for name, weight in view.network.named_parameters()}
        trained = [name for name, weight in view.network.named_parameters() if weight.requires_grad]
        self._shapes = {name: named[name].shape[1:] for name in trained}
        self.weights_RP = torch.cat([named.pop(name)[..., None].flatten(1) for name in trained], dim=1)
        self._frozen, self._buffers = named, {}
        for name, buffer in view.network.named_buffers():
            moved = buffer.detach().to(self.device, copy=True)
            self._buffers[name] = moved.double() if moved.is_floating_point() else moved
        same_rows = len(self._table.tokens_XNT) == len(self._table.targets_XNA) == 1
        self.takes_more_runs = is_ours(view.network) and same_rows

    def draw(self, rows: int | None, *purpose: str | int) -> Tensor:
        """``draw_rows`` of the training rows."""
        return draw_rows(self.rows_RN, self.counts, self.seeds, rows, *purpose)

    def batches(self, count: int, rows: int, *purpose: str | int) -> list[Tensor]:
        """Several batches without common rows, each (R, B); smaller ones where a run has too few rows for that.

        Args:
            count: Number of batches.
            rows: B, at most.
            purpose: As for ``draw``.
        """
        drawn_RN = self.draw(None, *purpose)
        parts = [drawn_RN.new_full((len(self.counts), rows), -1) for _ in range(count)]
        for run, known in enumerate(self.counts):
            size = min(rows, known // count)
            for place, part_RB in enumerate(parts):
                part_RB[run, :size] = drawn_RN[run, place * size : (place + 1) * size]
        widest = max(1, *(min(rows, known // count) for known in self.counts))
        return [part_RB[:, :widest] for part_RB in parts]

    def row_losses(self, weights_RP: Tensor, rows_RB: Tensor) -> Tensor:
        """The loss of each row, (R, B), 0 where there is none; R may be a multiple of the stack's, a row for each.

        Args:
            weights_RP: Weights.
            rows_RB: Numbers of rows.
        """
        batch = self._table.batch(rows_RB, "train")
        shared = batch.beginnings
        beginnings = None if shared is None else Beginnings(shared.tokens_PS.clone(), shared.index_RB)
        targets = self.objective.targets(batch.tokens_RBT, batch.targets_RBA)
        inputs = (batch.tokens_RBT, targets.shape[-1], None, beginnings)
        logits = functional_call(self.network, self._name(weights_RP), inputs)
        return equation_losses(logits, targets, self.objective.loss, double=True)

    def gradient(self, weights_RP: Tensor, rows_RB: Tensor) -> Tensor:
        """The gradient of the rows' mean loss, (R, P); 0 where a run has none of them."""
        return self.losses_and_gradient(weights_RP, rows_RB)[1]

    def losses_and_gradient(self, weights_RP: Tensor, rows_RB: Tensor) -> tuple[Tensor, Tensor]:
        """``row_losses`` and ``gradient`` at once."""
        losses = []

        def derive(losses_RB: Tensor, mean_R: Tensor, at: Tensor) -> Tensor:
            losses.append(losses_RB.detach())
            return torch.autograd.grad(mean_R.sum(), at)[0]

        gradient_RP = self._sum(weights_RP, rows_RB, derive)
        return torch.cat(losses, dim=1), gradient_RP

    def hessian_product(self, weights_RP: Tensor, rows_RB: Tensor, vectors_RP: Tensor) -> Tensor:
        """The Hessian of the rows' mean loss times a vector for each run, (R, P)."""

        def derive(_: Tensor, mean_R: Tensor, at: Tensor) -> Tensor:
            (gradient_RP,) = torch.autograd.grad(mean_R.sum(), at, create_graph=True)
            if not gradient_RP.requires_grad:  # of a loss that is linear in the weights
                return torch.zeros_like(at)
            (found,) = torch.autograd.grad(gradient_RP, at, vectors_RP, allow_unused=True, materialize_grads=True)
            return found

        return self._sum(weights_RP, rows_RB, derive)

    def _sum(self, weights_RP: Tensor, rows_RB: Tensor, derive: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """Sums over blocks of rows what is derived of their losses, of these' share of the mean, and of the weights."""
        total, counts = torch.zeros_like(weights_RP), (rows_RB >= 0).sum(1)
        for block in rows_RB.split(max(1, ROWS_AT_ONCE // len(rows_RB)), dim=1):
            at = weights_RP.detach().clone().requires_grad_()
            losses_RB = self.row_losses(at, block)
            total += derive(losses_RB, losses_RB.sum(1) / counts, at).detach()
        return total

    def _name(self, weights_RP: Tensor) -> dict[str, Tensor]:
        """Everything by its name; what is not trained is repeated where there are more runs than in the stack."""
        parts = weights_RP.split([shape.numel() for shape in self._shapes.values()], dim=1)
        named = dict(self._buffers)
        for name, part in zip(self._shapes, parts, strict=True):
            named[name] = part.reshape(len(part), *self._shapes[name])
        for name, weight in self._frozen.items():
            named[name] = weight.repeat_interleave(len(weights_RP) // len(weight), dim=0)
        return named


class LandscapeMeasure(Measure):
    """A measure of the training loss as a function of the weights."""

    second: ClassVar[bool] = False  # whether it needs second derivatives

    @abstractmethod
    def compute(self, landscape: Landscape) -> dict[str, Tensor]:
        """The values by key, as those of a measure."""

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        require_derivatives(type(self).__name__, network, data, self.second)

    def __call__(self, view: View) -> dict[str, Tensor]:
        with differentiable(view.device):
            return self.compute(Landscape(view))


def is_ours(network: SequenceModel) -> bool:
    """Whether the computations of a network are of this package."""
    return type(network).__module__.startswith("grok_lightning.models.") and not isinstance(network, ModuleStack)


def require_derivatives(measure: str, network: SequenceModel, data: SequenceDataModule, second: bool) -> None:
    """Checks on some rows that the loss of a network can be differentiated apart from training.

    Args:
        measure: The measure that asks for it.
        network: The stack. Ours are not tried.
        data: Its data.
        second: Whether second derivatives are needed.

    Raises:
        UserError: If it cannot, with the reason.
    """
    if is_ours(network):
        return
    where = f"measures names {measure}, but model.network is {network._get_name()}, "
    if not any(weight.requires_grad for weight in network.parameters()):
        raise UserError(f"{where}which has no parameters to train")
    try:
        with differentiable(device_of(network)):
            landscape = Landscape(View(network, data))
            if second and not _agrees(landscape):
                raise UserError(f"{where}which has no second derivative: it is not that of its gradient")
            if not second:
                landscape.gradient(landscape.weights_RP, landscape.draw(2, "trial"))
    except (RuntimeError, NotImplementedError, TypeError) as error:  # in training it has been called before
        which = "second derivative" if second else "derivative in float64"
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{where}which has no {which}: {reason}") from error


def _agrees(landscape: Landscape) -> bool:
    """Whether a product with the Hessian is the change of the gradient: torch leaves out what has one derivative."""
    rows_RB, at = landscape.draw(2, "trial"), landscape.weights_RP
    noise, direction = (gaussian(derive_keys(landscape.seeds, "measures", "trial"), step, at) for step in range(2))
    at = at + NUDGE * noise  # off the kinks, on which weights of 0 may lie
    product = landscape.hessian_product(at, rows_RB, direction)
    ends = [landscape.gradient(at + sign * STEP * direction, rows_RB) for sign in (1, -1)]
    change = (ends[0] - ends[1]) / (2 * STEP)
    return not bool((torch.linalg.vector_norm(product - change) > 0.01 * torch.linalg.vector_norm(change) + 1e-6).any())
