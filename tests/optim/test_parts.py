"""Settings of parts: every part of every run follows torch's AdamW with parameter groups."""

import pytest
import torch

from grok_lightning.errors import UserError
from grok_lightning.models import GRU, LSTM, MLP, ResidualMLP, Transformer
from grok_lightning.optim import AdamW, Muon
from grok_lightning.optim.parts import part_of

SHAPES = {
    "embeddings.tokens.weight": (7, 4),
    "layers.0.attention.out.weight": (4, 4),
    "layers.0.attention.out.bias": (1, 4),
    "final_norm.gain": (1, 4),
    "head.weight": (4, 7),
    "head.bias": (1, 7),
}
PARTS = {
    "embedding": ["embeddings.tokens.weight"],
    "matrix": ["layers.0.attention.out.weight"],
    "vector": ["layers.0.attention.out.bias", "final_norm.gain", "head.bias"],
    "head": ["head.weight"],
}
RATES = {"embedding": 0.05, "head": [0.01, 0.2], "vector": 0.003}
DECAYS = {"embedding": None, "head": 0.0, "vector": [0.0, 0.4]}


def random_stack(seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(2, *shape, dtype=torch.float64, generator=generator) for name, shape in SHAPES.items()}


def of_run(value, run):
    return value[run] if isinstance(value, list) else value


def trained(optimizer, weights, pick=lambda gradient: gradient):
    for step in range(6):
        for name, gradient in random_stack(10 + step).items():
            weights[name].grad = pick(gradient)
        optimizer.step()
    return weights


def torchs(run, common, coupled=False):
    """One run's weights by torch, with a group for each part."""
    weights = {name: weight[run].clone().requires_grad_() for name, weight in random_stack(0).items()}
    groups = []
    for part, names in PARTS.items():
        lr, decay = of_run(RATES.get(part), run), of_run(DECAYS.get(part), run)
        lr, decay = common[0] if lr is None else lr, common[1] if decay is None else decay
        groups.append({"params": [weights[name] for name in names], "lr": lr, "weight_decay": decay})
    kind = torch.optim.Adam if coupled else torch.optim.AdamW
    return trained(kind(groups, betas=(0.9, 0.98)), weights, lambda gradient: gradient[run])


OPTIONS = {f"{part}_lr": rate for part, rate in RATES.items()}
OPTIONS |= {f"{part}_weight_decay": decay for part, decay in DECAYS.items()}


@pytest.mark.parametrize("decay", ["zero", "l2"])
def test_adamw_follows_torch_with_groups(decay) -> None:
    weights = {name: weight.requires_grad_() for name, weight in random_stack(0).items()}
    trained(AdamW(weights.items(), lr=0.02, weight_decay=0.3, decay=decay, **OPTIONS), weights)
    for run in range(2):
        for name, expected in torchs(run, (0.02, 0.3), coupled=decay == "l2").items():
            torch.testing.assert_close(weights[name][run], expected, rtol=1e-11, atol=1e-12, msg=name)


def test_what_muon_leaves_to_adamw_follows_torch_with_groups() -> None:
    weights = {name: weight.requires_grad_() for name, weight in random_stack(0).items()}
    trained(Muon(weights.items(), adamw_lr=0.02, adamw_weight_decay=0.3, **OPTIONS), weights)
    plain = {name: weight.requires_grad_() for name, weight in random_stack(0).items()}
    trained(Muon(plain.items(), adamw_lr=0.02, adamw_weight_decay=0.3), plain)
    assert torch.equal(weights[PARTS["matrix"][0]], plain[PARTS["matrix"][0]])
    for run in range(2):
        expected = torchs(run, (0.02, 0.3))
        for name in set(SHAPES) - set(PARTS["matrix"]):
            torch.testing.assert_close(weights[name][run], expected[name], rtol=1e-11, atol=1e-12, msg=name)


@pytest.mark.parametrize("decay", ["initial", "jiggle"])
def test_equal_settings_of_all_parts_are_the_common_ones(decay) -> None:
    """Update noise, and decays that draw or remember, with parts as without."""
    ends = []
    for options in ({}, {f"{part}_lr": 0.02 for part in RATES} | {f"{part}_weight_decay": 0.3 for part in DECAYS}):
        weights = {name: weight.requires_grad_() for name, weight in random_stack(0).items()}
        optimizer = AdamW(weights.items(), lr=0.02, weight_decay=0.3, decay=decay, update_noise=0.1, **options)
        optimizer.seeds = [3, 4]
        ends.append(trained(optimizer, weights))
    for name, weight in ends[0].items():
        torch.testing.assert_close(ends[1][name], weight, rtol=1e-12, atol=1e-13)


def test_update_noise_follows_each_parts_rate() -> None:
    moved = []
    for rate in (0.02, 0.04):
        weights = {name: weight.requires_grad_() for name, weight in random_stack(0).items()}
        optimizer = AdamW(weights.items(), 0.02, 0.0, update_noise=1.0, head_lr=[0.02, rate], eps=1e9)
        optimizer.seeds = [3, 4]
        for weight in weights.values():
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        moved.append({name: weight.detach() - random_stack(0)[name] for name, weight in weights.items()})
    for name, once in moved[0].items():
        factors = torch.tensor([1.0, 2.0 if name == "head.weight" else 1.0], dtype=torch.float64)
        torch.testing.assert_close(moved[1][name], once * factors[:, None, None])
        assert once.abs().max() > 0.001


@pytest.mark.parametrize("network", [Transformer, MLP, ResidualMLP, LSTM, GRU])
def test_every_network_has_all_parts(network) -> None:
    parts = {name: part_of(name, weight.shape[1:]) for name, weight in network(7, 3, [0]).named_parameters()}
    assert set(parts.values()) == {"embedding", "matrix", "head", "vector"}
    assert all((part == "vector") == name.endswith(("bias", "gain")) for name, part in parts.items())


@pytest.mark.parametrize(
    ("name", "shape", "part"),
    [
        ("embed.weight", (7, 4), "embedding"),
        ("tok_emb.weight", (7, 4), "embedding"),
        ("transformer.wte.weight", (7, 4), "embedding"),
        ("unembed.W_U", (4, 7), "head"),
        ("out.weight", (7, 4), "head"),
        ("blocks.0.out.weight", (4, 4), "matrix"),
        ("blocks.0.heads.1.weight", (4, 4), "matrix"),
        ("out.bias", (7,), "vector"),
        ("scale", (), "vector"),
    ],
)
def test_parts_of_other_peoples_networks(name, shape, part) -> None:
    assert part_of(name, shape) == part


def test_a_part_that_is_not_there_or_out_of_range_is_refused() -> None:
    weights = [("layers.0.weight", torch.zeros(1, 3, 3, requires_grad=True))]
    with pytest.raises(UserError, match=r"^model\.optimizer\.head_lr is given, but no parameter"):
        AdamW(weights, head_lr=0.1)
    with pytest.raises(UserError, match=r"^model\.optimizer\.vector_weight_decay is given"):
        AdamW(weights, vector_weight_decay=0.0)
    with pytest.raises(UserError, match=r"^model\.optimizer\.embedding_lr is -1"):
        AdamW(weights, embedding_lr=-1.0)
    with pytest.raises(UserError, match=r"^model\.optimizer\.embedding_lr has 2 values for a stack of 1"):
        AdamW(weights, embedding_lr=[0.1, 0.2])


def test_names_are_read_by_words() -> None:
    for name in ("module.ensemble.0.weight", "module.member.weight", "module.remember.weight"):
        assert part_of(name, (4, 4)) == "matrix"
    for name in ("module.tok_emb.weight", "module.embed.weight", "module.embeddings.weight", "module.emb2.weight"):
        assert part_of(name, (4, 4)) == "embedding"
    assert part_of("embeddings.tokens.map.weight", (1, 4)) == "embedding"
    assert part_of("final_norm.gain", (1, 4)) == "vector"
