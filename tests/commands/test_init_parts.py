"""A run may take parts of another network's weights: GrokTransfer's embedding into the first factor of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY
from torch import Tensor, nn

from grok_lightning import load_run
from grok_lightning.build import build
from grok_lightning.export import export
from grok_lightning.models import LSTM, MLP, Transformer
from grok_lightning.models.ordinary import build_network
from grok_lightning.models.transfer import list_maps, list_weights, take_parts
from grok_lightning.options.config import Config
from grok_lightning.records.checkpoint import load
from grok_lightning.records.record import read_metrics
from grok_lightning.starting import set_initial_weights

Command = Callable[..., tuple[int, str, str]]
SHARED = [*TINY[:4], *TINY[10:], "--trainer.logger", "false"]
WEAK = [*SHARED, "--model.network", "MLP", "--model.network.width", "4", "--model.network.hidden", "[8]"]
TARGET = [*TINY, "--trainer.logger", "false", "--model.network.embedding_rank", "4"]
FIRST = "network.embeddings.tokens.table.weight"
START = ["--init_from", "checkpoints/e/weak", "--init_parts", "embeddings", "--experiment", "e"]


@pytest.fixture
def weak(command: Command, fitted: Callable[..., None]) -> Command:
    """A directory with a run of a narrow MLP, 20 steps long."""
    fitted(*WEAK, "--trainer.max_steps", "20", "--experiment", "e", "--run", "weak")
    return command


def weights(run: str, experiment: str = "e") -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load(Path(f"checkpoints/{experiment}/{run}/last.ckpt"))["state_dict"]
    return state


def still(command: Command, run: str, *options: str) -> dict[str, torch.Tensor]:
    """The weights of a run that learns nothing."""
    status, _, err = command("fit", *options, "--run", run, "--model.optimizer.lr", "0", "--trainer.max_steps", "1")
    assert (status, err) == (0, "")
    return weights(run)


def test_the_embedding_becomes_the_first_factor_and_all_else_is_as_without(weak: Command) -> None:
    taken, plain = still(weak, "taken", *TARGET, *START), still(weak, "plain", *TARGET, "--experiment", "e")
    assert torch.equal(taken[FIRST], weights("weak")["network.embeddings.tokens.weight"])
    assert not torch.equal(taken[FIRST], plain[FIRST])
    assert taken.keys() == plain.keys()
    assert all(torch.equal(taken[name], plain[name]) for name in plain if name != FIRST)
    named = [*START[:3], "[embeddings.tokens=embeddings.tokens.table]", *START[4:]]
    other = still(weak, "named", *TARGET, *named)
    assert all(torch.equal(taken[name], other[name]) for name in taken)


def test_both_factors_learn_and_decay_and_a_resumed_run_is_the_same_to_the_bit(weak: Command) -> None:
    assert weak("fit", *TARGET, *START, "--run", "whole", "--trainer.max_steps", "12")[0] == 0
    assert weak("fit", *TARGET, *START, "--run", "cut", "--trainer.max_steps", "5")[0] == 0
    Path("checkpoints/e/weak/last.ckpt").unlink()
    more = ["--experiment", "e", "--run", "cut", "--ckpt_path", "last", "--trainer.max_steps", "12"]
    assert weak("fit", *more)[0] == 0
    whole, cut = weights("whole"), weights("cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert (
        Path("lightning_logs/e/whole/metrics.csv").read_text() == Path("lightning_logs/e/cut/metrics.csv").read_text()
    )
    status, _, err = weak("fit", *more, "--init_parts", "head")
    assert (status, err.count("\n")) == (2, 1)
    assert "--init_parts is 'head', but the checkpoint" in err
    run = load_run("checkpoints/e/whole")
    assert run.config["init_parts"] == "embeddings"
    begun = still(weak, "begun", *TARGET, "--experiment", "e")
    for name in ("table", "map"):
        key = f"network.embeddings.tokens.{name}.weight"
        assert not torch.equal(whole[key], begun[key])


NO_FIT = [
    (["--init_parts", "attention"], "--init_parts names 'attention', of which it has no weight; it has embeddings, "),
    (["--init_parts", "[]"], "--init_parts is []; give a part such as embeddings"),
    (["--init_parts", "=head"], "--init_parts names '', of which"),
    (["--init_parts", "[embeddings, embeddings.tokens]"], "has two weights for 'embeddings.tokens.table.weight'"),
    (["--init_parts", "hea"], "--init_parts names 'hea', of which"),
    (["--init_parts", "feedforward"], "'feedforward.0.weight' would be 'feedforward.0.weight', which this run's model"),
    (["--init_parts", "head"], "'head.weight' has shape (8, 13), this run's 'head.weight' has shape (16, 13)"),
    (["--model.network.embedding_rank", "5"], "has shape (13, 4), this run's 'embeddings.tokens.table.weight' has "
     "shape (13, 5); model.network.embedding_rank 4 would take it as the first factor"),
    (["--model.network.embedding_rank", "null"], "this run's 'embeddings.tokens.weight' has shape (13, 16); "
     "model.network.embedding_rank 4"),
    (["--data.modulus", "7"], "its vocabulary has 13 tokens, this run's has 9"),
]  # fmt: skip


def test_what_does_not_fit_is_refused_in_one_line(weak: Command) -> None:
    for options, message in NO_FIT:
        status, _, err = weak("fit", *TARGET, *START, "--run", "no", *options)
        assert (status, err.count("\n")) == (2, 1), err
        assert message in err
        assert not Path("lightning_logs/e/no").exists()
    status, _, err = weak("fit", *TARGET, "--init_parts", "head", "--experiment", "e", "--run", "no")
    assert (status, err) == (
        2,
        "grok-lightning: --init_parts is 'head', but there is no --init_from to take them from\n",
    )


def test_of_equations_of_another_length_the_tokens_count_alone(weak: Command) -> None:
    longer = still(weak, "longer", *TARGET, *START, "--data.formula", "x + y + z")
    assert torch.equal(longer[FIRST], weights("weak")["network.embeddings.tokens.weight"])


@pytest.mark.parametrize("form", ["torch", "transformer_lens"])
def test_parts_of_files_of_others(weak: Command, form: str) -> None:
    network = [*TINY[4:10], "--experiment", "e"]
    assert weak("fit", *SHARED, *network, "--run", "source", "--trainer.max_steps", "1")[0] == 0
    run = load_run("checkpoints/e/source")
    export(run, form, Path("source.pt"))
    lens = form == "transformer_lens"
    parts = "[embed.W_E=embeddings.tokens.weight]" if lens else "[embeddings, layers.1=layers.0]"
    start = ["--init_from", "source.pt", "--init_parts", parts, "--seed_everything", "5"]
    begun = still(weak, "begun", *SHARED, *network, *start)
    source = weights("source")
    assert torch.equal(begun["network.embeddings.tokens.weight"], source["network.embeddings.tokens.weight"])
    if not lens:
        name = "feedforward.inner.bias"
        assert torch.equal(begun[f"network.layers.0.{name}"], source[f"network.layers.1.{name}"])
        assert torch.equal(begun["network.embeddings.positions.weight"], source["network.embeddings.positions.weight"])
    assert not torch.equal(begun["network.head.weight"], source["network.head.weight"])


@pytest.mark.slow  # workers of two sweeps
def test_all_runs_of_a_stack_take_them_and_a_run_of_a_stack_equals_its_single_run(weak: Command) -> None:
    network = {"class_path": "Transformer", "layers": 1, "width": 16, "heads": 2}
    fixed = {
        "data.modulus": 11, "data.batch_size": 16, "trainer.max_steps": 20, "evaluation.every": 10,
        "trainer.precision": "32-true", "trainer.accelerator": "cpu", "model.compile": False,
    }  # fmt: skip
    paired = {"init_from": [None, "checkpoints/e/weak"], "init_parts": [None, "embeddings"],
              "model.network": [network, network | {"embedding_rank": 4}]}  # fmt: skip
    for name in ("stacked", "single"):
        content = {"set": fixed, "zip": paired, "grid": {"seed_everything": [0, 1]}}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
        size = 2 if name == "stacked" else 1
        assert weak("sweep", f"{name}.yaml", "--workers", 1, "--stack-size", size, "--events", "off")[0] == 0
    found = {path.name: read_metrics(path) for path in Path("lightning_logs/single").glob("[!.]*")}
    assert len(found) == 4
    for name, rows in found.items():
        stacked = read_metrics(Path("lightning_logs/stacked", name))
        assert [row["val/loss"] for row in stacked] == pytest.approx([row["val/loss"] for row in rows], rel=1e-5)
    first = [weights(name, "stacked") for name in found if "init_from" in name and "weak" in name]
    assert len(first) == 2


def test_the_whole_weights_of_a_run_start_every_run_of_a_stack(weak: Command) -> None:
    options = load_run("checkpoints/e/weak").config | {"seed_everything": [0, 1], "init_from": "checkpoints/e/weak"}
    module, data = build(options)
    set_initial_weights(module, data, Config("fit", options))
    for name, weight in module.network.state_dict().items():
        for run in range(2):
            assert torch.equal(weight[run], weights("weak")[f"network.{name}"][0])


def test_a_product_is_multiplied_out_where_the_factors_differ() -> None:
    shape = (9, 4, [0, 1])
    theirs = LSTM(*shape, width=6, hidden=4, embedding_rank=3)
    source = list_weights(theirs)
    product = source["embeddings.tokens.table.weight"] @ source["embeddings.tokens.map.weight"]
    torch.testing.assert_close(product, theirs.embedding[0])
    plain, factored, same = (MLP(*shape, width=6, hidden=[4], embedding_rank=rank) for rank in (None, 6, 3))
    for network in (plain, factored, same):
        take_parts(source, ["embeddings"], network)
    for run in range(2):
        assert torch.equal(plain.embedding[run], product)
        assert torch.equal(factored.embeddings["tokens"].table.weight[run], product)
        assert torch.equal(same.embeddings["tokens"].table.weight[run], source["embeddings.tokens.table.weight"])
        assert torch.equal(same.embeddings["tokens"].map.weight[run], source["embeddings.tokens.map.weight"])


def test_a_lens_file_asks_for_one_embedding_matrix(weak: Command) -> None:
    network = [*TINY[4:10], "--experiment", "e"]
    assert weak("fit", *SHARED, *network, "--run", "source", "--trainer.max_steps", "1")[0] == 0
    export(load_run("checkpoints/e/source"), "transformer_lens", Path("lens.pt"))
    status, _, err = weak("fit", *TARGET, "--init_from", "lens.pt", "--experiment", "e", "--run", "no")
    assert (status, err.count("\n")) == (2, 1)
    assert "its embedding is one matrix, but model.network.embedding_rank asks for two" in err


def test_nothing_is_taken_if_something_does_not_fit() -> None:
    theirs = list_weights(Transformer(9, 4, [3], width=8, heads=2, layers=1))
    network = Transformer(9, 4, [0], width=8, heads=2, layers=1, feedforward=16)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"'layers\.0\.feedforward\.inner\.weight' has shape"):
        take_parts(theirs, ["embeddings", "layers.0"], network)
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())
    take_parts(theirs, ["head"], network)
    assert torch.equal(network.head.weight[0], theirs["head.weight"])
    assert torch.equal(network.embedding, before["embeddings.tokens.weight"])


def test_a_linear_map_computes_the_same_in_a_module_of_torch_and_in_a_network_here() -> None:
    square = build_network(Square, 9, 4, [0])
    ours = Transformer(9, 4, [3], width=8, heads=2, layers=1, bias=False)
    before = list_weights(ours)["layers.0.attention.query.weight"].clone()
    for source, network, part, place in (
        (square, ours, "hidden=layers.0.attention.query", "layers.0.attention.query.weight"),
        (ours, square, "layers.0.attention.key=hidden", "hidden.weight"),
    ):
        take_parts(list_weights(source), [part], network, list_maps(source))
        assert torch.equal(list_weights(network)[place], list_weights(source)[f"{part.split('=')[0]}.weight"].mT)
    assert not torch.equal(before, list_weights(ours)["layers.0.attention.query.weight"])


class Square(nn.Module):
    """Has a square matrix."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed, self.hidden = nn.Embedding(vocabulary, 8), nn.Linear(8, 8, bias=False)
        self.last = nn.Linear(8, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.last(self.hidden(self.embed(tokens)).relu())
        return logits
