"""A figure's PNG file is the picture that savefig gives."""

import io

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

from grok_lightning.figures.saving import png


def figure() -> Figure:
    drawn = Figure(figsize=(4, 3), layout="constrained")
    axes = drawn.subplots(2, 1)
    axes[0].plot([1, 2, 3], label="line")
    axes[1].set(xlabel="steps", ylabel="a long label")
    drawn.legend(loc="outside lower center")
    drawn.suptitle("title")
    return drawn


def test_it_is_the_picture_of_savefig() -> None:
    saved = io.BytesIO()
    figure().savefig(saved, format="png", dpi=150)
    ours = imread(io.BytesIO(png(figure(), 150)))
    assert ours.shape == (450, 600, 4)
    np.testing.assert_array_equal(ours, imread(io.BytesIO(saved.getvalue())))
