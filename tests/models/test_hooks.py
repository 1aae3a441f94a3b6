"""Functions on named parts see what ``activations`` shows, and what they return takes its place in what comes after."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_export import IN_TRANSFORMER_LENS, NETWORKS, options_of, run_of, tokens_of
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from grok_lightning.batch import Beginnings
from grok_lightning.build import build
from grok_lightning.errors import UserError
from grok_lightning.export import to_transformer_lens
from grok_lightning.models import hooks as hooks_module
from grok_lightning.run import Run

ALL = {**NETWORKS, "GRU": {"class_path": "GRU"}, "one-hot": {"class_path": "MLP", "inputs": "one-hot"}}
PATTERN = "layers.0.attention.pattern"


def hold(store: dict[str, Tensor], name: str) -> Callable[[Tensor], None]:
    return lambda value: store.update({name: value})


@pytest.mark.parametrize("name", ALL)
def test_functions_see_what_activations_shows_and_change_nothing(name: str) -> None:
    run = run_of(ALL[name])
    tokens = run.data.tokens(run.operands_NK[:7])
    shown, before = run.activations(run.operands_NK[:7]), run.model(tokens)
    seen: dict[str, Tensor] = {}
    with run.hooks({part: hold(seen, part) for part in shown}):
        torch.testing.assert_close(run.model(tokens), before, atol=1e-6, rtol=1e-6)
    assert seen.keys() == shown.keys()
    assert all(torch.equal(seen[part], shown[part]) for part in shown)
    assert all(len(part) == 7 for part in shown.values())
    assert torch.equal(run.model(tokens), before)
    assert not vars(run.model).keys() & {"forward", "grid_logits"}


@pytest.mark.parametrize("name", ALL)
def test_a_part_that_is_replaced_by_its_own_value_of_other_equations_carries_it_on(name: str) -> None:
    """With all that enters a part's successors replaced, the logits are those of the other equations."""
    run = run_of(ALL[name])
    mine, others = run.operands_NK[:5], run.operands_NK[40:45]
    theirs = run.activations(others)
    last = {"MLP": "hidden.1", "one-hot": "hidden.1", "LSTM": "recurrent.1.hidden", "GRU": "recurrent.1.hidden"}
    last["residual"] = "layers.1"
    with run.hooks({last.get(name, "final_norm"): lambda _: theirs[last.get(name, "final_norm")]}):
        found = run.model(run.data.tokens(mine))
    torch.testing.assert_close(found, run.model(run.data.tokens(others)), atol=1e-6, rtol=1e-6)


def test_only_what_comes_after_changes() -> None:
    run = run_of(NETWORKS["two layers"])
    before = run.activations(x=[1, 2], y=3)

    def scale(value: Tensor) -> Tensor:
        return 2 * value

    with run.hooks({"layers.0.feedforward.hidden": scale}):
        after = run.activations(x=[1, 2], y=3)
    names = list(before)
    place = names.index("layers.0.feedforward.hidden")
    assert all(torch.equal(before[name], after[name]) for name in names[:place])
    assert torch.equal(after[names[place]], 2 * before[names[place]])
    same = [name for name in names[place:] if torch.equal(before[name], after[name])]
    assert not same


def by_hand(plain: nn.Module, tokens_BT: Tensor, dead_head: int, dead_neuron: int) -> Tensor:
    """A layer without norms, as in textbooks, with a head and a neuron switched off."""
    weight = {name: part.detach() for name, part in plain.state_dict().items()}
    length = tokens_BT.shape[1]
    x = weight["embeddings.tokens.weight"][tokens_BT] + weight["embeddings.positions.weight"][:length]
    parts = {}
    for name in ("query", "key", "value"):
        parts[name] = (x @ weight[f"layers.0.attention.{name}.weight"]).unflatten(-1, (4, -1)).transpose(1, 2)
    scores = parts["query"] @ parts["key"].transpose(-1, -2) / parts["key"].shape[-1] ** 0.5
    mask = torch.ones(length, length, dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(mask, -torch.inf).softmax(-1)
    pattern[:, dead_head] = 0
    mixed = (pattern @ parts["value"]).transpose(1, 2).flatten(2)
    x = x + mixed @ weight["layers.0.attention.out.weight"]
    hidden = (x @ weight["layers.0.feedforward.inner.weight"]).relu()
    hidden[..., dead_neuron] = 0
    x = x + hidden @ weight["layers.0.feedforward.outer.weight"]
    return x @ weight["head.weight"]


def without(index: int, dim: int) -> Callable[[Tensor], None]:
    def act(value: Tensor) -> None:
        value.select(dim, index).zero_()

    return act


def test_an_ablated_head_and_neuron_against_a_forward_by_hand() -> None:
    run = run_of({"norm": "none", "bias": False, "layers": 1})
    tokens_BT = tokens_of(run)[:30]
    plain = run.plain()
    wanted = by_hand(plain, tokens_BT, 2, 5)
    with run.hooks({PATTERN: without(2, 1), "layers.0.feedforward.hidden": without(5, -1)}):
        torch.testing.assert_close(run.model(tokens_BT[None], 4)[0], wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(plain(tokens_BT)[:, 0], wanted[:, -1], atol=1e-5, rtol=1e-5)
    assert (run.model(tokens_BT[None], 4)[0] - wanted).abs().max() > 0.01


def test_the_state_of_a_recurrent_network_against_a_forward_by_hand() -> None:
    run = run_of({"class_path": "LSTM", "layers": 1, "hidden": 6, "width": 5})
    tokens_BT = tokens_of(run)[:9]
    weight = run.plain().state_dict()
    x = weight["embeddings.tokens.weight"][tokens_BT]
    hidden = memory = torch.zeros(9, 6)
    for position in range(4):
        gates = x[:, position] @ weight["recurrent.0.from_input.weight"] + weight["recurrent.0.from_input.bias"]
        gates = gates + hidden @ weight["recurrent.0.from_hidden.weight"] + weight["recurrent.0.from_hidden.bias"]
        take, keep, candidate, show = gates.chunk(4, -1)
        memory = keep.sigmoid() * memory + take.sigmoid() * candidate.tanh()
        hidden = show.sigmoid() * memory.tanh()
        if position == 1:
            hidden, memory = hidden.clone(), 2 * memory
            hidden[:, 3] = 0
    wanted = hidden @ weight["head.weight"] + weight["head.bias"]
    functions = {"recurrent.0.hidden_at.1": without(3, 1), "recurrent.0.memory_at.1": lambda value: 2 * value}
    with run.hooks(functions):
        torch.testing.assert_close(run.model(tokens_BT[None])[0, :, 0], wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["two layers", "GRU", "MLP"])
def test_gradients_pass_through_what_is_patched(name: str) -> None:
    run = run_of(ALL[name])
    part = {"two layers": "layers.0", "GRU": "recurrent.0.hidden_at.0", "MLP": "hidden.0"}[name]
    plain = run.plain()
    tokens_BT, factor = tokens_of(run)[:3], torch.tensor(1.5, requires_grad=True)
    weights = {key: value.detach() for key, value in plain.named_parameters()}

    def loss(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
        return functional_call(plain, weights, (tokens[None],)).square().sum()

    with run.hooks({part: lambda value: factor * value}):
        whole = plain(tokens_BT).square().sum()
        (slope,) = torch.autograd.grad(whole, factor)
        each = vmap(grad(loss), (None, 0))(weights, tokens_BT)
        plain.zero_grad()
        plain(tokens_BT).square().sum().backward()
        with torch.no_grad():
            factor += 1e-3
            higher = plain(tokens_BT).square().sum()
            factor -= 2e-3
            lower = plain(tokens_BT).square().sum()
    assert float(slope) == pytest.approx(float(higher - lower) / 2e-3, rel=0.02)
    for key, weight in plain.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(each[key].sum(0), weight.grad, atol=1e-4, rtol=1e-4)


def test_a_gradient_of_a_part_itself() -> None:
    run, seen = run_of(NETWORKS["two layers"]), []

    def keep(value: Tensor) -> None:
        value.retain_grad()
        seen.append(value)

    with run.hooks({PATTERN: keep}):
        run.model(run.data.tokens(run.operands_NK[:4])).sum().backward()
    assert seen[0].grad is not None
    assert seen[0].grad.shape == (4, 4, 4, 4)
    assert bool(seen[0].grad.abs().sum() > 0)


def test_contexts_are_nested_and_end_however_they_are_left() -> None:
    run = run_of(NETWORKS["one layer"])
    tokens = run.data.tokens(run.operands_NK[:4])
    before, order = run.model(tokens, 4), []

    def add(value: Tensor) -> Tensor:
        order.append("add")
        return value + 1

    def double(value: Tensor) -> Tensor:
        order.append("double")
        return 2 * value

    with run.hooks({"logits": add, "head": add}):
        with run.hooks({"logits": double}):
            torch.testing.assert_close(run.model(tokens), 2 * (before[:, :, -1:] + 2))
            assert order == ["add", "add", "double"]
        torch.testing.assert_close(run.model(tokens, 2), before[:, :, -2:] + 2)
        with pytest.raises(ZeroDivisionError), run.hooks({"logits": lambda _: 1 / 0}):
            run.model(tokens)
        torch.testing.assert_close(run.model(tokens, 2), before[:, :, -2:] + 2)
    assert torch.equal(run.model(tokens, 4), before)
    assert not any(module._forward_hooks for module in run.model.modules())


def test_grids_and_shared_beginnings_are_computed_with_the_functions_too() -> None:
    run = run_of(NETWORKS["two layers"])
    rows = run.data.rows()
    assert rows.beginnings_PS is not None
    beginnings = Beginnings(torch.from_numpy(rows.beginnings_PS), torch.from_numpy(rows.beginning_N)[None])
    tokens = run.data.tokens(run.operands_NK)
    grid = run.data.table(torch.device("cpu")).grid_tokens
    assert grid is not None
    with run.hooks({PATTERN: without(1, 1)}):
        wanted = run.model(tokens)
        torch.testing.assert_close(run.model(tokens, 1, None, beginnings), wanted)
        torch.testing.assert_close(run.model.grid_logits(grid).flatten(1, -2), wanted[:, :, 0])
    assert (run.model(tokens) - wanted).abs().max() > 1e-3


def test_where_one_product_computes_queries_keys_and_values_each_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(NETWORKS["one layer"])
    tokens = run.data.tokens(run.operands_NK[:4])
    wanted = run.activations(run.operands_NK[:4])
    monkeypatch.setattr("grok_lightning.models.attention.on_cpu", lambda _: False)
    with run.hooks({"layers.0.attention.query": torch.zeros_like}):
        assert run.activations(run.operands_NK[:4])[PATTERN][:, :, -1].max() == pytest.approx(0.25)
    found = run.activations(run.operands_NK[:4])
    assert list(found) == list(wanted)
    assert bool(run.model(tokens).isfinite().all())


def test_a_single_token_has_its_own_dimension() -> None:
    network = {"class_path": "Transformer", "width": 16, "heads": 4}
    config = options_of({"data": {"class_path": "TextDataModule", "strings": ["ab"]}, "model": {"network": network}})
    run = Run(*build(config), 0, config)
    found = run.activations("")
    assert found["layers.0"].shape == (1, 1, 16)
    assert found[PATTERN].shape == (1, 4, 1, 1)


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ({"layers.0.attention.patern": print}, "did you mean layers.0.attention.pattern"),
        ({"layers.0.dropout": print}, "computes nothing"),
        ({"layers": print}, "computes nothing"),
        ({"zzz": print}, "known are embeddings, embeddings.tokens"),
        ({"logits": 3}, "hooks has 3 for 'logits'"),
    ],
)
def test_what_cannot_be_hooked_is_refused_at_once(functions: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run_of(NETWORKS["one layer"]).hooks(functions)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda value: value[:, 0], r"shape \(4, 4, 4\) and type float32; a tensor of shape \(4, 4, 4, 4\)"),
        (lambda value: value.double(), "type float64; a tensor"),
        (lambda value: 3, "3; a tensor of shape"),
    ],
)
def test_a_value_of_another_shape_is_one_error(function: Callable[[Tensor], Any], words: str) -> None:
    run = run_of(NETWORKS["one layer"])
    tokens = run.data.tokens(run.operands_NK[:4])
    with pytest.raises(UserError, match=f"the hook on '{PATTERN}' returned.*{words}"), run.hooks({PATTERN: function}):
        run.model(tokens)
    assert run.model(tokens).shape == (1, 4, 1, 13)


def test_functions_of_a_stack_see_all_runs() -> None:
    run = run_of(NETWORKS["one layer"])
    with pytest.raises(UserError, match="computes nothing"), run.model.hooks({"layers.7": print}):
        pass
    shapes = []
    with run.model.hooks({PATTERN: lambda value: shapes.append(value.shape)}):
        run.model(run.data.tokens(run.operands_NK[:4]))
    assert shapes == [(1, 4, 4, 4, 4)]
    assert hooks_module.LOGITS in run.model.part_names(run.data.tokens(run.operands_NK[:1]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", IN_TRANSFORMER_LENS)
def test_ablations_in_transformer_lens_give_the_same(name: str) -> None:
    lens = pytest.importorskip("transformer_lens")
    run: Run = run_of(NETWORKS[name])
    config, state = to_transformer_lens(run)
    model = lens.HookedTransformer(lens.HookedTransformerConfig(**config)).eval()
    model.load_state_dict(state, strict=False)
    tokens_BT = tokens_of(run)

    def zero_head(value: Tensor, hook: Any) -> Tensor:
        value[:, 1] = 0.0
        return value

    def zero_neurons(value: Tensor, hook: Any) -> Tensor:
        value[..., :3] = 0.0
        return value

    def double_position(value: Tensor, hook: Any) -> Tensor:
        value[:, 1] *= 2
        return value

    theirs = [
        ("blocks.0.attn.hook_pattern", zero_head),
        ("blocks.0.mlp.hook_post", zero_neurons),
        ("blocks.0.hook_resid_post", double_position),
    ]
    ours = {
        PATTERN: lambda value: zero_head(value, None),
        "layers.0.feedforward.hidden": lambda value: zero_neurons(value, None),
        "layers.0": lambda value: double_position(value, None),
    }
    wanted = model.run_with_hooks(tokens_BT, fwd_hooks=theirs)
    with run.hooks(ours):
        torch.testing.assert_close(run.activations(run.operands_NK)["logits"], wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(run.plain()(tokens_BT), wanted[:, -1:], atol=1e-5, rtol=1e-5)
    assert (run.plain()(tokens_BT) - wanted[:, -1:]).abs().max() > 1e-2
