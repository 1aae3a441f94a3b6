"""Gradients of a stack of three runs, and what filters make of them."""

import pytest
import torch

from grok_lightning.optim import (
    L2,
    Clip,
    Egalitarian,
    GradientNoise,
    GrokfastEMA,
    GrokfastMean,
    NormalizeColumns,
    OrthogonalGradient,
)

SEEDS = (5, 0, 11)
SHAPES = {"matrix": (33, 7), "bias": (1, 33), "vector": (5,), "number": ()}
OPTIONS = {
    GrokfastEMA: {"alpha": [0.98, 0.5, 0.0], "strength": [2.0, 0.0, 5.0]},
    GrokfastMean: {"window": 4, "strength": [5.0, 0.0, 1.5]},
    OrthogonalGradient: {},
    Clip: {"norm": [1.0, 1e6, 14.0]},
    Egalitarian: {},
    NormalizeColumns: {"least": [0.01, 4.0, 1e3]},
    L2: {"strength": [1.0, 0.0, 0.3]},
    GradientNoise: {"std": [0.1, 0.0, 2.0], "decay": [0.0, 0.3, 0.55]},
}
every_filter = pytest.mark.parametrize("kind", OPTIONS)
every_filter_with_a_state = pytest.mark.parametrize("kind", [GrokfastEMA, GrokfastMean])


def random_stack(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, *shape, dtype=dtype, generator=generator) for name, shape in SHAPES.items()}


WEIGHTS = random_stack(0)


def gradients_of(step, dtype=torch.float64):
    return random_stack(1000 + step, dtype)


def of_run(run, stack):
    return {name: tensor[run : run + 1].clone() for name, tensor in stack.items()}


def options_of_run(run, options):
    return {name: value[run] if isinstance(value, list) else value for name, value in options.items()}


def train(filters, steps, weights=WEIGHTS, dtype=torch.float64, seeds=SEEDS, run=None):
    """What comes out at each step when gradients pass through filters in their order."""
    outputs = []
    for step in steps:
        new = gradients_of(step, dtype) if run is None else of_run(run, gradients_of(step, dtype))
        for one in filters:
            new = one(weights, new, torch.tensor(step), seeds)
        outputs.append({name: tensor.clone() for name, tensor in new.items()})
    return outputs


def assert_same(outputs, expected, **tolerance):
    for output, right in zip(outputs, expected, strict=True):
        assert output.keys() == right.keys()
        for name in right:
            torch.testing.assert_close(
                output[name], right[name], **{"rtol": 0, "atol": 0, "equal_nan": True} | tolerance
            )
