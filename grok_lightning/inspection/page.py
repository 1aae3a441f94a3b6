"""The page of an inspection: one HTML file, with its arrays and plotly.js inside."""

import base64
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from grok_lightning.inspection.plots import Plot, Section

LEVELS = 254  # of a number in a matrix; 255 is a missing one
LONG = 8  # texts from which on a list is stored once


class _Arrays:
    """Numbers and texts of a page, as JSON that ``page.js`` reads."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, ...], int] = {}

    def encode(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return _encode_array(value)
        if isinstance(value, dict):
            return {key: self.encode(part) for key, part in value.items()}
        if isinstance(value, list) and len(value) >= LONG and all(isinstance(part, str) for part in value):
            return {"names": self.names.setdefault(tuple(value), len(self.names))}
        if isinstance(value, list | tuple):
            return [self.encode(part) for part in value]
        return value


def _encode_array(values: NDArray[Any]) -> dict[str, Any]:
    """A vector as 32-bit floats, a matrix with one byte for each number, both in base64."""
    if values.ndim == 1:
        return {"base64": _to_text(values.astype("<f4")), "shape": list(values.shape)}
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    low, high = (float(bound(values[finite])) if finite.any() else 0.0 for bound in (np.min, np.max))
    codes = np.full(values.shape, 255, np.uint8)
    codes[finite] = np.round((values[finite] - low) / ((high - low) or 1.0) * LEVELS)
    return {"base64": _to_text(codes), "shape": list(values.shape), "low": low, "high": high}


def _to_text(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def compose_page(
    title: str,
    facts: Sequence[str],
    moments: Sequence[tuple[str, Sequence[Sequence[str]]]],
    start: int,
    sections: Sequence[Section],
    footer: str,
) -> str:
    """Composes the page.

    Args:
        title: Its heading.
        facts: What stands below it, a line each.
        moments: The name of each moment and its table: rows of cells, the first one the heading.
        start: The moment that is shown first.
        sections: Its sections.
        footer: What stands at its end.
    """
    plots: list[Plot] = []
    body = [_render_section(section, plots) for section in sections]
    arrays = _Arrays()
    drawn = [
        {"frames": arrays.encode(plot.frames), "layout": plot.layout, "notes": plot.notes or [""] * len(plot.frames)}
        for plot in plots
    ]
    data = {"plots": drawn, "names": [list(names) for names in arrays.names], "start": start}
    data["moments"] = [name for name, _ in moments]
    links = "".join(
        f'<a href="#{section.key}"{"" if section.views else " class=empty"}>{escape(section.title)}</a>'
        for section in sections
    )
    room = files("grok_lightning.inspection")
    style, script = (room.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    tables = "".join(_render_table(number, rows, number != start) for number, (_, rows) in enumerate(moments))
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return "\n".join([
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{style}</style></head><body><main>',
        f"<h1>{escape(title)}</h1>",
        f'<p class="facts">{"<br>".join(map(escape, facts))}</p>',
        tables, f"<nav>{links}</nav>", _render_slider([name for name, _ in moments], start), *body,
        f"<footer>{escape(footer)}</footer></main>",
        f'<script type="application/json" id="data">{_embed(data)}</script>',
        f"<script>{get_plotlyjs()}</script>", f"<script>{script}</script></body></html>\n",
    ])  # fmt: skip


def _embed(data: Any) -> str:
    """JSON inside of a script: nothing in it ends the script, and numbers that JSON has not are refused."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _render_slider(names: Sequence[str], start: int) -> str:
    if len(names) < 2:
        return ""
    return (
        f'<div class="moments"><label for="moment">step</label><input type="range" id="moment" min="0" '
        f'max="{len(names) - 1}" value="{start}" step="1"><output id="step" for="moment">{escape(names[start])}'
        "</output></div>"
    )


def _render_table(number: int, rows: Sequence[Sequence[str]], hidden: bool) -> str:
    first, *others = rows
    head = "".join(f"<th>{escape(cell)}</th>" for cell in first)
    lines = ["".join([f"<th>{escape(row[0])}</th>", *(f"<td>{escape(cell)}</td>" for cell in row[1:])])
             for row in others]  # fmt: skip
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    shown = " hidden" if hidden else ""
    return f'<table data-of-moment="{number}"{shown}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _render_section(section: Section, plots: list[Plot]) -> str:
    """A section's HTML; its plots are appended to all others."""
    parts = [f'<section id="{section.key}"><h2>{escape(section.title)}</h2>']
    if section.views:
        parts.append(f"<p>{escape(section.caption)}</p>")
    parts += [f'<p class="remark">{escape(remark)}</p>' for remark in section.remarks]
    if len(section.views) > 1:
        options = "".join(f"<option>{escape(name)}</option>" for name in section.views)
        parts.append(f'<select aria-label="{escape(section.title)}">{options}</select>')
    for number, (name, drawn) in enumerate(section.views.items()):
        parts.append(f'<div class="plots" data-view="{escape(name)}"{" hidden" if number else ""}>')
        for plot in drawn:
            caption = f"<figcaption>{escape(plot.title)}</figcaption>" if plot.title else ""
            parts.append(
                f'<figure class="{plot.size}" data-plot="{len(plots)}">{caption}<div class="plot"></div>'
                '<p class="note"></p></figure>'
            )
            plots.append(plot)
        parts.append("</div>")
    return "".join([*parts, "</section>"])
