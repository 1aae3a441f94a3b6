import math

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Lion(Optimizer):
    """Lion: the sign of a running mean of the gradient (Chen et al., arXiv 2302.06675)."""

    def __init__(self, params, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_((first * mean + (1 - first) * weight.grad).sign(), alpha=group["lr"])
                mean.mul_(second).add_(weight.grad, alpha=1 - second)


class SkipNorms(Optimizer):
    """Gradient descent with weight decay on matrices only, which it knows by their names."""

    def __init__(self, named_parameters, lr: float, weight_decay: float = 0.1):
        pairs = list(named_parameters)
        groups = [
            {"params": [weight for name, weight in pairs if name.endswith("weight")], "decay": weight_decay},
            {"params": [weight for name, weight in pairs if not name.endswith("weight")], "decay": 0.0},
        ]
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                weight.mul_(1 - group["lr"] * group["decay"]).sub_(weight.grad, alpha=group["lr"])


class InverseRoot(LRScheduler):
    """A linear warmup, then the inverse square root of the step."""

    def __init__(self, optimizer, warmup: int = 100):
        self.warmup = warmup
        super().__init__(optimizer)

    def get_lr(self):
        step = self.last_epoch + 1
        return [rate * min(step / self.warmup, math.sqrt(self.warmup / step)) for rate in self.base_lrs]
