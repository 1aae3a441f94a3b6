"""The principal components keep what the vectors have, and the figure writes what it can beside its points."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from grok_lightning.figures.elements import NothingToShow
from grok_lightning.figures.embeddings import draw_components, tabulate_components

RANDOM = np.random.default_rng(0).normal(size=(97, 32)) * np.linspace(3, 0.1, 32)
NAMES = [str(number) for number in range(97)]


def scores(table: pd.DataFrame) -> np.ndarray:
    """(V, 4)."""
    return table["score"].to_numpy().reshape(4, -1).T


def explained(table: pd.DataFrame) -> list[float]:
    return table.groupby("component")["explained"].first().tolist()


def distances(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)


def circles(frequencies: list[int], radii: list[float], size: int = 23) -> np.ndarray:
    angles = 2 * np.pi / size * np.outer(np.arange(size), frequencies)
    waves = np.concatenate([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0]
    return waves @ turned[: 2 * len(radii)] + 5.0


def test_two_circles_are_found_the_larger_one_first() -> None:
    table = tabulate_components(circles([3, 8], [1.0, 2.0]), NAMES[:23])
    assert explained(table) == pytest.approx([0.4, 0.4, 0.1, 0.1])
    np.testing.assert_allclose(np.hypot(*scores(table)[:, :2].T), 2.0)
    np.testing.assert_allclose(np.hypot(*scores(table)[:, 2:].T), 1.0)


def test_distances_are_kept_where_four_components_are_all_there_is() -> None:
    vectors = circles([1, 5], [1.0, 0.3])
    np.testing.assert_allclose(
        distances(scores(tabulate_components(vectors, NAMES[:23]))), distances(vectors), atol=1e-9
    )


def test_explained_is_the_share_of_the_variance_and_falls() -> None:
    table = tabulate_components(RANDOM, NAMES)
    assert explained(table) == pytest.approx((scores(table).var(axis=0) / RANDOM.var(axis=0).sum()).tolist())
    assert explained(table) == sorted(explained(table), reverse=True)
    assert list(table["element"][:97]) == NAMES


def test_signs_do_not_depend_on_those_of_the_vectors() -> None:
    table = tabulate_components(RANDOM, NAMES)
    pd.testing.assert_frame_equal(tabulate_components(-RANDOM, NAMES), table)
    assert (scores(table).max(axis=0) >= -scores(table).min(axis=0)).all()


@pytest.mark.parametrize("vectors", [RANDOM[:2], RANDOM[:97, :1], np.ones((5, 8)), RANDOM[:1].astype(np.float32)])
def test_what_has_few_components_is_drawn_without_a_warning(vectors: np.ndarray) -> None:
    table = tabulate_components(vectors, NAMES[: len(vectors)])
    assert np.isfinite(table["score"]).all()
    assert 0 <= sum(explained(table)) <= 1 + 1e-9
    draw_components(table, "title").savefig(io.BytesIO(), dpi=40)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(NothingToShow, match="not finite"):
        tabulate_components(np.where(np.arange(32) == 3, bad, RANDOM), NAMES)


def figure_of(vectors: np.ndarray, names: list[str]) -> Figure:
    figure = draw_components(tabulate_components(vectors, names), "title", cyclic=True)
    figure.draw_without_rendering()
    return figure


def test_points_stand_at_their_scores_and_axes_tell_what_they_explain() -> None:
    table = tabulate_components(RANDOM, NAMES)
    first, second = draw_components(table, "title").axes[:2]
    np.testing.assert_array_equal(first.collections[0].get_offsets(), scores(table)[:, :2])
    np.testing.assert_array_equal(second.collections[0].get_offsets(), scores(table)[:, 2:])
    labels = [first.get_xlabel(), first.get_ylabel(), second.get_xlabel(), second.get_ylabel()]
    for place, (label, share) in enumerate(zip(labels, explained(table), strict=True), start=1):
        assert f"component {place} ({100 * share:.1f} %" in label


@pytest.mark.parametrize("names", [NAMES, [f"(0 1 2)({number} 3)" for number in NAMES]], ids=["numbers", "long names"])
def test_labels_name_their_own_points_cover_no_other_label_and_stay_inside(names: list[str]) -> None:
    figure = figure_of(RANDOM, names)
    for axes in figure.axes[:2]:
        assert len(axes.texts) > 15
        places = axes.collections[0].get_offsets()
        boxes = [text.get_window_extent().padded(-0.5, -1.8) for text in axes.texts]  # without the line's leading
        inside = axes.get_window_extent().padded(1)
        for number, (text, box) in enumerate(zip(axes.texts, boxes, strict=True)):
            assert tuple(text.xy) == tuple(places[names.index(text.get_text())])
            assert not any(box.overlaps(other) for other in boxes[:number])
            assert inside.x0 <= box.x0 < box.x1 <= inside.x1
    tight, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert 0 <= tight.x0 < tight.x1 <= width
    assert 0 <= tight.y0 < tight.y1 <= height


def test_all_points_of_a_circle_have_room_for_their_names() -> None:
    figure = figure_of(circles([3, 8], [1.0, 2.0]), NAMES[:23])
    assert [len(axes.texts) for axes in figure.axes[:2]] == [23, 23]
