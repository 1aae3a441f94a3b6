"""Base class of the gradient filters, which change gradients between backward pass and optimizer.

A new filter is a subclass in a file of its own in this folder; bare names are found by walking it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor

from grok_lightning.errors import UserError
from grok_lightning.optim.base import PerRun, check_runs
from grok_lightning.optim.parts import Told

LARGEST_STATE_BYTES = 16 * 1024**3


class GradientFilter(ABC):
    """Changes the gradients of a stack. Filters are applied in the order in which they are listed.

    Every run's gradients are changed on their own: no number of one run reaches another, NaN included. A subclass that
    keeps something from step to step overrides ``kept``, ``state_dict`` and ``load_state_dict``.

    Attributes:
        capturable: Whether, from its second call on, it does the same operations on the same tensors at every step, and
            neither reads from the device nor copies to it; only then can a step with it be captured as a CUDA graph.
        kept: Size of the state: numbers for each weight.
        parts: Parts of parameters, by name, that a network of ordinary modules tells; set after building.
        checked: Whether the shapes of what it returns have been compared with those of the weights; set in training.
    """

    capturable: ClassVar[bool] = False
    checked: bool = False
    kept: int = 0
    parts: Told = MappingProxyType({})

    @property
    def hyperparameters(self) -> dict[str, PerRun]:
        """The options that may have a value for each run, by name."""
        return {}

    @abstractmethod
    def __call__(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor], step: Tensor, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        """Filters the gradients of one step.

        Args:
            weights: The parameters that have a gradient, by name; each leads with R. They are only read.
            gradients: Their gradients, by the same names, all of one type and on one device.
            step: The optimizer step, 0 at the first update; int64, without dimensions, on the gradients' device.
            seeds: The runs' seeds.

        Returns:
            The new gradients by name; they may be the old tensors, changed in place. The filter keeps none of them.
        """

    def state_dict(self) -> dict[str, Any]:
        """The state kept from step to step: floating-point tensors and plain numbers, by name.

        Tensors lead with R, or have no dimensions where the runs share a number, so that a run can be taken out of the
        stack. They are the live ones, as in torch's own: to be written at once, or copied.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that ``state_dict`` returned; later steps equal those of an uninterrupted run.

        It may come before the first call, and its tensors may be on any device: the next call moves them to the
        gradients' own.
        """
        assert not state, f"{type(self).__name__} keeps nothing, but is given a state"

    def check_network(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Refuses a network that the filter does not fit, before anything is trained.

        Args:
            shapes: The shape of every parameter, which leads with R, by name.

        Raises:
            UserError: If it does not fit.
        """
        self.check_stack(next(iter(shapes.values()))[0], sum(map(prod, shapes.values())))

    def check_stack(self, runs: int, weights: int = 0) -> None:
        """Refuses hyperparameters that do not fit a stack, before anything is trained.

        Args:
            runs: R.
            weights: Number of weights in all runs.

        Raises:
            UserError: If a list has not one number for each run, or the state would not fit into memory.
        """
        name = type(self).__name__
        for option, value in self.hyperparameters.items():
            check_runs(f"model.filters: {name}.{option}", value, runs)
        size = 4 * self.kept * weights
        if size > LARGEST_STATE_BYTES:
            raise UserError(
                f"model.filters: {name} remembers {self.kept:,} numbers for each of {weights:,} weights, about "
                f"{size / 1024**3:,.0f} GiB; at most {LARGEST_STATE_BYTES / 1024**3:.0f} GiB are accepted"
            )
