"""Ablations against hooks, and against a network whose embedding is changed by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small import load_small, look, sharpen

from grok_lightning.figures.elements import NothingToShow
from grok_lightning.inspection import ablation
from grok_lightning.inspection.basis import find_basis
from grok_lightning.run import Run

Trained = Callable[..., Path]


def scores(run: Run, rows: np.ndarray) -> tuple[float, float]:
    """Accuracy and loss of some rows, by the network's own forward."""
    logits = run.model(run.data.tokens(run.operands_NK[rows]))[0, :, 0].double()
    answers = torch.from_numpy(run.results_N[rows])
    right = (logits.argmax(-1) == answers).double().mean()
    return float(right), float(torch.nn.functional.cross_entropy(logits, answers))


@pytest.mark.parametrize("options", [(), ("--model.network.norm", "post"), ("--model.network.bias", "false")])
def test_heads_and_feedforward_parts_are_what_hooks_leave_out(
    options: tuple[str, ...], trained_once: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_small(trained_once, monkeypatch, *options)
    sharpen(run, 2)
    before = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    names, losses = ablation.ablate_parts(look(run))
    assert names == [*(f"layer {layer}, head {head}" for layer in (0, 1) for head in (0, 1)),
                     "layer 0, feed-forward", "layer 1, feed-forward"]  # fmt: skip
    assert all(torch.equal(weight, before[name]) for name, weight in run.model.state_dict().items())

    def without_head(head: int, pattern: torch.Tensor) -> None:
        pattern[:, head] = 0

    functions = [
        *((f"layers.{layer}.attention.pattern", lambda value, head=head: without_head(head, value))
          for layer in (0, 1) for head in (0, 1)),
        *((f"layers.{layer}.feedforward", torch.zeros_like) for layer in (0, 1)),
    ]  # fmt: skip
    for number, (part, function) in enumerate(functions):
        with run.hooks({part: function}), torch.no_grad():
            for split, rows in enumerate((run.data.splits[0].train, run.data.splits[0].val)):
                accuracy, loss = scores(run, rows)
                assert losses.accuracy[number, split] == pytest.approx(accuracy), names[number]
                assert losses.loss[number, split] == pytest.approx(loss, rel=1e-4), names[number]
    assert np.isnan(losses.accuracy[:, 2]).all()
    assert losses.loss[:, 1].std() > 0.01


@pytest.mark.parametrize("network", ["Transformer", "tied", "one-hot", "LSTM"])
def test_a_frequency_is_taken_out_of_the_embedding(
    network: str, trained_once: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "Transformer": (), "tied": ("--model.network.tied", "true"), "LSTM": ("--model.network", "LSTM"),
        "one-hot": ("--model.network", "MLP", "--model.network.inputs", "one-hot", "--model.network.hidden", "[24]"),
    }[network]  # fmt: skip
    if network in ("LSTM", "one-hot"):
        monkeypatch.setattr("small.SMALL", _without_sizes())
    run = load_small(trained_once, monkeypatch, *options)
    sharpen(run, 2)
    subject, basis = look(run), find_basis(run.data)
    losses = ablation.ablate_components(subject, basis, [2, 5])
    wave = 2 * np.pi * np.arange(11)[:, None] * np.arange(11) / 11
    for number, frequency in enumerate((2, 5)):
        part = 2 / 11 * np.cos(frequency * (wave[1][:, None] - wave[1][None]))  # projection on cosine and sine
        kept = torch.from_numpy(np.eye(11) - part).float()
        weights = {name: weight.clone() for name, weight in run.model.state_dict().items()}
        with torch.no_grad():
            if network == "one-hot":
                first = run.model.feedforward[0].weight[0]
                length = run.data.length
                for place in range(length):
                    table = first[place * len(first) // length :][:11]
                    table.copy_(kept @ table)
            else:
                run.model.embedding[0, :11] = kept @ run.model.embedding[0, :11]
            accuracy, loss = scores(run, run.data.splits[0].val)
        run.model.load_state_dict(weights)
        assert losses.accuracy[number, 1] == pytest.approx(accuracy)
        assert losses.loss[number, 1] == pytest.approx(loss, rel=1e-4)
    assert abs(losses.loss - ablation.measure_whole(subject).loss)[:, :2].max() > 1e-3


def _without_sizes() -> list[str]:
    from small import SMALL

    pairs = list(zip(SMALL[::2], SMALL[1::2], strict=True))
    return [word for pair in pairs if not pair[0].startswith("--model.network.") for word in pair]


def test_of_several_moments_ablations_are_of_some_first_operands(
    trained_once: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_small(trained_once, monkeypatch)
    subject = look(run, 40)
    with torch.no_grad():
        rows = np.flatnonzero(run.operands_NK[:, 0] % 3 == 0)
        assert subject.ablated_table.targets_XNA.shape[1] == len(rows) == 44
        losses = ablation.measure_whole(subject)
        for split, part in enumerate((run.data.splits[0].train, run.data.splits[0].val)):
            accuracy, loss = scores(run, np.intersect1d(rows, part))
            assert losses.accuracy[0, split] == pytest.approx(accuracy)
            assert losses.loss[0, split] == pytest.approx(loss, rel=1e-5)


def test_a_network_without_residual_paths_has_no_such_parts(
    trained_once: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("small.SMALL", _without_sizes())
    run = load_small(trained_once, monkeypatch, "--model.network", "LSTM")
    with pytest.raises(NothingToShow, match="LSTM has no residual path"):
        ablation.ablate_parts(look(run))


def test_a_frequency_is_taken_out_of_a_product_of_two_factors(
    trained_once: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_small(trained_once, monkeypatch, "--model.network.embedding_rank", "6")
    sharpen(run, 2)
    losses = ablation.ablate_components(look(run), find_basis(run.data), [3])
    wave = 2 * np.pi * np.arange(11) / 11
    part = 2 / 11 * np.cos(3 * (wave[:, None] - wave[None]))
    embedding = run.model.embedding[0].detach().clone()
    embedding[:11] -= torch.from_numpy(part).float() @ embedding[:11]
    rows = run.data.splits[0].val
    tokens = run.data.tokens(run.operands_NK[rows])[0]
    with torch.no_grad():
        before = scores(run, rows)
        with run.hooks({"embeddings.tokens": lambda _: embedding[tokens]}):
            accuracy, loss = scores(run, rows)
    assert losses.accuracy[0, 1] == pytest.approx(accuracy)
    assert losses.loss[0, 1] == pytest.approx(loss, rel=1e-4)
    assert abs(loss - before[1]) > 1e-3


def test_blocks_of_a_residual_mlp_are_what_hooks_leave_out(
    trained_once: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("small.SMALL", _without_sizes())
    run = load_small(trained_once, monkeypatch, "--model.network", "ResidualMLP", "--model.network.layers", "2",
                     "--model.network.width", "12", "--model.outputs", "answers")  # fmt: skip
    sharpen(run, 2)
    subject = look(run)
    assert subject.neuron_names == [f"layers.{layer}.feedforward.hidden" for layer in range(2)]
    names, losses = ablation.ablate_parts(subject)
    assert names == ["layer 0, feed-forward", "layer 1, feed-forward"]
    for layer in range(2):
        with run.hooks({f"layers.{layer}.feedforward": torch.zeros_like}), torch.no_grad():
            for split, rows in enumerate((run.data.splits[0].train, run.data.splits[0].val)):
                accuracy, loss = scores(run, rows)
                assert losses.accuracy[layer, split] == pytest.approx(accuracy)
                assert losses.loss[layer, split] == pytest.approx(loss, rel=1e-4)
