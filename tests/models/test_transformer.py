"""The transformer: causal, the same alone as in a stack, and torch's own layers underneath."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import booleans, fixed_dictionaries, sampled_from
from small_transformers import (
    ANY_OPTIONS,
    LENGTH,
    SEEDS,
    VOCABULARY,
    assert_same,
    build,
    float64,
    reference,
    tokens,
)

from grok_lightning.batch import Beginnings, Draw
from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.errors import UserError
from grok_lightning.models import Transformer
from grok_lightning.models.stacked import Dropout
from grok_lightning.models.transformer import Place

PLACES = list(get_args(Place))

any_options = given(
    options=fixed_dictionaries(
        {
            "padded": booleans(),
            "dropout": sampled_from([0.0, 0.3]),
            "dropout_on": sampled_from([["feedforward"], PLACES]),
        }
    ).flatmap(lambda more: ANY_OPTIONS.map(lambda options: options | more))
)


@any_options
def test_a_later_token_never_changes_earlier_logits(options) -> None:
    model = build(**options)
    before = model(tokens(), LENGTH)
    for position in (0, 2, LENGTH - 1):
        changed = tokens()
        changed[:, :, position] = (changed[:, :, position] + 1) % VOCABULARY
        after = model(changed, LENGTH)
        assert_same(before[:, :, :position], after[:, :, :position])
        # of some equation: attention may be so sharp that another does not see the token
        assert (before[:, :, position:] != after[:, :, position:]).any(-1).any(1).all()


@any_options
def test_the_last_logits_are_the_tail_of_all_and_those_of_a_prefix_its_beginning(options) -> None:
    model = build(**options)
    logits = model(tokens(), LENGTH)
    for answer_length in (1, 2, LENGTH):
        assert_same(model(tokens(), answer_length), logits[:, :, LENGTH - answer_length :])
    assert_same(model(tokens()[:, :, :3], 3), logits[:, :, :3])


@any_options
@pytest.mark.parametrize("draw", [None, Draw(torch.tensor(5))], ids=["evaluating", "training"])
def test_a_stack_equals_its_single_models(options, draw) -> None:
    stack = build(**options)
    logits = stack(tokens(), LENGTH, draw)
    logits.square().sum().backward()
    for run, seed in enumerate(SEEDS):
        single = build([seed], **options)
        alone = single(tokens(1), LENGTH, draw)
        alone.square().sum().backward()
        assert_same(logits[run], alone[0])
        for (name, weight), (own_name, own) in zip(stack.named_parameters(), single.named_parameters(), strict=True):
            assert name == own_name
            assert torch.equal(weight[run], own[0])
            assert_same(weight.grad[run], own.grad[0])


def test_runs_differ_and_equal_seeds_agree() -> None:
    logits = build([0, 1, 0], dropout=0.5)(tokens(), 1, Draw(torch.tensor(0)))
    assert torch.equal(logits[0], logits[2])
    assert not torch.equal(logits[0], logits[1])


def test_dropout_acts_only_in_training() -> None:
    plain, dropping = build(), build(dropout=0.5)
    assert torch.equal(plain(tokens(), 1), dropping(tokens(), 1))
    one, again, later = (dropping(tokens(), 1, Draw(torch.tensor(step))) for step in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, later)
    assert torch.equal(plain(tokens(), 1), plain(tokens(), 1, Draw(torch.tensor(1))))


def doubled(model, place):
    """The model with twice the numbers at a place."""
    for block in model.layers:
        attention, feedforward = block.attention, block.feedforward
        parts = {"pattern": [attention.out.weight], "attention": [attention.out.weight, attention.out.bias]}
        parts |= {
            "hidden": [feedforward.outer.weight],
            "feedforward": [feedforward.outer.weight, feedforward.outer.bias],
        }
        for weight in parts.get(place, []):
            weight.data *= 2
    if place == "input":
        model.embeddings.tokens.weight.data *= 2
        model.embeddings.positions.weight.data *= 2
    return model


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_dropout_acts_at_its_places(monkeypatch, norm) -> None:
    monkeypatch.setattr(Dropout, "forward", lambda self, x, draw: x if draw is None or self.rate == 0 else 2 * x)
    draw = Draw(torch.tensor(0))
    for place in PLACES:
        for answers in (1, LENGTH):
            found = build(norm=norm, dropout=0.5, dropout_on=[place])(tokens(), answers, draw)
            assert_same(found, doubled(build(norm=norm), place)(tokens(), answers))


def test_every_place_has_a_mask_of_its_own() -> None:
    logits = [build(dropout=0.5, dropout_on=[place])(tokens(), 1, Draw(torch.tensor(1))) for place in PLACES]
    assert len({tuple(each.flatten().tolist()) for each in logits}) == len(PLACES)
    model = build(dropout=0.5, dropout_on=PLACES)
    layers = [layer for layer in model.modules() if isinstance(layer, Dropout)]
    masks = [layer(torch.ones(3, 6, LENGTH, 16), Draw(torch.tensor(1))) for layer in layers]
    assert len(masks) == 1 + 2 * 4
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == len(masks)


@pytest.mark.parametrize("places", [["feedforward"], PLACES])
def test_a_share_of_a_training_batch_equals_its_place_in_the_whole(places) -> None:
    model, step = build(dropout=0.5, dropout_on=places), torch.tensor(8)
    shares = [model(tokens()[:, start:stop], 2, Draw(step, start)) for start, stop in ((0, 1), (1, 4), (4, 6))]
    assert_same(torch.cat(shares, dim=1), model(tokens(), 2, Draw(step)))


def torch_layer(block, run, norm, activation):
    """Torch's own layer with the weights of one run of a block."""
    layer = torch.nn.TransformerEncoderLayer(
        16, 4, 64, dropout=0.0, activation=activation, batch_first=True, norm_first=norm == "pre"
    ).double()
    attention, feedforward = block.attention, block.feedforward
    inputs = (attention.query, attention.key, attention.value)
    layer.self_attn.in_proj_weight.data = torch.cat([part.weight[run].T for part in inputs])
    layer.self_attn.in_proj_bias.data = torch.cat([part.bias[run, 0] for part in inputs])
    for theirs, ours in (
        (layer.self_attn.out_proj, attention.out),
        (layer.linear1, feedforward.inner),
        (layer.linear2, feedforward.outer),
    ):
        theirs.weight.data, theirs.bias.data = ours.weight[run].T, ours.bias[run, 0]
    for theirs, ours in ((layer.norm1, block.attention_norm), (layer.norm2, block.feedforward_norm)):
        theirs.weight.data, theirs.bias.data = ours.gain[run, 0], ours.bias[run, 0]
    return layer


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_logits_are_those_of_torchs_transformer_layers(norm, activation) -> None:
    model = build(norm=norm, activation=activation).requires_grad_(False)
    found = model(tokens(), LENGTH)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(LENGTH, dtype=torch.float64)
    for run in range(len(SEEDS)):
        x = model.embeddings.tokens.weight[run][tokens()[run]] + model.embeddings.positions.weight[run]
        for block in model.layers:
            x = torch_layer(block, run, norm, activation)(x, src_mask=mask)
        if norm == "pre":
            x = torch.nn.functional.layer_norm(x, (16,)) * model.final_norm.gain[run] + model.final_norm.bias[run]
        assert_same(found[run], x @ model.head.weight[run])


REFERENCE_OPTIONS = ("heads", "norm", "normalization", "positions", "activation")


@any_options
def test_the_logits_are_those_of_the_formulas_in_torchs_functions(options) -> None:
    model = build(**options).requires_grad_(False)
    known = {name: value for name, value in options.items() if name in REFERENCE_OPTIONS}
    found = model(tokens(), LENGTH)
    for run in range(len(SEEDS)):
        assert_same(found[run], reference(model, run, tokens()[run], **known))


def test_activations_are_named_and_cover_all_positions() -> None:
    model = build()
    found = model.activations(tokens())
    heads, batch, runs = 4, 6, len(SEEDS)
    for layer in range(2):
        assert found[f"layers.{layer}.attention.pattern"].shape == (runs, batch, heads, LENGTH, LENGTH)
        assert found[f"layers.{layer}.feedforward.hidden"].shape == (runs, batch, LENGTH, 64)
        for part in ("", ".attention", ".attention.query", ".attention.out", ".feedforward", ".attention_norm"):
            assert found[f"layers.{layer}{part}"].shape == (runs, batch, LENGTH, 16)
        assert not found[f"layers.{layer}.attention.pattern"].triu(1).any()
        assert (found[f"layers.{layer}.feedforward.hidden"] >= 0).all()
    assert found["embeddings.tokens"].shape == found["final_norm"].shape == (runs, batch, LENGTH, 16)
    assert torch.equal(found["logits"], model(tokens(), LENGTH))
    assert not any(tensor.requires_grad for tensor in found.values())
    assert all(not module._forward_hooks for module in model.modules())


REFUSED = [
    *[({"width": 128, "heads": 3}, "heads"), ({"layers": 0}, "layers"), ({"width": 0}, "width")],
    *[({"heads": 0}, "heads"), ({"heads": -4}, "heads"), ({"feedforward": 0}, "feedforward")],
    *[({"dropout_on": places}, "dropout_on") for places in (["heads"], ["pattern", "pattern"])],
    ({"dropout": 0.1, "dropout_on": []}, "dropout"),
    *[({"dropout": rate}, "dropout") for rate in (1, 1.0, 1.5, -0.1, float("nan"))],
    *[({name: -0.1}, name) for name in ("embedding_std", "init_scale", "residual_scale", "head_scale")],
    *[({"init_scale": scale}, "init_scale") for scale in (float("nan"), float("inf"))],
    *[({name: "other"}, name) for name in ("norm", "normalization", "positions", "activation", "initialization")],
    *[({"bias": "attention"}, "bias"), ({"tied": True, "head_scale": 0.5}, "head_scale")],
    *[({"positions": "rotary", "width": 12, "heads": 4}, "positions"), ({"width": 2**20}, "width")],
]


def test_what_is_out_of_range_is_refused() -> None:
    for options, name in REFUSED:
        with pytest.raises(UserError, match=rf"^model\.network\.{name} is ") as refusal:
            build(**options)
        assert "\n" not in str(refusal.value)


def rows_computed(model):
    """How many rows each following forward passes through the keys of the first layer."""
    rows = []
    model.layers[0].attention.key.register_forward_hook(lambda module, inputs, output: rows.append(output.shape[1]))
    return rows


@given(
    formula=sampled_from(["x + y", "x + y + z", "x"]),
    operator_token=booleans(),
    answers=sampled_from(["one", "all but one", "all"]),
    options=ANY_OPTIONS,
)
def test_sharing_beginnings_changes_neither_logits_nor_gradients(formula, operator_token, answers, options) -> None:
    data = ModularArithmeticDataModule(formula, 7, operator_token=operator_token, batch_size=64, seeds=[0, 1, 2])
    with float64():
        model = Transformer(data.vocabulary_size, data.length, [0, 1, 2], **({"width": 16, "heads": 2} | options))
    batch, found, rows = data.training_batch(3, torch.device("cpu")), [], rows_computed(model)
    answer_length = {"one": 1, "all but one": data.length - 1, "all": data.length}[answers]
    for beginnings in (None, batch.beginnings):
        logits = model(batch.tokens_RBT, answer_length, None, beginnings)
        gradients = torch.autograd.grad(logits.sin().sum(), list(model.parameters()))
        found.append([logits, *gradients])
    assert found[0][0].shape == (3, 64, answer_length, data.vocabulary_size)
    assert rows[0] > rows[1]
    for alone, shared in zip(*found, strict=True):
        torch.testing.assert_close(alone, shared, rtol=1e-10, atol=1e-10)


def test_beginnings_are_not_shared_where_dropout_makes_equations_differ() -> None:
    data = ModularArithmeticDataModule(modulus=7, batch_size=64)
    model = Transformer(data.vocabulary_size, data.length, [0], layers=2, width=16, heads=2, dropout=0.5)
    batch = data.training_batch(0, torch.device("cpu"))
    draw = Draw(torch.tensor(5))
    shared = model(batch.tokens_RBT, 1, draw, batch.beginnings)
    assert torch.equal(shared, model(batch.tokens_RBT, 1, draw))


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("kinds", [4, 64], ids=["shared beginnings", "all beginnings differ"])
def test_the_first_layers_maps_see_each_pair_of_token_and_position_once(positions, kinds) -> None:
    model, index = build(positions=positions), torch.arange(64).expand(3, -1) % kinds
    first = torch.randint(VOCABULARY, (kinds, 2), generator=torch.Generator().manual_seed(1))
    sequence = torch.cat([first[index], tokens(batch=64)[:, :, 2:]], dim=2)
    rows, found = rows_computed(model), []
    for beginnings in (None, Beginnings(first, index)):
        logits = model(sequence, 1, None, beginnings)
        found.append([logits, *torch.autograd.grad(logits.sin().sum(), list(model.parameters()))])
    assert rows == [64 * LENGTH, VOCABULARY * (LENGTH if positions == "learned" else 1)]
    for alone, shared in zip(*found, strict=True):
        torch.testing.assert_close(alone, shared, rtol=1e-10, atol=1e-10)
