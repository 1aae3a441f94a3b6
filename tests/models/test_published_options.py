"""What published models need: a bias of the head, torch's attention at the start, no class for what is no answer."""

import functools

import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn
from torch.nn import functional

from grok_lightning.data import ModularArithmeticDataModule, TextDataModule
from grok_lightning.errors import UserError
from grok_lightning.models import GRU, LSTM, MLP, ResidualMLP, Transformer
from grok_lightning.module import GrokModule

SMALL = {"width": 16, "heads": 2, "layers": 1}
NETWORKS = {
    "transformer": functools.partial(Transformer, **SMALL),
    "head bias": functools.partial(Transformer, head_bias=True, **SMALL),
    "tied": functools.partial(Transformer, tied=True, **SMALL),
    "tied, factored": functools.partial(Transformer, tied=True, embedding_rank=4, **SMALL),
    "MLP": functools.partial(MLP, width=8, hidden=[16]),
    "linear": functools.partial(MLP, inputs="one-hot", hidden=[]),
    "residual": functools.partial(ResidualMLP, width=8, layers=1),
    "LSTM": functools.partial(LSTM, width=8, hidden=6),
    "GRU": functools.partial(GRU, width=8, hidden=6),
}


def module_of(network, **options):
    data = ModularArithmeticDataModule(modulus=7, seeds=[0, 5])
    shape = (data.vocabulary_size, data.length, data.answer_length, data.seeds)
    return GrokModule(*shape, network=network, classes=data.classes, **options).double(), data


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_answers_have_outputs_and_other_tokens_have_none(network) -> None:
    module, data = module_of(network, outputs="answers")
    whole, _ = module_of(network)
    tokens = data.tokens(data.operands_NK)
    logits = module.network(tokens)
    assert data.vocabulary_size == 9
    assert logits.shape == (2, 49, 1, 7)
    assert module.network.unembedding.shape[2] == 7
    for name, weight in whole.network.named_parameters():
        if not name.startswith("head"):
            assert torch.equal(module.network.get_parameter(name), weight), name
    targets = torch.from_numpy(data.operation.results_N).expand(2, -1)[..., None]
    losses = module._losses(tokens, targets, None, None)
    wanted = [functional.cross_entropy(logits[run, :, 0], targets[run, :, 0], reduction="sum") for run in range(2)]
    torch.testing.assert_close(losses.double(), torch.stack(wanted))
    cells = [torch.arange(7)[:, None], torch.tensor([[7]]), torch.arange(7)[None], torch.tensor([[8]])]
    with torch.no_grad():
        grid = module.network.grid_logits(cells).flatten(1, 2)
    torch.testing.assert_close(grid, module.network(tokens)[:, :, 0])


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_runs_with_fewer_classes_begin_alike_alone_and_in_a_stack(network) -> None:
    stack, data = module_of(network, outputs="answers")
    alone = GrokModule(9, data.length, 1, [5], network=network, classes=7, outputs="answers").double()
    for (name, weight), (own, single) in zip(
        stack.network.named_parameters(), alone.network.named_parameters(), strict=True
    ):
        assert name == own
        assert torch.equal(weight[1], single[0])


def test_fewer_classes_where_any_token_is_predicted_or_a_network_decides_itself_are_refused() -> None:
    with pytest.raises(UserError, match=r"^model\.outputs is answers, but model\.loss_on is equation"):
        module_of(NETWORKS["transformer"], outputs="answers", loss_on="equation")

    class Bag(nn.Module):
        def __init__(self, vocabulary: int, classes: int) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(vocabulary, 4), nn.Linear(4, classes)

        def forward(self, tokens):
            return self.head(self.table(tokens).sum(1))

    with pytest.raises(UserError, match=r"^model\.outputs is answers, but model\.network Bag decides by itself"):
        module_of(Bag, outputs="answers")
    assert module_of(Bag)[0].network.compute(torch.zeros(2, 1, 4, dtype=torch.int64), False).shape == (2, 1, 7)


def test_of_text_every_token_is_an_answer() -> None:
    data = TextDataModule("abba")
    shape = (data.vocabulary_size, data.length, data.answer_length, [0])
    module = GrokModule(*shape, network=NETWORKS["transformer"], classes=data.classes, outputs="answers")
    assert module.network.unembedding.shape[2] == data.vocabulary_size


def test_a_bias_of_the_head_is_added_to_the_logits() -> None:
    plain, biased = (Transformer(9, 4, [0, 5], head_bias=bias, **SMALL) for bias in (False, True))
    assert not biased.head.bias.any()
    tokens = torch.randint(9, (2, 5, 4), generator=torch.Generator().manual_seed(0))
    before = plain(tokens)
    torch.testing.assert_close(biased(tokens), before)
    values = torch.linspace(-1, 1, 18).view(2, 1, 9)
    biased.head.bias.data.copy_(values)
    torch.testing.assert_close(biased(tokens), before + values[:, None])
    uniform = Transformer(9, 4, [0], head_bias=True, initialization="torch", **SMALL).head.bias
    assert 0 < uniform.abs().max() <= 16**-0.5
    with pytest.raises(UserError, match=r"^model\.network\.head_bias is True, but a tied head"):
        Transformer(9, 4, [0], head_bias=True, tied=True, **SMALL)


def multihead(width: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(width, 4)
    query, key, value = theirs.in_proj_weight.chunk(3)
    return {"query": query, "key": key, "value": value, "out": theirs.out_proj.weight}


@pytest.mark.parametrize("width", [32, 96])
def test_attention_begins_as_torchs_own(width: int) -> None:
    options = {"layers": 1, "width": width, "heads": 4}
    model = Transformer(9, 4, [0], initialization="multihead", **options)
    for name, theirs in multihead(width).items():
        layer = getattr(model.layers[0].attention, name)
        assert not layer.bias.any()
        ours = layer.weight[0].detach().flatten()
        limit = width**-0.5 if name == "out" else (6 / (4 * width)) ** 0.5  # Xavier's of a matrix (3 D, D)
        assert 0.98 * limit < ours.abs().max() <= limit * 1.00001
        assert 0.98 * limit < theirs.abs().max() <= limit * 1.00001
        assert ks_2samp(ours.numpy(), theirs.detach().flatten().numpy()).pvalue > 0.01
    as_torch = Transformer(9, 4, [0], initialization="torch", **options)
    for name, weight in model.named_parameters():
        if "attention." not in name:
            assert torch.equal(weight, as_torch.get_parameter(name)), name


def test_scales_multiply_what_they_say() -> None:
    first, other = (
        dict(Transformer(9, 4, [0], initialization="multihead", **SMALL, **scales).named_parameters())
        for scales in ({}, {"init_scale": 0.5, "residual_scale": 0.25})
    )
    for name, weight in first.items():
        if "norm" not in name:
            factor = 0.5 * (0.25 if "attention.out" in name or "outer" in name else 1)
            torch.testing.assert_close(other[name], factor * weight)
