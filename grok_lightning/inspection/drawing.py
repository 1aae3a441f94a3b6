"""Sections of an inspection's page: arrays as Plotly figures, with a sentence that says what to look for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from grok_lightning.figures.style import FAINT, HUES, NOTE, TRAIN, VAL
from grok_lightning.figures.task import RIGHT, SPLITS, WRONG
from grok_lightning.inspection.basis import Basis
from grok_lightning.inspection.gather import CIRCLES_SHOWN, SIDES, Gathered
from grok_lightning.inspection.labels import Labels

Trace = dict[str, Any]
TEST = HUES[2]
SPLIT_COLORS = {"training": TRAIN, "validation": VAL, "test": TEST}
DIVERGING = [[0, TRAIN], [0.5, "#FFFFFF"], [1, VAL]]
SEQUENTIAL = [[place / 8, to_hex(matplotlib.colormaps["viridis"](place / 8))] for place in range(9)]
CYCLIC = [[place / 16, to_hex(matplotlib.colormaps["twilight"](place / 16))] for place in range(17)]
CLOSE = (0.85, 0.5)  # shares of a neuron from which on it follows a component closely, or mostly
LABELED = 30  # elements at most whose names stand beside their points
NARROW_BAR = {"thickness": 10, "len": 0.9, "outlinewidth": 0, "tickfont": {"size": 10}}


@dataclass(frozen=True)
class Plot:
    """One Plotly figure at each moment.

    Attributes:
        title: What stands above it.
        frames: Its traces at each moment; none where there is nothing to show.
        layout: Its layout.
        size: ``small``, ``map`` (both square) or ``wide``.
        notes: What stands below it at each moment.
    """

    title: str
    frames: list[list[Trace]]
    layout: dict[str, Any] = field(default_factory=dict)
    size: str = "map"
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: Its anchor.
        title: Its heading.
        caption: What to look for.
        views: Plots by the name of what is chosen; a single one has no choice.
        remarks: What is left out, and why, a sentence each.
    """

    key: str
    title: str
    caption: str
    views: dict[str, list[Plot]]
    remarks: list[str]


def list_sections(gathered: Gathered, labels: Labels) -> list[Section]:
    """All sections in their order; one without plots says why."""
    drawn = [
        ("answers", "Right and wrong answers", "Each cell is one equation. While a network memorizes, validation cells "
         "are wrong wherever you look; a rule fills them in, often along lines of equal answers.",
         _draw_answers, ("answers",)),
        ("confusion", "Confusion by answer", "Right answers against those given. A diagonal is a network that is "
         "right; lines beside it are systematic errors, horizontal ones answers that are given too often.",
         _draw_confusion, ("confusion",)),
        ("logits", "Logits of an answer", "The logit of one answer over all pairs of operands, and the size of its "
         "two-dimensional transform. A rule makes stripes, and stripes are a few bright points: for x + y, on the "
         "diagonal of equal frequencies. Memorized equations are noise in both.",
         _draw_logits, ("logits", "logit_components")),
        ("embedding", "Embedding and unembedding", "How much of the vectors of the elements lies in each frequency, "
         "their first principal components, and each key frequency in its own plane. A learned frequency is a tall "
         "bar and a ring that runs through the elements in its own order.",
         _draw_vectors, ("vectors", "spectra")),
        ("neurons", "Neurons", "The strongest neurons over all pairs of operands, sorted by frequency, those of each "
         "layer the same at every step. Waves with one frequency are a rule at work; freckles are single equations.",
         _draw_neurons, ("neurons",)),
        ("attention", "Attention from the answer's position", "Where each head looks when the answer is read: the "
         "mean over equations, and for each head the position that varies most, over pairs of operands.",
         _draw_attention, ("attention", "attention_maps")),
        ("ablation", "What is lost without a part", "Accuracy and loss with the output of one part zero, and with one "
         "key frequency taken out of the embedding. What a rule needs costs validation as much as training.",
         _draw_ablations, ("parts", "component_ablations")),
        ("singular-values", "Singular values", "Of every matrix, largest first. Generalizing with weight decay "
         "leaves few large ones: a steep fall is a matrix of low rank.",
         _draw_singular_values, ("singular_values",)),
    ]  # fmt: skip
    sections = []
    for key, title, caption, draw, groups in drawn:
        views = {name: plots for name, plots in draw(gathered, labels).items() if plots}
        remarks = [_remark(gathered, group, len(groups) > 1) for group in groups]
        caption = caption.replace("frequency", labels.word).replace("frequencies", labels.words)
        sections.append(Section(key, title, caption, views, [remark for remark in remarks if remark]))
    return sections


GROUPS = {
    "logit_components": "Transforms", "vectors": "Vectors", "spectra": "Spectra", "attention_maps": "Maps",
    "parts": "Heads and layers", "component_ablations": "Ablations in the embedding", "logits": "Logits",
    "attention": "Means",
}  # fmt: skip


def _remark(gathered: Gathered, group: str, several: bool) -> str:
    """Why a group of arrays is missing, everywhere or at some moments."""
    found = {reason: [] for reason in gathered.reasons[group] if reason}  # type: dict[str, list[str]]
    for step, reason in zip(gathered.steps, gathered.reasons[group], strict=True):
        if reason:
            found[reason].append(f"{step:,}")
    what = f"{GROUPS[group]} are left out" if several else "Left out"
    parts = []
    for reason, steps in found.items():
        when = "" if len(steps) == len(gathered.steps) else f" at step {', '.join(steps)}"
        parts.append(f"{what}{when}: {reason}.")
    return " ".join(parts)


def _rows(array: NDArray[Any] | None) -> list[NDArray[Any]]:
    return [] if array is None else list(array)


def _is_missing(values: NDArray[Any]) -> bool:
    return bool(np.isnan(values.astype(float)).all()) if values.size else True


def draw_map(values_XY: NDArray[Any], labels: Labels, colors: Any = None, bar: bool = True, **more: Any) -> list[Trace]:
    """A heat map over pairs of operands, x to the right and y upward; nothing if all is missing."""
    if _is_missing(values_XY):
        return []
    least, most = float(np.nanmin(values_XY)), float(np.nanmax(values_XY))
    if colors is None:
        both = least < 0 < most
        largest = max(abs(least), abs(most))
        colors = DIVERGING if both else SEQUENTIAL
        more = {"zmin": -largest, "zmax": largest} | more if both else more
    (x, y), (xs, ys) = labels.operands, labels.values
    trace = {
        "type": "heatmap", "z": np.asarray(values_XY.T), "x": xs, "y": ys, "colorscale": colors, "showscale": bar,
        "hovertemplate": f"{x} = %{{x}}, {y} = %{{y}}<br>%{{z:.3g}}<extra></extra>",
    }  # fmt: skip
    if bar:
        trace["colorbar"] = NARROW_BAR
    return [trace | more]


def _over_pairs(labels: Labels, small: bool = False) -> dict[str, Any]:
    """The layout of a heat map over pairs of operands."""
    if small:
        axis: dict[str, Any] = {"visible": False, "constrain": "domain", "type": "category"}
        return {"xaxis": axis, "yaxis": axis | {"scaleanchor": "x"}, "margin": {"l": 2, "r": 2, "t": 2, "b": 2}}
    axes = {}
    for axis_name, operand, values in zip(("xaxis", "yaxis"), labels.operands, labels.values, strict=True):
        axes[axis_name] = {"title": {"text": operand, "standoff": 4}, "nticks": 8, "constrain": "domain"}
        axes[axis_name] |= {"type": "category"} if labels.are_ordered else {}
        if labels.are_long(values):
            axes[axis_name] |= {"showticklabels": False}
    return axes | {"margin": {"l": 48, "r": 8, "t": 8, "b": 40}}


def _draw_answers(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    frames, notes = [], []
    colors = [color for split in SPLITS for color in (WRONG[split], RIGHT[split])]
    scale = [[(place + end) / len(colors), color] for place, color in enumerate(colors) for end in (0, 1)]
    words = [f"{words}, {kind}" for words in SPLITS.values() for kind in ("wrong", "right")]
    told = f"{labels.operands[0]} = %{{x}}, {labels.operands[1]} = %{{y}}<extra></extra>"
    for codes_XY in _rows(gathered.arrays.get("answers")):
        shown = np.where(codes_XY >= 0, codes_XY, np.nan)
        frames.append(draw_map(shown, labels, scale, False, zmin=-0.5, zmax=len(colors) - 0.5, hovertemplate=told))
        counts = [int((codes_XY == code).sum()) for code in range(len(colors))]
        swatches = [
            f'<span class="swatch" style="background:{colors[code]}"></span>{words[code]} ({count:,})'
            for code, count in enumerate(counts) if count
        ]  # fmt: skip
        missing = int((codes_XY < 0).sum())
        swatches += [f'<span class="swatch"></span>no equation ({missing:,})'] if missing else []
        notes.append(" &ensp; ".join(swatches) if not _is_missing(codes_XY) else "")
    layout = _over_pairs(labels)
    return {"": [Plot("", frames, layout, "large", notes)] if any(frames) else []}


def _draw_confusion(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    frames, bars = [], []
    names = gathered.choice.answers
    for counts in _rows(gathered.arrays.get("confusion")):
        if _is_missing(counts):
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
    axes = {
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


def _draw_logits(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    margin, logits = gathered.arrays.get("margin"), gathered.arrays.get("logits")
    powers, basis = gathered.arrays.get("logit_components"), gathered.choice.basis
    if margin is None or logits is None:
        return {}
    views: dict[str, list[Plot]] = {}
    shown = 0
    names = [None, *gathered.choice.tokens]
    for place, token in enumerate(names):
        maps = margin if token is None else logits[:, place - 1]
        title = "Right answer's logit less the largest other" if token is None else f"Logit, less the mean of all"
        plots = [Plot(title, [draw_map(values, labels) for values in maps], _over_pairs(labels))]
        has_power = token is None or (isinstance(basis, Basis) and token in basis.elements_N)
        if powers is not None and has_power:
            of_moment = powers[:, shown]
            shown += 1
            plots.append(_draw_powers(of_moment, labels, "Transform of all answers" if token is None else "Transform"))
        views["all answers" if token is None else f"answer {labels.token(token)}"] = plots
    return views if any(plot.frames and any(plot.frames) for plot in views["all answers"]) else {}


def _draw_powers(powers_SCC: NDArray[Any], labels: Labels, title: str) -> Plot:
    frames: list[list[Trace]] = []
    for sizes in powers_SCC:
        if _is_missing(sizes):
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


def _draw_vectors(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    arrays, basis = gathered.arrays, gathered.choice.basis
    plots: list[Plot] = []
    there = [side for side in SIDES if f"{side}_shares" in arrays]
    if there:
        frames: list[list[Trace]] = []
        for moment in range(len(gathered.steps)):
            shares = [(side, arrays[f"{side}_shares"][moment]) for side in there]
            frames.append([
                {"type": "bar", "name": side, "x": labels.components[1:], "y": values[1:],
                 "marker": {"color": color}, "hovertemplate": f"{labels.word} %{{x}}: %{{y:.1%}}"}
                for (side, values), color in zip(shares, (TRAIN, VAL), strict=False) if not _is_missing(values)
            ])  # fmt: skip
        most = max(float(np.nanmax(arrays[f"{side}_shares"][:, 1:], initial=0)) for side in there)
        layout = _bars(labels.word, "share of the squared norm") | {"barmode": "group"}
        layout["yaxis"] |= {"range": [0, 1.05 * most], "tickformat": ".0%"}
        plots.append(Plot(f"Share of each {labels.word}", frames, layout, "wide"))
    for side in SIDES:
        if f"{side}_scores" in arrays:
            plots += [_draw_scores(arrays, side, first, labels) for first in (0, 2)]
        if f"{side}_circles" in arrays and isinstance(basis, Basis):
            keys = gathered.choice.keys[side][:CIRCLES_SHOWN]
            plots += [_draw_circle(arrays, side, place, key, basis, labels) for place, key in enumerate(keys)]
    return {"": plots}


def _draw_scores(arrays: dict[str, NDArray[Any]], side: str, first: int, labels: Labels) -> Plot:
    frames: list[list[Trace]] = []
    shares = arrays[f"{side}_explained"]
    for scores in arrays[f"{side}_scores"]:
        names = labels.tokens[: scores.shape[1]]
        turns = labels.turns if len(labels.turns) == len(names) else np.arange(len(names)) / len(names)
        points = _draw_points(scores[first], scores[first + 1], turns, names, labels)
        frames.append([] if _is_missing(scores) else [points])
    axes = {
        f"{axis}axis": {"title": {"text": f"component {first + 1 + place}", "standoff": 4}, "nticks": 5}
        for place, axis in enumerate("xy")
    }
    axes["yaxis"] |= {"scaleanchor": "x"}
    notes = [
        "" if _is_missing(share) else f"{share[first]:.1%} and {share[first + 1]:.1%} of the variance"
        for share in shares
    ]
    title = f"{side.capitalize()}: components {first + 1} and {first + 2}"
    return Plot(title, frames, axes | {"margin": {"l": 48, "r": 8, "t": 8, "b": 40}}, "map", notes)


def _draw_circle(
    arrays: dict[str, NDArray[Any]], side: str, place: int, key: int, basis: Basis, labels: Labels
) -> Plot:
    frames: list[list[Trace]] = []
    notes: list[str] = []
    names = [labels.tokens[element] for element in basis.elements_N]
    turns = np.linspace(0, 2 * np.pi, 73)
    for points, shares in zip(arrays[f"{side}_circles"][:, place], arrays[f"{side}_shares"], strict=True):
        if _is_missing(points):
            frames.append([])
            notes.append("")
            continue
        radius = float(np.sqrt(np.square(points).sum(axis=1).mean()))
        circle = {"type": "scatter", "mode": "lines", "x": radius * np.cos(turns), "y": radius * np.sin(turns),
                  "line": {"color": FAINT, "width": 1}, "hoverinfo": "skip", "showlegend": False}  # fmt: skip
        frames.append([circle, _draw_points(points[:, 0], points[:, 1], basis.phases(key), names, labels)])
        notes.append(f"{shares[key]:.1%} of the squared norm")
    axis = {"visible": False}
    layout = {"xaxis": axis, "yaxis": axis | {"scaleanchor": "x"}, "margin": {"l": 8, "r": 8, "t": 8, "b": 8}}
    return Plot(f"{side.capitalize()}: {labels.word} {basis.labels[key]}", frames, layout, "map", notes)


def _draw_points(
    x: NDArray[Any], y: NDArray[Any], colors: NDArray[Any], names: Sequence[str], labels: Labels
) -> Trace:
    few = len(names) <= LABELED
    return {
        "type": "scatter", "mode": "markers+text" if few else "markers", "x": x, "y": y, "text": list(names),
        "textposition": "top center", "textfont": {"size": 10}, "showlegend": False,
        "marker": {"color": colors, "colorscale": CYCLIC if labels.is_cyclic else SEQUENTIAL, "cmin": 0, "cmax": 1,
                   "size": 7, "line": {"color": NOTE, "width": 0.5}},
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _draw_neurons(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    arrays, views = gathered.arrays, {}
    for name, numbers in gathered.choice.neurons.items():
        maps, kinds = arrays[f"neurons.{name}"], arrays.get(f"neuron_components.{name}")
        shares = arrays.get(f"neuron_shares.{name}")
        plots = []
        if kinds is not None and shares is not None:
            plots.append(_count_neurons(kinds, shares, labels))
        for place, number in enumerate(numbers):
            frames = [draw_map(values, labels, bar=False) for values in maps[:, place]]
            notes = [""] * len(frames)
            if kinds is not None and shares is not None:
                notes = [
                    _describe_neuron(kind[number], share[number], labels)
                    for kind, share in zip(kinds, shares, strict=True)
                ]
            plots.append(Plot(f"neuron {number}", frames, _over_pairs(labels, True), "small", notes))
        views[name] = plots
    return views


def _describe_neuron(kind: float, share: float, labels: Labels) -> str:
    if np.isnan(kind):
        return ""
    return f"{labels.word} {labels.components[int(kind)]} ({share:.0%})" if kind else "constant"


def _count_neurons(kinds_SF: NDArray[Any], shares_SF: NDArray[Any], labels: Labels) -> Plot:
    frames: list[list[Trace]] = []
    bounds = ((CLOSE[0], np.inf), (CLOSE[1], CLOSE[0]), (-1.0, CLOSE[1]))
    words = (f"{CLOSE[0]:.0%} and more of it", f"{CLOSE[1]:.0%} to {CLOSE[0]:.0%}", "less")
    for kinds, shares in zip(kinds_SF, shares_SF, strict=True):
        if _is_missing(kinds):
            frames.append([])
            continue
        frame: list[Trace] = []
        for (low, high), word, color in zip(bounds, words, (TRAIN, HUES[5], "#D8D8D8"), strict=True):
            inside = (kinds > 0) & (shares >= low) & (shares < high)
            counts = np.bincount(kinds[inside].astype(int), minlength=len(labels.components))[1:]
            frame.append({"type": "bar", "name": word, "x": labels.components[1:], "y": counts.astype(np.float32),
                          "marker": {"color": color}, "hovertemplate": f"{labels.word} %{{x}}: %{{y}}"})  # fmt: skip
        frames.append(frame)
    notes = [
        "" if _is_missing(kinds) else f"{int((kinds == 0).sum()):,} of {len(kinds):,} neurons are constant"
        for kinds in kinds_SF
    ]
    layout = _bars(labels.word, "neurons") | {"barmode": "stack"}
    return Plot(f"Neurons by the {labels.word} they follow", frames, layout, "wide", notes)


def _bars(x: str, y: str) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": x, "standoff": 4}, "nticks": 16},
        "yaxis": {"title": {"text": y, "standoff": 6}, "gridcolor": "#E6E6E6"},
        "margin": {"l": 56, "r": 8, "t": 30, "b": 44},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        "bargap": 0.15,
    }


def _draw_attention(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    views: dict[str, list[Plot]] = {}
    for name in [key.removeprefix("attention.") for key in gathered.arrays if key.startswith("attention.")]:
        means = gathered.arrays[f"attention.{name}"]
        heads = [f"head {head}" for head in range(means.shape[1])]
        where = [f"{place}: {text}" for place, text in enumerate(labels.positions)]
        frames = [
            [] if _is_missing(values) else [{
                "type": "heatmap", "z": values, "x": where, "y": heads, "zmin": 0, "zmax": 1, "colorbar": NARROW_BAR,
                "colorscale": [[0, "#FFFFFF"], [1, TRAIN]], "texttemplate": "%{z:.2f}" if len(where) <= 8 else "",
                "hovertemplate": "%{y} attends %{z:.1%} to %{x}<extra></extra>",
            }] for values in means
        ]  # fmt: skip
        layout = {
            "xaxis": {"type": "category", "title": {"text": "position", "standoff": 4}},
            "yaxis": {"type": "category", "autorange": "reversed"}, "margin": {"l": 56, "r": 8, "t": 8, "b": 44},
        }  # fmt: skip
        plots = [Plot("Mean over equations", frames, layout, "wide")]
        maps = gathered.arrays.get(f"attention_maps.{name}")
        for number, (head, place) in enumerate(gathered.choice.places.get(name, []) if maps is not None else []):
            drawn = [draw_map(values, labels, SEQUENTIAL) for values in maps[:, number]]
            plots.append(Plot(f"Head {head} to {labels.positions[place]}", drawn, _over_pairs(labels)))
        views[name.removesuffix(".attention.pattern")] = plots
    return views


def _draw_ablations(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    choice, plots = gathered.choice, []
    keys = [f"{labels.word} {labels.components[key]}" for key in choice.keys.get("embedding", [])]
    for group, names, title in (("part", choice.parts, "Without a part"), ("component", keys,
                                f"Without a {labels.word} in the embedding")):  # fmt: skip
        if f"{group}_accuracy" in gathered.arrays:
            for what, words in (("accuracy", "accuracy"), ("loss", "loss (nats)")):
                plots.append(_draw_losses(gathered.arrays[f"{group}_{what}"], ["nothing left out", *names],
                                          f"{title}: {what}", words))  # fmt: skip
    return {"": plots}


def _draw_losses(values_SP3: NDArray[Any], names: list[str], title: str, words: str) -> Plot:
    frames: list[list[Trace]] = []
    for values in values_SP3:
        frames.append([
            {"type": "scatter", "mode": "markers", "name": word, "x": values[:, split], "y": names,
             "marker": {"color": color, "size": 9, "symbol": ("circle", "diamond", "square")[split]},
             "hovertemplate": "%{y}: %{x:.4g}"}
            for split, (word, color) in enumerate(SPLIT_COLORS.items()) if not _is_missing(values[:, split])
        ])  # fmt: skip
    layout = _bars(words, "") | {"height": 90 + 22 * len(names)}
    layout["yaxis"] = {"autorange": "reversed", "type": "category", "automargin": True, "gridcolor": "#E6E6E6",
                       "tickfont": {"size": 11}}  # fmt: skip
    layout["xaxis"] |= {"gridcolor": "#E6E6E6", "nticks": 5}
    if words == "accuracy":
        layout["xaxis"] |= {"range": [-0.03, 1.03], "tickformat": ".0%"}
    else:
        finite = values_SP3[np.isfinite(values_SP3) & (values_SP3 > 0)]
        if finite.size:
            low, high = np.log10(finite.min()), np.log10(finite.max())
            tens = 10.0 ** np.arange(np.floor(low), np.ceil(high) + 1)[:: 1 + int((high - low) // 5)]
            layout["xaxis"] |= {"type": "log", "range": [low - 0.2, high + 0.2], "tickvals": tens.tolist(),
                                "ticktext": [f"{ten:g}" for ten in tens]}  # fmt: skip
    return Plot(title, frames, layout, "half")


def _draw_singular_values(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    groups: dict[str, list[str]] = {}
    for key in gathered.arrays:
        if key.startswith("singular_values."):
            name = key.removeprefix("singular_values.")
            parts = name.split(".")
            group = ".".join(parts[:2]) if len(parts) > 2 and parts[1].isdigit() else "outer matrices"
            groups.setdefault(group, []).append(name)
    order = sorted(groups, key=lambda group: group == "outer matrices")
    views = {}
    for group in order:
        frames: list[list[Trace]] = []
        for moment in range(len(gathered.steps)):
            frame: list[Trace] = []
            for number, name in enumerate(groups[group]):
                values = gathered.arrays[f"singular_values.{name}"][moment]
                if not _is_missing(values):
                    frame.append({"type": "scatter", "mode": "lines", "name": name.removeprefix(f"{group}."),
                                  "x": np.arange(1, len(values) + 1), "y": values,
                                  "line": {"color": HUES[number % len(HUES)], "width": 2,
                                           "dash": "solid" if number < len(HUES) else "dash"},
                                  "hovertemplate": "%{y:.3g} (number %{x})"})  # fmt: skip
            frames.append(frame)
        layout = _bars("number", "singular value") | {"hovermode": "closest"}
        layout["yaxis"] |= {"rangemode": "tozero"}
        layout["xaxis"] |= {"nticks": 8, "tickangle": 0}
        layout["legend"] = {"orientation": "h", "x": 0, "y": -0.32, "yanchor": "top"}
        layout["margin"] = {"l": 56, "r": 8, "t": 8, "b": 44}
        views[group] = [Plot("", frames, layout, "wide")] if any(frames) else []
    return views
