"""Optimizers and schedulers as other people write them: they know nothing of stacks."""

import math

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Lion(Optimizer):
    """Lion (arXiv 2302.06675), without types, and with the older way of changing weights through ``data``."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                weight.data = weight.data * (1 - group["lr"] * group["weight_decay"])
                mean = self.state[weight].setdefault("exp_avg", torch.zeros_like(weight))
                weight.sub_((mean * first + weight.grad * (1 - first)).sign(), alpha=group["lr"])
                mean.mul_(second).add_(weight.grad, alpha=1 - second)
        return loss


class Everything(Optimizer):
    """A plain list, estimates over all parameters in three places, state of several types, noise, no closure."""

    def __init__(
        self, params: list[torch.nn.Parameter], lr: float = 1e-2, noise: float = 0.0, most: float = math.inf
    ) -> None:
        assert isinstance(params, list)
        assert all(isinstance(weight, torch.nn.Parameter) and weight.is_contiguous() for weight in params)
        self.total, self.seen = 0.0, []
        super().__init__(params, {"lr": lr, "distance": 1e-3, "noise": noise, "most": most})

    def step(self) -> None:
        (group,) = self.param_groups
        norm = math.sqrt(sum(float(weight.grad.view(-1).square().sum()) for weight in group["params"]))
        self.total += norm
        self.seen = [*self.seen, torch.tensor(norm)][-3:]
        group["distance"] = max(group["distance"], min(group["most"], self.total / 10))
        self.state["all"] = {"count": self.state.get("all", {}).get("count", 0) + 1}
        for weight in group["params"]:
            own = self.state[weight]
            own.setdefault("wide", torch.zeros_like(weight, dtype=torch.float64)).add_(weight.grad.double())
            own.setdefault("mask", weight.detach() > 0)
            scale = group["lr"] * group["distance"] / (1 + self.state["all"]["count"] + float(max(self.seen)))
            direction = own["wide"].to(weight) * (1 + own["mask"]) + group["noise"] * torch.randn_like(weight)
            weight.data = weight.data - scale * direction


class Curvature(Optimizer):
    """Asks for the curvature along the gradient, as with ``loss.backward(create_graph=True)``."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        for weight in self.param_groups[0]["params"]:
            with torch.enable_grad():
                (curvature,) = torch.autograd.grad(weight.grad.sum(), weight)
            weight.data -= self.param_groups[0]["lr"] * weight.grad / (1 + curvature.abs())


class Dividing(Optimizer):
    """Divides by its learning rate, as an average of weights does whose share is that of the rates."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            share = 1e-3 / group["lr"]
            for weight in group["params"]:
                weight.sub_(weight.grad, alpha=share * group["lr"])


class Named(Optimizer):
    """Weight decay on matrices by their names."""

    def __init__(self, named_parameters, lr: float, decay: float = 0.1) -> None:
        pairs = list(named_parameters)
        groups = [
            {"params": [weight for name, weight in pairs if name.endswith("weight")], "decay": decay},
            {"params": [weight for name, weight in pairs if not name.endswith("weight")], "decay": 0.0},
        ]
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                weight.mul_(1 - group["lr"] * group["decay"]).sub_(weight.grad, alpha=group["lr"])


class Sharpness(Optimizer):
    """Sharpness-aware minimization (arXiv 2010.01412) on SGD: a second gradient at weights that it has moved."""

    def __init__(self, params, lr: float = 0.1, radius: float = 0.05) -> None:
        super().__init__(params, {"lr": lr, "radius": radius})

    @torch.no_grad()
    def step(self, closure=None):
        weights = self.param_groups[0]["params"]
        norm = torch.stack([weight.grad.norm() for weight in weights]).norm() + 1e-12
        moves = [weight.grad * (self.param_groups[0]["radius"] / norm) for weight in weights]
        for weight, move in zip(weights, moves, strict=True):
            weight.add_(move)
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        for weight, move in zip(weights, moves, strict=True):
            weight.sub_(move).sub_(weight.grad, alpha=self.param_groups[0]["lr"])
        return loss


class ByLoss(Optimizer):
    """A step as long as the loss is large (Polyak's)."""

    def __init__(self, params, lr: float = 1.0) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        with torch.enable_grad():
            loss = closure()
        weights = self.param_groups[0]["params"]
        square = sum(weight.grad.square().sum() for weight in weights)
        for weight in weights:
            weight.sub_(self.param_groups[0]["lr"] * loss.detach() * weight.grad / square)
        return loss


class Forgetful(Optimizer):
    """It remembers by parameter, outside of its state."""

    def __init__(self, params, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})
        self.means = {weight: torch.zeros_like(weight) for weight in self.param_groups[0]["params"]}

    @torch.no_grad()
    def step(self, closure=None):
        for weight, mean in self.means.items():
            weight.sub_(mean.lerp_(weight.grad, 0.1), alpha=self.param_groups[0]["lr"])


class Keeping(Lion):
    """Its state holds what no checkpoint can."""

    def step(self, closure=None):
        loss = super().step(closure)
        self.state["odd"] = {"value": object()}
        return loss


class Wave(LRScheduler):
    """A rate that goes up and down."""

    def __init__(self, optimizer, period: int, depth: float = 0.5) -> None:
        self.period, self.depth = period, depth
        super().__init__(optimizer)

    def get_lr(self):
        return [rate * (1 - self.depth * math.sin(self.last_epoch / self.period) ** 2) for rate in self.base_lrs]
