"""The points of a grid as mappings, and classes that they name."""

from grok_lightning.options.classes import Nested
from grok_lightning.sweep.file import Grid

ADAMW, MUON = "grok_lightning.optim.AdamW", "grok_lightning.optim.Muon"


def as_mappings(grid: Grid) -> list[Nested]:
    """The values of each point by their options."""
    return [dict(zip(grid.options, point, strict=True)) for point in grid.points]
