"""Ordinary modules as stacks of runs."""

import random
from functools import partial
from typing import Any

import numpy as np
import ordinary_modules as kinds
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from grok_lightning.batch import Draw
from grok_lightning.errors import UserError
from grok_lightning.models.ordinary import ModuleStack, build_network
from grok_lightning.models.stackable import find_obstacle
from grok_lightning.module import GrokModule

V, T = 9, 4


def build(kind: Any, *seeds: int, **options: Any) -> ModuleStack:
    network = build_network(partial(kind, **options), V, T, seeds or (0,), False, 7)
    assert isinstance(network, ModuleStack)
    return network


def tokens(runs: int = 1, rows: int = 6) -> Tensor:
    return torch.randint(0, V, (rows, T), generator=torch.Generator().manual_seed(0)).expand(runs, -1, -1)


def draw(step: int = 0) -> Draw:
    return Draw(torch.tensor(step))


def test_a_run_starts_alike_whatever_stack_it_is_in_and_moves_no_global_generator() -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    stack, single = build(kinds.Plain, 3, 1, 4), build(kinds.Plain, 1)
    single(tokens(), 1, draw())
    assert all(torch.equal(s[1:2], o) for s, o in zip(stack.parameters(), single.parameters(), strict=True))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    assert next(iter(dict(single.named_parameters()))) == "module.embedding.weight"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (kinds.Plain, None),
        (kinds.BatchNorm, None),
        (kinds.Reassigned, None),
        (kinds.Tied, None),
        (kinds.Frozen, None),
        (partial(kinds.Dropout, rate=0.0), None),
        (kinds.Dropout, "it draws random numbers"),
        (kinds.OtherGenerators, "it draws random numbers"),
        (kinds.DataDependent, "torch.func.vmap does not take it"),
        (kinds.Recurrent, "torch.func.vmap does not take it"),
        (kinds.DrawnConstant, "its constructor draws"),
    ],
)
def test_runs_are_stacked_where_the_stack_computes_what_they_do(kind: Any, reason: str | None) -> None:
    found = find_obstacle(lambda seeds: build(kind, *seeds), tokens()[0], 1)
    assert found is None if reason is None else found is not None and found.startswith(reason)


def test_a_single_run_is_its_own_module() -> None:
    for kind in (kinds.Plain, kinds.BatchNorm, kinds.Recurrent, kinds.Encoder, kinds.Tied, kinds.DataDependent):
        network = build(kind, 5)
        module = network.plain().eval()
        assert type(module) is kind
        logits = module(tokens()[0])
        assert torch.equal(network(tokens())[0, :, 0], logits if logits.dim() == 2 else logits[:, -1])


def test_every_parameter_of_a_recurrent_module_has_its_gradient() -> None:
    network = build(kinds.Recurrent)
    network(tokens(), 1, draw()).square().sum().backward()
    module = network.plain()
    module(tokens()[0])[:, -1].square().sum().backward()
    for stacked, own in zip(network.parameters(), module.parameters(), strict=True):
        assert stacked.grad is not None
        assert own.grad is not None
        assert own.grad.abs().sum() > 0
        torch.testing.assert_close(stacked.grad[0], own.grad)


def test_what_is_drawn_depends_on_seed_and_step_alone() -> None:
    network, again = build(kinds.Dropout, 1), build(kinds.Dropout, 1)
    torch.manual_seed(99)
    first = network(tokens(), 1, draw(7))
    assert torch.equal(first, again(tokens(), 1, draw(7)))
    assert not torch.equal(first, network(tokens(), 1, draw(8)))
    assert torch.equal(network(tokens()), network(tokens()))


def test_buffers_that_are_replaced_or_changed_in_place_are_kept_in_training_only() -> None:
    for kind, name in ((kinds.Reassigned, "module.mean"), (kinds.BatchNorm, "module.norm.running_mean")):
        network = build(kind, 0, 1)
        before = dict(network.named_buffers())[name].clone()
        network(tokens(2))
        assert torch.equal(dict(network.named_buffers())[name], before)
        network(tokens(2), 1, draw())
        after = dict(network.named_buffers())[name]
        assert after.shape == before.shape
        assert not torch.equal(after[0], before[0])
        assert not torch.equal(after[0], after[1])


def test_parameters_under_two_names_stay_one() -> None:
    network = build(kinds.Tied, 0, 1)
    assert "module.head.weight" not in dict(network.named_parameters())
    assert "module.head.weight" in network.state_dict()
    module: Any = network.plain(1)
    assert module.head.weight is module.embedding.weight


def test_several_answers_need_a_causal_network() -> None:
    assert build(kinds.Encoder, causal=True)(tokens(), 3).shape == (1, 6, 3, V)
    assert build(kinds.Recurrent)(tokens(), T).shape == (1, 6, T, V)
    with pytest.raises(UserError, match="logits depend on later tokens"):
        build(kinds.Encoder)(tokens(), 2)
    with pytest.raises(UserError, match="gives the logits of one token"):
        build(kinds.Plain)(tokens(), 2)


def test_arguments_by_name_and_classes() -> None:
    network = build(kinds.Classes)
    assert network(tokens()).shape == (1, 6, 1, 7)
    assert network.unembedding.shape == (1, 6, 7)
    assert network.embedding.shape == (1, V, 6)
    given = build_network(partial(kinds.Plain, V, T), V, T, (0,))
    assert given(tokens()).shape == (1, 6, 1, V)


def test_matrices_that_do_not_exist_are_refused_by_name() -> None:
    class Two(kinds.Plain):
        def __init__(self, vocabulary: int, length: int) -> None:
            super().__init__(vocabulary, length)
            self.other = nn.Embedding(vocabulary, 3)

    with pytest.raises(UserError, match=r"Two, which has 2 nn\.Embedding of 9 rows"):
        _ = build(Two).embedding


@pytest.mark.parametrize("kind", [kinds.Lazy, kinds.Double, kinds.Empty])
def test_modules_that_cannot_be_trained_are_refused(kind: Any) -> None:
    with pytest.raises(UserError, match=rf"model.network is {kind.__name__}, wh(ose|ich)"):
        build(kind)


@pytest.mark.parametrize("kind", [kinds.Flat, kinds.TooFew, kinds.Whole, kinds.Pair])
def test_wrong_logits_are_refused(kind: Any) -> None:
    with pytest.raises(UserError, match=rf"model.network is {kind.__name__}, whose forward (gives|returns)"):
        build(kind)(tokens())


def test_padding_and_too_many_weights_are_refused() -> None:
    with pytest.raises(UserError, match="not told of the padding"):
        build_network(kinds.Plain, V, T, (0,), True)
    with pytest.raises(UserError, match="GiB of weights"):
        build(kinds.Plain, width=10**9)


def test_torch_func_and_activations() -> None:
    network = build(kinds.Plain, 0, 1)
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    gradients = grad(lambda parts: functional_call(network, parts, (tokens(2),)).sum())(weights)
    assert all(gradients[name].abs().sum() > 0 for name in weights)
    found = network.activations(tokens(2))
    assert found["hidden"].shape == (2, 6, 12)
    torch.testing.assert_close(found["logits"], network(tokens(2))[:, :, 0])


def test_muon_takes_hidden_matrices_in_their_own_orientation() -> None:
    from grok_lightning.optim import Muon

    def step(network: ModuleStack, **options: Any) -> dict[str, Tensor]:
        module = GrokModule(V, T, 1, network=lambda *_: network, optimizer=partial(Muon, **options))
        optimizer = module.new_optimizer(network.named_parameters())
        before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
        network(tokens(), 1, draw()).square().sum().backward()
        optimizer.step()
        return {name: weight.detach() - before[name] for name, weight in network.named_parameters()}

    lr = 0.1
    change = step(build(kinds.Plain, width=8), lr=lr, momentum=0.0)["module.hidden.weight"][0]  # (12, 32): out < in
    tall = step(build(kinds.Plain, width=2), lr=lr, momentum=0.0)["module.hidden.weight"][0]  # (12, 8): out > in
    for matrix, scale in ((change, 1.0), (tall, (12 / 8) ** 0.5)):
        largest = torch.linalg.matrix_norm(matrix, 2) / (lr * scale)
        assert 0.65 < largest < 1.25
    assert build(kinds.Encoder).hidden_matrices() == {
        f"module.encoder.layers.0.{name}.weight" for name in ("self_attn.out_proj", "linear1", "linear2")
    } | {"module.encoder.layers.0.self_attn.in_proj_weight"}
