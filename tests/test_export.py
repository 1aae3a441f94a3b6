"""A network that was exported computes what the run's own network computes."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from grok_lightning.__main__ import main
from grok_lightning.build import build
from grok_lightning.errors import UserError
from grok_lightning.export import export, to_transformer_lens
from grok_lightning.models.plain import PlainNetwork
from grok_lightning.options.parsing import resolve
from grok_lightning.run import Run

SMALL = {"width": 16, "heads": 4}
NETWORKS: dict[str, dict[str, Any]] = {
    "one layer": {"layers": 1},
    "two layers": {"layers": 2},
    "no norm": {"norm": "none", "bias": False, "layers": 1},
    "rms": {"normalization": "rms", "activation": "gelu", "bias": "feedforward"},
    "sinusoidal, tied": {"positions": "sinusoidal", "tied": True},
    "rotary": {"positions": "rotary"},
    "post": {"norm": "post", "activation": "swiglu"},
    "factored, head bias": {"embedding_rank": 5, "head_bias": True, "layers": 1, "initialization": "multihead"},
    "MLP": {"class_path": "MLP"},
    "residual": {"class_path": "ResidualMLP", "layers": 2, "width": 8, "embedding_rank": 3},
    "LSTM": {"class_path": "LSTM"},
}
IN_TRANSFORMER_LENS = ("one layer", "two layers", "no norm", "rms", "sinusoidal, tied")


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    return resolve(["fit", "--trainer.precision", "32-true", "--threads", "1"], given).options


def run_of(network: dict[str, Any], data: dict[str, Any] | None = None) -> Run:
    """A run as it is before its first step, its weights disturbed so that biases and gains are none too."""
    options = network if "class_path" in network else {"class_path": "Transformer", **SMALL, **network}
    config = options_of({"data": {"modulus": 11} | (data or {}), "model": {"network": options}})
    module, data_module = build(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.network.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return Run(module.eval(), data_module, 0, config)


def tokens_of(run: Run) -> torch.Tensor:
    return run.data.tokens(run.operands_NK)[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_plain_network_computes_the_same(name: str) -> None:
    run = run_of(NETWORKS[name])
    plain, tokens_BT = run.plain(), tokens_of(run)
    torch.testing.assert_close(plain(tokens_BT), run.model(tokens_BT[None])[0])
    assert list(plain.state_dict()) == [key for key, _ in run.model.named_parameters()]
    for key, weight in plain.state_dict().items():
        assert weight.shape == run.model.get_parameter(key)[0].squeeze(0).shape


def test_a_plain_network_is_a_copy_of_one_run_of_a_stack_and_can_be_trained() -> None:
    config = options_of({"data": {"modulus": 11}, "model": {"network": {"class_path": "Transformer", **SMALL}}})
    module, data = build(config | {"seed_everything": [3, 4]})
    tokens = data.tokens(data.operands_NK)
    plain = PlainNetwork(module.network, 1)
    torch.testing.assert_close(plain(tokens[1]), module.network(tokens)[1])
    before = module.network.embedding.clone()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.5)
    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(plain(tokens[1])[:, 0], torch.from_numpy(data.operation.results_N))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert torch.equal(module.network.embedding, before)


def test_several_answer_tokens() -> None:
    run = run_of({}, {"tokenizer": "characters"})
    tokens_BT = torch.randint(0, 5, (6, run.data.length))
    assert run.plain()(tokens_BT).shape == (6, run.data.answer_length, run.data.vocabulary_size)
    with pytest.raises(UserError, match="are padded, which it does not mask"):
        to_transformer_lens(run)


def test_torch_files_hold_weights_options_and_vocabulary(tmp_path: Path) -> None:
    run = run_of({})
    export(run, "torch", tmp_path / "deep" / "network.pt")
    content = torch.load(tmp_path / "deep" / "network.pt", weights_only=True)
    assert content["config"] == run.config
    assert content["vocabulary"] == list(run.data.vocabulary)
    plain = run.plain()
    with torch.no_grad():
        for weight in plain.parameters():
            weight.zero_()
    plain.load_state_dict(content["state_dict"])
    torch.testing.assert_close(plain(tokens_of(run)), run.model(tokens_of(run)[None])[0])


@pytest.mark.parametrize("tied", [False, True])
def test_transformer_lens_gets_the_product_of_factors_the_bias_and_the_classes_of_the_head(tied: bool) -> None:
    network = {"class_path": "Transformer", **SMALL, "layers": 1, "embedding_rank": 5, "tied": tied}
    network |= {} if tied else {"head_bias": True}
    config = options_of({"data": {"modulus": 11}, "model": {"network": network, "outputs": "answers"}})
    module, data = build(config)
    run = Run(module.eval(), data, 0, config)
    if not tied:
        module.network.head.bias.data += torch.linspace(-1, 1, 11)
    settings, state = to_transformer_lens(run)
    assert (settings["d_vocab"], settings["d_vocab_out"]) == (13, 11)
    torch.testing.assert_close(state["embed.W_E"], run.model.embedding[0].detach())
    assert state["unembed.W_U"].shape == (16, 11)
    states = run.activations(run.operands_NK)["final_norm"][:, -1]
    logits = states @ state["unembed.W_U"] + state["unembed.b_U"]
    torch.testing.assert_close(logits, run.model(tokens_of(run)[None])[0, :, 0])
    assert state["unembed.b_U"].any() != tied


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("rotary", "model.network.positions is rotary"),
        ("post", "model.network.norm is post"),
        ("MLP", "model.network is MLP"),
    ],
)
def test_what_transformer_lens_has_not_is_refused_by_name(network: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        to_transformer_lens(run_of(NETWORKS[network]))


def test_formats_and_paths_are_checked(tmp_path: Path) -> None:
    run = run_of({})
    with pytest.raises(UserError, match="--format is 'tf'; expected: torch, safetensors"):
        export(run, "tf", tmp_path / "a")
    with pytest.raises(UserError, match="the path of a file is expected"):
        export(run, "torch", tmp_path)


def test_a_record_is_not_written_over_and_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch) -> None:
    run = run_of({})
    for name in ("config.yaml", "metrics.csv", "result.json"):
        (tmp_path / name).write_text("kept")
        with pytest.raises(UserError, match=f"{name}', which is the record of a run; name another file"):
            export(run, "torch", tmp_path / name)
    (tmp_path / "net.pt").write_text("kept")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        export(run, "torch", tmp_path / "net.pt")
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "metrics.csv", "result.json", "net.pt"}
    assert all(path.read_text() == "kept" for path in tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_safetensors(name: str, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    run = run_of(NETWORKS[name])
    export(run, "safetensors", tmp_path / "network.safetensors")
    with safetensors.safe_open(tmp_path / "network.safetensors", "pt") as file:
        assert json.loads(file.metadata()["config"]) == run.config
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    plain = run.plain().state_dict()
    assert weights.keys() == plain.keys()
    assert all(torch.equal(weights[key], plain[key]) for key in plain)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
@pytest.mark.parametrize("name", ["one layer", "rotary", "factored, head bias", "MLP", "residual", "LSTM"])
def test_onnx(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    run = run_of(NETWORKS[name])
    export(run, "onnx", tmp_path / "network.onnx")
    session = runtime.InferenceSession(tmp_path / "network.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["vocabulary"]) == list(run.data.vocabulary)
    for tokens_BT in (tokens_of(run), tokens_of(run)[:1]):
        (logits,) = session.run(None, {"tokens": tokens_BT.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), run.model(tokens_BT[None])[0], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", IN_TRANSFORMER_LENS)
def test_transformer_lens(name: str) -> None:
    lens = pytest.importorskip("transformer_lens")
    run = run_of(NETWORKS[name])
    config, state = to_transformer_lens(run)
    model = lens.HookedTransformer(lens.HookedTransformerConfig(**config))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.endswith(("mask", "IGNORE")) for key in missing)
    logits = model.eval()(tokens_of(run))[:, -1:]
    torch.testing.assert_close(logits, run.model(tokens_of(run)[None])[0], atol=1e-5, rtol=1e-5)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = Path(__file__).parents[1] / "checkpoints" / "reference" / "addition.ckpt"
    assert main(["export", str(shipped), "--output", "a.pt"]) == 0
    assert capsys.readouterr().out == "torch: a.pt\n"
    assert main(["export", str(shipped), "--format", "transformer_lens"]) == 0
    content = torch.load("network.pt", weights_only=True)
    assert content["transformer_lens_config"]["n_layers"] == 1
    assert content["state_dict"]["blocks.0.attn.W_Q"].shape == (4, 128, 32)
    assert main(["export", str(shipped), "--format", "x"]) == 2
    assert main(["export", "none.ckpt"]) == 2


def test_the_ending_says_the_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = str(Path(__file__).parents[1] / "checkpoints" / "reference" / "addition.ckpt")
    for name in ("network.bin", "network"):
        assert main(["export", shipped, "--output", name]) == 2
        words = f"--output is '{name}'; end it with .pt, .safetensors, .onnx, or give --format"
        assert capsys.readouterr().err == f"grok-lightning: {words}\n"
    assert not list(tmp_path.iterdir())
    assert main(["export", shipped, "--output", "network.bin", "--format", "torch"]) == 0
    assert main(["export", shipped, "--output", "A.PT"]) == 0
    assert capsys.readouterr().out == "torch: network.bin\ntorch: A.PT\n"


def test_a_checkpoint_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = Path(__file__).parents[1] / "checkpoints" / "reference" / "addition.ckpt"
    Path("mine.pt").write_bytes(shipped.read_bytes())
    refusal = "grok-lightning: --output is 'mine.pt', which is a checkpoint of a run; name another file\n"
    for words in (["export", str(shipped)], ["predict", "--ckpt_path", str(shipped)]):
        assert main([*words, "--output", "mine.pt"]) == 2
        assert capsys.readouterr().err == refusal
        assert Path("mine.pt").read_bytes() == shipped.read_bytes()
    assert main(["export", str(shipped), "--output", "exported.pt"]) == 0
    assert main(["export", str(shipped), "--output", "exported.pt"]) == 0
