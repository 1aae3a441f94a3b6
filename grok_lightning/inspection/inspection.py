"""An inspection: the arrays and the page of a run at one or several moments."""

from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grok_lightning.errors import UserError
from grok_lightning.files import refuse_unwritable, write_durably
from grok_lightning.inspection.basis import Basis
from grok_lightning.inspection.drawing import list_sections
from grok_lightning.inspection.gather import Gathered
from grok_lightning.inspection.labels import name_things
from grok_lightning.inspection.page import compose_page
from grok_lightning.inspection.plots import SPLIT_COLORS
from grok_lightning.inspection.subject import Subject

HEIGHT = 900  # pixels of the frame in a notebook


class Inspection:
    """What a run looks like inside. A notebook shows its page, in a frame.

    Args:
        gathered: Its arrays.
        title: The page's heading.
        facts: What stands below it, a line each.
        start: The step that is shown first.
        footer: What stands at the page's end.
    """

    def __init__(self, gathered: Gathered, title: str, facts: Sequence[str], start: int, footer: str = "") -> None:
        self._gathered, self._title, self._facts = gathered, title, list(facts)
        self._start, self._footer = start, footer

    @property
    def steps(self) -> list[int]:
        """The S optimizer steps that are looked at."""
        return self._gathered.steps

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays behind the pictures, by name, each led by S; NaN where a step has none.

        X and Y are the values of two operands, C components of the basis (frequencies), K answers, H heads, T
        positions, F neurons; layers have the names of ``run.activations``.

        =============================================  ==============================================================
        name                                           shape and content
        =============================================  ==============================================================
        ``accuracy``, ``loss``, ``rows``               (S, 3): of training, validation, test; loss in nats
        ``answers``                                    (S, X, Y): as ``map_answers``
        ``confusion``                                  (S, K, K + 1): as ``count_confusions``
        ``margin``                                     (S, X, Y): as ``map_margins``
        ``logits``                                     (S, 4, X, Y): as ``map_logits``, of some answers
        ``logit_components``                           (S, 5, C, C): sizes of the transform, of all answers first
        ``embedding_shares``, ``unembedding_shares``   (S, C): share of the squared norm
        ``embedding_scores``, ``embedding_explained``  (S, 4, V), (S, 4): as ``find_components``; likewise unembedding
        ``embedding_circles``                          (S, up to 4, n, 2): as ``project_on_plane``; likewise unembedding
        ``neurons.LAYER``                              (S, up to 16, X, Y): the strongest neurons
        ``neuron_components.LAYER``                    (S, F): the component of each neuron
        ``neuron_shares.LAYER``                        (S, F): its share
        ``attention.LAYER``                            (S, H, T): mean attention from the answer's position
        ``attention_maps.LAYER``                       (S, up to H, X, Y): to the position that varies most
        ``part_accuracy``, ``part_loss``               (S, 1 + parts, 3): of the whole, then without each part
        ``component_accuracy``, ``component_loss``     (S, 1 + components, 3): likewise
        ``singular_values.MATRIX``                     (S, values)
        =============================================  ==============================================================
        """
        return self._gathered.arrays

    @cached_property
    def html(self) -> str:
        """The page."""
        labels = name_things(self._gathered)
        facts, basis = list(self._facts), self._gathered.choice.basis
        if isinstance(basis, Basis):
            facts.append(f"{labels.words.capitalize()} are those of {basis.title}.")
        facts += [labels.note] if labels.note else []
        facts += _describe_rows(self._gathered.subject)
        start = self.steps.index(self._start)
        rows = [(f"{step:,}", self._tabulate(place)) for place, step in enumerate(self.steps)]
        return compose_page(self._title, facts, rows, start, list_sections(self._gathered, labels), self._footer)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes the page.

        Args:
            path: The HTML file.
            overwrite: Whether a file that is there may be replaced.

        Raises:
            UserError: If it exists, or cannot be written.
        """
        path = Path(path)
        refuse_output(path, overwrite)
        write_durably(path, self.html.encode())
        return path

    def _tabulate(self, place: int) -> list[list[str]]:
        arrays = self.arrays
        rows = [["", "accuracy", "loss", "rows"]]
        for split, word in enumerate(SPLIT_COLORS):
            count, accuracy = int(arrays["rows"][place, split]), arrays["accuracy"][place, split]
            if count:
                shown = "100 %" if accuracy == 1 else f"{np.floor(1e4 * accuracy) / 100:.2f} %"
                rows.append([word, shown, f"{arrays['loss'][place, split]:.3g}", f"{count:,}"])
        return [[f"step {self.steps[place]:,}", *rows[0][1:]], *rows[1:]]

    def _repr_html_(self) -> str:
        """The page in a frame, so that its styles stay in it."""
        style = f"width: 100%; height: {HEIGHT}px; border: 1px solid #ddd"
        return f'<iframe srcdoc="{escape(self.html)}" style="{style}" title="{escape(self._title)}"></iframe>'

    def __repr__(self) -> str:
        steps = ", ".join(f"{step:,}" for step in self.steps)
        return f"Inspection({self._title}; step {steps}; {len(self.arrays)} arrays)"


def _describe_rows(subject: Subject) -> list[str]:
    """Of which rows accuracies and ablations are, where they are not of all."""
    every, scored = (len(rows) for rows in (subject.data.rows().answers_XNA[0], subject.scored_N))
    ablated = subject.ablated_table.targets_XNA.shape[1]
    notes = [f"Accuracies and losses are of {scored:,} of {every:,} rows, evenly chosen."] if scored < every else []
    return [*notes, f"Ablations are of {ablated:,} rows."] if ablated < scored else notes


def refuse_output(path: Path, overwrite: bool) -> None:
    """Refuses a file that is there or cannot be written.

    Raises:
        UserError: In one line.
    """
    if path.is_dir() or not path.name:
        raise UserError(f"--output is {str(path)!r}; the path of a file is expected")
    refuse_unwritable("output", path.parent)
    if path.exists() and not overwrite:
        raise UserError(f"--output is {str(path)!r}, which exists already; name another file, or add --overwrite")
