"""Sparsity of neurons: how many of their activations are nothing, and how few rows each answers to."""

import re

import torch
from torch import Tensor

from grok_lightning.batch import NOTHING_TO_ANSWER
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.errors import UserError, show
from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View
from grok_lightning.measures.landscape import draw_rows
from grok_lightning.models import SequenceModel
from grok_lightning.optim.base import check_range

ROWS_AT_ONCE = 512  # of all runs together, of which all activations are held at a time
_NEURONS = re.compile(r"(.*\.)?hidden(\.\d+)?")  # how the models here name them


def lifetime_sparseness(mean_RF: Tensor, square_RF: Tensor, counts_R: Tensor) -> Tensor:
    """(1 - E|a|^2 / E[a^2]) / (1 - 1/n) of each neuron over n rows: 0 if it answers to all alike, 1 if to a single one.

    Vinje and Gallant, Science 287, 2000, after Rolls and Tovee. NaN of a neuron that is always 0.

    Args:
        mean_RF: E|a|.
        square_RF: E[a^2].
        counts_R: n.
    """
    return (1 - mean_RF.square() / square_RF) / (1 - 1 / counts_R[:, None])


class Sparsity(Measure):
    """Sparsity of the neurons of each layer, on training rows, at the positions of the answer.

    ``neurons/``, the layer's name, and ``_inactive``: the share of activations that are at most ``threshold`` in
    absolute value; ``_dead``: the share of neurons for which all are; ``_sparseness``: the mean of
    ``lifetime_sparseness`` over the neurons that are not always 0. After the activation; of a recurrent network, the
    hidden states. Without dropout. arXiv 2405.12755 follows the share of inactive neurons.

    Args:
        parts: Parts whose outputs are the neurons. By their names in ``activations``; default: those that the models
            here name ``hidden``. Of your own network give them.
        threshold: Largest absolute value of an inactive neuron. 0 fits ReLU; other activations are hardly ever 0.
        rows: Training rows. Drawn by the run's seed.
    """

    def __init__(self, parts: list[str] | None = None, threshold: float = 0.0, rows: int = 1024) -> None:
        check_range("measures.Sparsity.threshold", threshold)
        if rows < 1:
            raise UserError(f"measures.Sparsity.rows is {rows}; it must be at least 1")
        if parts is not None and (not parts or len(set(parts)) < len(parts)):
            raise UserError(f"measures.Sparsity.parts is {parts}; give names, each once, or null")
        self.parts, self.threshold, self.rows = parts, threshold, rows

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        view = View(network, data)
        tokens_RBT = data.table(view.device).batch(_draw(view, 2), "train").tokens_RBT
        found = network.activations(tokens_RBT)
        for name in self._select(network, list(found)):
            if found[name].ndim not in (3, 4):
                raise UserError(
                    f"measures.Sparsity.parts has {show(name)}, of shape {tuple(found[name].shape)}; outputs "
                    "(runs, rows, neurons) or (runs, rows, tokens, neurons) are expected"
                )

    def __call__(self, view: View) -> dict[str, Tensor]:
        table, rows_RB = view.data.table(view.device), _draw(view, self.rows)
        sums: dict[str, list[Tensor]] = {}
        counts_R: Tensor | int = 0
        with torch.no_grad(), torch.autocast(view.device.type, enabled=False):
            for block in rows_RB.split(max(1, ROWS_AT_ONCE // view.runs), dim=1):
                batch = table.batch(block, "train")
                answers_RBA = batch.targets_RBA != NOTHING_TO_ANSWER
                counts_R = counts_R + answers_RBA.flatten(1).sum(1)
                found = view.network.activations(batch.tokens_RBT)
                for name in self._select(view.network, list(found)):
                    new = self._add_up(found[name], answers_RBA)
                    sums[name] = (
                        [old + part for old, part in zip(sums[name], new, strict=True)] if name in sums else new
                    )
        return self._describe(sums, to_double(torch.as_tensor(counts_R)))

    def _add_up(self, part: Tensor, answers_RBA: Tensor) -> list[Tensor]:
        """Sums over rows and positions of each neuron's inactivity, absolute value and square, each (R, F)."""
        whole = part[:, :, None] if part.ndim == 3 else part[:, :, -answers_RBA.shape[2] :]
        activity = to_double(whole).abs()
        counted = answers_RBA[:, :, -whole.shape[2] :, None].to(activity.device)
        small = to_double(activity <= self.threshold)  # NaN is not
        kept = (each.where(counted, 0.0) for each in (small, activity, activity.square()))
        return [each.flatten(1, 2).sum(1) for each in kept]

    def _describe(self, sums: dict[str, list[Tensor]], counts_R: Tensor) -> dict[str, Tensor]:
        values = {}
        for name, (small_RF, sum_RF, squares_RF) in sums.items():
            known_R = sum_RF.sum(1).isfinite()
            many_R1 = counts_R[:, None]
            sparse_R = lifetime_sparseness(sum_RF / many_R1, squares_RF / many_R1, counts_R).nanmean(1)
            values[f"neurons/{name}_inactive"] = (small_RF / many_R1).mean(1).where(known_R, torch.nan)
            values[f"neurons/{name}_dead"] = to_double(small_RF == many_R1).mean(1).where(known_R, torch.nan)
            values[f"neurons/{name}_sparseness"] = sparse_R
        return values

    def _select(self, network: SequenceModel, known: list[str]) -> list[str]:
        title = network._get_name()
        for name in self.parts or ():
            if name not in known:
                others = ", ".join(known)
                raise UserError(f"measures.Sparsity.parts has {show(name)}, no part of {title}; known are {others}")
        found = self.parts or [name for name in known if _NEURONS.fullmatch(name)]
        if not found:
            raise UserError(
                f"measures names Sparsity, but no part of {title} is named hidden; give measures.Sparsity.parts, "
                f"of {', '.join(known)}"
            )
        return found


def _draw(view: View, rows: int) -> Tensor:
    rows_RN = view.data.table(view.device).rows_RN["train"]
    return draw_rows(rows_RN, view.data.counts("train"), view.data.seeds, rows, "sparsity")
