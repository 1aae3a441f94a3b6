"""AdamW for a stack: torch's mathematics, with a learning rate and weight decay for each run."""

from collections.abc import Callable, Iterable
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from grok_lightning.errors import UserError


def adamw_update(
    weights: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    steps: list[float],
    rates: list[Tensor],
    decays: list[Tensor],
    betas: tuple[float, float],
    eps: float,
) -> None:
    """One step of AdamW in place, on lists of tensors that lead with R.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
    w <- (1 - lr wd) w - lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)

    Source: Loshchilov and Hutter, arXiv 1711.05101, as torch.optim.AdamW computes it.

    Args:
        weights, gradients, means, squares: w, g, m and v.
        steps: t of each tensor, 1 at its first update.
        rates: lr for each tensor, broadcastable to it: shape (R, 1, ...).
        decays: The factor 1 - lr wd, in the same shapes.
        betas: b1 and b2.
        eps: Added to the root.
    """
    beta1, beta2 = betas
    torch._foreach_mul_(weights, decays)
    torch._foreach_lerp_(means, gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_div_(roots, [(1 - beta2**step) ** 0.5 for step in steps])
    torch._foreach_add_(roots, eps)
    updates = torch._foreach_div(means, roots)
    torch._foreach_mul_(updates, rates)
    torch._foreach_div_(updates, [1 - beta1**step for step in steps])
    torch._foreach_sub_(weights, updates)


class AdamW(Optimizer):
    """AdamW on a stack of runs.

    ``group["lr"]`` is the schedule's factor, 1 without a schedule; each run's own learning rate is multiplied by it.

    Args:
        params: Parameters that lead with R.
        lr: Learning rate; one number, or one for each run.
        weight_decay: Decoupled decay toward zero, on every parameter; one number, or one for each run.
        betas: Decay rates of the running means of the gradient and of its square.
        eps: Added to the root of the second.

    Raises:
        UserError: If a number is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float | list[float] = 1e-3,
        weight_decay: float | list[float] = 1.0,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
    ) -> None:
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if any(not 0 <= number < inf for number in (value if isinstance(value, list) else [value])):
                raise UserError(f"model.optimizer.{name} is {value}; it must be at least 0 and finite")
        if not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"model.optimizer.betas is {list(betas)}; each must be at least 0 and below 1")
        if not eps > 0:
            raise UserError(f"model.optimizer.eps is {eps}; it must be above 0")
        super().__init__(params, {"lr": 1.0})
        runs = self.param_groups[0]["params"][0].shape[0]
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if isinstance(value, list) and len(value) != runs:
                raise UserError(
                    f"model.optimizer.{name} has {len(value)} values for a stack of {runs}; give one, or one each"
                )
        self.lr, self.weight_decay, self.eps = lr, weight_decay, eps
        self.betas = (betas[0], betas[1])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            for w in weights:
                if not self.state[w]:
                    step = torch.zeros((), dtype=torch.float32, device=w.device)
                    self.state[w] = {"step": step, "mean": torch.zeros_like(w), "square": torch.zeros_like(w)}
            states = [self.state[w] for w in weights]
            gradients = [w.grad for w in weights]
            means, squares = [state["mean"] for state in states], [state["square"] for state in states]
            steps = [state["step"] for state in states]
            if isinstance(self.lr, list) or isinstance(self.weight_decay, list):
                torch._foreach_add_(steps, 1.0)
                rates = [self._per_run(self.lr, w) * group["lr"] for w in weights]
                decays = [1 - r * self._per_run(self.weight_decay, w) for r, w in zip(rates, weights, strict=True)]
                adamw_update(
                    weights,
                    gradients,
                    means,
                    squares,
                    [float(step) for step in steps],
                    rates,
                    decays,
                    self.betas,
                    self.eps,
                )
            else:
                # one kernel for all tensors: 0.5 ms instead of 2.6 for two layers of width 128 on a CPU
                adamw(
                    weights, gradients, means, squares, [], steps, fused=True, amsgrad=False, maximize=False,
                    beta1=self.betas[0], beta2=self.betas[1], lr=self.lr * group["lr"],
                    weight_decay=self.weight_decay, eps=self.eps,
                )  # fmt: skip
        return loss

    def _per_run(self, value: float | list[float], like: Tensor) -> Tensor:
        numbers = torch.tensor(value, dtype=like.dtype, device=like.device)
        return numbers.reshape(-1, *[1] * (like.dim() - 1)) if isinstance(value, list) else numbers
