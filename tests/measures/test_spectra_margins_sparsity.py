"""Margins, inverse participation ratio, spectral entropy and sparsity, against NumPy on single runs."""

import numpy as np
import pytest
import torch
from hand_built import MODULUS, Cosines, LookUp, addition, measured, random_logits

from grok_lightning.errors import UserError
from grok_lightning.measures import Margins, Participation, Sparsity, SpectralEntropy, View
from grok_lightning.models import LSTM, MLP, Transformer


@pytest.mark.parametrize("shares", [[0.0, 0.1, 0.5, 0.9], [1.0, 0.337], [0.25]])
def test_quantiles_of_the_margin(shares) -> None:
    data = addition(modulus=7, train_fraction=[0.3, 0.6], answer_noise=0.2)
    network = LookUp(data, random_logits(data))
    found = measured(Margins(shares), network, data)
    assert len(found) == 2 * len(shares)
    for run, parts in enumerate(data.splits):
        for split in ("train", "val"):
            rows = getattr(parts, split)
            logits = network.logits[run, rows].detach().numpy()
            right = data.answers_XN[run, rows] if len(data.answers_XN) > 1 else data.answers_XN[0, rows]
            margin = [row[answer] - np.delete(row, answer).max() for row, answer in zip(logits, right, strict=True)]
            for share in shares:
                value = found[f"margin/{split}_q{100 * share:g}"][run]
                np.testing.assert_allclose(value, np.quantile(margin, share), rtol=1e-12)


def test_the_participation_of_hand_built_spectra_is_known() -> None:
    data = addition()
    found = measured(Participation(), Cosines(data, amplitudes=[[1.0, 1.0, 1.0], [2.0, 1e-9, 1e-9]]), data)
    torch.testing.assert_close(found["participation/embedding"], torch.tensor([1 / 3, 1 / 3]).double())
    torch.testing.assert_close(found["participation/unembedding"], torch.tensor([1 / 3, 1.0]).double())
    torch.testing.assert_close(found["participation/embedding_columns"], torch.ones(2).double())


def test_the_participation_of_a_network_is_that_of_its_discrete_fourier_transform() -> None:
    data = addition()
    network = Transformer(data.vocabulary_size, data.length, (0, 1), width=8, heads=2, layers=1)
    found = measured(Participation(), network, data)
    for run in range(2):
        matrices = {
            "embedding": network.embedding[run, :MODULUS],
            "unembedding": network.unembedding[run, :, :MODULUS].T,
            "neurons": (network.layers[0].feedforward.outer.weight[run] @ network.unembedding[run])[:, :MODULUS].T,
        }
        for name, matrix in matrices.items():
            power = np.abs(np.fft.rfft(matrix.detach().double().numpy(), axis=0)[1:]) ** 2
            whole, columns = power.sum(1), (power**2).sum(0) / power.sum(0) ** 2
            np.testing.assert_allclose(
                found[f"participation/{name}"][run], (whole**2).sum() / whole.sum() ** 2, rtol=1e-5
            )
            np.testing.assert_allclose(found[f"participation/{name}_columns"][run], columns.mean(), rtol=1e-5)


def test_the_spectral_entropy_is_that_of_the_singular_values() -> None:
    data = addition(modulus=7)
    network = LSTM(data.vocabulary_size, data.length, (0, 1), hidden=6, width=5, layers=1)
    with torch.no_grad():
        network.head.weight[1] = torch.outer(torch.arange(6.0), torch.arange(float(data.vocabulary_size)))
        network.recurrent[0].from_hidden.weight[0] = 0
    found = measured(SpectralEntropy(), network, data)
    names = [name for name, weight in network.named_parameters() if min(weight.shape[1:]) > 1]
    assert {*found} == {f"spectrum/{name}_{kind}" for name in names for kind in ("entropy", "participation")}
    for name, weight in network.named_parameters():
        for run in range(2) if name in names else ():
            values = np.linalg.svd(weight[run].detach().double().numpy(), compute_uv=False) ** 2
            entropy, participation = (found[f"spectrum/{name}_{kind}"][run] for kind in ("entropy", "participation"))
            if not values.any():
                assert entropy.isnan()
                assert participation.isnan()
                continue
            shares = values / values.sum()
            logs = np.log(np.where(shares > 1e-30, shares, 1))
            np.testing.assert_allclose(entropy, -(shares * logs).sum() / np.log(len(shares)), rtol=1e-5, atol=1e-12)
            np.testing.assert_allclose(participation, (shares**2).sum(), rtol=1e-6)
    assert found["spectrum/head.weight_entropy"][1] < 1e-6


@pytest.mark.parametrize("tokenizer", ["elements", "characters"])
def test_sparsity_is_counted_on_the_activations_at_the_answer(tokenizer, monkeypatch) -> None:
    data = addition(modulus=11, train_fraction=[0.3, 0.5], tokenizer=tokenizer)
    network = Transformer(data.vocabulary_size, data.length, (0, 1), data.padded, width=8, heads=2, dropout=0.5)
    monkeypatch.setattr("grok_lightning.measures.sparsity.ROWS_AT_ONCE", 14)
    found = measured(Sparsity(threshold=0.05), network, data)
    table = data.table(torch.device("cpu"))
    for run, split in enumerate(data.splits):
        rows = torch.from_numpy(split.train)
        seen = network.activations(table.tokens_XNT[:, rows].expand(2, -1, -1))
        targets = table.targets_XNA[0, rows]
        for layer in range(2):
            name = f"layers.{layer}.feedforward.hidden"
            activity = seen[name][run, :, -targets.shape[1] :][targets >= 0].double().abs().numpy()
            expected = {
                "inactive": (activity <= 0.05).mean(),
                "dead": (activity <= 0.05).all(0).mean(),
                "sparseness": np.nanmean(
                    [
                        (1 - own.mean() ** 2 / (own**2).mean()) / (1 - 1 / len(own)) if own.any() else np.nan
                        for own in activity.T
                    ]
                ),
            }
            for key, value in expected.items():
                np.testing.assert_allclose(found[f"neurons/{name}_{key}"][run], value, rtol=1e-5, err_msg=key)


def test_neurons_that_are_always_off_are_dead_and_one_that_fires_once_is_sparse() -> None:
    data = addition(modulus=5, seeds=(0,), train_fraction=0.4)
    network = MLP(data.vocabulary_size, data.length, (0,), hidden=[4])
    row = data.splits[0].train[3]
    values = torch.zeros(1, len(data.splits[0].train), 4)
    values[0, 3, 0], values[0, :, 1] = 2.0, -1.0
    order = {int(number): place for place, number in enumerate(data.splits[0].train)}
    assert order[int(row)] == 3

    def fake(tokens_RBT):
        rows = [int(x) * 5 + int(y) for x, y in zip(tokens_RBT[0, :, 0], tokens_RBT[0, :, -2], strict=True)]
        return {"hidden.0": values[:, [order[number] for number in rows]]}

    network.activations = fake  # type: ignore[method-assign]
    found = Sparsity()(View(network, data))
    assert found["neurons/hidden.0_dead"].tolist() == [0.5]
    assert found["neurons/hidden.0_inactive"].tolist() == [(9 / 10 + 0 + 1 + 1) / 4]
    assert found["neurons/hidden.0_sparseness"].tolist() == [0.5]  # of 1 and 0


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Margins([]), "measures.Margins.quantiles is"),
        (lambda: Margins([0.5, 1.5]), "give numbers from 0 to 1"),
        (lambda: Margins([0.5, 0.5]), "each must be there once"),
        (lambda: Sparsity(threshold=-1.0), "measures.Sparsity.threshold is -1.0"),
        (lambda: Sparsity(rows=0), "measures.Sparsity.rows is 0"),
        (lambda: Sparsity(parts=[]), "give names, each once, or null"),
    ],
)
def test_options_out_of_range_are_refused(build, words) -> None:
    with pytest.raises(UserError, match=words):
        build()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (["hiden"], "has 'hiden', no part of Transformer; known are "),
        (["layers.0.attention.pattern"], "'layers.0.attention.pattern', of shape "),
    ],
)
def test_parts_that_are_no_neurons_are_refused(parts, words) -> None:
    data = addition(modulus=5)
    with pytest.raises(UserError, match=words):
        Sparsity(parts=parts).check(Transformer(data.vocabulary_size, data.length, (0, 1), width=8, heads=2), data)
