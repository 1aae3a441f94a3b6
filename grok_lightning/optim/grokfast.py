"""Grokfast: to each gradient a multiple of its slow part is added, an average over past steps.

Source: Lee et al., arXiv 2405.20233, and the code published with it, where strength is called ``lamb`` and the window
``window_size``. What we changed: one strength (and alpha) for each run of a stack; how the window's mean is computed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from grok_lightning.optim.base import PerRun, check_range, per_run, spread
from grok_lightning.optim.filters import GradientFilter


def add_moving_average(
    gradients: list[Tensor], means: list[Tensor], rates: list[Tensor], strengths: list[Tensor]
) -> None:
    """m <- alpha m + (1 - alpha) g;  g <- g + lambda m, in place.

    Args:
        gradients, means: g and m.
        rates: 1 - alpha for each tensor, broadcastable to it.
        strengths: lambda, in the same shapes.
    """
    torch._foreach_lerp_(means, gradients, rates)
    torch._foreach_addcmul_(gradients, means, strengths)


def push(gradients: list[Tensor], windows: list[Tensor], sums: list[Tensor], slot: int) -> list[Tensor]:
    """Takes gradients into their windows of w slots, which are filled in rounds, first to last and over again.

    A window's slots up to this one hold gradients of this round; each later slot j holds the sum of the last round's
    gradients j to w - 1 (zeros in the first round). A window's sum is thus this round's sum and one slot: nothing is
    ever subtracted, so that no rounding error grows from round to round, and what is not finite leaves with its step.
    Only at the end of a round is the whole window read, to turn gradients into sums.

    Args:
        gradients: One for each tensor, (R, ...).
        windows: (w, R, ...) each, changed in place.
        sums: The sums of this round's gradients, (R, ...) each, changed in place.
        slot: The slot to be filled, that after the last call's.

    Returns:
        The sum of each tensor's w newest gradients, fewer in the first round.
    """
    torch._foreach_add_(sums, gradients)
    torch._foreach_copy_([window[slot] for window in windows], gradients)
    if slot + 1 < len(windows[0]):
        return list(torch._foreach_add(sums, [window[slot + 1] for window in windows]))
    totals = [whole.clone() for whole in sums]
    torch._foreach_zero_(sums)
    for earlier in reversed(range(slot)):
        torch._foreach_add_([window[earlier] for window in windows], [window[earlier + 1] for window in windows])
    return totals


class GrokfastEMA(GradientFilter):
    """Grokfast with an exponential moving average: g + lambda m, where m <- alpha m + (1 - alpha) g and m begins as g.

    Source: Lee et al., arXiv 2405.20233.

    Args:
        alpha: Decay rate of the running mean. One number, or one for each run.
        strength: Factor lambda on the running mean. One number, or one for each run.

    Raises:
        UserError: If a number is out of range.
    """

    capturable = True
    kept = 1

    def __init__(self, alpha: float | list[float] = 0.98, strength: float | list[float] = 2.0) -> None:
        check_range("model.filters: GrokfastEMA.alpha", alpha, most=1, below=True)
        check_range("model.filters: GrokfastEMA.strength", strength)
        self.alpha, self.strength = alpha, strength
        self._means: dict[str, Tensor] = {}

    @property
    def hyperparameters(self) -> dict[str, PerRun]:
        return {"alpha": self.alpha, "strength": self.strength}

    def __call__(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor], step: Tensor, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        for name, gradient in gradients.items():
            mean = self._means.get(name)
            self._means[name] = gradient.clone() if mean is None else mean.to(gradient)
        changed = list(gradients.values())
        rates = 1 - per_run(self.alpha, changed[0])
        strengths = per_run(self.strength, changed[0])
        add_moving_average(
            changed,
            [self._means[name] for name in gradients],
            [spread(rates, gradient) for gradient in changed],
            [spread(strengths, gradient) for gradient in changed],
        )
        return gradients

    def state_dict(self) -> dict[str, Any]:
        return dict(self._means)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._means = {name: mean.clone() for name, mean in state.items()}


class GrokfastMean(GradientFilter):
    """Grokfast with a window: g + lambda times the mean of the last w gradients, this one included.

    Until w gradients are stored they stay as they are; the w-th is the first to be changed. All w are kept, in memory
    and in every checkpoint: w times the size of the model.

    Source: Lee et al., arXiv 2405.20233.

    Args:
        window: w, gradients in the mean.
        strength: Factor lambda on the mean. One number, or one for each run.

    Raises:
        UserError: If a number is out of range.
    """

    def __init__(self, window: int = 100, strength: float | list[float] = 5.0) -> None:
        check_range("model.filters: GrokfastMean.window", window, least=1)
        check_range("model.filters: GrokfastMean.strength", strength)
        self.window, self.strength, self.kept = window, strength, window + 1
        self._windows: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    @property
    def hyperparameters(self) -> dict[str, PerRun]:
        return {"strength": self.strength}

    def __call__(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor], step: Tensor, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        alike: dict[int, list[str]] = {}  # names by the number of gradients so far, usually the same for all
        for name, gradient in gradients.items():
            if name not in self._counts:
                self._windows[name] = gradient.new_zeros(self.window, *gradient.shape)
                self._sums[name] = torch.zeros_like(gradient)
            self._windows[name] = self._windows[name].to(gradient)
            self._sums[name] = self._sums[name].to(gradient)
            alike.setdefault(self._counts.get(name, 0), []).append(name)
        for count, names in alike.items():
            changed = [gradients[name] for name in names]
            windows, sums = [self._windows[name] for name in names], [self._sums[name] for name in names]
            totals = push(changed, windows, sums, count % self.window)
            if count + 1 >= self.window:
                factors = per_run(self.strength, changed[0]) / self.window
                torch._foreach_addcmul_(changed, totals, [spread(factors, gradient) for gradient in changed])
            self._counts |= dict.fromkeys(names, count + 1)
        return gradients

    def state_dict(self) -> dict[str, Any]:
        windows = {name: window.movedim(0, 1) for name, window in self._windows.items()}  # runs first
        return {"windows": windows, "sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._windows = {
            name: window.movedim(1, 0).clone(memory_format=torch.contiguous_format)
            for name, window in state["windows"].items()
        }
        self._sums = {name: whole.clone() for name, whole in state["sums"].items()}
        self._counts = dict(state["counts"])
