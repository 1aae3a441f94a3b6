"""A figure as a PNG file."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def png(figure: Figure, dots_per_inch: float) -> bytes:
    """The bytes of a figure's PNG file; ``savefig`` gives the same picture, but draws it twice."""
    figure.dpi = dots_per_inch
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()
