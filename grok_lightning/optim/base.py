"""Base of the optimizers and gradient filters of a stack: a hyperparameter for each run."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from grok_lightning.errors import UserError
from grok_lightning.randomness import derive_keys

PerRun = float | list[float]
OF_MODULES = "module."  # names of an ordinary module's parameters begin so; its matrices are (out, in), not (in, out)


def check_range(
    option: str, value: PerRun, least: float = 0, most: float = inf, *, above: bool = False, below: bool = False
) -> None:
    """Refuses numbers out of range.

    Args:
        option: Its full name, such as ``model.optimizer.lr``.
        value: One number, or one for each run.
        least: The least that is accepted.
        most: The most that is accepted; infinity itself and NaN never are.
        above: Whether it must stay above ``least``.
        below: Whether it must stay below ``most``.

    Raises:
        UserError: If a number is out of range.
    """
    for number in value if isinstance(value, list) else [value]:
        fits = (least < number if above else least <= number) and (number < most if below else number <= most)
        if not fits or number == inf:
            low = f"{'above' if above else 'at least'} {least:g}"
            high = "finite" if most == inf else f"{'below' if below else 'at most'} {most:g}"
            raise UserError(f"{option} is {value}; it must be {low} and {high}")


def check_runs(option: str, value: PerRun, runs: int) -> None:
    """Refuses a list that does not have one number for each run.

    Raises:
        UserError: If the list has another length than the stack.
    """
    if isinstance(value, list) and len(value) != runs:
        raise UserError(f"{option} has {len(value)} values for a stack of {runs}; give one, or one each")


def per_run(value: PerRun, like: Tensor) -> Tensor:
    """One number, or one for each run, in the type and on the device of ``like``: shape (1,) or (R,).

    The same tensor at every call, so that no step copies anything from the host; it must not be changed.
    """
    return _make_constant(tuple(value) if isinstance(value, list) else (value,), like.dtype, like.device)


@lru_cache(maxsize=256)
def _make_constant(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=device)


def spread(numbers_R: Tensor, like: Tensor) -> Tensor:
    """Numbers of shape (R,) or (1,) in the shape to be broadcast to ``like`` (R, ...), in its type, on its device."""
    return numbers_R.to(like).reshape(-1, *[1] * (like.dim() - 1))


class StackOptimizer(Optimizer, ABC):
    """An optimizer of a stack: hyperparameters may differ from run to run, and parameters have names.

    ``group["lr"]`` is the learning rate ``lr`` of the first run, times the schedule's factor; all others follow it in
    the same ratio. ``group["factor"]`` is the factor that the schedule set, so that other runs' rates are exact too. A
    step reads nothing from the device and copies nothing to it, so that it can be captured as a CUDA graph; a graph
    would keep the number that ``group["lr"]`` had, hence ``factor``.

    Args:
        params: Parameters that lead with R, or pairs (name, parameter); those without a name are called 0, 1, ...
        options: Further options of its groups, which a scheduler may change.

    Attributes:
        seeds: One seed for each run, for what is drawn at random; set after building.
        hidden: Names of the hidden matrices of a network that tells them, an ordinary module; set after building.
        runs: R.
        capturable: Whether a step does the same operations on the same tensors each time, from the second on.
        factor: A tensor without dimensions, on the parameters' device, that holds the factor of all learning rates in
            place of ``group["lr"]``; or None.
    """

    capturable: ClassVar[bool] = False

    def __init__(self, params: ParamsT, **options: Any) -> None:
        # "fused" has load_state_dict put the step counts on the parameters' device, where the fused kernel needs them
        super().__init__(params, {"lr": 1.0, "factor": 1.0, "fused": True, **options})
        self._rate = 1.0  # the first run's, before any schedule
        self.seeds: list[int] | None = None
        self.hidden: set[str] = set()
        self.factor: Tensor | None = None
        self.runs: int = self.param_groups[0]["params"][0].shape[0]
        self._keys: dict[str, Tensor] = {}
        self._moved: dict[Tensor, Tensor] = {}
        self._settable: dict[str, tuple[Tensor, float, bool]] = {}  # hyperparameters, with the limits of their values
        self._scratch: dict[Tensor, Tensor] = {}

    @abstractmethod
    def update(self, weights: dict[str, Tensor], factor: float | Tensor) -> None:
        """Updates parameters in place.

        Args:
            weights: Those that have a gradient, by name.
            factor: Factor of the learning rates: a number, or a tensor without dimensions on their device.
        """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = zip(parameter_names(group), group["params"], strict=True)
            moving = {name: weight for name, weight in weights if weight.grad is not None}
            if moving:
                self.update(moving, self.read_factor(group) if self.factor is None else self.factor)
        return loss

    def read_factor(self, group: dict[str, Any]) -> float:
        """Factor of the learning rates that a group's ``lr`` stands for.

        Raises:
            UserError: If ``lr`` has been set where it was 0, of which nothing is a multiple.
        """
        if group["lr"] == self._rate * group["factor"]:
            return float(group["factor"])
        if not self._rate:
            raise UserError("model.optimizer.lr is 0, which no scheduler or callback can change; give a rate above 0")
        return float(group["lr"]) / self._rate

    def state_dict(self) -> dict[str, Any]:
        """The state, in which ``lr`` is the factor of all runs' rates, so that a run can be taken out of the stack."""
        state = super().state_dict()
        for group in state["param_groups"]:
            rate, factor = group["lr"], self.read_factor(group)
            if rate != self._rate * factor:
                group["set_lr"] = rate
            if group.get("initial_lr") == self._rate:
                group["initial_lr"] = 1.0
            group["lr"] = factor
            del group["factor"]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a state; options that it lacks, as those of earlier versions do, stay as they are."""
        super().load_state_dict(state_dict | {"param_groups": [
            group if place >= len(self.param_groups) else self._restore_rate(self.param_groups[place], group)
            for place, group in enumerate(state_dict["param_groups"])
        ]})  # fmt: skip

    def _restore_rate(self, own: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
        """A group of a state, with the rate in place of the factor."""
        factor, rate = saved["lr"], saved.get("set_lr")
        if rate is None or not self._rate or rate / self._rate != factor:
            rate = self._rate * factor
        kept = {"initial_lr": own["initial_lr"]} if "initial_lr" in own else {}
        restored = {**own, **saved, "lr": rate, "factor": factor, **kept}
        restored.pop("set_lr", None)
        return restored

    def hyperparameter(self, name: str, value: PerRun, most: float = inf, *, below: bool = False) -> Tensor:
        """Checks an option of at least 0 that may differ from run to run; ``lr`` becomes that of the groups.

        Args:
            name: The option's own name, such as ``lr``.
            value: One number, or one for each run.
            most: The most that is accepted.
            below: Whether it must stay below ``most``.

        Returns:
            A float64 tensor on the CPU: shape (R,), or (1,) where all runs share one number.

        Raises:
            UserError: If a number is out of range, or there is not one for each run.
        """
        option = f"model.optimizer.{name}"
        check_range(option, value, most=most, below=below)
        check_runs(option, value, self.runs)
        if name == "lr":
            self._rate = self.defaults["lr"] = float(value[0] if isinstance(value, list) else value)
            for group in self.param_groups:
                group["lr"] = self._rate
        shared = not isinstance(value, list) or len(set(value)) == 1
        numbers_R = torch.tensor(value, dtype=torch.float64).reshape(-1)[: 1 if shared else None].clone()
        self._settable[name] = numbers_R, most, below
        return numbers_R

    def set_hyperparameter(self, run: int, name: str, value: float) -> None:
        """Sets a number of one run in place; that of a learning rate is still multiplied by the schedule's factor.

        ``group["lr"]`` stays what the schedule makes of the first rate.

        Raises:
            UserError: If there is no such number, or the value is out of range.
        """
        if name not in self._settable:
            raise UserError(
                f"model.interventions sets {name}, which model.optimizer {type(self).__name__} "
                f"has not been given; there are {', '.join(self._settable)}"
            )
        numbers_R, most, below = self._settable[name]
        check_range(f"model.interventions: {name}", value, most=most, below=below)
        if len(numbers_R) < self.runs:
            shared = numbers_R.item()
            numbers_R.resize_(self.runs).fill_(shared)
        numbers_R[run] = value
        self._moved.pop(numbers_R, None)

    def numbers(self, hyperparameter_R: Tensor, like: Tensor) -> Tensor:
        """A hyperparameter where the parameters are: on a CPU itself, elsewhere a copy in their type, made once.

        Args:
            hyperparameter_R: The result of ``hyperparameter``.
            like: A parameter.
        """
        if like.is_cpu:
            return hyperparameter_R
        if hyperparameter_R not in self._moved:
            self._moved[hyperparameter_R] = hyperparameter_R.to(like)
        return self._moved[hyperparameter_R]

    def keys(self, *purpose: str) -> Tensor:
        """Each run's key for the random numbers of one purpose: (R,).

        Raises:
            RuntimeError: If there is not one seed for each run.
        """
        if self.seeds is None or len(self.seeds) != self.runs:
            raise RuntimeError(f"an optimizer of {self.runs} runs that draws random numbers has the seeds {self.seeds}")
        name = " ".join(purpose)
        if name not in self._keys:
            device = self.param_groups[0]["params"][0].device
            self._keys[name] = derive_keys(self.seeds, *purpose).to(device)
        return self._keys[name]

    def zeros_like(self, weights: list[Tensor]) -> list[Tensor]:
        """Zeros in the shapes of parameters, the same tensors at every step.

        Allocating them took 8.5 ms for four runs of two layers of width 128 on a CPU, clearing them takes 0.1.
        """
        for weight in weights:
            if weight not in self._scratch:
                self._scratch[weight] = torch.empty_like(weight)
        zeros = [self._scratch[weight] for weight in weights]
        torch._foreach_zero_(zeros)
        return zeros


def parameter_names(group: dict[str, Any]) -> list[str]:
    """The names of a group's parameters; 0, 1, ... where none were given."""
    names: list[str] = group.get("param_names") or [str(index) for index in range(len(group["params"]))]
    return names


def collect_gradients(weights: list[Tensor]) -> list[Tensor]:
    """The gradients of parameters that all have one."""
    return [weight.grad for weight in weights if weight.grad is not None]
