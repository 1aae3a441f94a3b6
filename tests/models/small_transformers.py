"""Small transformers in float64, and what they are compared with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hypothesis import strategies
from torch.nn import functional

from grok_lightning.models import Transformer

VOCABULARY, LENGTH, SEEDS = 13, 5, [3, 1, 4]
MODERN = {"positions": "rotary", "normalization": "rms", "activation": "swiglu"}


def _possible(options: dict[str, Any]) -> dict[str, Any]:
    """Without what a tied head would refuse."""
    return {name: value for name, value in options.items() if name != "head_scale" or "tied" not in options}


ANY_OPTIONS = strategies.fixed_dictionaries(
    {},
    optional={
        "norm": strategies.sampled_from(["none", "post", "stream", "pre"]),
        "final_norm": strategies.booleans(),
        "normalization": strategies.just("rms"),
        "positions": strategies.sampled_from(["rotary", "sinusoidal", "learned"]),
        "heads": strategies.sampled_from([1, 2, 8]),
        "activation": strategies.sampled_from(["swiglu", "square", "gelu", "relu"]),
        "bias": strategies.sampled_from([False, "feedforward", "norms", True]),
        "tied": strategies.just(True),
        "initialization": strategies.sampled_from(["width", "torch", "scaled"]),
        "residual_scale": strategies.just(0.5),
        "head_scale": strategies.just(0.25),
        "embedding_std": strategies.just(1.0),
        "feedforward": strategies.just(24),
        "layers": strategies.just(1),
    },
).map(_possible)


@contextmanager
def float64() -> Iterator[None]:
    """Tensors are made in float64, tables of angles too."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def build(seeds=SEEDS, length=LENGTH, **options):
    with float64():
        model = Transformer(VOCABULARY, length, seeds, **({"width": 16, "heads": 4} | options))
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "gain")):  # most begin equal, where a mistake would not show
            values = torch.linspace(0.5, 1.5, parameter.shape[-1], dtype=torch.float64)
            parameter.data += values.sin() * torch.tensor(seeds)[:, None, None]
    return model


def tokens(runs=3, batch=6, length=LENGTH):
    single = torch.randint(VOCABULARY, (1, batch, length), generator=torch.Generator().manual_seed(0))
    return single.expand(runs, -1, -1).clone()


def assert_same(one, other) -> None:
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def turned(x):
    """Queries or keys (B, H, T, d) by RoFormer's formula: each pair, as a complex number, times exp(i t speed)."""
    width = x.shape[-1]
    speeds = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(x.shape[-2], dtype=torch.float64)[:, None] * speeds
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def reference(
    model, run, tokens_BT, heads=4, norm="pre", normalization="layer", positions="learned", activation="relu"
):
    """One run's logits at all positions, in the plain words of torch.nn, from the run's weights alone."""
    weights = {name: weight[run] for name, weight in model.named_parameters()}

    def linear(name, x):
        bias = weights.get(f"{name}.bias")
        return functional.linear(x, weights[f"{name}.weight"].T, None if bias is None else bias[0])

    def normalized(name, x):
        gain, bias = weights.get(f"{name}.gain"), weights.get(f"{name}.bias")
        if gain is None:
            return x
        if normalization == "rms":
            return functional.rms_norm(x, (16,), gain[0], eps=1e-5)
        return functional.layer_norm(x, (16,), gain[0], None if bias is None else bias[0])

    def attention(name, x):
        parts = (linear(f"{name}.{part}", x) for part in ("query", "key", "value"))
        query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
        if positions == "rotary":
            query, key = turned(query), turned(key)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return linear(f"{name}.out", mixed.transpose(1, 2).flatten(-2))

    def feedforward(name, x):
        inner = linear(f"{name}.inner", x)
        hidden = {
            "relu": lambda: inner.relu(),
            "gelu": lambda: functional.gelu(inner),
            "square": lambda: inner**2,
            "swiglu": lambda: functional.silu(linear(f"{name}.gate", x)) * inner,
        }[activation]()
        return linear(f"{name}.outer", hidden)

    x = weights["embeddings.tokens.weight"][tokens_BT]
    if positions == "learned":
        x = x + weights["embeddings.positions.weight"][: tokens_BT.shape[1]]
    if positions == "sinusoidal":
        place, column = torch.arange(float(tokens_BT.shape[1])).double()[:, None], torch.arange(16).double()
        angle = place / 10_000 ** ((column - column % 2) / 16)
        x = x + torch.where(column % 2 == 0, angle.sin(), angle.cos())
    for layer in range(len(model.layers)):
        for part, function in (("attention", attention), ("feedforward", feedforward)):
            name = f"layers.{layer}.{part}"
            if norm == "post":
                x = normalized(f"{name}_norm", x + function(name, x))
            elif norm == "stream" and part == "attention":
                x = normalized(f"{name}_norm", x)
                x = x + function(name, x)
            else:
                x = x + function(name, normalized(f"{name}_norm", x))
    head = weights.get("head.weight", weights["embeddings.tokens.weight"].T)
    return normalized("final_norm", x) @ head
