"""The arrays of an inspection against computations of their own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small import SMALL, load_small, look, sharpen

from grok_lightning.figures.elements import NothingToShow
from grok_lightning.inspection import arrays
from grok_lightning.inspection.basis import Basis, find_basis, make_cyclic_basis
from grok_lightning.run import Run

Trained = Callable[..., Path]


@pytest.fixture
def run(trained_once: Trained, monkeypatch: pytest.MonkeyPatch) -> Run:
    """x + y mod 11, two layers."""
    found = load_small(trained_once, monkeypatch)
    sharpen(found)
    return found


def test_the_map_of_answers_is_that_of_predictions(run: Run) -> None:
    predicted = np.array([int(text) if text.isdigit() else 11 for text in run.predict(run.operands_NK)])
    split_N = np.full(121, 3)
    split_N[run.data.splits[0].train], split_N[run.data.splits[0].val] = 0, 1
    expected = (2 * split_N + (predicted == run.results_N)).reshape(11, 11)
    found = arrays.map_answers(look(run))
    assert np.array_equal(found, expected)
    assert len(np.unique(found)) > 1
    counts, names = arrays.count_confusions(look(run), "val")
    assert names == [str(number) for number in range(11)]
    slow = np.zeros((11, 12), int)
    for row in run.data.splits[0].val:
        slow[run.results_N[row], predicted[row]] += 1
    assert np.array_equal(counts, slow)


def test_logits_are_those_of_the_network(run: Run) -> None:
    logits_NV = run.activations(run.operands_NK)["logits"][:, -1].numpy()
    expected = (logits_NV - logits_NV.mean(axis=1, keepdims=True))[:, [2, 5]].T.reshape(2, 11, 11)
    assert np.allclose(arrays.map_logits(look(run), [2, 5]), expected, atol=1e-4)
    margins = [
        logits[answer] - max(np.delete(logits, answer)) for logits, answer in zip(logits_NV, run.results_N, strict=True)
    ]
    assert np.allclose(arrays.map_margins(look(run)).ravel(), margins, atol=1e-4)


def plain_basis(size: int) -> Basis:
    every = np.arange(size)
    return make_cyclic_basis("it", every, every, (every, every))


@pytest.mark.parametrize("size", [5, 8, 11])
def test_the_transform_is_the_discrete_fourier_transform(size: int) -> None:
    basis = plain_basis(size)
    maps = np.random.default_rng(0).normal(size=(3, size, size))
    coefficients = arrays.transform_maps(maps, basis)
    assert np.allclose((coefficients**2).sum(), (maps**2).sum(), rtol=1e-5)
    powers = np.abs(np.fft.fft2(maps)) ** 2 / size**2
    frequency = np.minimum(np.arange(size), size - np.arange(size))
    expected = np.zeros((3, size // 2 + 1, size // 2 + 1))
    for x in range(size):
        for y in range(size):
            expected[:, frequency[x], frequency[y]] += powers[:, x, y]
    assert np.allclose(arrays.sum_components(coefficients, basis), expected, rtol=1e-4, atol=1e-5)


def test_principal_components_are_eigenvectors_of_the_covariance() -> None:
    vectors = np.random.default_rng(1).normal(size=(20, 6)) * [5, 3, 2, 1, 1, 1]
    scores, shares = arrays.find_components(vectors)
    centered = vectors - vectors.mean(axis=0)
    values, directions = np.linalg.eigh(centered.T @ centered)
    assert np.allclose(shares, values[::-1][:4] / values.sum())
    assert np.allclose(np.abs(scores), np.abs((centered @ directions[:, ::-1][:, :4]).T))
    assert (np.take_along_axis(scores, np.abs(scores).argmax(axis=1)[:, None], 1) > 0).all()
    few, none = arrays.find_components(np.zeros((3, 2)))
    assert few.shape == (4, 3)
    assert not few.any()
    assert not none.any()


def test_a_frequency_is_a_circle_in_its_plane() -> None:
    basis = plain_basis(13)
    angles = 2 * np.pi * 4 * np.arange(13) / 13
    directions, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 2)))
    vectors = 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1) @ directions.T + 5
    points = arrays.project_on_plane(vectors, basis, 4)
    assert np.allclose(np.hypot(*points.T), 3)
    assert not np.allclose(points[1], points[0])
    assert np.allclose(basis.phases(4), angles / (2 * np.pi) % 1)
    assert basis.key_components(vectors, 3) == [4]
    assert np.allclose(arrays.project_on_plane(vectors, basis, 3), 0, atol=1e-9)
    shares = basis.shares(vectors)
    assert shares[4] == pytest.approx(1)
    assert shares.sum() == pytest.approx(1)


def test_neurons_are_those_of_the_network_and_have_their_frequency(run: Run) -> None:
    subject = look(run)
    assert subject.neuron_names == ["layers.0.feedforward.hidden", "layers.1.feedforward.hidden"]
    for name in subject.neuron_names:
        expected = run.activations(run.operands_NK)[name][:, -1].T.reshape(-1, 11, 11).numpy()
        assert np.allclose(arrays.map_neurons(subject, name), expected, atol=1e-4)
    basis = plain_basis(11)
    x, y = np.meshgrid(np.arange(11), np.arange(11), indexing="ij")
    wave = 2 * np.pi / 11
    maps = np.stack([
        2 + np.cos(3 * wave * (x + y)), np.cos(2 * wave * x) + np.sin(2 * wave * y), np.full((11, 11), 7.3),
        np.cos(wave * x) * np.cos(4 * wave * y), np.zeros((11, 11)),
    ])  # fmt: skip
    kinds, shares = arrays.find_neuron_components(maps, basis)
    assert kinds[:3].tolist() == [3, 2, 0]
    assert kinds[4] == 0
    assert np.allclose(shares, [1, 1, 0, 0, 0], atol=1e-5)


def test_attention_is_a_softmax_of_queries_and_keys(run: Run) -> None:
    subject = look(run)
    found = run.activations(run.operands_NK)
    assert subject.pattern_names == ["layers.0.attention.pattern", "layers.1.attention.pattern"]
    for layer, name in enumerate(subject.pattern_names):
        query, key = (found[f"layers.{layer}.attention.{part}"].double().numpy() for part in ("query", "key"))
        query, key = (part.reshape(121, 4, 2, 8) for part in (query, key))
        scores = np.einsum("nhd,nthd->nht", query[:, -1], key) / 8**0.5
        expected = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        maps = arrays.map_attention(subject, name)
        assert maps.shape == (2, 4, 11, 11)
        assert np.allclose(maps.sum(axis=1), 1, atol=1e-5)
        assert np.allclose(maps.reshape(2, 4, 121), expected.transpose(1, 2, 0), atol=1e-4)
        assert np.allclose(arrays.average_attention(subject, name), expected.mean(axis=0), atol=1e-4)
        assert expected.std() > 0.05


def test_singular_values_are_numpy_s(run: Run) -> None:
    found = arrays.find_singular_values(look(run))
    expected = {
        name.removesuffix(".weight"): np.linalg.svd(weight.detach()[0].double().numpy(), compute_uv=False)
        for name, weight in run.model.named_parameters()
        if weight.dim() == 3 and weight.shape[1] > 1
    }
    assert found.keys() == expected.keys()
    assert len(found) == 15
    assert all(np.allclose(found[name], expected[name]) for name in expected)


def test_vectors_are_rows_of_the_embedding_and_columns_of_the_unembedding(run: Run) -> None:
    subject, basis = look(run), find_basis(run.data)
    assert np.array_equal(arrays.take_vectors(subject, "embedding"), run.model.embedding[0].detach().numpy())
    unembedding = run.model.unembedding[0].detach().numpy()
    assert np.array_equal(arrays.take_vectors(subject, "unembedding", basis), unembedding.T[:11])


def test_multiplication_and_division_are_seen_in_the_discrete_logarithm(
    trained_once: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_small(trained_once, monkeypatch, "--data.formula", "x / y")
    basis = find_basis(run.data)
    logarithm = {int(element): place for place, element in enumerate(basis.elements_N)}
    assert sorted(logarithm) == list(range(1, 11))
    for (x, y), result in zip(run.operands_NK, run.results_N, strict=True):
        if x:
            assert (logarithm[int(x)] - logarithm[int(y)]) % 10 == logarithm[int(result)]
    cells = look(run).cells
    assert cells.values[0].tolist() == [*basis.elements_N.tolist(), 0]
    rule = basis.matrix_NN[1] * 4  # the cosine of the logarithm of x / y: one bright point
    maps = np.array([[rule[(a - b) % 10] for b in range(10)] for a in range(10)])
    powers = arrays.sum_components(arrays.transform_maps(maps, basis), basis)
    assert powers[1, 1] == pytest.approx(powers.sum())


def test_the_elements_of_other_groups_are_seen_in_their_representations(
    trained_once: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [word for word in SMALL if "data.modulus" not in word and word != "11"]
    monkeypatch.setattr("small.SMALL", own)
    run = load_small(trained_once, monkeypatch, "--data", "PermutationDataModule", "--data.degree", "3")
    basis = find_basis(run.data)
    assert (basis.word, basis.labels) == ("representation", ["3", "2-1", "1-1-1"])
    assert np.bincount(basis.component_N).tolist() == [1, 4, 1]
    assert np.allclose(basis.matrix_NN @ basis.matrix_NN.T, np.eye(6))
    signs = np.array([round(np.linalg.det(np.eye(3)[images])) for images in run.data.operation.algebra.images])
    assert basis.shares(signs[basis.elements_N][:, None]) == pytest.approx([0, 0, 1])


@pytest.mark.parametrize("formula", ["x**3 + x * y", "x + y", "x**2 + y**2"])
def test_other_formulas_mod_p_are_seen_in_the_numbers_themselves(
    formula: str, trained_once: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_small(trained_once, monkeypatch, "--data.formula", formula)
    assert find_basis(run.data).elements_N.tolist() == list(range(11))


def test_what_is_not_finite_is_said(run: Run) -> None:
    with torch.no_grad():
        run.model.embedding[:, 3] = torch.nan
    subject = look(run)
    for compute in (arrays.map_answers, arrays.count_confusions, arrays.map_margins):
        with pytest.raises(NothingToShow, match="not finite"):
            compute(subject)
    with pytest.raises(NothingToShow, match="the embedding has numbers that are not finite"):
        arrays.take_vectors(subject, "embedding")
    assert np.isnan(arrays.find_singular_values(subject)["embeddings.tokens"]).all()
