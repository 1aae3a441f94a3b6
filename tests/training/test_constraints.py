"""What constraints make of the weights after an update, against loops over numbers in plain PyTorch and NumPy."""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from unnamed import Unnamed

from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.errors import UserError
from grok_lightning.models import GRU, LSTM, MLP, Transformer
from grok_lightning.module import GrokModule
from grok_lightning.optim import AdamW, ClipRows, Muon
from grok_lightning.optim.constraints import Constraint
from grok_lightning.optim.filters import GradientFilter
from grok_lightning.optim.rates import RateSchedule
from grok_lightning.training.constraints import as_rows
from grok_lightning.training.norms import WholeNorm, weight_norm
from grok_lightning.training.updates import Updates

SEEDS = (3, 1)
CPU = torch.device("cpu")
SMALL = functools.partial(Transformer, layers=1, width=16, heads=2)
CLIPPED = {  # of a transformer by default: all but the embeddings of tokens and the head
    "embeddings.positions.weight",
    *(f"layers.0.attention.{name}.{kind}" for name in ("query", "key", "value", "out") for kind in ("weight", "bias")),
    *(f"layers.0.feedforward.{name}.{kind}" for name in ("inner", "outer") for kind in ("weight", "bias")),
    *(f"layers.0.{name}.{kind}" for name in ("attention_norm", "feedforward_norm") for kind in ("gain", "bias")),
    *("final_norm.gain", "final_norm.bias"),
}


def build(
    constraints: Sequence[Constraint] = (), seeds: Sequence[int] = SEEDS, **options: Any
) -> tuple[GrokModule, Updates, Callable[..., Any]]:
    """A module in float64, its updates, and its batches."""
    data = ModularArithmeticDataModule(modulus=7, batch_size=12, seeds=list(seeds))
    options = {"network": SMALL, "optimizer": functools.partial(AdamW, lr=0.02, weight_decay=0.0)} | options
    sizes = (data.vocabulary_size, data.length, data.answer_length)
    module = GrokModule(*sizes, list(seeds), constraints=list(constraints), **options).double()
    optimizer = module.new_optimizer(module.network.named_parameters())
    updates = Updates(
        module.network, module._losses, optimizer, module.filters, list(seeds), module._constrain,
        RateSchedule(optimizer, lambda step: min(1.0, step / 3)), nullcontext,
        capturable_after=module.constraints.capturable,
    )  # fmt: skip
    return module, updates, functools.partial(data.training_batches, CPU)


def train(updates: Updates, batches: Callable[..., Any], steps: int = 7) -> None:
    for step in range(steps):
        updates.many(step, 1, batches, lambda: False)


def clip_by_hand(weight: np.ndarray, transposed: bool, largest: float) -> np.ndarray:
    """One run's parameter, number by number."""
    rows = weight.T if transposed else weight
    clipped = rows.copy()
    for number, row in enumerate(rows):
        norm = sum(float(value) ** 2 for value in np.ravel(row)) ** 0.5
        if norm > largest:
            clipped[number] = row * (largest / norm)
    return clipped.T if transposed else clipped


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler:UserWarning")
@pytest.mark.parametrize("optimizer", [AdamW, Muon, torch.optim.RMSprop, torch.optim.Adafactor])
def test_training_equals_a_plain_loop_that_clips_each_row_of_each_run(optimizer: Any) -> None:
    """The plain loop has an optimizer of its own without constraints, and clips in NumPy after each of its steps."""
    largest, names = [0.3, 0.9], set()
    rates = functools.partial(optimizer, lr=0.02)
    module, updates, batches = build([ClipRows(max_norm=largest)], optimizer=rates)
    other, plain, _ = build(optimizer=rates)
    weights = dict(other.network.named_parameters())

    def clip() -> None:
        for name in CLIPPED:
            for run in range(2):
                part = weights[name].detach()[run].numpy()
                new = clip_by_hand(part, name.split(".")[-2] in
                                   ("query", "key", "value", "out", "inner", "outer") and name.endswith("weight"),
                                   largest[run])  # fmt: skip
                if not np.array_equal(part, new):
                    names.add(name)
                weights[name].data[run] = torch.from_numpy(new)

    clip()  # at the start, where ours was still in float32
    for name, weight in module.network.named_parameters():
        torch.testing.assert_close(weight, weights[name], rtol=1e-6, atol=1e-8, msg=name)
        weights[name].data.copy_(weight)
    for step in range(7):
        plain.many(step, 1, batches, lambda: False)
        clip()
    train(updates, batches)
    assert names >= {"embeddings.positions.weight", "layers.0.attention.query.weight", "layers.0.attention_norm.gain"}
    for name, weight in module.network.named_parameters():
        if not name.endswith("key.bias"):  # no loss depends on it: its gradient is rounding, which optimizers scale up
            torch.testing.assert_close(weight, weights[name], rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler:UserWarning")
@pytest.mark.parametrize(
    ("own", "shared"),
    [
        ({"constraints": lambda of: [ClipRows(of([0.4, 2.0]), of([1.0, 0.3]))]}, {}),
        ({"weight_norm": lambda of: {"at_most": of([4.0, 9.0])}}, {}),
        (
            {"weight_norm": lambda of: of([4.0, 9.0]), "constraints": lambda of: [ClipRows(of([0.4, 2.0]))]},
            {"optimizer": functools.partial(Muon, lr=0.05)},
        ),
    ],
    ids=["rows", "a cap", "both"],
)
def test_a_run_of_a_stack_with_a_value_of_its_own_equals_its_single_run(
    own: Mapping[str, Callable[[Any], Any]], shared: dict[str, Any]
) -> None:
    stack, updates, batches = build(**{name: make(list) for name, make in own.items()}, **shared)
    train(updates, batches)
    for run, seed in enumerate(SEEDS):
        values = {name: make(lambda values, run=run: values[run]) for name, make in own.items()}
        alone, single, its_batches = build(seeds=[seed], **values, **shared)
        train(single, its_batches)
        for name, weight in alone.network.named_parameters():
            torch.testing.assert_close(stack.network.get_parameter(name)[run], weight[0], rtol=1e-9, atol=1e-11)


def test_initial_rows_have_their_norm_in_all_parameters_and_zeros_stay() -> None:
    module, _, _ = build([ClipRows(max_norm=5.0, initial_norm=[2.0, 0.7])])
    unscaled, _, _ = build()
    before = dict(unscaled.network.named_parameters())
    assert {"embeddings.tokens.weight", "head.weight", "final_norm.gain"} <= before.keys()
    for name, weight in module.network.named_parameters():
        linear = name.endswith("weight") and "embeddings" not in name
        for run, norm in enumerate((2.0, 0.7)):
            rows = weight.detach()[run].T if linear else weight.detach()[run]
            old = before[name].detach()[run].T if linear else before[name].detach()[run]
            for row, was in zip(rows, old, strict=True):
                wanted = was * norm / was.norm() if was.any() else was
                torch.testing.assert_close(row, wanted, rtol=1e-6, atol=0)


class Ordinary(nn.Module):
    """An ordinary module with a convolution, whose rows have several dimensions."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.token_embeddings = nn.Embedding(vocabulary, 6)
        self.position_embeddings = nn.Parameter(torch.randn(4, 6))
        self.conv = nn.Conv1d(6, 5, 3)
        self.gate = nn.MultiheadAttention(6, 2, batch_first=True)
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.head = nn.Linear(10, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embeddings(tokens) + self.position_embeddings
        x = x + self.gate(x, x, x, need_weights=False)[0]
        logits: Tensor = self.head(self.scale * self.conv(x.mT).flatten(1))
        return logits


def test_rows_of_an_ordinary_module_are_those_of_its_own_layout() -> None:
    names = ("position_embeddings", "conv.weight", "conv.bias", "gate.in_proj_weight", "gate.in_proj_bias", "scale")
    clipped = {*names, "gate.out_proj.weight", "gate.out_proj.bias"}
    module, _, _ = build([ClipRows(max_norm=[0.3, 0.1])], network=Ordinary)
    before = dict(build(network=Ordinary)[0].network.named_parameters())
    for full, weight in module.network.named_parameters():
        name = full.removeprefix("module.")
        for run, largest in enumerate((0.3, 0.1)):
            own = before[full].detach()[run].numpy()
            wanted = own
            if name in clipped:
                wanted = clip_by_hand(own.reshape(1, -1) if own.ndim < 2 else own, False, largest).reshape(own.shape)
            torch.testing.assert_close(weight.detach()[run].numpy(), wanted, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    ("network", "skipped"),
    [
        (Unnamed, {"module.lookup.weight", "module.second.weight", "module.second.bias"}),
        (functools.partial(MLP, width=8, hidden=[9]), {"embeddings.tokens.weight", "head.weight", "head.bias"}),
        (functools.partial(MLP, inputs="one-hot", hidden=[9]), {"head.weight", "head.bias"}),
        (
            functools.partial(LSTM, width=8, hidden=8, layers=1),
            {"embeddings.tokens.weight", "head.weight", "head.bias"},
        ),
        (functools.partial(GRU, width=8, hidden=8, layers=1), {"embeddings.tokens.weight", "head.weight", "head.bias"}),
        (functools.partial(SMALL, tied=True), {"embeddings.tokens.weight"}),
    ],
    ids=["ordinary", "MLP", "one-hot MLP", "LSTM", "GRU", "tied"],
)
def test_what_is_clipped_by_default(network: Any, skipped: set[str]) -> None:
    module, _, _ = build([ClipRows(max_norm=1e-3, initial_norm=1.0)], network=network)
    for name, weight in module.network.named_parameters():
        rows = as_rows(weight.detach(), name in module.constraints._maps)
        norms = rows.norm(dim=2)
        largest = 1.0 if name in skipped or name.split(".")[0] == "head" else 1e-3
        assert ((norms - largest).abs() < 1e-6).logical_or(norms == 0).all(), name


def test_patterns_choose_the_parameters() -> None:
    patterns = ["layers.*.feedforward.*", "head.weight"]
    module, _, _ = build([ClipRows(max_norm=1e-3, parameters=patterns)])
    free = dict(build()[0].network.named_parameters())
    for name, weight in module.network.named_parameters():
        chosen = ".feedforward." in name or name == "head.weight"
        assert torch.equal(weight, free[name]) == (not chosen or not bool(free[name].any())), name
    with pytest.raises(
        UserError, match=r"ClipRows.parameters has the pattern 'layer.\*', which matches no parameter; "
    ):
        build([ClipRows(parameters=["layer.*"])])


def test_rows_of_a_run_that_is_lost_do_not_reach_the_others() -> None:
    module, _, _ = build([ClipRows(max_norm=0.5)])
    kept = {name: weight.detach()[1].clone() for name, weight in module.network.named_parameters()}
    for weight in module.network.parameters():
        weight.data[0] = torch.nan
    module._constrain()
    for name, weight in module.network.named_parameters():
        torch.testing.assert_close(weight.detach()[1], kept[name], rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_clipped_row_stays_within_its_norm_in_every_type(dtype: torch.dtype) -> None:
    rows = torch.randn(2, 40, 30, generator=torch.Generator().manual_seed(0)).mul(3).to(dtype)
    rows[0, 3] = 0
    ClipRows(max_norm=[1.5, 0.02], parameters=["w"])({"w": rows}, {"w": rows})
    norms = rows.double().norm(dim=2)
    for run, largest in enumerate((1.5, 0.02)):
        assert (norms[run] <= largest * (1 + 4 * torch.finfo(dtype).eps)).all()
        assert (norms[run] >= largest * (1 - 4 * torch.finfo(dtype).eps)).sum() >= 39
    assert not rows[0, 3].any()


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler:UserWarning")
def test_a_cap_only_ever_scales_down() -> None:
    """One run is held at its cap, the other never reaches it and equals a free one."""
    free, updates, batches = build()
    train(updates, batches)
    norm = weight_norm(free.network)
    capped, own, _ = build(weight_norm={"at_most": [float(norm[0]) * 0.9, float(norm[1]) * 2]})
    train(own, batches)
    assert float(weight_norm(capped.network)[0]) == pytest.approx(float(norm[0]) * 0.9, rel=1e-12)
    for name, weight in capped.network.named_parameters():
        assert torch.equal(weight[1], free.network.get_parameter(name)[1])
        assert name.endswith("key.bias") or not torch.equal(weight[0], free.network.get_parameter(name)[0])


def test_norms_of_both_kinds_and_none_live_in_one_stack() -> None:
    weights = {"a": torch.tensor([[3.0, 4.0]] * 5), "b": torch.zeros(5, 1, 2)}
    WholeNorm([10.0, 10.0, 2.0, 2.0, 0.0], [False, True, False, True, True])(weights, {})
    torch.testing.assert_close(weights["a"].norm(dim=1), torch.tensor([10.0, 5.0, 2.0, 2.0, 5.0]))


class Round(Constraint):
    """A user's own: rounds all weights to multiples of a step."""

    def __init__(self, step: float = 0.25) -> None:
        self.step = step

    def __call__(self, weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        for weight in weights.values():
            weight.copy_((weight / self.step).round() * self.step)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler:UserWarning")
def test_a_constraint_of_ones_own_acts_in_its_place_of_the_list() -> None:
    module, updates, batches = build([ClipRows(max_norm=1.0), Round()])
    assert not updates.can_be_captured()
    assert build([ClipRows()])[1].can_be_captured()
    train(updates, batches, 3)
    assert all(bool((weight * 4 == (weight * 4).round()).all()) for weight in module.network.parameters())
    swapped, _, _ = build([Round(), ClipRows(max_norm=1.0)])
    assert not all(bool((weight * 4 == (weight * 4).round()).all()) for weight in swapped.network.parameters())


@pytest.mark.parametrize(
    ("constraint", "told"),
    [
        (lambda: ClipRows(max_norm=0.0), "ClipRows.max_norm is 0.0; it must be above 0"),
        (lambda: ClipRows(max_norm=[1.0, float("nan")]), "ClipRows.max_norm is [1.0, nan]"),
        (lambda: ClipRows(initial_norm=-1.0), "ClipRows.initial_norm is -1.0"),
        (lambda: ClipRows(max_norm=[1.0, 2.0, 3.0]), "ClipRows.max_norm has 3 values for a stack of 2"),
        (lambda: ClipRows(initial_norm=[1.0]), "ClipRows.initial_norm has 1 values for a stack of 2"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(constraint: Callable[[], Constraint], told: str) -> None:
    with pytest.raises(UserError) as refused:
        build([constraint()])
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"at_most": 0.0}, "model.weight_norm.at_most is 0.0; it must be at least"),
        ({"at_most": [1.0]}, "model.weight_norm.at_most has 1 values for a stack of 2"),
        ({"at_least": 3.0}, "model.weight_norm is {'at_least': 3.0}; a mapping is {at_most: NUMBER}"),
        ({}, "model.weight_norm is {}"),
        ({"at_most": "free"}, "model.weight_norm.at_most is 'free'; it must be initial or a number above 0"),
        ({"at_most": True}, "model.weight_norm.at_most is True"),
        ("intial", "model.weight_norm is 'intial'; it must be free, initial, a number above 0"),
        ("keep", "model.weight_norm is 'keep'"),
    ],
)
def test_norms_that_are_none_are_refused(option: str | dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as refused:
        build(weight_norm=option)
    assert told in str(refused.value)


class Returning(Constraint):
    """Forgets to write what it computes into the weights."""

    def __call__(self, weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> Any:
        return {name: weight.clamp(min=0) for name, weight in weights.items()}


class LaterReturning(Returning):
    def begin(self, weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        return


def test_a_constraint_that_returns_new_weights_is_refused() -> None:
    words = r"model.constraints: \w*Returning returns dict; it must change the weights in place"
    with pytest.raises(UserError, match=words):
        build([Returning()])[0].constraints.begin()
    module, updates, batches = build([LaterReturning()])
    module.constraints.begin()
    with pytest.raises(UserError, match=words):
        train(updates, batches)


class Renaming(Returning):
    """Puts other tensors under the names."""

    def __call__(self, weights: Any, rows: Mapping[str, Tensor]) -> None:
        for name in list(weights):
            weights[name] = weights[name].clamp(min=0)


def test_a_constraint_cannot_put_other_weights_in_the_place_of_its_own() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        build([Renaming()])[0].constraints.begin()


class Odd(GradientFilter):
    """Returns something else than a gradient for each weight."""

    def __init__(self, change: Callable[[dict[str, Tensor]], Any]) -> None:
        self.change = change

    def __call__(self, weights: Any, gradients: dict[str, Tensor], step: Tensor, seeds: Sequence[int]) -> Any:
        return self.change(gradients)


@pytest.mark.parametrize("changed", [None, torch.tensor([True, False])])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: None, "NoneType; expected: a dictionary of the new gradients"),
        (lambda found: dict(list(found.items())[1:]), "no gradient for '[a-z.]+'; expected: one for each name"),
        (lambda found: found | {"other": torch.ones(2)}, "a gradient for 'other'; expected: only the names"),
        (
            lambda found: {name: gradient.mean(0) for name, gradient in found.items()},
            r"\([0-9, ]+\) for '[a-z.]+'; expected: a tensor of shape \(2, ",
        ),
        (
            lambda found: {name: gradient.bfloat16() for name, gradient in found.items()},
            r"torch.bfloat16 for '[a-z.]+'; expected: torch.float64",
        ),
        (lambda found: dict.fromkeys(found, 1.0), "float for '[a-z.]+'; expected: a tensor of shape"),
    ],
)
def test_a_filter_that_does_not_return_each_gradient_is_refused(change: Any, words: str, changed: Any) -> None:
    _, updates, batches = build(filters=[Odd(change)])
    updates.filtered_R = changed
    with pytest.raises(UserError, match=f"^model.filters: Odd returns {words}"):
        train(updates, batches)


def test_rows_of_nothing_are_refused_where_nothing_else_would_change() -> None:
    with pytest.raises(UserError, match=r"ClipRows.parameters is of no parameter of this network"):
        build([ClipRows(max_norm=1e-3, parameters=[])])
    module, _, _ = build([ClipRows(max_norm=1e-3, initial_norm=2.0, parameters=[])])
    assert module.constraints.capturable
