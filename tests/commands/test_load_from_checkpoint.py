"""Lightning's ``load_from_checkpoint`` works on the module; the names of weights in a checkpoint are as documented."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY
from torch.utils.data import DataLoader
from training_here import train_here

from grok_lightning import GrokModule, load_run
from grok_lightning.build import build
from grok_lightning.errors import UserError
from grok_lightning.records.checkpoint import load

Command = Callable[..., tuple[int, str, str]]
PROJECT = Path(__file__).parents[2]
SHIPPED = sorted((PROJECT / "checkpoints" / "reference").glob("*.ckpt"))
STEPS = ["--trainer.max_steps", "2", "--experiment", "e", "--run", "a", "--trainer.enable_progress_bar", "false"]
SMALL = ["--data.batch_size", "16", "--model.network.width", "8", "--trainer.accelerator", "cpu", *STEPS]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_checkpoint_gives_the_module_of_its_run(path: Path) -> None:
    module, run = GrokModule.load_from_checkpoint(path, map_location="cpu"), load_run(path)
    assert type(module) is GrokModule
    tokens = next(iter(DataLoader(run.data.tokens(run.operands_NK[:9])[0], 9)))[None]
    assert torch.equal(module.network(tokens), run.model(tokens))


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        (["--data.modulus", "7", "--trainer.precision", "64-true"], torch.float64),
        (["--data.modulus", "7", "--trainer.precision", "bf16-true"], torch.bfloat16),
        (["--data", "PermutationDataModule", "--data.degree", "3"], torch.float32),
        (["--data", "TextDataModule", "--data.strings", "abc"], torch.float32),
        (["--data.modulus", "7", "--model.filters", "[GrokfastEMA]", "--model.weight_norm", "initial"], torch.float32),
    ],
)
def test_every_kind_of_run(command: Command, options: list[str], dtype: torch.dtype) -> None:
    assert command("fit", *SMALL, *options)[0] == 0
    module = GrokModule.load_from_checkpoint("checkpoints/e/a/last.ckpt")
    saved = load(Path("checkpoints/e/a/last.ckpt"))["state_dict"]
    assert module.network.embedding.dtype == dtype == saved["network.embeddings.tokens.weight"].dtype
    assert all(torch.equal(weight, saved[name]) for name, weight in module.state_dict().items())


def test_a_run_of_a_sweep(command: Command, write_yaml: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)
    fixed = {"data.modulus": 7, "data.batch_size": 16, "model.network.width": 8, "trainer.max_steps": 2}
    path = write_yaml({"set": fixed, "grid": {"seed_everything": [3, 4]}}, "s.yaml")
    assert command("sweep", path, "--workers", "1", "--stack-size", "2")[0] == 0
    files = sorted(Path("checkpoints/s").glob("*/last.ckpt"))
    assert sorted(GrokModule.load_from_checkpoint(str(file)).seeds[0] for file in files) == [3, 4]


def test_options_take_the_place_of_the_checkpoints() -> None:
    path = SHIPPED[0]
    module = GrokModule.load_from_checkpoint(path, warmup=0, loss="mse", network={"dropout": 0.5})
    assert (module.warmup, module.loss, module.network.dropout) == (0, "mse", 0.5)
    wanted = GrokModule.load_from_checkpoint(path)
    assert torch.equal(module.network.embedding, wanted.network.embedding)
    assert (wanted.loss, wanted.network.dropout) == ("cross_entropy", 0.0)


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    path = SHIPPED[0]
    for options, words in (
        ({"warmpu": 0}, "warmpu is no option of a module; did you mean warmup"),
        ({"seeds": [1]}, "seeds is no option"),
        ({"map_location": "nowhere"}, "map_location is 'nowhere'; a device is expected"),
        ({"hparams_file": "a.yaml"}, "hparams_file is 'a.yaml', but a checkpoint holds its options"),
        ({"warmup": -1}, "model.warmup is -1"),
    ):
        with pytest.raises(UserError, match=words):
            GrokModule.load_from_checkpoint(path, **options)
    with path.open("rb") as file, pytest.raises(UserError, match="the path of a file is expected"):
        GrokModule.load_from_checkpoint(file)  # type: ignore[arg-type]
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="was written by another program"):
        GrokModule.load_from_checkpoint(tmp_path / "other.ckpt")


def test_classes_are_imported_only_if_they_are_trusted(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "docs" / "howto"))
    bag = ["--model.network", "mine.Bag", "--model.network.width", "8", "--data.modulus", "7"]
    assert command("fit", *TINY[4:6], *STEPS, *bag)[0] == 2  # layers is no option of it
    assert command("fit", *STEPS, *bag)[0] == 0
    own, copied = Path("checkpoints/e/a/last.ckpt"), tmp_path / "copied.ckpt"
    copied.write_bytes(own.read_bytes())
    assert type(GrokModule.load_from_checkpoint(own).network).__name__ == "Bag"
    with pytest.raises(UserError, match="would be run; if you trust the file"):
        GrokModule.load_from_checkpoint(copied)
    assert type(GrokModule.load_from_checkpoint(copied, trust=True).network).__name__ == "Bag"


BLOCK = """
attention.query.weight (1, 8, 8)    attention.query.bias (1, 1, 8)
attention.key.weight (1, 8, 8)      attention.key.bias (1, 1, 8)
attention.value.weight (1, 8, 8)    attention.value.bias (1, 1, 8)
attention.out.weight (1, 8, 8)      attention.out.bias (1, 1, 8)
feedforward.inner.weight (1, 8, 32) feedforward.inner.bias (1, 1, 32)
feedforward.outer.weight (1, 32, 8) feedforward.outer.bias (1, 1, 8)
attention_norm.gain (1, 1, 8)       attention_norm.bias (1, 1, 8)
feedforward_norm.gain (1, 1, 8)     feedforward_norm.bias (1, 1, 8)
"""
CELL = (
    "from_input.weight (1, 8, {g}) from_input.bias (1, 1, {g}) "
    "from_hidden.weight (1, 8, {g}) from_hidden.bias (1, 1, {g})"
)
NAMES = {
    "Transformer": "embeddings.tokens.weight (1, 9, 8) embeddings.positions.weight (1, 4, 8) "
    + BLOCK.replace("attention", "layers.0.attention").replace("feedforward", "layers.0.feedforward")
    + " final_norm.gain (1, 1, 8) final_norm.bias (1, 1, 8) head.weight (1, 8, 9)",
    "MLP": "embeddings.tokens.weight (1, 9, 8) feedforward.0.weight (1, 32, 6) feedforward.0.bias (1, 1, 6) "
    "feedforward.1.weight (1, 6, 5) feedforward.1.bias (1, 1, 5) head.weight (1, 5, 9) head.bias (1, 1, 9)",
    "ResidualMLP": "embeddings.tokens.table.weight (1, 9, 3) embeddings.tokens.map.weight (1, 3, 8) "
    "feedforward.0.weight (1, 32, 8) feedforward.0.bias (1, 1, 8) layers.0.norm.gain (1, 1, 8) layers.0.norm.bias "
    "(1, 1, 8) layers.0.feedforward.inner.weight (1, 8, 6) layers.0.feedforward.inner.bias (1, 1, 6) "
    "layers.0.feedforward.outer.weight (1, 6, 8) layers.0.feedforward.outer.bias (1, 1, 8) head.weight (1, 8, 9) "
    "head.bias (1, 1, 9)",
    "LSTM": "embeddings.tokens.weight (1, 9, 8) "
    + CELL.format(g=32).replace("from", "recurrent.0.from")
    + " head.weight (1, 8, 9) head.bias (1, 1, 9)",
    "GRU": "embeddings.tokens.weight (1, 9, 8) "
    + CELL.format(g=24).replace("from", "recurrent.0.from")
    + " head.weight (1, 8, 9) head.bias (1, 1, 9)",
}
OPTIONS = {
    "Transformer": {"layers": 1, "width": 8, "heads": 2},
    "MLP": {"width": 8, "hidden": [6, 5]},
    "ResidualMLP": {"layers": 1, "width": 8, "feedforward": 6, "embedding_rank": 3},
    "LSTM": {"layers": 1, "width": 8, "hidden": 8},
    "GRU": {"layers": 1, "width": 8, "hidden": 8},
}


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_weights_are_those_of_the_documentation(name: str) -> None:
    """A checkpoint that was saved before must load: these names never change."""
    from test_export import options_of

    network = {"class_path": name, **OPTIONS[name]}
    module, _ = build(options_of({"data": {"modulus": 7}, "model": {"network": network}}))
    found = {key: tuple(weight.shape) for key, weight in module.state_dict().items()}
    words = NAMES[name].replace(", ", ",").split()
    wanted = {
        f"network.{key}": tuple(map(int, shape[1:-1].split(","))) for key, shape in zip(*[iter(words)] * 2, strict=True)
    }
    assert found == wanted
    page = (PROJECT / "docs" / "reference" / "records.md").read_text(encoding="utf-8")
    for key in found:
        own = re.sub(r"\.\d+\.", ".i.", key.removeprefix("network."))
        assert f"`{own}`" in page, key
