"""What holds for every measure: it looks at each run for itself, changes nothing, and always has the same keys."""

import copy
import pkgutil
from importlib import import_module
from inspect import isabstract

import pytest
import torch
from hand_built import addition, measured

import grok_lightning.measures
import grok_lightning.models
from grok_lightning.measures import Measure
from grok_lightning.models import SequenceModel, Transformer

SEEDS = (3, 5)


def classes(package, base: type) -> dict[str, type]:
    """The classes of a room that can be built, by name."""
    return {
        name: kind
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        for name, kind in vars(import_module(module.name)).items()
        if isinstance(kind, type) and issubclass(kind, base) and not isabstract(kind) and kind.__module__ == module.name
    }


MEASURES = classes(grok_lightning.measures, Measure)
MODELS = classes(grok_lightning.models, SequenceModel)
del MODELS["ModuleStack"]  # of a user's module
FEW = {  # of what measures repeat
    "Commutator": {"pairs": 2},
    "Hessian": {"iterations": 3},
    "LearningCoefficient": {"chains": 2, "draws": 2, "burn_in": 1, "rows": 8},
    "NoiseScale": {"batches": 2},
}
CAN_BE_NAN = {"noise/scale"}  # where its estimate of a square is negative
every_measure = pytest.mark.parametrize("kind", MEASURES.values(), ids=MEASURES.keys())


def build(kind: type[Measure]) -> Measure:
    """A measure that does not take long."""
    return kind(**FEW.get(kind.__name__, {}))


def data(*seeds: int):
    return addition(modulus=12, seeds=seeds, train_fraction=0.4, val_fraction=0.5)


def network(*seeds: int) -> Transformer:
    of = data(*seeds)
    return Transformer(of.vocabulary_size, of.length, seeds, width=8, heads=2, dropout=0.5).double()


def test_there_are_measures_and_all_are_exported() -> None:
    assert len(MEASURES) >= 17
    assert {*FEW, "Cosets", "IrrepLosses", "Irreps"} <= MEASURES.keys()
    assert set(MEASURES) <= set(grok_lightning.measures.__all__)


@every_measure
def test_a_run_has_the_same_values_alone_and_in_a_stack(kind) -> None:
    stacked = measured(build(kind), network(*SEEDS), data(*SEEDS))
    for value in stacked.values():
        assert value.shape == (2,)
        assert value.dtype == torch.float64
        assert not value.requires_grad
    for run, seed in enumerate(SEEDS):
        alone = measured(build(kind), network(seed), data(seed))
        own = {key: value[run : run + 1] for key, value in stacked.items()}
        torch.testing.assert_close(own, alone, equal_nan=True)
    assert any(value[0] != value[1] for value in stacked.values()) or kind is MEASURES["Collapse"]


@every_measure
def test_the_network_is_left_as_it_was(kind) -> None:
    model = network(*SEEDS)
    before = copy.deepcopy(model.state_dict())
    measured(build(kind), model, data(*SEEDS))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(weight.grad is None for weight in model.parameters())


@every_measure
def test_a_run_that_diverged_spoils_no_other_and_keeps_its_keys(kind) -> None:
    model = network(*SEEDS)
    healthy = measured(build(kind), model, data(*SEEDS))
    with torch.no_grad():
        for weight in model.parameters():
            weight[0] = torch.nan
    found = measured(build(kind), model, data(*SEEDS))
    assert list(found) == list(healthy)
    for key, value in found.items():
        torch.testing.assert_close(value[1], healthy[key][1], equal_nan=True)


@every_measure
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_come_in_any_precision(kind, dtype) -> None:
    found = measured(build(kind), network(*SEEDS).to(dtype), data(*SEEDS))
    assert all(value.dtype == torch.float64 for value in found.values())
    assert all(value.isfinite().all() for key, value in found.items() if key not in CAN_BE_NAN)


@every_measure
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_every_model_can_be_measured(kind, model) -> None:
    of = data(*SEEDS)
    found = measured(build(kind), model(of.vocabulary_size, of.length, of.seeds), of)
    assert all(value.shape == (2,) for value in found.values())
    assert all(value.isfinite().all() for key, value in found.items() if key not in CAN_BE_NAN)
