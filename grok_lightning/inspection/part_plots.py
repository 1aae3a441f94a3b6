"""Plots of the parts of a network: embeddings, neurons, attention, ablations, singular values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from grok_lightning.figures.style import FAINT, HUES, TRAIN, VAL
from grok_lightning.inspection.basis import Basis
from grok_lightning.inspection.gather import CIRCLES_SHOWN, SIDES, Gathered
from grok_lightning.inspection.labels import Labels
from grok_lightning.inspection.plots import (
    NARROW_BAR,
    SEQUENTIAL,
    SPLIT_COLORS,
    Plot,
    Trace,
    draw_map,
    draw_points,
    is_missing,
    lay_bars,
    lay_over_pairs,
)

CLOSE = (0.85, 0.5)  # shares of a neuron from which on it follows a component closely, or mostly


def draw_vectors(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
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
                for (side, values), color in zip(shares, (TRAIN, VAL), strict=False) if not is_missing(values)
            ])  # fmt: skip
        most = max(float(np.nanmax(arrays[f"{side}_shares"][:, 1:], initial=0)) for side in there)
        layout = lay_bars(labels.word, "share of the squared norm") | {"barmode": "group"}
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
        points = draw_points(scores[first], scores[first + 1], turns, names, labels)
        frames.append([] if is_missing(scores) else [points])
    axes = {
        f"{axis}axis": {"title": {"text": f"component {first + 1 + place}", "standoff": 4}, "nticks": 5}
        for place, axis in enumerate("xy")
    }
    axes["yaxis"] |= {"scaleanchor": "x"}
    notes = [
        "" if is_missing(share) else f"{share[first]:.1%} and {share[first + 1]:.1%} of the variance"
        for share in shares
    ]
    title = f"{side.capitalize()}: components {first + 1} and {first + 2}"
    return Plot(title, frames, axes | {"margin": {"l": 48, "r": 8, "t": 8, "b": 40}}, "map", notes)


def _draw_circle(
    arrays: dict[str, NDArray[Any]], side: str, place: int, key: int, basis: Basis, labels: Labels
) -> Plot:
    frames: list[list[Trace]] = []
    notes: list[str] = []
    elements = basis.elements_N if side == "embedding" or basis.answers_N is None else basis.answers_N
    names = [labels.tokens[element] for element in elements]
    turns = np.linspace(0, 2 * np.pi, 73)
    for points, shares in zip(arrays[f"{side}_circles"][:, place], arrays[f"{side}_shares"], strict=True):
        if is_missing(points):
            frames.append([])
            notes.append("")
            continue
        radius = float(np.sqrt(np.square(points).sum(axis=1).mean()))
        circle = {"type": "scatter", "mode": "lines", "x": radius * np.cos(turns), "y": radius * np.sin(turns),
                  "line": {"color": FAINT, "width": 1}, "hoverinfo": "skip", "showlegend": False}  # fmt: skip
        frames.append([circle, draw_points(points[:, 0], points[:, 1], basis.phases(key), names, labels)])
        notes.append(f"{shares[key]:.1%} of the squared norm")
    axis = {"visible": False}
    layout = {"xaxis": axis, "yaxis": axis | {"scaleanchor": "x"}, "margin": {"l": 8, "r": 8, "t": 8, "b": 8}}
    return Plot(f"{side.capitalize()}: {labels.word} {basis.labels[key]}", frames, layout, "map", notes)


def draw_neurons(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
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
            plots.append(Plot(f"neuron {number}", frames, lay_over_pairs(labels, True), "small", notes))
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
        if is_missing(kinds):
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
        "" if is_missing(kinds) else f"{int((kinds == 0).sum()):,} of {len(kinds):,} neurons are constant"
        for kinds in kinds_SF
    ]
    layout = lay_bars(labels.word, "neurons") | {"barmode": "stack"}
    return Plot(f"Neurons by the {labels.word} they follow", frames, layout, "wide", notes)


def draw_attention(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
    views: dict[str, list[Plot]] = {}
    for name in [key.removeprefix("attention.") for key in gathered.arrays if key.startswith("attention.")]:
        means = gathered.arrays[f"attention.{name}"]
        heads = [f"head {head}" for head in range(means.shape[1])]
        where = [f"{place}: {text}" for place, text in enumerate(labels.positions)]
        frames = [
            [] if is_missing(values) else [{
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
        for number, (head, place) in enumerate(gathered.choice.places.get(name, [])):
            maps = gathered.arrays[f"attention_maps.{name}"][:, number]
            drawn = [draw_map(values, labels, SEQUENTIAL) for values in maps]
            plots.append(Plot(f"Head {head} to {labels.positions[place]}", drawn, lay_over_pairs(labels)))
        views[name.removesuffix(".attention.pattern")] = plots
    return views


def draw_ablations(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
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
    kinds = list(zip(SPLIT_COLORS.items(), ("circle", "diamond", "square"), strict=True))
    frames = [
        [
            {"type": "scatter", "mode": "markers", "name": word, "x": values[:, split], "y": names,
             "marker": {"color": color, "size": 9, "symbol": symbol}, "hovertemplate": "%{y}: %{x:.4g}"}
            for split, ((word, color), symbol) in enumerate(kinds) if not is_missing(values[:, split])
        ]
        for values in values_SP3
    ]  # fmt: skip
    layout = lay_bars(words, "") | {"height": 90 + 22 * len(names)}
    layout["yaxis"] = {"autorange": "reversed", "type": "category", "automargin": True, "gridcolor": "#E6E6E6",
                       "tickfont": {"size": 11}}  # fmt: skip
    layout["xaxis"] |= {"gridcolor": "#E6E6E6", "nticks": 5}
    if words == "accuracy":
        layout["xaxis"] |= {"range": [-0.06, 1.06], "tickformat": ".0%"}
    else:
        finite = values_SP3[np.isfinite(values_SP3) & (values_SP3 > 0)]
        if finite.size:
            low, high = np.log10(finite.min()), np.log10(finite.max())
            tens = 10.0 ** np.arange(np.floor(low), np.ceil(high) + 1)[:: 1 + int((high - low) // 5)]
            layout["xaxis"] |= {"type": "log", "range": [low - 0.2, high + 0.2], "tickvals": tens.tolist(),
                                "ticktext": [f"{ten:g}" for ten in tens]}  # fmt: skip
    return Plot(title, frames, layout, "half")


def draw_singular_values(gathered: Gathered, labels: Labels) -> dict[str, list[Plot]]:
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
                if not is_missing(values):
                    frame.append({"type": "scatter", "mode": "lines", "name": name.removeprefix(f"{group}."),
                                  "x": np.arange(1, len(values) + 1), "y": values,
                                  "line": {"color": HUES[number % len(HUES)], "width": 2,
                                           "dash": "solid" if number < len(HUES) else "dash"},
                                  "hovertemplate": "%{y:.3g} (number %{x})"})  # fmt: skip
            frames.append(frame)
        layout = lay_bars("number", "singular value") | {"hovermode": "closest", "height": 380}
        layout["yaxis"] |= {"rangemode": "tozero"}
        layout["xaxis"] |= {"nticks": 8, "tickangle": 0}
        layout["legend"] = {"orientation": "h", "x": 0, "y": -0.32, "yanchor": "top"}
        layout["margin"] = {"l": 56, "r": 8, "t": 8, "b": 44}
        views[group] = [Plot("", frames, layout, "wide")] if any(frames) else []
    return views
