"""Clipping of the rows of weight matrices after each update (Clip to Grok)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from grok_lightning.optim.base import PerRun, check_range, per_run, spread
from grok_lightning.optim.constraints import Constraint
from grok_lightning.optim.parts import choose_names, is_in_head, is_token_table, require_some

OPTION = "model.constraints: ClipRows.parameters"


def clip_rows(rows_RNK: Tensor, largest_R: Tensor) -> None:
    """w <- w min(1, c / |w|) for each row w, in place.

    Args:
        rows_RNK: N rows of K numbers in each run.
        largest_R: c, of shape (R,), or (1,) for one number for all runs.
    """
    norms_RN1 = torch.linalg.vector_norm(rows_RNK, dim=2, keepdim=True)
    rows_RNK.mul_((spread(largest_R, norms_RN1) / norms_RN1).clamp_(max=1))  # c / 0 is infinity, and a row of 0 stays


def scale_rows(rows_RNK: Tensor, norm_R: Tensor) -> None:
    """w <- w c / |w| for each row w, in place; rows of zeros stay.

    Args:
        rows_RNK: N rows of K numbers in each run.
        norm_R: c, of shape (R,), or (1,) for one number for all runs.
    """
    norms_RN1 = torch.linalg.vector_norm(rows_RNK, dim=2, keepdim=True)
    rows_RNK.mul_(torch.where(norms_RN1 > 0, spread(norm_R, norms_RN1) / norms_RN1, 1.0))


class ClipRows(Constraint):
    """Clip to Grok: scales each row of the weights down to a largest norm, at the start and after each update.

    w <- w min(1, c / |w|) for each row w: in a linear map (out x in) what one output is computed with, in an embedding
    the vector of a token or position. A bias or the gain of a norm counts as one row, all D numbers together, as in the
    source: gains of 1 over a width of 128, of norm 11.3, become 0.18 each for c = 2.

    By default all parameters are clipped but the token embeddings and those of the head: the source's text calls them
    the decoder's layers, and its code has the positions and the final norm among them. In a Transformer these are the
    positions, the maps of attention (query, key, value, output) and of feed-forward layers, their biases, and all
    norms; in an MLP or a recurrent network all maps and biases before the head.

    Source: https://github.com/NiftyliuS/cliptogrok (2026, self-published). What differs: the source's attention keeps
    queries, keys and values in one matrix, whose rows are the same, and their biases in one vector of 3 D numbers,
    which count as one row there and as three here.

    Args:
        max_norm: Largest norm of a row. One number, or one for each run. The source: 2 for x * y, 1.75 for x + y and
            x / y, 1.5 for x - y, 1 for permutations.
        initial_norm: Norm of every row at the start. Of all parameters, embeddings and head included; rows of zeros
            stay; one number, or one for each run. The source takes max_norm in networks of up to three layers. Default:
            rows stay as they are.
        parameters: Name patterns of the parameters that are clipped. Such as "layers.*.weight"; default: all but token
            embeddings and head.

    Raises:
        UserError: If a number is out of range, a pattern matches no parameter, or nothing at all would be changed.
    """

    capturable = True

    def __init__(
        self,
        max_norm: float | list[float] = 2.0,
        initial_norm: float | list[float] | None = None,
        parameters: list[str] | None = None,
    ) -> None:
        check_range("model.constraints: ClipRows.max_norm", max_norm, above=True)
        if initial_norm is not None:
            check_range("model.constraints: ClipRows.initial_norm", initial_norm, above=True)
        self.max_norm, self.initial_norm, self.parameters = max_norm, initial_norm, parameters
        self._chosen: set[str] | None = None

    @property
    def hyperparameters(self) -> dict[str, PerRun]:
        return {"max_norm": self.max_norm} | ({} if self.initial_norm is None else {"initial_norm": self.initial_norm})

    def begin(self, weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        if self.initial_norm is not None:
            for part in rows.values():
                scale_rows(part, per_run(self.initial_norm, part))
        self._choose(weights)
        self(weights, rows)

    def __call__(self, weights: Mapping[str, Tensor], rows: Mapping[str, Tensor]) -> None:
        chosen = self._choose(weights)
        for name, part in rows.items():
            if name in chosen:
                clip_rows(part, per_run(self.max_norm, part))

    def _choose(self, weights: Mapping[str, Tensor]) -> set[str]:
        if self._chosen is None:
            shapes = {name: tuple(weight.shape[1:]) for name, weight in weights.items()}
            if self.parameters is None:
                self._chosen = {
                    name
                    for name, shape in shapes.items()
                    if not (is_in_head(name, self.parts) or is_token_table(name, shape, self.parts))
                }
            else:
                self._chosen = choose_names(OPTION, shapes, self.parameters)
            if self.initial_norm is None:
                require_some(OPTION, self._chosen, shapes)
        return self._chosen
