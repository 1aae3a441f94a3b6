"""All arrays of an inspection: every picture of a run at each of several moments, or why it is left out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.figures.elements import NothingToShow
from grok_lightning.inspection import ablation, arrays
from grok_lightning.inspection.basis import Basis, find_basis
from grok_lightning.inspection.subject import SPLITS, Subject

ANSWERS_SHOWN, CIRCLES_SHOWN, COMPONENTS_ABLATED = 4, 4, 8
NEURONS_SHOWN, HEADS_SHOWN = 24, 16  # of all layers together
SIDES: tuple[arrays.Side, ...] = ("embedding", "unembedding")
Arrays = dict[str, NDArray[Any]]


@dataclass
class Choice:
    """What pictures show of many things: the same at all moments, chosen at the last one at which it can be.

    Attributes:
        basis: The basis of the task's elements, or why there is none.
        tokens: Answers whose logits are shown.
        neurons: Numbers of the neurons shown, by layer.
        keys: Components that stand out in embedding and unembedding.
        places: The heads whose maps are shown and the position of each, by layer.
        parts: Names of the parts that are ablated.
        answers: The answers that occur, as they are written.
    """

    basis: Basis | str
    tokens: list[int] = field(default_factory=list)
    neurons: dict[str, list[int]] = field(default_factory=dict)
    keys: dict[str, list[int]] = field(default_factory=dict)
    places: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    def require_basis(self) -> Basis:
        if isinstance(self.basis, str):
            raise NothingToShow(self.basis)
        return self.basis


@dataclass(frozen=True)
class Gathered:
    """The arrays of an inspection.

    Attributes:
        steps: The S optimizer steps.
        arrays: Arrays by name, each led by S; NaN where a moment has none.
        reasons: Why a group of arrays is missing, by group, for each moment; empty where it is there.
        choice: What is shown of many things.
        subject: The last moment.
    """

    steps: list[int]
    arrays: Arrays
    reasons: dict[str, list[str]]
    choice: Choice
    subject: Subject


def gather_moments(subjects: Iterable[Subject]) -> Gathered:
    """Looks at a run at several moments.

    Args:
        subjects: The moments, last one first; each is let go before the next is taken.
    """
    moments: list[tuple[int, Arrays, dict[str, str]]] = []
    choice: Choice | None = None
    last: Subject | None = None
    for subject in subjects:
        last = last or subject
        choice = choice or _start_choice(subject)
        found: Arrays = {}
        reasons: dict[str, str] = {}
        for group, look in LOOKS.items():
            try:
                found |= look(subject, choice)
            except NothingToShow as reason:
                reasons[group] = str(reason)
        moments.append((subject.step, found, reasons))
        vars(subject).pop("captured", None)
    assert choice is not None
    assert last is not None
    moments.reverse()
    stacked = _stack([found for _, found, _ in moments])
    why = {group: [reasons.get(group, "") for _, _, reasons in moments] for group in LOOKS}
    return Gathered([step for step, _, _ in moments], stacked, why, choice, last)


def _stack(moments: list[Arrays]) -> Arrays:
    shapes = {name: part for found in moments for name, part in found.items()}
    return {
        name: np.stack([found[name] if name in found else np.full(like.shape, np.nan) for found in moments])
        for name, like in shapes.items()
    }


def _start_choice(subject: Subject) -> Choice:
    try:
        basis: Basis | str = find_basis(subject.data)
    except NothingToShow as reason:
        basis = str(reason)
    right = np.unique(subject.data.rows().answers_XNA[0][:, 0])
    spread = np.linspace(0, len(right) - 1, min(ANSWERS_SHOWN, len(right))).round().astype(int)
    return Choice(basis, [int(right[place]) for place in spread])


def _look_at_scores(subject: Subject, choice: Choice) -> Arrays:
    table = subject.table
    scores = [subject.passed.score(table.rows_RN[split]) for split in SPLITS]
    counts = np.array([float(score.equations[0]) for score in scores])
    with np.errstate(invalid="ignore", divide="ignore"):
        right, loss = ([float(part[0]) for part in parts] for parts in
                       zip(*((score.correct, score.loss) for score in scores), strict=True))  # fmt: skip
        return {"accuracy": np.array(right) / counts, "loss": np.array(loss) / counts, "rows": counts}


def _look_at_answers(subject: Subject, choice: Choice) -> Arrays:
    return {"answers": arrays.map_answers(subject)}


def _look_at_confusion(subject: Subject, choice: Choice) -> Arrays:
    split = next((name for name in ("val", "test", "train") if subject.data.counts(name)[0]), "train")
    counts, choice.answers = arrays.count_confusions(subject, split)
    return {"confusion": counts}


def _look_at_logits(subject: Subject, choice: Choice) -> Arrays:
    return {"margin": arrays.map_margins(subject), "logits": arrays.map_logits(subject, choice.tokens)}


def _look_at_logit_components(subject: Subject, choice: Choice) -> Arrays:
    basis = choice.require_basis()
    every = [int(token) for token in arrays.require_answers(basis)]
    maps_CNN = arrays.order_by_basis(subject, arrays.map_logits(subject, every), basis)
    squares = arrays.sum_components(arrays.transform_maps(maps_CNN, basis), basis)
    squares[:, 0, 0] = 0
    shown = [squares[every.index(token)] for token in choice.tokens if token in every]
    return {"logit_components": np.sqrt(np.stack([squares.sum(axis=0), *shown]))}


def _look_at_vectors(subject: Subject, choice: Choice) -> Arrays:
    found: Arrays = {}
    operation = subject.data.operation if isinstance(subject.data, TableDataModule) else None
    for side in SIDES:
        try:
            vectors = arrays.take_vectors(subject, side)
        except NothingToShow:
            if side == SIDES[1] and found:
                break
            raise
        if operation is not None and len(vectors) >= operation.algebra.size == subject.data.classes:
            vectors = vectors[: operation.algebra.size]  # elements alone, not the operator and the equals sign
        found[f"{side}_scores"], found[f"{side}_explained"] = arrays.find_components(vectors)
    return found


def _look_at_spectra(subject: Subject, choice: Choice) -> Arrays:
    basis, found = choice.require_basis(), Arrays()
    for side in SIDES:
        try:
            vectors = arrays.take_vectors(subject, side, basis)
        except NothingToShow:
            if side == SIDES[1] and found:  # the embedding alone
                break
            raise
        found[f"{side}_shares"] = basis.shares(vectors)
        keys = choice.keys.setdefault(side, basis.key_components(vectors, COMPONENTS_ABLATED))
        planes = [arrays.project_on_plane(vectors, basis, key) for key in keys[:CIRCLES_SHOWN]]
        found |= {f"{side}_circles": np.stack(planes)} if planes else {}
    return found


def _look_at_neurons(subject: Subject, choice: Choice) -> Arrays:
    if not subject.neuron_names:
        raise NothingToShow("no part of the network is known to have neurons")
    found: Arrays = {}
    for name in subject.neuron_names:
        maps = arrays.map_neurons(subject, name)
        component, share = np.zeros(len(maps), np.int64), np.zeros(len(maps))
        if isinstance(choice.basis, Basis):
            try:
                ordered = arrays.order_by_basis(subject, maps, choice.basis)
                component, share = arrays.find_neuron_components(ordered, choice.basis)
                found[f"neuron_components.{name}"], found[f"neuron_shares.{name}"] = component, share
            except NothingToShow:
                pass
        if name not in choice.neurons:
            most = max(2, min(16, NEURONS_SHOWN // len(subject.neuron_names)))
            strongest = np.argsort(-np.nanvar(maps, axis=(1, 2)), kind="stable")[:most]
            order = np.lexsort((-share[strongest], component[strongest]))
            choice.neurons[name] = [int(number) for number in strongest[order]]
        found[f"neurons.{name}"] = maps[choice.neurons[name]]
    return found


def _look_at_attention(subject: Subject, choice: Choice) -> Arrays:
    if not subject.pattern_names:
        raise NothingToShow(f"{subject.network._get_name()} has no attention patterns that can be seen")
    found: Arrays = {}
    for name in subject.pattern_names:
        found[f"attention.{name}"] = arrays.average_attention(subject, name)
    return found


def _look_at_attention_maps(subject: Subject, choice: Choice) -> Arrays:
    found: Arrays = {}
    for name in subject.pattern_names:
        maps_HTXY = arrays.map_attention(subject, name)
        if name not in choice.places:
            variances_HT = np.nanvar(maps_HTXY, axis=(2, 3))
            most = max(1, HEADS_SHOWN // len(subject.pattern_names))
            heads = sorted(np.argsort(-variances_HT.max(axis=1), kind="stable")[:most].tolist())
            choice.places[name] = [(head, int(variances_HT[head].argmax())) for head in heads]
        found[f"attention_maps.{name}"] = np.stack([maps_HTXY[head, place] for head, place in choice.places[name]])
    return found


def _look_at_parts(subject: Subject, choice: Choice) -> Arrays:
    choice.parts, losses = ablation.ablate_parts(subject)
    whole = ablation.measure_whole(subject)
    return {"part_accuracy": np.concatenate([whole.accuracy, losses.accuracy]),
            "part_loss": np.concatenate([whole.loss, losses.loss])}  # fmt: skip


def _look_at_component_ablations(subject: Subject, choice: Choice) -> Arrays:
    basis = choice.require_basis()
    if "embedding" not in choice.keys:
        arrays.take_vectors(subject, "embedding", basis)  # which says why there are none
    keys = choice.keys.get("embedding", [])
    if not keys:
        raise NothingToShow(f"no {basis.word} stands out in the embedding")
    whole, losses = ablation.measure_whole(subject), ablation.ablate_components(subject, basis, keys)
    return {"component_accuracy": np.concatenate([whole.accuracy, losses.accuracy]),
            "component_loss": np.concatenate([whole.loss, losses.loss])}  # fmt: skip


def _look_at_singular_values(subject: Subject, choice: Choice) -> Arrays:
    found = arrays.find_singular_values(subject)
    if not found:
        raise NothingToShow("the network has no matrix")
    return {f"singular_values.{name}": values for name, values in found.items()}


LOOKS: dict[str, Callable[[Subject, Choice], Arrays]] = {
    "scores": _look_at_scores,
    "answers": _look_at_answers,
    "confusion": _look_at_confusion,
    "logits": _look_at_logits,
    "logit_components": _look_at_logit_components,
    "vectors": _look_at_vectors,
    "spectra": _look_at_spectra,
    "neurons": _look_at_neurons,
    "attention": _look_at_attention,
    "attention_maps": _look_at_attention_maps,
    "parts": _look_at_parts,
    "component_ablations": _look_at_component_ablations,
    "singular_values": _look_at_singular_values,
}
