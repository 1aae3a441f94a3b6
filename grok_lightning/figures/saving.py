"""Figures as PNG or SVG files, without the second layout pass of ``savefig``."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure


def png(figure: Figure, dots_per_inch: float) -> bytes:
    """The bytes of a figure's PNG file."""
    figure.dpi = dots_per_inch
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def svg(figure: Figure) -> bytes:
    """The bytes of a figure's SVG file."""
    file = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})  # so that the same figure is the same file
    return file.getvalue()
