"""Attention is torch's, and rotary positions are turns of the plane."""

import pytest
import torch
from small_transformers import assert_same, float64, turned
from torch.nn import functional

from grok_lightning.batch import PADDING, Beginnings
from grok_lightning.models.attention import Attention, rotate, rotations
from grok_lightning.models.layout import Layout
from grok_lightning.models.stacked import Dropout, Linear


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def attention(heads):
    layer = Attention([Linear(3, 8, 8, True, 1.0) for _ in range(4)], 5, heads, Dropout(3, 0.0)).double()
    for place, parameter in enumerate(layer.parameters()):
        parameter.data = numbers(*parameter.shape, seed=100 + place)
    return layer


def table(length, width):
    with float64():
        return rotations(length, width)


@pytest.mark.parametrize("queries", [1, 2, 5])
@pytest.mark.parametrize("heads", [1, 2, 8])
def test_attention_is_torchs_on_every_head(heads, queries) -> None:
    layer, x = attention(heads), numbers(3, 4, 5, 8)
    patterns = []
    layer.pattern.register_forward_hook(lambda module, inputs, output: patterns.append(output))
    found = layer(x.flatten(1, 2), Layout(4, 5, None), queries).unflatten(1, (4, queries))
    query, key, value = (
        part(x).unflatten(-1, (heads, -1)).transpose(2, 3) for part in (layer.query, layer.key, layer.value)
    )
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert_same(found, layer.out(mixed.transpose(2, 3).flatten(-2))[:, :, 5 - queries :])
    (pattern,) = patterns
    assert pattern.shape == (3, 4, heads, queries, 5)
    assert_same(pattern.sum(-1), torch.ones(3, 4, heads, queries, dtype=torch.float64))
    assert_same(pattern @ value, mixed[:, :, :, 5 - queries :])


@pytest.mark.parametrize("width", [2, 8, 32])
def test_rotations_are_products_of_complex_numbers(width) -> None:
    x = numbers(3, 7, 2, width)
    found = rotate(x, table(7, width)[None])
    for run in range(3):
        assert_same(found[run].transpose(0, 1), turned(x[run].transpose(0, 1)[None])[0])
    assert torch.equal(found[:, 0], x[:, 0])
    assert_same(found.norm(dim=-1), x.norm(dim=-1))


def test_products_of_turned_queries_and_keys_depend_on_the_distance_alone() -> None:
    query, key = (numbers(1, 1, 1, 8, seed=seed).expand(1, 30, 1, 8) for seed in (0, 1))
    turns = table(30, 8)[None]
    products = torch.einsum("rqhd,rkhd->qk", rotate(query, turns), rotate(key, turns))
    for distance in range(-29, 30):
        diagonal = products.diagonal(distance)
        assert_same(diagonal, diagonal[:1].expand_as(diagonal))
    assert products[0].std() > 0.1


def test_rotated_numbers_keep_their_type() -> None:
    assert rotate(numbers(1, 4, 1, 2).bfloat16(), rotations(4, 2)[None]).dtype == torch.bfloat16


def test_a_layout_turns_every_row_by_its_position() -> None:
    turns = table(6, 4)
    whole = Layout(3, 5, None, rotations=turns).turns
    assert torch.equal(whole, turns[:5].repeat(3, 1, 1)[None])
    beginnings = Beginnings(torch.zeros(4, 2, dtype=torch.int64), torch.tensor([[3, 0, 3]]))
    shared = Layout(3, 5, beginnings, rotations=turns)
    assert torch.equal(shared.turns[0, : 4 * 2], turns[:2].repeat(4, 1, 1))
    assert torch.equal(shared.whole(shared.turns), whole.unflatten(1, (3, 5)))
    tokens = torch.tensor([[[PADDING, PADDING, 7, 8, 9], [7, 8, 9, PADDING, PADDING], [1, 2, 3, 4, 5]]])
    padded = Layout(3, 5, None, tokens, turns)
    real = padded.turns.unflatten(1, (3, 5))[tokens != PADDING]
    assert torch.equal(real, turns[torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4])])
