"""LSTM and GRU: torch's own, run by run; alone as in a stack."""

import pytest
import torch
from small_recurrent import (
    LENGTH,
    SEEDS,
    THEIRS,
    VOCABULARY,
    Theirs,
    assert_same,
    build,
    draw,
    every_kind,
    every_option,
    tokens,
)

from grok_lightning.errors import UserError
from grok_lightning.models import GRU, LSTM
from grok_lightning.training.norms import weight_norms


@every_kind
@every_option
def test_logits_and_gradients_are_those_of_torchs_modules(kind, options) -> None:
    model = build(kind, **options)
    tokens_RBT = torch.stack([tokens()[0], tokens()[0].flip(0), tokens()[0].roll(1, 1)])
    logits = model(tokens_RBT, LENGTH)
    logits.sin().sum().backward()
    for run in range(len(SEEDS)):
        theirs = Theirs(model, run)
        expected = theirs(tokens_RBT[run])
        expected.sin().sum().backward()
        assert_same(logits[run], expected)
        for name, weight in model.named_parameters():
            gradient = theirs.ours[name].grad
            transposed = gradient[None] if name.endswith("bias") else gradient.T
            assert_same(weight.grad[run], gradient if name.startswith("embeddings") else transposed)


@every_kind
@every_option
def test_the_last_logits_are_the_tail_of_all_logits(kind, options) -> None:
    model = build(kind, **options)
    for answer_length in (1, 2, LENGTH):
        assert_same(model(tokens(), answer_length), model(tokens(), LENGTH)[:, :, LENGTH - answer_length :])


@every_kind
def test_a_later_token_never_changes_earlier_logits(kind) -> None:
    model = build(kind)
    before = model(tokens(), LENGTH)
    assert kind.causal
    for position in (0, 2, LENGTH - 1):
        changed = tokens()
        changed[:, :, position] = (changed[:, :, position] + 1) % VOCABULARY
        after = model(changed, LENGTH)
        assert torch.equal(before[:, :, :position], after[:, :, :position])
        assert (before[:, :, position:] != after[:, :, position:]).any(-1).all()


@every_kind
@every_option
@pytest.mark.parametrize("at", [None, draw(5)], ids=["evaluating", "training"])
def test_a_stack_equals_its_single_models(kind, options, at) -> None:
    options = options | {"dropout": 0.0 if options.get("layers") == 1 else 0.3}
    stack = build(kind, **options)
    logits = stack(tokens(), LENGTH, at)
    logits.square().sum().backward()
    for run, seed in enumerate(SEEDS):
        single = build(kind, [seed], **options)
        alone = single(tokens(1), LENGTH, at)
        alone.square().sum().backward()
        assert_same(logits[run], alone[0])
        for (name, weight), (own_name, own) in zip(stack.named_parameters(), single.named_parameters(), strict=True):
            assert name == own_name
            assert torch.equal(weight[run], own[0])
            assert_same(weight.grad[run], own.grad[0])


@every_kind
def test_runs_differ_and_equal_seeds_agree(kind) -> None:
    logits = build(kind, [0, 1, 0], dropout=0.5)(tokens(), 1, draw(0))
    assert_same(logits[0], logits[2])
    assert (logits[0] != logits[1]).all()


@every_kind
def test_dropout_acts_between_layers_in_training_alone(kind) -> None:
    model, plain = build(kind, layers=3, dropout=0.5), build(kind, layers=3)
    assert torch.equal(model(tokens(), 1), plain(tokens(), 1))
    assert torch.equal(plain(tokens(), 1), plain(tokens(), 1, draw(2)))
    logits = model(tokens(), LENGTH, draw(2))
    assert torch.equal(logits, model(tokens(), LENGTH, draw(2)))
    assert not torch.equal(logits, model(tokens(), LENGTH, draw(3)))
    masks = [layer(torch.ones(3, 6, LENGTH, 5, dtype=torch.float64), draw(2)) for layer in model.dropout]
    assert not torch.equal(*masks)
    for run in range(len(SEEDS)):
        expected = Theirs(model, run)(tokens()[run], lambda number, x, run=run: x * masks[number][run])
        assert_same(logits[run], expected)


@every_kind
def test_a_share_of_a_training_batch_equals_its_place_in_the_whole(kind) -> None:
    model = build(kind, dropout=0.5)
    shares = [model(tokens()[:, start:stop], 2, draw(8, start)) for start, stop in ((0, 1), (1, 4), (4, 6))]
    assert_same(torch.cat(shares, dim=1), model(tokens(), 2, draw(8)))


@every_kind
def test_activations_are_named_and_cover_all_positions(kind) -> None:
    model = build(kind)
    found = model.activations(tokens())
    assert found["embeddings.tokens"].shape == (3, 6, LENGTH, 7)
    for number in range(2):
        assert found[f"recurrent.{number}.hidden"].shape == (3, 6, LENGTH, 5)
        assert found[f"recurrent.{number}.from_input"].shape == (3, 6, LENGTH, 5 * kind.gates)
    assert torch.equal(found["logits"], model(tokens(), LENGTH))
    assert all(part.shape[:3] == (3, 6, LENGTH) for part in found.values())
    assert_same(found["logits"], found["recurrent.1.hidden"] @ model.unembedding[:, None] + model.head.bias[:, None])
    assert torch.equal(found["embeddings.tokens"][1], model.embedding[1][tokens()[1]])


@every_kind
def test_the_parts_of_the_norm(kind) -> None:
    model = build(kind)
    norms = weight_norms(model)
    for part in ("embeddings", "head"):
        own = [weight.detach() for name, weight in model.named_parameters() if name.startswith(part)]
        assert_same(norms[f"norm/{part}"], sum(weight.flatten(1).square().sum(1) for weight in own).sqrt())


@pytest.mark.parametrize(("kind", "gates"), [(LSTM, 4), (GRU, 3)])
def test_the_published_setting_has_its_size(kind, gates) -> None:
    count = sum(weight.numel() for weight in kind(99, 4, [0], layers=2, hidden=128).parameters())
    assert count == 99 * 128 + 2 * gates * (128 * 256 + 2 * 128) + 129 * 99
    theirs = THEIRS[kind](128, 128, 2), torch.nn.Embedding(99, 128), torch.nn.Linear(128, 99)
    assert count == sum(weight.numel() for module in theirs for weight in module.parameters())


@every_kind
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("initialization", ["torch", "scaled"])
def test_weights_begin_with_their_stated_spread(kind, initialization, scale) -> None:
    options = {"width": 90, "hidden": 60, "embedding_std": 0.3, "head_scale": 0.5}
    model = kind(250, 4, [0], initialization=initialization, init_scale=scale, **options)
    for name, weight in model.named_parameters():
        uniform = initialization == "torch" and not name.startswith("embeddings")
        if name.startswith("embeddings"):
            std = 0.3 * scale
        elif uniform:
            std = scale * (3 * 60) ** -0.5
        else:
            std = scale * weight.shape[1] ** -0.5
        std *= 0.5 if name.startswith("head") else 1
        if name.endswith("bias") and not uniform:
            assert not weight.any()
            continue
        tolerance = 4 * weight.numel() ** -0.5  # of 4 or more standard errors
        assert weight.std().item() == pytest.approx(std, rel=tolerance)
        assert weight.mean().item() == pytest.approx(0, abs=tolerance * std)
        assert (weight.abs().max() <= std * 3**0.5 * 1.0001) == uniform


REFUSED = [
    *[({name: 0}, name) for name in ("layers", "hidden", "width")],
    *[({name: 10**6}, "hidden") for name in ("hidden", "width", "layers")],
    *[({"dropout": rate}, "dropout") for rate in (1.0, -0.1, float("nan"))],
    *[({"dropout": 0.1, "layers": 1}, "dropout"), ({"initialization": "width"}, "initialization")],
    *[({name: -1.0}, name) for name in ("embedding_std", "init_scale", "head_scale")],
]


@every_kind
def test_options_out_of_range_are_refused(kind) -> None:
    for options, name in REFUSED:
        with pytest.raises(UserError, match=rf"^model\.network\.{name} is "):
            build(kind, **({"hidden": 1000} | options))
