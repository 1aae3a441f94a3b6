"""What a step launches on a device that is no CPU: counted on meta tensors, which refuse to be read."""

import functools
import sys
from pathlib import Path

import pytest
import torch
from recorded import Operations, calls_that_take_their_time
from test_capture import CONFIGURATIONS, built

from grok_lightning.models import Transformer
from grok_lightning.optim import AdamW, ClipRows, GradientNoise, GrokfastMean
from grok_lightning.training.updates import CapturedUpdates

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from throughput import PlainTransformer

META = torch.device("meta")
__all__ = ["calls_that_take_their_time"]


class UsersTransformer(Transformer):
    """A model of which nobody has said what it does at each step."""

    capturable = False


class Eager:
    """Takes captured steps one by one, so that they can be watched."""

    def rehearse(self, function) -> None:
        function()

    capture = None


def operations_of_a_step(options, seeds=(0,)):
    """How often each operation is launched in a step, from its batch to the new weights."""
    _, updates, data = built(options, META, seeds)
    captured = CapturedUpdates(updates, Eager())
    batches = functools.partial(data.training_batches, META)
    captured.many(0, 2, batches, lambda: False)  # states are made, batches are there
    updates.optimizer.factor = captured._factor_T
    with Operations("meta") as operations:
        captured._take_captured()
    return operations


def of_first_run(options):
    """Options of a stack's first run alone."""

    def first(value):
        if isinstance(value, dict):
            return {name: first(each) for name, each in value.items()}
        return value[0] if isinstance(value, list) and isinstance(value[0], float) else value

    alone = {name: first(value) for name, value in options.items()}
    if "optimizer" in alone:
        made = alone["optimizer"]
        alone["optimizer"] = functools.partial(
            made.func, **{name: first(value) for name, value in made.keywords.items()}
        )
    if "constraints" in alone:
        alone["constraints"] = [ClipRows(first(each.max_norm)) for each in alone["constraints"]]
    return {name: value for name, value in alone.items() if name != "filters"}


def operations_of_the_plain_loop(layers):
    model = PlainTransformer(9, 4, layers, 16, heads=2).to(META)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    tokens, answers = (torch.zeros(shape, dtype=torch.int64, device=META) for shape in ((24, 4), (24,)))

    def step() -> None:
        rows = torch.randint(24, (12,), device=META)
        loss = torch.nn.functional.cross_entropy(model(tokens[rows])[:, -1], answers[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    with Operations("meta") as operations:
        step()
    return operations


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_a_step_launches_at_most_a_fifth_more_than_a_plain_loop(layers) -> None:
    ours = operations_of_a_step({"network": functools.partial(Transformer, layers=layers)})
    plain = operations_of_the_plain_loop(layers)
    assert ours.total() <= 1.2 * plain.total(), (ours.counts, plain.counts)


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"weight_noise": 0.01}, 75),
        ({"filters": [GradientNoise(0.01)]}, 75),
        ({"optimizer": functools.partial(AdamW, update_noise=1.0)}, 75),
    ],
    ids=["weights", "gradients", "updates"],
)
def test_noise_is_one_draw_over_all_weights(options, most) -> None:
    without = operations_of_a_step({"network": functools.partial(Transformer, layers=2)})
    with_noise = operations_of_a_step({"network": functools.partial(Transformer, layers=2)} | options)
    assert with_noise.total() - without.total() <= most, with_noise.counts - without.counts


@pytest.mark.parametrize("seeds", [(0,), (3, 1)], ids=["one run", "two runs"])
@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_step_stays_on_the_device_and_without_float64(options, seeds) -> None:
    assert operations_of_a_step(of_first_run(options) if len(seeds) == 1 else options, seeds).total() > 20


def test_a_watcher_notices_copies_reads_and_float64() -> None:
    zero = torch.zeros((), device=META)
    for bad in (
        lambda: torch.ones(3).to(META),
        lambda: torch.ones(3, device=META).double(),
        lambda: torch.ones(3, device=META).sum().item(),
    ):
        with pytest.raises((AssertionError, RuntimeError, NotImplementedError)), Operations("meta"):
            bad()
    with Operations("meta") as operations:
        torch.ones(3, device=META)[1:] + zero
    assert operations.total() == 2


def test_what_changes_from_step_to_step_is_not_captured() -> None:
    assert built({})[1].can_be_captured()
    assert not built({"filters": [GrokfastMean(4)]})[1].can_be_captured()
    assert not built({"optimizer": functools.partial(torch.optim.SGD, lr=0.1)})[1].can_be_captured()
    assert not built({"network": functools.partial(UsersTransformer, layers=1)})[1].can_be_captured()
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        assert not built({})[1].can_be_captured()
