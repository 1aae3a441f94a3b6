"""Base class of the constraints, which change the weights after each update.

A new constraint is a subclass in a file of its own in this folder; bare names are found by walking it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from grok_lightning.optim.base import PerRun, check_runs
from grok_lightning.optim.parts import Told


class Constraint(ABC):
    """What the weights of a stack must satisfy after every update. Constraints act in the order of their list.

    Every run's weights are changed on their own. A constraint depends on the weights alone and keeps nothing from step
    to step, so that a checkpoint holds nothing of it.

    Attributes:
        capturable: Whether it does the same operations on the same tensors at every step, and neither reads from the
            device nor copies to it; only then can a step with it be captured as a CUDA graph.
        parts: Parts of parameters, by name, that a network of ordinary modules tells; set after building.
    """

    capturable: ClassVar[bool] = False
    parts: Told = MappingProxyType({})

    @property
    def hyperparameters(self) -> dict[str, PerRun]:
        """The options that may have a value for each run, by name."""
        return {}

    def begin(self, weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        """Brings the initial weights of a network that has been built to where training is to begin, in place.

        Args:
            weights, rows: As for a call.

        Raises:
            UserError: If the constraint does not fit the network.
        """
        self(weights, rows)

    @abstractmethod
    def __call__(self, weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        """Changes the weights in place, without gradients.

        Args:
            weights: The parameters that are trained, by name; each leads with R.
            rows: The same numbers seen as rows, (R, rows, numbers of a row). A row is what a linear map computes one
                output with, the vector of a token or position, or a whole bias or gain.
        """

    def check_stack(self, runs: int) -> None:
        """Refuses hyperparameters that do not fit a stack of R = ``runs``, before anything is trained.

        Raises:
            UserError: If a list has not one number for each run.
        """
        for option, value in self.hyperparameters.items():
            check_runs(f"model.constraints: {type(self).__name__}.{option}", value, runs)
