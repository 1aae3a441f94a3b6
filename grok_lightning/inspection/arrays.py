"""The arrays behind the pictures of a network: answers, logits, embeddings, neurons, attention, singular values."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from grok_lightning.data.algebra import Column
from grok_lightning.errors import UserError
from grok_lightning.figures.elements import NothingToShow
from grok_lightning.inspection.basis import Basis, Floats
from grok_lightning.inspection.subject import SPLITS, Subject
from grok_lightning.models.hooks import LOGITS
from grok_lightning.models.perceptron import Perceptron

Side = Literal["embedding", "unembedding"]
NO_ROW = -1
UNUSED = len(SPLITS)  # of rows in no split
MOST_SINGULAR = 2048  # of a matrix's smaller side


def map_answers(subject: Subject) -> Column:
    """Which pairs of operands are answered correctly, as the run was shown the answers, and in which split they are.

    Returns:
        (X, Y) int64: twice the split (0 training, 1 validation, 2 test, 3 none), and 1 more if the answer is right; -1
        where there is no equation.

    Raises:
        NothingToShow: If there are no pairs of operands, or the logits are not finite.
    """
    cells, passed = subject.cells, subject.cells_passed
    _require_finite(passed.losses_RN[0].cpu().numpy())
    split_N = np.full(len(subject.data.rows().answers_XNA[0]), UNUSED)
    for code, split in enumerate(SPLITS):
        split_N[getattr(subject.data.splits[0], split)] = code
    codes_M = 2 * split_N[subject.seen_M] + passed.right_RN[0].cpu().numpy()
    return np.nan_to_num(cells.spread(codes_M), nan=NO_ROW).astype(np.int64)


def count_confusions(subject: Subject, split: str = "val") -> tuple[Column, list[str]]:
    """How often each answer is given where each is right.

    Args:
        subject: The run.
        split: train, val or test.

    Returns:
        (C, C + 1) int64, a row for each right answer, a column for each given one, the last for all that is no answer
        of the table; and the C answers as they are written.

    Raises:
        NothingToShow: If there are more than 256 answers, the split is empty or the logits are not finite.
    """
    names, true_M, predicted_M, rows_M = subject.answers
    inside = np.isin(rows_M, getattr(subject.data.splits[0], split))
    if not inside.any():
        raise NothingToShow(f"there are no {split} rows")
    counts = np.zeros((len(names), len(names) + 1), np.int64)
    np.add.at(counts, (true_M[inside], predicted_M[inside]), 1)
    return counts, names


def map_logits(subject: Subject, tokens: list[int]) -> NDArray[np.float32]:
    """Logits of some tokens at the answer's position over the pairs of operands, less the mean over all tokens.

    Args:
        subject: The run.
        tokens: C tokens.

    Returns:
        (C, X, Y) float32; NaN where there is no equation.

    Raises:
        NothingToShow: If there are no pairs of operands, or a logit is not finite.
    """
    cells, logits_VM = subject.cells, subject.captured[LOGITS]
    _require_finite(logits_VM)
    return cells.spread(logits_VM[tokens] - logits_VM.mean(axis=0))


def map_margins(subject: Subject) -> NDArray[np.float32]:
    """The right token's logit less the largest other one at the answer's position, positive where it is chosen.

    Returns:
        (X, Y) float32; NaN where there is no equation.

    Raises:
        NothingToShow: If there are no pairs of operands, or a logit is not finite.
    """
    cells, logits_VM = subject.cells, subject.captured[LOGITS].copy()
    _require_finite(logits_VM)
    right_M = subject.data.rows().answers_XNA[0][subject.seen_M, 0]
    places = np.arange(logits_VM.shape[1])
    right = logits_VM[right_M, places]
    logits_VM[right_M, places] = -np.inf
    return cells.spread(right - logits_VM.max(axis=0))


def order_by_basis(subject: Subject, maps_CXY: NDArray, basis: Basis) -> NDArray:
    """Maps over the pairs of a basis's elements, in its order.

    Returns:
        (..., n, n) of (..., X, Y).

    Raises:
        NothingToShow: If a pair of these elements has no row.
    """
    places = []
    for values, elements_N in zip(subject.cells.values, basis.operands_N, strict=True):
        place = {int(value): number for number, value in enumerate(values)}
        places.append([place.get(int(element), -1) for element in elements_N])
    ordered = maps_CXY[..., np.array(places[0])[:, None], np.array(places[1])]
    if min(map(min, places)) < 0 or np.isnan(ordered).any():
        raise NothingToShow("not every pair of elements is computed, which a transform over them needs")
    return ordered


def transform_maps(maps_CNN: NDArray, basis: Basis) -> NDArray[np.float32]:
    """Coefficients of functions of two elements in the products of a basis's functions of each.

    Args:
        maps_CNN: (..., n, n), over pairs in the basis's order.
        basis: Of the cyclic kind its transform is the real form of ``numpy.fft.fft2``.

    Returns:
        (..., n, n): the first axis for functions of x, the second for those of y. The sum of squares is that of the
        maps.
    """
    matrix = basis.matrix_NN.astype(np.float32)
    coefficients: NDArray[np.float32] = matrix @ maps_CNN.astype(np.float32) @ matrix.T
    return coefficients


def sum_components(coefficients_CNN: NDArray[np.float32], basis: Basis) -> NDArray[np.float32]:
    """Squares of coefficients, summed over each component of x and each of y: (..., C, C)."""
    member_CN = (basis.component_N == np.arange(len(basis.labels))[:, None]).astype(np.float32)
    squares: NDArray[np.float32] = member_CN @ np.square(coefficients_CNN) @ member_CN.T
    return squares


def take_vectors(subject: Subject, side: Side, basis: Basis | None = None) -> NDArray[np.float32]:
    """The vectors of tokens in the embedding, or those in the unembedding.

    Args:
        subject: The run.
        side: ``embedding`` or ``unembedding``.
        basis: Takes those of its elements, in its order.

    Returns:
        (V, D), or (n, D) with a basis.

    Raises:
        NothingToShow: If the network has no such matrix, or it is not finite.
    """
    try:
        matrix = subject.network.embedding[0] if side == "embedding" else subject.network.unembedding[0].T
    except UserError as error:
        raise NothingToShow(str(error)) from None
    vectors = matrix.detach().float().cpu().numpy()
    _require_finite(vectors, f"the {side} has numbers that are not finite")
    if basis is None:
        return vectors
    elements_N = basis.elements_N if side == "embedding" else require_answers(basis)
    if max(elements_N) >= len(vectors):
        raise NothingToShow(f"the {side} has no vector of its own for each element")
    return vectors[elements_N]


def require_answers(basis: Basis) -> Column:
    """The answers that stand for a basis's elements.

    Raises:
        NothingToShow: If none do.
    """
    if basis.answers_N is None:
        raise NothingToShow("several elements of the basis have the same answer")
    return basis.answers_N


def describe_embedding(subject: Subject) -> str:
    """What stands for tokens: embeddings, or the first map's rows."""
    network = subject.network
    if isinstance(network, Perceptron) and network.inputs == "one-hot":
        return "what the first map adds for each token at the first position"
    return "the embedding"


def find_components(vectors_ND: NDArray, most: int = 4) -> tuple[Floats, Floats]:
    """Principal components of n vectors.

    Returns:
        Scores (most, n), each component's largest score positive, and shares of the variance (most,); zeros for
        components that do not exist.
    """
    centered = vectors_ND.astype(np.float64) - vectors_ND.mean(axis=0, dtype=np.float64)
    left, sizes, _ = np.linalg.svd(centered, full_matrices=False)
    kept = min(most, len(sizes))
    scores, shares = np.zeros((most, len(vectors_ND))), np.zeros(most)
    scores[:kept] = (left[:, :kept] * sizes[:kept]).T
    largest = scores[np.arange(most), np.abs(scores).argmax(axis=1)]
    shares[:kept] = sizes[:kept] ** 2 / max((sizes**2).sum(), np.finfo(float).tiny)
    return scores * np.where(largest < 0, -1, 1)[:, None], shares


def project_on_plane(vectors_ND: NDArray, basis: Basis, component: int) -> Floats:
    """A component's part of n vectors in its own first two principal directions: (n, 2).

    Of a frequency whose cosine and sine are embedded at right angles and alike long it is a circle, otherwise an
    ellipse. The axes are those of the ellipse, turned so that the first element is on the right and the second above;
    those of a circle are any two at right angles.
    """
    part = basis.project(vectors_ND, component)
    left, sizes, _ = np.linalg.svd(part, full_matrices=False)
    points = np.zeros((len(part), 2))
    kept = min(2, len(sizes))
    points[:, :kept] = left[:, :kept] * sizes[:kept]
    if points[0, 0] < 0:
        points[:, 0] *= -1
    if len(points) > 1 and points[1, 1] < 0:
        points[:, 1] *= -1
    return points


def map_neurons(subject: Subject, name: str) -> NDArray[np.float32]:
    """What the neurons of a layer compute at the answer's position, over the pairs of operands.

    Args:
        subject: The run.
        name: One of ``subject.neuron_names``.

    Returns:
        (F, X, Y) float32; NaN where there is no equation.

    Raises:
        NothingToShow: If there are no pairs of operands, or a number is not finite.
    """
    cells, values_FM = subject.cells, subject.captured[name]
    _require_finite(values_FM, "the neurons are not finite")
    return cells.spread(values_FM)


def find_neuron_components(maps_FNN: NDArray, basis: Basis) -> tuple[Column, Floats]:
    """The component of a basis that each neuron follows.

    Args:
        maps_FNN: The neurons over pairs of elements, in the basis's order.
        basis: The basis.

    Returns:
        (F,) int64: the component k whose functions of x alone, of y alone, and products of both have the largest share
        of the neuron's squared norm, its mean aside, as for neurons of arXiv 2301.05217; and that share, (F,). 0 and 0
        for a neuron that is constant.
    """
    squares = sum_components(transform_maps(maps_FNN, basis), basis)
    squares[:, 0, 0] = 0
    total = squares.sum(axis=(1, 2))
    of_component = squares[:, 0, :] + squares[:, :, 0] + np.diagonal(squares, axis1=1, axis2=2)
    shares = of_component[:, 1:] / np.maximum(total, np.finfo(np.float32).tiny)[:, None]
    # rounding leaves a constant neuron some 1e-14 of its squared size
    alive = total > 1e-10 * np.maximum(np.square(maps_FNN).sum(axis=(1, 2)), np.finfo(np.float32).tiny)
    return np.where(alive, shares.argmax(axis=1) + 1, 0), np.where(alive, shares.max(axis=1), 0.0)


def map_attention(subject: Subject, name: str) -> NDArray[np.float32]:
    """Attention from the answer's position to each position, over the pairs of operands.

    Args:
        subject: The run.
        name: One of ``subject.pattern_names``.

    Returns:
        (H, T, X, Y) float32, which adds up to 1 over T; NaN where there is no equation.

    Raises:
        NothingToShow: If there are no pairs of operands, or a number is not finite.
    """
    cells, patterns_HTM = subject.cells, subject.captured[name]
    _require_finite(patterns_HTM, "the attention patterns are not finite")
    return cells.spread(patterns_HTM)


def average_attention(subject: Subject, name: str) -> Floats:
    """Mean attention from the answer's position to each position, over the rows that are seen: (H, T).

    Raises:
        NothingToShow: If a number is not finite.
    """
    patterns_HTM = subject.captured[name]
    _require_finite(patterns_HTM, "the attention patterns are not finite")
    return patterns_HTM.mean(axis=-1, dtype=np.float64)


def find_singular_values(subject: Subject) -> dict[str, Floats]:
    """The singular values of every matrix of the network, largest first, by the matrix's name; NaN if not finite.

    Returns:
        (min(rows, columns),) for each; the values of a query, key, value or output map are those of all its heads.
    """
    found = {}
    for name, weight in subject.network.named_parameters():
        matrix = weight.detach()[0]
        if matrix.dim() == 2 and 1 < min(matrix.shape) <= MOST_SINGULAR:
            finite = bool(matrix.isfinite().all())
            values = (
                torch.linalg.svdvals(matrix.cpu().double()).numpy() if finite else np.full(min(matrix.shape), np.nan)
            )
            found[name.removeprefix("module.").removesuffix(".weight")] = values
    return found


def _require_finite(values: NDArray, words: str = "the logits are not finite") -> None:
    if not np.isfinite(values).all():
        raise NothingToShow(words)
