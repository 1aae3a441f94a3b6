"""The MLP: torch's own layers on joined embeddings or one-hot tokens, alone as in a stack."""

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import fixed_dictionaries, integers, just, lists, sampled_from
from torch.nn import functional

from grok_lightning.batch import Draw
from grok_lightning.errors import UserError
from grok_lightning.models import MLP
from grok_lightning.training.norms import weight_norms

VOCABULARY, LENGTH, SEEDS = 13, 4, [3, 1, 4]
ONE_HOT = {"inputs": "one-hot"}


def _small(options):
    """No three squares in a row: of eighth powers rounding alone decides the sine."""
    shorter = {"hidden": options["hidden"][:2]} if options.get("activation") == "square" and "hidden" in options else {}
    return options | shorter


ANY_OPTIONS = fixed_dictionaries(
    {},
    optional={
        "inputs": just("one-hot"),
        "hidden": lists(integers(4, 12), max_size=3),
        "activation": sampled_from(["gelu", "square", "linear", "relu"]),
        "bias": just(False),
        "width": just(3),
        "initialization": just("torch"),
    },
).map(_small)
any_options = given(options=ANY_OPTIONS)
dropping = given(options=ANY_OPTIONS.filter(lambda options: options.get("hidden") != []))
THEIRS = {"relu": functional.relu, "gelu": functional.gelu, "square": lambda x: x * x, "linear": lambda x: x}


def build(seeds=SEEDS, vocabulary=VOCABULARY, length=LENGTH, **options):
    model = MLP(vocabulary, length, seeds, **({"width": 5, "hidden": [8, 7]} | options)).double()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # they may begin at 0, where a mistake would not show
            values = torch.linspace(0.5, 1.5, parameter.shape[-1], dtype=torch.float64)
            parameter.data += values.sin() * torch.tensor(seeds)[:, None, None]
    return model


def tokens(runs=3, batch=6, length=LENGTH):
    single = torch.randint(VOCABULARY, (runs, batch, length), generator=torch.Generator().manual_seed(0))
    return single[:1].expand(runs, -1, -1).clone()


def draw(step, first_row=0):
    return Draw(torch.tensor(step), first_row)


def assert_same(one, other) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


class Theirs(torch.nn.Module):
    """Torch's layers with the weights of one run."""

    def __init__(self, model, run, activation="relu", **options) -> None:
        super().__init__()
        named = {name: weight[run].detach().clone() for name, weight in model.named_parameters()}
        table = named.pop("embeddings.tokens.weight", None)
        self.table = None if table is None else torch.nn.Embedding(*table.shape, _weight=table)
        self.linears, self.names = torch.nn.ModuleList(), [name for name in named if name.endswith("weight")]
        for name in self.names:
            weight, bias = named[name], named.get(name.removesuffix("weight") + "bias")
            layer = torch.nn.Linear(*weight.shape, bias=bias is not None, dtype=torch.float64)
            layer.weight.data = weight.T
            if bias is not None:
                layer.bias.data = bias[0]
            self.linears.append(layer)
        self.activation = THEIRS[activation]

    def forward(self, tokens_BT):
        embed = self.table or (lambda tokens: functional.one_hot(tokens, VOCABULARY).double())
        x = embed(tokens_BT).flatten(1)
        for layer in self.linears[:-1]:
            x = self.activation(layer(x))
        return self.linears[-1](x)

    def gradients(self):
        found = {} if self.table is None else {"embeddings.tokens.weight": self.table.weight.grad}
        for name, layer in zip(self.names, self.linears, strict=True):
            found[name] = layer.weight.grad.T
            if layer.bias is not None:
                found[name.removesuffix("weight") + "bias"] = layer.bias.grad[None]
        return found


@any_options
def test_logits_and_gradients_are_those_of_torchs_layers(options) -> None:
    model = build(**options)
    tokens_RBT = torch.stack([tokens()[0], tokens()[0].flip(0), tokens()[0].roll(1, 1)])
    logits = model(tokens_RBT, 1)
    assert logits.shape == (3, 6, 1, VOCABULARY)
    logits.sin().sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    for run in range(len(SEEDS)):
        theirs = Theirs(model, run, **options)
        expected = theirs(tokens_RBT[run])
        expected.sin().sum().backward()
        assert_same(logits[run, :, 0], expected)
        assert theirs.gradients().keys() == gradients.keys()
        for name, gradient in theirs.gradients().items():
            assert_same(gradients[name][run], gradient)


def test_the_quadratic_network_by_hand() -> None:
    model = MLP(7, 2, SEEDS, inputs="one-hot", hidden=[5], activation="square", bias=False).double()
    first, second = (weight.detach() for weight in model.parameters())
    x, y = torch.cartesian_prod(torch.arange(7), torch.arange(7)).T
    logits = model(torch.stack([x, y], dim=-1).expand(3, -1, -1), 1)[:, :, 0]
    for run in range(3):
        neurons = (first[run, x] + first[run, 7 + y]) ** 2
        assert_same(logits[run], torch.einsum("nk,kc->nc", neurons, second[run]))


@any_options
def test_every_position_is_read_and_told_apart(options) -> None:
    model = build(**options)
    for position in range(LENGTH):
        changed = tokens()
        changed[:, :, position] = (changed[:, :, position] + 1) % VOCABULARY
        assert (model(tokens(), 1) != model(changed, 1)).any(-1).any(1).all()
    mirrored = tokens().roll(1, -1)
    assert (model(tokens(), 1) != model(mirrored, 1)).any(-1).any(1).all()


@dropping
@pytest.mark.parametrize("at", [None, draw(5)], ids=["evaluating", "training"])
def test_a_stack_equals_its_single_models(options, at) -> None:
    stack = build(**options, dropout=0.3)
    logits = stack(tokens(), 1, at)
    logits.square().sum().backward()
    for run, seed in enumerate(SEEDS):
        single = build([seed], **options, dropout=0.3)
        alone = single(tokens(1), 1, at)
        alone.square().sum().backward()
        assert_same(logits[run], alone[0])
        for (name, weight), (own_name, own) in zip(stack.named_parameters(), single.named_parameters(), strict=True):
            assert name == own_name
            assert torch.equal(weight[run], own[0])
            assert_same(weight.grad[run], own.grad[0])


def test_runs_differ_and_equal_seeds_agree() -> None:
    logits = build([0, 1, 0], dropout=0.5)(tokens(), 1, draw(0))
    assert_same(logits[0], logits[2])
    assert (logits[0] != logits[1]).all()


@dropping
def test_dropout_acts_on_every_layers_neurons_in_training_alone(options) -> None:
    model, plain = build(**options, dropout=0.5), build(**options)
    assert torch.equal(model(tokens(), 1), plain(tokens(), 1))
    assert torch.equal(plain(tokens(), 1), plain(tokens(), 1, draw(2)))
    before, after = {}, {}
    for number, layer in enumerate(model.dropout):
        model.hidden[number].register_forward_hook(lambda *call, n=number: before.update({n: call[2]}))
        layer.register_forward_hook(lambda *call, n=number: after.update({n: call[2]}))
    logits = model(tokens(), 1, draw(2))
    assert len(before) == len(model.feedforward)
    for number, neurons in before.items():
        kept = after[number] != 0
        assert_same(after[number], torch.where(kept, 2 * neurons, 0))
        assert (~kept & (neurons != 0)).any()
    assert_same(logits[:, :, 0], model.head(after[len(after) - 1]))
    assert torch.equal(logits, model(tokens(), 1, draw(2)))
    assert not torch.equal(logits, model(tokens(), 1, draw(3)))


def test_a_share_of_a_training_batch_equals_its_place_in_the_whole() -> None:
    model = build(dropout=0.5)
    shares = [model(tokens()[:, start:stop], 1, draw(8, start)) for start, stop in ((0, 1), (1, 4), (4, 6))]
    assert_same(torch.cat(shares, dim=1), model(tokens(), 1, draw(8)))


def slowly(*values):
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # dynamo's own trace uses what torch itself deprecates
@pytest.mark.parametrize(
    "options",
    [
        {},
        *(
            pytest.param(more, marks=pytest.mark.slow)
            for more in (ONE_HOT, ONE_HOT | {"hidden": []}, {"activation": "linear"})
        ),
    ],
    ids=str,
)
def test_it_compiles_whole(options) -> None:
    model = build(**options) if options.get("hidden") == [] else build(**options, dropout=0.3)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = []
    for forward in (model, compiled):
        logits = forward(tokens(), 1, draw(4))
        found.append([logits, *torch.autograd.grad(logits.sin().sum(), list(model.parameters()))])
    for one, other in zip(*found, strict=True):
        assert_same(one, other)


def test_neurons_are_named() -> None:
    model = build(length=1)
    found = model.activations(tokens(length=1))
    assert found["embeddings.tokens"].shape == (3, 6, 1, 5)
    for number, width in enumerate([8, 7]):
        assert found[f"feedforward.{number}"].shape == (3, 6, width)
        assert torch.equal(found[f"hidden.{number}"], found[f"feedforward.{number}"].relu())
    assert torch.equal(found["logits"], model(tokens(length=1), 1))


@any_options
def test_entrance_and_exit(options) -> None:
    model = build(**options)
    named = dict(model.named_parameters())
    if "inputs" not in options:
        assert model.embedding is named["embeddings.tokens.weight"]
    else:
        first = next(iter(named.values()))
        assert torch.equal(model.embedding, first[:, :VOCABULARY])
    assert model.embedding.shape[:2] == (3, VOCABULARY)
    assert model.unembedding is [weight for name, weight in named.items() if name.endswith("weight")][-1]
    assert model.unembedding.shape[2] == VOCABULARY


@any_options
def test_parts_make_up_the_norm_of_the_whole(options) -> None:
    norms = weight_norms(build(**options))
    parts = sum(norms[key].square() for key in norms if key != "norm/weights")
    torch.testing.assert_close(parts, norms["norm/weights"].square())


@pytest.mark.parametrize(
    ("vocabulary", "length", "options", "count"),
    [
        pytest.param(99, 4, {}, 99 * 128 + 513 * 256 + 257 * 256 + 257 * 99, id="256-256"),
        pytest.param(
            99, 4, {"hidden": [128, 64, 64]}, 99 * 128 + 513 * 128 + 129 * 64 + 65 * 64 + 65 * 99, id="128-64-64"
        ),
        pytest.param(
            97, 2, ONE_HOT | {"hidden": [500], "activation": "square", "bias": False}, 3 * 97 * 500, id="quadratic"
        ),
        pytest.param(
            113, 2, ONE_HOT | {"hidden": [200, 200], "bias": False}, 226 * 200 + 200 * 200 + 200 * 113, id="200-200"
        ),
    ],
)
def test_published_settings_have_their_size(vocabulary, length, options, count) -> None:
    model = MLP(vocabulary, length, [0], **options)
    assert sum(weight.numel() for weight in model.parameters()) == count


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("initialization", ["scaled", "torch"])
@pytest.mark.parametrize("inputs", ["embeddings", "one-hot"])
def test_weights_begin_with_their_stated_spread(inputs, initialization, scale) -> None:
    options = {"width": 64, "hidden": [300, 200], "embedding_std": 0.3, "head_scale": 0.5}
    model = MLP(250, 2, [0], inputs=inputs, initialization=initialization, init_scale=scale, **options)
    numbers = {"feedforward.0": 2 * (64 if inputs == "embeddings" else 250), "feedforward.1": 300, "head": 200}
    for name, weight in model.named_parameters():
        if name.startswith("embeddings"):
            std, uniform = 0.3 * scale, False
        else:
            (number,) = (number for part, number in numbers.items() if name.startswith(part))
            limit = scale * number**-0.5 * (0.5 if name.startswith("head") else 1)
            uniform = initialization == "torch"
            std = limit * 3**-0.5 if uniform else limit
        if name.endswith("bias") and not uniform:
            assert not weight.any()
            continue
        tolerance = 4 * weight.numel() ** -0.5  # of 4 or more standard errors
        assert weight.std().item() == pytest.approx(std, rel=tolerance)
        assert weight.mean().item() == pytest.approx(0, abs=tolerance * std)
        assert (weight.abs().max() <= std * 3**0.5 * 1.0001) == uniform


REFUSED = [
    *[({"width": 0}, "width"), ({"hidden": [8, 0]}, "hidden"), ({"hidden": [-1]}, "hidden")],
    *[({"hidden": [10**6, 10**6]}, "hidden"), ({"inputs": "onehot"}, "inputs"), ({"activation": "tanh"}, "activation")],
    *[({"dropout": rate}, "dropout") for rate in (1.0, -0.1, float("nan"))],
    *[({"dropout": 0.1, "hidden": []}, "dropout"), ({"initialization": "width"}, "initialization")],
    *[({name: -1.0}, name) for name in ("embedding_std", "init_scale", "head_scale")],
]


def test_options_out_of_range_are_refused() -> None:
    for options, name in REFUSED:
        with pytest.raises(UserError, match=rf"^model\.network\.{name} is "):
            build(**options)


def test_padding_is_refused() -> None:
    with pytest.raises(UserError, match=r"^model\.network is MLP, which cannot mask the padding .*LSTM or GRU"):
        MLP(VOCABULARY, LENGTH, SEEDS, True)


@pytest.mark.parametrize("answer_length", [0, 2, LENGTH])
def test_an_answer_of_other_than_one_token_is_refused(answer_length) -> None:
    assert not MLP.causal
    with pytest.raises(UserError, match=rf"^model\.network is MLP, .* one token.* have {answer_length};"):
        build()(tokens(), answer_length)
