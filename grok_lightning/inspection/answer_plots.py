"""Plots of what a network answers: right and wrong, confusions, logits and their transforms."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from grok_lightning.figures.style import TRAIN
from grok_lightning.figures.task import RIGHT, SPLITS, WRONG
from grok_lightning.inspection.basis import Basis
from grok_lightning.inspection.gather import Gathered
from grok_lightning.inspection.labels import Labels
from grok_lightning.inspection.plots import (
    NARROW_BAR,
    SEQUENTIAL,
    Plot,
    Trace,
    draw_map,
    is_missing,
    lay_over_pairs,
    list_moments,
)


def draw_answers(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    frames, notes = [], []
    colors = [color for split in SPLITS for color in (WRONG[split], RIGHT[split])]
    scale = [[(place + end) / len(colors), color] for place, color in enumerate(colors) for end in (0, 1)]
    words = [f"{words}, {kind}" for words in SPLITS.values() for kind in ("wrong", "right")]
    told = f"{labels.operands[0]} = %{{x}}, {labels.operands[1]} = %{{y}}<extra></extra>"
    for codes_XY in list_moments(gathered.arrays.get("answers")):
        shown = np.where(codes_XY >= 0, codes_XY, np.nan)
        frames.append(draw_map(shown, labels, scale, False, zmin=-0.5, zmax=len(colors) - 0.5, hovertemplate=told))
        counts = [int((codes_XY == code).sum()) for code in range(len(colors))]
        swatches = [
            f'<span class="swatch" style="background:{colors[code]}"></span>{words[code]} ({count:,})'
            for code, count in enumerate(counts) if count
        ]  # fmt: skip
        missing = int((codes_XY < 0).sum())
        swatches += [f'<span class="swatch"></span>no equation ({missing:,})'] if missing else []
        notes.append(" &ensp; ".join(swatches) if not is_missing(codes_XY) else "")
    layout = lay_over_pairs(labels)
    return {"": [Plot("", frames, layout, "large", notes)] if any(frames) else []}


def draw_confusion(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    frames: list[list[Trace]] = []
    bars: list[list[Trace]] = []
    names = gathered.choice.answers
    for counts in list_moments(gathered.arrays.get("confusion")):
        if is_missing(counts):
            frames.append([])
            bars.append([])
            continue
        total = counts.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.where(total[:, None] > 0, counts / total[:, None], np.nan)
        frames.append([{
            "type": "heatmap", "z": shares.T, "x": names, "y": [*names, "other"], "zmin": 0, "zmax": 1,
            "colorscale": [[0, "#FFFFFF"], [0.02, "#CFE3F2"], [1, TRAIN]], "colorbar": NARROW_BAR,
            "hovertemplate": "right %{x}, given %{y}<br>share %{z:.1%}<extra></extra>",
        }])  # fmt: skip
        right = np.diagonal(shares)
        bars.append([{"type": "bar", "x": names, "y": right, "marker": {"color": TRAIN},
                      "hovertemplate": "answer %{x}: %{y:.1%}<extra></extra>"}])  # fmt: skip
    axes: dict[str, Any] = {
        "xaxis": {"title": {"text": "right answer", "standoff": 4}, "nticks": 8, "type": "category"},
        "yaxis": {"title": {"text": "given answer", "standoff": 4}, "nticks": 8, "type": "category"},
        "margin": {"l": 52, "r": 8, "t": 8, "b": 44},
    }
    if labels.are_long(names):
        axes |= {axis: axes[axis] | {"showticklabels": False} for axis in ("xaxis", "yaxis")}
    share = {"yaxis": {"range": [0, 1.02], "tickformat": ".0%"}, "xaxis": axes["xaxis"], "margin": axes["margin"]}
    plots = [Plot(f"Share of each answer, {labels.split} rows", frames, axes)]
    plots.append(Plot(f"Right by answer, {labels.split} rows", bars, share))
    return {"": plots if any(frames) else []}


def draw_logits(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    margin, logits = gathered.arrays.get("margin"), gathered.arrays.get("logits")
    powers, basis = gathered.arrays.get("logit_components"), gathered.choice.basis
    if margin is None or logits is None:
        return {}
    views: dict[str, list[Plot]] = {}
    shown = 0
    names = [None, *gathered.choice.tokens]
    for place, token in enumerate(names):
        maps = margin if token is None else logits[:, place - 1]
        title = "Right answer's logit less the largest other" if token is None else "Logit, less the mean of all"
        plots = [Plot(title, [draw_map(values, labels) for values in maps], lay_over_pairs(labels))]
        answers = basis.answers_N if isinstance(basis, Basis) else None
        has_power = token is None or (answers is not None and token in answers)
        if powers is not None and has_power:
            of_moment = powers[:, shown]
            shown += 1
            plots.append(_draw_powers(of_moment, labels, "Transform of all answers" if token is None else "Transform"))
        views["all answers" if token is None else f"answer {labels.token(token)}"] = plots
    return views if any(plot.frames and any(plot.frames) for plot in views["all answers"]) else {}


def _draw_powers(powers_SCC: NDArray[Any], labels: Labels, title: str) -> Plot:
    frames: list[list[Trace]] = []
    for sizes in powers_SCC:
        if is_missing(sizes):
            frames.append([])
            continue
        frames.append([{
            "type": "heatmap", "z": sizes.T, "x": labels.components, "y": labels.components, "colorscale": SEQUENTIAL,
            "colorbar": NARROW_BAR,
            "hovertemplate": f"{labels.word} of {labels.operands[0]}: %{{x}}, of {labels.operands[1]}: %{{y}}"
                             "<br>size %{z:.3g}<extra></extra>",
        }])  # fmt: skip
    axes = {
        f"{axis}axis": {"title": {"text": f"{labels.word} in {operand}", "standoff": 4}, "nticks": 8,
                        "constrain": "domain"}
        for axis, operand in zip("xy", labels.operands, strict=True)
    }  # fmt: skip
    return Plot(title, frames, axes | {"margin": {"l": 48, "r": 8, "t": 8, "b": 40}})
