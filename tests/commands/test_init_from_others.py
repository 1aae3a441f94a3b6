"""A run may start from the weights of a HookedTransformer, or of a file that ``export`` wrote."""

import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import TINY
from test_export import IN_TRANSFORMER_LENS, NETWORKS, SMALL, options_of, run_of
from torch import Tensor

from grok_lightning import load_run
from grok_lightning.build import build
from grok_lightning.errors import UserError
from grok_lightning.export import export, to_transformer_lens
from grok_lightning.options.config import Config
from grok_lightning.records.checkpoint import load
from grok_lightning.run import Run
from grok_lightning.starting import set_initial_weights

Command = Callable[..., tuple[int, str, str]]
TRANSFORMER = {"class_path": "Transformer", **SMALL}
# as in TransformerLens's Grokking_Demo, but smaller
DEMO = {"norm": "none", "layers": 1, "bias": False}
WITHOUT_OPERATOR = {"modulus": 11, "operator_token": False}


def started(path: Path, network: dict[str, Any], data: dict[str, Any] | None = None, precision: str = "32-true") -> Run:
    """A run that starts from a file."""
    given = {"data": {"modulus": 11} | (data or {}), "model": {"network": network}, "init_from": str(path)}
    options = options_of(given | {"seed_everything": 5, "trainer": {"precision": precision}})
    module, data_module = build(options)
    set_initial_weights(module, data_module, Config("fit", options))
    return Run(module.eval(), data_module, 0, options)


def named(network: dict[str, Any]) -> dict[str, Any]:
    return network if "class_path" in network else TRANSFORMER | network


@pytest.mark.parametrize("form", ["transformer_lens", "torch"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_export_writes_is_read_back_as_it_was(name: str, form: str, tmp_path: Path) -> None:
    if form == "transformer_lens" and name not in IN_TRANSFORMER_LENS:
        return
    run, path = run_of(NETWORKS[name]), tmp_path / "my network (α).pt"
    export(run, form, path)
    other = started(path, named(NETWORKS[name]))
    for key, weight in run.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[key], weight), key
    bare = tmp_path / "bare.pth"
    torch.save(torch.load(path, weights_only=True)["state_dict"], bare)
    tokens = run.data.tokens(run.operands_NK)
    torch.testing.assert_close(started(bare, named(NETWORKS[name])).model(tokens), run.model(tokens), atol=1e-6, rtol=0)


def lens_state(network: dict[str, Any], data: dict[str, Any] | None = None) -> dict[str, Tensor]:
    return to_transformer_lens(run_of(network, data))[1]


def save(state: dict[str, Any], path: Path, **settings: Any) -> Path:
    torch.save({"model": state, "config": settings} if settings else state, path)
    return path


def test_a_head_with_fewer_outputs_gives_the_same_answers(tmp_path: Path) -> None:
    """As of the published checkpoint: 114 tokens, 113 of which are answers."""
    run = run_of(DEMO, {"operator_token": False})
    state = to_transformer_lens(run)[1]
    state["unembed.W_U"] = state["unembed.W_U"][:, :11].clone()
    state["unembed.b_U"] = torch.zeros(11)
    other = started(save(state, tmp_path / "a.pth", d_vocab=12, d_vocab_out=11), TRANSFORMER | DEMO, WITHOUT_OPERATOR)
    tokens = run.data.tokens(run.operands_NK)
    wanted, found = run.model(tokens)[0, :, 0, :11], other.model(tokens)[0, :, 0]
    torch.testing.assert_close(found[:, :11], wanted, atol=1e-6, rtol=1e-6)
    assert torch.equal(found.argmax(-1), wanted.argmax(-1))
    torch.testing.assert_close(found[:, 11], wanted.mean(-1), atol=1e-6, rtol=1e-5)
    state["unembed.W_U"] = state["unembed.W_U"][:, :10].clone()
    state["unembed.b_U"] = torch.zeros(10)
    with pytest.raises(UserError, match="its head has 10 outputs; answers of this run are tokens up to 10"):
        started(save(state, tmp_path / "b.pth"), TRANSFORMER | DEMO, WITHOUT_OPERATOR)


@pytest.mark.parametrize("network", [{"layers": 1}, {"norm": "none", "layers": 2}])
def test_a_bias_of_the_head_moves_to_the_bias_before_it(network: dict[str, Any], tmp_path: Path) -> None:
    run = run_of(network)
    state = to_transformer_lens(run)[1]
    bias = torch.linspace(-1, 1, 13)
    state["unembed.b_U"] = bias
    tokens = run.data.tokens(run.operands_NK)
    other = started(save(state, tmp_path / "a.pth"), TRANSFORMER | network)
    torch.testing.assert_close(other.model(tokens), run.model(tokens) + bias, atol=1e-5, rtol=1e-5)


def test_a_head_with_a_bias_and_outputs_for_answers_takes_the_head_as_it_is(tmp_path: Path) -> None:
    given = {"data": WITHOUT_OPERATOR, "model": {"network": TRANSFORMER | DEMO | {"head_bias": True},
                                                 "outputs": "answers"}}  # fmt: skip
    state = lens_state(DEMO, {"operator_token": False})
    state["unembed.W_U"] = state["unembed.W_U"][:, :11].clone()
    state["unembed.b_U"] = torch.linspace(-1, 1, 11)
    options = options_of(given | {"init_from": str(save(state, tmp_path / "a.pth", d_vocab=12, d_vocab_out=11))})
    module, data = build(options)
    set_initial_weights(module, data, Config("fit", options))
    assert torch.equal(module.network.head.weight[0], state["unembed.W_U"])
    assert torch.equal(module.network.head.bias[0, 0], state["unembed.b_U"])
    options["init_from"] = str(save(lens_state(DEMO, {"operator_token": False}), tmp_path / "b.pth"))
    with pytest.raises(UserError, match=r"\(16, 11\) is expected with model.outputs answers; vocabulary may do"):
        set_initial_weights(module, data, Config("fit", options))


@pytest.mark.parametrize("network", [DEMO, {"normalization": "rms", "bias": "feedforward"}])
def test_a_bias_of_the_head_that_no_other_can_hold_is_refused(network: dict[str, Any], tmp_path: Path) -> None:
    path = save(lens_state(network) | {"unembed.b_U": torch.linspace(-1, 1, 13)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"'unembed\.b_U' is not zero, but the head of this run's model has no bias"):
        started(path, TRANSFORMER | network)
    narrow = {"layers": 1, "width": 8}
    path = save(lens_state(narrow) | {"unembed.b_U": torch.linspace(-1, 1, 13).square()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"no other bias can hold it"):
        started(path, TRANSFORMER | narrow)


def test_more_positions_other_types_and_buffers_do_not_matter(tmp_path: Path) -> None:
    run = run_of({})
    state = {name: weight.double() for name, weight in to_transformer_lens(run)[1].items()}
    state["pos_embed.W_pos"] = torch.cat([state["pos_embed.W_pos"], torch.ones(3, 16, dtype=torch.float64)])
    state |= {
        "blocks.0.attn.mask": torch.ones(7, 7, dtype=torch.bool),
        "blocks.0.attn.IGNORE": torch.tensor(-torch.inf),
    }
    path, tokens = save(state, tmp_path / "a.pth", n_ctx=7, act_fn="relu"), run.data.tokens(run.operands_NK)
    assert torch.equal(started(path, TRANSFORMER).model(tokens), run.model(tokens))
    wide = started(path, TRANSFORMER, precision="64-true").model
    assert wide.embedding.dtype == torch.float64
    torch.testing.assert_close(wide(tokens).float(), run.model(tokens), atol=1e-5, rtol=1e-5)


def test_settings_of_a_class_that_is_not_here_are_read_as_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published form holds an object of TransformerLens's, which is neither imported nor run."""
    module = ModuleType("transformer_lens.HookedTransformerConfig")
    exec("class HookedTransformerConfig: pass", vars(module))
    config = vars(module)["HookedTransformerConfig"]()
    vars(config).update(normalization_type="LN", act_fn="relu", dtype=torch.float32, device="cuda", attn_only=False)
    state, path = lens_state({}), tmp_path / "a.pth"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformer_lens", ModuleType("transformer_lens"))
        patch.setitem(sys.modules, module.__name__, module)
        torch.save({"model": state, "config": config, "train_losses": [0.1] * 100, "checkpoints": [state] * 20}, path)
        vars(config).update(act_fn="gelu")
        torch.save({"model": state, "config": config}, tmp_path / "gelu.pth")
    assert torch.equal(started(path, TRANSFORMER).model.embedding[0], state["embed.W_E"])
    with pytest.raises(UserError, match=r"its act_fn is 'gelu', but model.network.activation is relu; gelu would do"):
        started(tmp_path / "gelu.pth", TRANSFORMER)


def changed(state: dict[str, Tensor], **parts: Tensor | None) -> dict[str, Tensor]:
    new = state | {name.replace("__", "."): part for name, part in parts.items() if part is not None}
    return {name: part for name, part in new.items() if parts.get(name.replace(".", "__"), part) is not None}


ONES = torch.ones(16)
UNFIT: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"layers": 1}, {}, r"those of model.network.layers 2; this run's is 1"),
    ({"width": 8}, {}, r"those of model.network.width 16; this run's is 8"),
    ({"heads": 2}, {}, r"those of model.network.heads 4; this run's is 2"),
    ({"feedforward": 32}, {}, r"those of model.network.feedforward 64; this run's is 32"),
    ({"norm": "none"}, {}, "it has layer norms, this run's model has no norms; model.network.norm pre would do"),
    ({"normalization": "rms"}, {}, "it has layer norms, this run's model has RMS norms"),
    ({"norm": "post"}, {}, "only pre or none, but model.network.norm is post"),
    ({"norm": "stream"}, {}, "only pre or none, but model.network.norm is stream"),
    ({"positions": "rotary"}, {}, "model.network.positions is rotary"),
    ({"positions": "sinusoidal"}, {}, "model.network.positions learned would do"),
    ({"tied": True}, {}, "model.network.tied false would do"),
    ({"bias": False}, {}, "'blocks.0.attn.b_Q' is not zero, but model.network.bias is False; true would do"),
    ({"bias": "norms"}, {}, "'blocks.0.attn.b_Q' is not zero"),
    ({"class_path": "MLP"}, {}, "but model.network is MLP"),
    ({}, {"blocks__1__mlp__W_out": None}, "'blocks.1.mlp.W_out' is missing; this run's has shape \\(64, 16\\)"),
    ({}, {"blocks__0__mlp__W_in": None}, "'blocks.0.mlp.W_in' is missing"),
    (
        {},
        {"blocks__1__attn__W_K": torch.ones(2, 16, 4)},
        "has shape \\(2, 16, 4\\), this run's has shape \\(4, 16, 4\\)",
    ),
    ({}, {"blocks__1__mlp__W_gate": torch.ones(16, 64)}, "the weight 'blocks.1.mlp.W_gate', for which"),
    (
        {},
        {"pos_embed__W_pos": torch.ones(3, 16)},
        "'pos_embed.W_pos' is of shape \\(3, 16\\); this run's has shape \\(4, 16",
    ),
    (
        {},
        {"embed__W_E": torch.ones(12, 16)},
        "is of 12 tokens; this run's vocabulary has 13 .*data.operator_token false",
    ),
    ({}, {"unembed__W_U": torch.ones(16, 14)}, "'unembed.W_U' has shape \\(16, 14\\); \\(16, 13\\) is expected"),
    ({}, {"final": torch.ones(3)}, "the weight 'final', for which"),
    ({}, {"ln_final__w": ONES * torch.nan}, "'ln_final.w' is not of finite numbers"),
    ({}, {"ln_final__w": torch.ones(16, dtype=torch.int64)}, "'ln_final.w' is not of finite numbers"),
]


@pytest.mark.parametrize(("network", "parts", "words"), UNFIT)
def test_what_does_not_fit_is_refused_by_name(
    network: dict[str, Any], parts: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = save(changed(lens_state({}), **parts), tmp_path / "a.pth")
    own = network if "class_path" in network else TRANSFORMER | network
    with pytest.raises(UserError, match=f"--init_from .*{words}"):
        started(path, own)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"attention_dir": "bidirectional"},
            "its attention_dir is 'bidirectional'; a network here is as with 'causal'",
        ),
        ({"eps": 1e-6}, "its eps is 1e-06"),
        ({"act_fn": "silu"}, "its act_fn is 'silu'"),
        ({"use_attn_scale": False}, "its use_attn_scale is False"),
        ({"attn_scale": 1.0, "d_head": 4}, "its attn_scale is 1.0"),
        ({"parallel_attn_mlp": True}, "its parallel_attn_mlp is True"),
    ],
)
def test_settings_that_compute_something_else_are_refused(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        started(save(lens_state({}), tmp_path / "a.pth", **settings), TRANSFORMER)


def test_folded_norms_have_gains_of_one(tmp_path: Path) -> None:
    run = run_of({"layers": 1})
    with torch.no_grad():
        for name, weight in run.model.named_parameters():
            if "norm" in name:
                weight.fill_(float(name.endswith("gain")))
    state = {
        name: part for name, part in to_transformer_lens(run)[1].items() if ".ln" not in name and "ln_" not in name
    }
    path, tokens = save(state, tmp_path / "a.pth", normalization_type="LNPre"), run.data.tokens(run.operands_NK)
    assert torch.equal(started(path, TRANSFORMER | {"layers": 1}).model(tokens), run.model(tokens))
    with pytest.raises(
        UserError, match=r"it has no norms, this run's model has layer norms; model.network.norm none would"
    ):
        started(save(state, tmp_path / "b.pth"), TRANSFORMER | {"layers": 1})


class Evil:
    def __reduce__(self) -> Any:
        return (open, ("/tmp/never-written-by-a-checkpoint", "w"))


@pytest.mark.parametrize("kind", ["code", "text", "pickle", "numbers", "nothing", "empty", "compressed", "cut"])
def test_files_of_other_kinds_are_refused_without_running_them(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    contents: dict[str, Any] = {"code": {"model": lens_state({}), "config": Evil()}, "numbers": [1, 2], "nothing": {}}
    if kind in contents:
        torch.save(contents[kind], path)
    else:
        torch.save(lens_state({}), path)
        bytes_of = {"text": b"hello", "pickle": pickle.dumps({"a": 1}), "empty": b"", "cut": path.read_bytes()[:-100]}
        if kind == "compressed":
            import zipfile

            with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "b", "w", zipfile.ZIP_DEFLATED) as packed:
                for entry in whole.namelist():
                    packed.writestr(entry, whole.read(entry))
            path = tmp_path / "b"
        else:
            path.write_bytes(bytes_of[kind])
    with pytest.raises(UserError, match=r"--init_from '.*': it") as error:
        started(path, TRANSFORMER)
    assert "\n" not in str(error.value)
    assert not Path("/tmp/never-written-by-a-checkpoint").exists()


def test_a_run_of_a_file_is_trained_recorded_and_resumed(command: Command, tmp_path: Path) -> None:
    network = {"layers": 2, "width": 16, "heads": 2}
    run = run_of(network)
    export(run, "transformer_lens", tmp_path / "lens.pt")
    start = ["fit", *TINY, "--init_from", "lens.pt", "--experiment", "e", "--checkpoint.interval", "6"]
    assert command(*start, "--run", "a", "--trainer.max_steps", "6")[0] == 0
    first = load_run("checkpoints/e/a/step=0000000.ckpt")
    assert all(torch.equal(part, run.model.state_dict()[name]) for name, part in first.model.state_dict().items())
    assert first.config["init_from"] == "lens.pt"
    assert command(*start, "--run", "b", "--trainer.max_steps", "12")[0] == 0
    (tmp_path / "lens.pt").unlink()
    more = ["--experiment", "e", "--run", "a", "--ckpt_path", "last", "--trainer.max_steps", "12"]
    assert command("fit", *more)[0] == 0
    one, other = (load(Path(f"checkpoints/e/{name}/last.ckpt"))["state_dict"] for name in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["network.head.weight"], run.model.state_dict()["head.weight"])
    export(replace(run, config=run.config), "transformer_lens", tmp_path / "lens.pt")
    for options, words in (
        (["--data.modulus", "7"], "its vocabulary has 13 tokens, this run's has 9"),
        (["--data.formula", "x + y + z"], "its equations have 4 input tokens, this run's have 6"),
        (["--model.network.layers", "1"], "those of model.network.layers 2; this run's is 1"),
    ):
        status, _, err = command(*start, "--run", "c", *options)
        assert status == 2
        assert err.count("\n") == 1
        assert words in err
    assert not Path("lightning_logs/e/c").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["LN", "RMS", None])
def test_a_hooked_transformer_goes_on_here(kind: str | None, tmp_path: Path) -> None:
    lens = pytest.importorskip("transformer_lens")
    config = lens.HookedTransformerConfig(
        n_layers=2, d_model=16, d_head=4, n_heads=4, d_mlp=24, n_ctx=3, d_vocab=12, d_vocab_out=11, act_fn="relu",
        normalization_type=kind, seed=3, init_weights=True, device="cpu",
    )  # fmt: skip
    model = lens.HookedTransformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name != "unembed.b_U" or kind != "RMS":
                weight += 0.05 * torch.randn(weight.shape, generator=generator)
    torch.save(
        {"model": model.state_dict(), "config": model.cfg, "checkpoints": [model.state_dict()]}, tmp_path / "a.pth"
    )
    torch.save(model.state_dict(), tmp_path / "b.pth")
    network = {"layers": 2, "width": 16, "heads": 4, "feedforward": 24, "class_path": "Transformer"}
    network |= {"norm": "none"} if kind is None else {"normalization": {"LN": "layer", "RMS": "rms"}[kind]}
    for name in ("a.pth", "b.pth"):
        run = started(tmp_path / name, network, WITHOUT_OPERATOR)
        tokens = run.data.tokens(run.operands_NK)
        wanted = model(tokens[0])[:, -1]
        torch.testing.assert_close(run.model(tokens)[0, :, 0, :11], wanted, atol=1e-5, rtol=1e-5)
        assert run.predict(run.operands_NK) == [str(int(number)) for number in wanted.argmax(-1)]
