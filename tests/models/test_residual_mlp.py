"""The residual MLP: torch's own layers in the words of arXiv 2603.25009, alone as in a stack."""

import pytest
import torch
from torch.nn import functional

from grok_lightning.batch import Draw
from grok_lightning.errors import UserError
from grok_lightning.models import MLP, ResidualMLP
from grok_lightning.optim.muon import choose_matrices
from grok_lightning.optim.parts import part_of

VOCABULARY, LENGTH, SEEDS = 13, 4, [3, 1, 4]
THEIRS = {"relu": functional.relu, "gelu": functional.gelu, "square": lambda x: x * x}
OPTIONS = [
    {},
    {"inputs": "summed", "activation": "relu", "factor": 1.0},
    {"inputs": "one-hot", "norm": "none", "feedforward": 9},
    {"inputs": "summed", "bias": False, "layers": 1, "embedding_rank": 3},
    {"activation": "square", "norm": "none", "initialization": "torch"},
]


def build(seeds=SEEDS, **options):
    model = ResidualMLP(VOCABULARY, LENGTH, seeds, **({"width": 6, "layers": 3} | options)).double()
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "gain")):  # most begin equal, where a mistake would not show
            values = torch.linspace(0.5, 1.5, parameter.shape[-1], dtype=torch.float64)
            parameter.data += values.sin() * torch.tensor(seeds)[:, None, None]
    return model


def tokens(runs=3, batch=6):
    single = torch.randint(VOCABULARY, (1, batch, LENGTH), generator=torch.Generator().manual_seed(0))
    return single.expand(runs, -1, -1).clone()


def draw(step, first_row=0):
    return Draw(torch.tensor(step), first_row)


def assert_same(one, other) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def reference(weights, tokens_BT, inputs="embeddings", activation="gelu", factor=0.5, **_):
    """Logits (B, V) of one run, from its weights by name."""

    def linear(name, x):
        bias = weights.get(f"{name}.bias")
        return functional.linear(x, weights[f"{name}.weight"].T, None if bias is None else bias[0])

    table = weights.get("embeddings.tokens.weight")
    if "embeddings.tokens.table.weight" in weights:
        table = weights["embeddings.tokens.table.weight"] @ weights["embeddings.tokens.map.weight"]
    if inputs == "one-hot":
        x = linear("feedforward.0.linear", functional.one_hot(tokens_BT, VOCABULARY).double().flatten(1))
    elif inputs == "summed":
        x = functional.embedding(tokens_BT, table).sum(1)
    else:
        x = linear("feedforward.0", functional.embedding(tokens_BT, table).flatten(1))
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    for layer in range(layers):
        name, inner = f"layers.{layer}.norm", x
        if f"{name}.gain" in weights:
            bias = weights.get(f"{name}.bias")
            inner = functional.layer_norm(
                x, x.shape[-1:], weights[f"{name}.gain"][0], None if bias is None else bias[0]
            )
        inner = THEIRS[activation](linear(f"layers.{layer}.feedforward.inner", inner))
        x = x + factor * linear(f"layers.{layer}.feedforward.outer", inner)
    return linear("head", x)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_logits_and_gradients_are_those_of_torchs_layers(options) -> None:
    model = build(**options)
    tokens_RBT = torch.stack([tokens()[0], tokens()[0].flip(0), tokens()[0].roll(1, 1)])
    logits = model(tokens_RBT, 1)
    assert logits.shape == (3, 6, 1, VOCABULARY)
    logits.sin().sum().backward()
    for run in range(len(SEEDS)):
        weights = {name: part[run].detach().requires_grad_() for name, part in model.named_parameters()}
        expected = reference(weights, tokens_RBT[run], **options)
        expected.sin().sum().backward()
        assert_same(logits[run, :, 0], expected)
        for name, part in model.named_parameters():
            assert_same(part.grad[run], weights[name].grad)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_stack_equals_its_single_models(options) -> None:
    stack = build(**options, dropout=0.3)
    logits = stack(tokens(), 1, draw(5))
    assert not torch.equal(logits, stack(tokens(), 1, draw(6)))
    logits.square().sum().backward()
    for run, seed in enumerate(SEEDS):
        single = build([seed], **options, dropout=0.3)
        alone = single(tokens(1), 1, draw(5))
        alone.square().sum().backward()
        assert_same(logits[run], alone[0])
        for weight, own in zip(stack.parameters(), single.parameters(), strict=True):
            assert torch.equal(weight[run], own[0])
            assert_same(weight.grad[run], own.grad[0])


def test_a_share_of_a_training_batch_equals_its_place_in_the_whole() -> None:
    model = build(dropout=0.5)
    shares = [model(tokens()[:, start:stop], 1, draw(8, start)) for start, stop in ((0, 1), (1, 4), (4, 6))]
    assert_same(torch.cat(shares, dim=1), model(tokens(), 1, draw(8)))


@pytest.mark.parametrize("kind", [MLP, ResidualMLP])
def test_summed_embeddings_have_no_order_and_joined_ones_have(kind) -> None:
    mirrored = tokens().flip(-1)
    for inputs, same in (("summed", True), ("embeddings", False), ("one-hot", False)):
        model = kind(VOCABULARY, LENGTH, SEEDS, inputs=inputs, width=6).double()
        assert torch.allclose(model(tokens(), 1), model(mirrored, 1)) == same


def test_the_plain_network_with_summed_embeddings_is_torchs() -> None:
    model = MLP(VOCABULARY, LENGTH, SEEDS, inputs="summed", width=5, hidden=[8], activation="gelu").double()
    assert model.feedforward[0].weight.shape == (3, 5, 8)
    for run in range(3):
        table, first, bias, last, end = (part[run].detach() for part in model.parameters())
        x = functional.gelu(table[tokens()[run]].sum(1) @ first + bias) @ last + end
        assert_same(model(tokens(), 1)[run, :, 0], x)


def test_the_published_network_has_its_size() -> None:
    """arXiv 2603.25009, depth 8: summed embeddings of width 512, blocks of two maps 512 x 512 and a norm, 97 logits."""
    model = ResidualMLP(97, 2, [0], inputs="summed", width=512)
    assert sum(weight.numel() for weight in model.parameters()) == (
        97 * 512 + 8 * (2 * (512 * 512 + 512) + 2 * 512) + 513 * 97
    )


@pytest.mark.parametrize("initialization", ["scaled", "torch"])
def test_weights_begin_with_their_stated_spread(initialization) -> None:
    sizes = {"width": 64, "feedforward": 200, "layers": 1, "embedding_std": 0.3}
    model = ResidualMLP(250, 2, [0], initialization=initialization, init_scale=0.5, head_scale=0.25, **sizes)
    numbers = {"feedforward.0.": 128, "inner": 64, "outer": 200, "head": 64}
    for name, weight in model.named_parameters():
        if "norm" in name:
            assert (weight == float(name.endswith("gain"))).all()
            continue
        uniform = initialization == "torch" and "embeddings" not in name
        if name.endswith("bias") and not uniform:
            assert not weight.any()
            continue
        number = next((number for part, number in numbers.items() if part in name), None)
        limit = 0.5 * (0.3 if number is None else number**-0.5) * (0.25 if "head" in name else 1)
        std = limit * 3**-0.5 if uniform else limit
        assert weight.std().item() == pytest.approx(std, rel=4 * weight.numel() ** -0.5)
        assert (weight.abs().max() <= limit * 1.0001) == uniform


def test_its_parts_are_those_of_optimizers() -> None:
    shapes = {name: tuple(weight.shape[1:]) for name, weight in build().named_parameters()}
    parts = {name: part_of(name, shape) for name, shape in shapes.items()}
    assert parts["embeddings.tokens.weight"] == "embedding"
    assert parts["head.weight"] == "head"
    hidden = {name for name, part in parts.items() if part == "matrix"}
    assert choose_matrices(shapes, None) == hidden
    blocks = {f"layers.{n}.feedforward.{part}.weight" for n in range(3) for part in ("inner", "outer")}
    assert hidden == {"feedforward.0.weight"} | blocks
    one_hot = {name: tuple(weight.shape[1:]) for name, weight in build(inputs="one-hot").named_parameters()}
    assert part_of("feedforward.0.linear.weight", one_hot["feedforward.0.linear.weight"]) == "embedding"


def test_neurons_are_named() -> None:
    model = build()
    found = model.activations(tokens())
    for layer in range(3):
        inner = found[f"layers.{layer}.feedforward.inner"]
        assert torch.equal(found[f"layers.{layer}.feedforward.hidden"], functional.gelu(inner))
    assert torch.equal(found["logits"], model(tokens(), 1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # dynamo's own trace uses what torch itself deprecates
@pytest.mark.parametrize("options", OPTIONS[1:4], ids=str)
def test_it_compiles_whole(options) -> None:
    model = build(**options, dropout=0.3)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = []
    for forward in (model, compiled):
        logits = forward(tokens(), 1, draw(4))
        found.append([logits, *torch.autograd.grad(logits.sin().sum(), list(model.parameters()))])
    for one, other in zip(*found, strict=True):
        assert_same(one, other)


REFUSED = [
    *[({name: 0}, name) for name in ("width", "layers", "feedforward", "embedding_rank", "factor")],
    *[({"inputs": "sum"}, "inputs"), ({"activation": "tanh"}, "activation"), ({"norm": "post"}, "norm")],
    *[({"dropout": 1.0}, "dropout"), ({"factor": float("nan")}, "factor"), ({"width": 10**6}, "width")],
    *[({"inputs": "one-hot", "embedding_rank": 3}, "embedding_rank"), ({"embedding_rank": 10**12}, "embedding_rank")],
]


def test_options_out_of_range_are_refused() -> None:
    for options, name in REFUSED:
        with pytest.raises(UserError, match=rf"^model\.network\.{name} is "):
            build(**options)


def test_padding_and_longer_answers_are_refused() -> None:
    with pytest.raises(UserError, match=r"^model\.network is ResidualMLP, which cannot mask the padding"):
        ResidualMLP(VOCABULARY, LENGTH, SEEDS, True)
    with pytest.raises(UserError, match=r"^model\.network is ResidualMLP, .* one token.* have 2;"):
        build()(tokens(), 2)
