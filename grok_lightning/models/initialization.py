"""Initial scales of a model's linear maps."""

from dataclasses import dataclass
from typing import Any

from grok_lightning.models.checks import check_choice, check_rates, check_scales
from grok_lightning.models.stacked import Linear


def check_initialization(initialization: str, choices: Any, dropout: float, **scales: float) -> None:
    """Checks the options that all models have in common.

    Args:
        initialization: ``model.network.initialization``.
        choices: The ``Literal`` of its values.
        dropout: ``model.network.dropout``.
        scales: The options of initial scales, by name.

    Raises:
        UserError: If the initialization is not one of the choices, the dropout is no rate, or a scale is negative or
            not finite.
    """
    check_rates(dropout=dropout)
    check_scales(**scales)
    check_choice("initialization", initialization, choices)


@dataclass(frozen=True)
class LinearMaps:
    """Builds the linear maps of a stack.

    Weights are normal with standard deviation ``scale / sqrt(n)`` and biases zero; or, where ``initialization`` is
    ``torch``, both are uniform within plus and minus ``scale / sqrt(n)``.

    Attributes:
        runs: R.
        initialization: ``torch`` for uniform numbers; anything else for normal ones.
        scale: Factor on all initial weights.
        fan_in: n; None for the number of inputs of each map.
    """

    runs: int
    initialization: str
    scale: float
    fan_in: int | None = None

    def __call__(self, inputs: int, outputs: int, bias: bool = True, scale: float = 1.0) -> Linear:
        """A map of ``inputs`` to ``outputs`` numbers, whose initial weights are multiplied by a further ``scale``."""
        uniformly = self.initialization == "torch"
        fan_in = inputs if self.fan_in is None else self.fan_in
        std = self.scale * scale * (3 * fan_in if uniformly else fan_in) ** -0.5  # uniform on +-a: std is a / sqrt(3)
        return Linear(self.runs, inputs, outputs, bias, std, uniformly)
