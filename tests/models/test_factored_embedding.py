"""Embeddings that are a product of two matrices: E = A B, in every network."""

import functools

import pytest
import torch

from grok_lightning.batch import Draw
from grok_lightning.errors import UserError
from grok_lightning.models import GRU, LSTM, MLP, ResidualMLP, Transformer
from grok_lightning.models.embeddings import build_table
from grok_lightning.optim.parts import part_of

VOCABULARY, LENGTH, SEEDS, RANK = 13, 4, [3, 1], 5
NETWORKS = {
    "transformer": functools.partial(Transformer, width=8, heads=2, layers=1),
    "tied, rotary": functools.partial(Transformer, width=8, heads=2, tied=True, positions="rotary"),
    "MLP": functools.partial(MLP, width=8, hidden=[16]),
    "residual": functools.partial(ResidualMLP, width=8, layers=2, inputs="summed"),
    "LSTM": functools.partial(LSTM, width=8, hidden=6),
    "GRU": functools.partial(GRU, width=8, hidden=6, layers=1),
}
A, B, E = (f"embeddings.tokens.{name}weight" for name in ("table.", "map.", ""))
any_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def tokens(runs=2):
    drawn = torch.randint(VOCABULARY, (1, 9, LENGTH), generator=torch.Generator().manual_seed(0))
    return drawn.expand(runs, -1, -1).clone()


def pair(make):
    """A network of two factors, and one whose embedding is their product; the rest alike."""
    factored = make(VOCABULARY, LENGTH, SEEDS, embedding_rank=RANK).double()
    whole = make(VOCABULARY, LENGTH, SEEDS).double()
    weights = dict(factored.named_parameters())
    own = {name: weights[name].detach() for name, _ in whole.named_parameters() if name != E}
    whole.load_state_dict(own | {E: (weights[A] @ weights[B]).detach()})
    return factored, whole


@any_network
def test_it_computes_what_its_product_computes_and_both_factors_learn(make) -> None:
    factored, whole = pair(make)
    assert torch.equal(factored.embedding, whole.embedding)
    draw = Draw(torch.tensor(3))
    for network in (factored, whole):
        network(tokens(), 1, draw).sin().sum().backward()
    torch.testing.assert_close(factored(tokens(), 1, draw), whole(tokens(), 1, draw))
    parts, theirs = dict(factored.named_parameters()), dict(whole.named_parameters())
    gradient = theirs[E].grad
    torch.testing.assert_close(parts[A].grad, gradient @ parts[B].mT)
    torch.testing.assert_close(parts[B].grad, parts[A].mT @ gradient)
    assert parts[A].shape == (2, VOCABULARY, RANK)
    assert parts[B].shape == (2, RANK, 8)
    cells = [
        torch.arange(VOCABULARY)[:, None],
        torch.tensor([[1]]),
        torch.arange(VOCABULARY)[None],
        torch.tensor([[2]]),
    ]
    with torch.no_grad():
        torch.testing.assert_close(factored.grid_logits(cells), whole.grid_logits(cells))


@any_network
def test_a_stack_equals_its_single_models(make) -> None:
    stack = make(VOCABULARY, LENGTH, SEEDS, embedding_rank=RANK)
    for run, seed in enumerate(SEEDS):
        single = make(VOCABULARY, LENGTH, [seed], embedding_rank=RANK)
        torch.testing.assert_close(stack(tokens())[run], single(tokens(1))[0])


def test_product_and_first_factor_begin_with_the_stated_spread() -> None:
    table = build_table(1, 400, 300, 0.2, 64)
    table.table.reset([0], "a")
    table.map.reset([0], "b")
    assert table.table.weight.std().item() == pytest.approx(0.2, rel=0.03)
    assert table.map.weight.std().item() == pytest.approx(64**-0.5, rel=0.03)
    assert table.weight.std().item() == pytest.approx(0.2, rel=0.05)
    assert torch.linalg.matrix_rank(table.weight[0]).item() == 64


def test_both_factors_are_embeddings_to_optimizers() -> None:
    assert part_of(A, (VOCABULARY, RANK)) == part_of(B, (RANK, 8)) == "embedding"


def test_a_rank_below_one_is_refused() -> None:
    for rank in (0, -3):
        with pytest.raises(UserError, match=rf"^model\.network\.embedding_rank is {rank}; it must be at least 1"):
            Transformer(VOCABULARY, LENGTH, SEEDS, embedding_rank=rank)
