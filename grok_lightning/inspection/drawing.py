"""Sections of an inspection's page: plots, with a sentence that says what to look for."""

from grok_lightning.inspection.answer_plots import draw_answers, draw_confusion, draw_logits
from grok_lightning.inspection.gather import Gathered
from grok_lightning.inspection.labels import Labels
from grok_lightning.inspection.part_plots import (
    draw_ablations,
    draw_attention,
    draw_neurons,
    draw_singular_values,
    draw_vectors,
)
from grok_lightning.inspection.plots import Section

GROUPS = {
    "logit_components": "Transforms", "vectors": "Vectors", "spectra": "Spectra", "attention_maps": "Maps",
    "parts": "Heads and layers", "component_ablations": "Ablations in the embedding", "logits": "Logits",
    "attention": "Means",
}  # fmt: skip


def list_sections(gathered: Gathered, labels: Labels) -> list[Section]:
    """All sections in their order; one without plots says why."""
    drawn = [
        ("answers", "Right and wrong answers", "Each cell is one equation. While a network memorizes, validation cells "
         "are wrong wherever you look; a rule fills them in, often along lines of equal answers.",
         draw_answers, ("answers",)),
        ("confusion", "Confusion by answer", "Right answers against those given. A diagonal is a network that is "
         "right; lines beside it are systematic errors, horizontal ones answers that are given too often.",
         draw_confusion, ("confusion",)),
        ("logits", "Logits of an answer", "The logit of one answer over all pairs of operands, and the size of its "
         "two-dimensional transform. A rule makes stripes, and stripes are a few bright points: for x + y, on the "
         "diagonal of equal frequencies. Memorized equations are noise in both.",
         draw_logits, ("logits", "logit_components")),
        ("embedding", "Embedding and unembedding", "How much of the vectors of the elements lies in each frequency, "
         "their first principal components, and each key frequency in its own plane. A learned frequency is a tall "
         "bar and a ring that runs through the elements in its own order.",
         draw_vectors, ("vectors", "spectra")),
        ("neurons", "Neurons", "The strongest neurons over all pairs of operands, sorted by frequency, those of each "
         "layer the same at every step. Waves with one frequency are a rule at work; freckles are single equations.",
         draw_neurons, ("neurons",)),
        ("attention", "Attention from the answer's position", "Where each head looks when the answer is read: the "
         "mean over equations, and for each head the position that varies most, over pairs of operands.",
         draw_attention, ("attention", "attention_maps")),
        ("ablation", "What is lost without a part", "Accuracy and loss with the output of one part zero, and with one "
         "key frequency taken out of the embedding. What a rule needs costs validation as much as training.",
         draw_ablations, ("parts", "component_ablations")),
        ("singular-values", "Singular values", "Of every matrix, largest first. Generalizing with weight decay "
         "leaves few large ones: a steep fall is a matrix of low rank.",
         draw_singular_values, ("singular_values",)),
    ]  # fmt: skip
    sections = []
    for key, title, caption, draw, groups in drawn:
        views = {name: plots for name, plots in draw(gathered, labels).items() if plots}
        remarks = [_remark(gathered, group, len(groups) > 1) for group in groups]
        caption = caption.replace("frequency", labels.word).replace("frequencies", labels.words)
        sections.append(Section(key, title, caption, views, [remark for remark in remarks if remark]))
    return sections


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
