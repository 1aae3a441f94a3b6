"""Egalitarian gradient descent: gradients whose singular values are all 1, and the form that normalizes columns.

Source: Saheb Pasand and Dohmatob, arXiv 2510.04930, and the code published with it
(https://github.com/asahebpa/Egalitarian-Gradient-Descent). Both act on the matrices of linear maps but the head's;
vectors (biases, gains), tables of embeddings and the head keep their gradients. The paper's formula is for any layer.
In its code a network of one hidden layer has its first matrix alone changed, and a transformer both matrices of each
feed-forward layer; nothing there has a table of embeddings changed. One-hot inputs are a linear map, there and here.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from grok_lightning.optim.base import OF_MODULES, PerRun, check_range, per_run, spread
from grok_lightning.optim.filters import GradientFilter
from grok_lightning.optim.parts import Told, choose_names, is_hidden_map, require_some


def polar_factor(matrices_RMN: Tensor) -> Tensor:
    """(G G^T)^(-1/2) G = U V^T of each G = U S V^T, by singular value decomposition.

    Where G has not full rank the inverse is the pseudo-inverse of Moore and Penrose, as in the paper: directions whose
    singular value is 0 are left out. Those below sqrt(max(M, N)) eps times the largest count as such, the size of
    rounding errors, where eps is that of the gradients' type; the paper's code divides by at least 1e-6 instead,
    whatever the scale of G. So the factor does not depend on that scale, and zeros give zeros. Types for which there is
    no decomposition (bfloat16) are computed in float32.

    Args:
        matrices_RMN: One matrix for each run. That of a run with numbers that are not finite becomes NaN.

    Returns:
        Matrices of the same shape and type.
    """
    finite_R11 = matrices_RMN.isfinite().flatten(1).all(1)[:, None, None]
    whole = torch.where(finite_R11, matrices_RMN, 0.0)
    whole = whole if whole.dtype in (torch.float32, torch.float64) else whole.float()
    whole = whole.cpu() if whole.is_mps else whole  # for which torch has no decomposition
    least = max(whole.shape[1:]) ** 0.5 * torch.finfo(matrices_RMN.dtype).eps
    # one by one: within a batch LAPACK's last bits depend on where in memory a matrix begins
    factors_RMN = torch.stack([_factor(matrix, least) for matrix in whole]).to(matrices_RMN)
    return torch.where(finite_R11, factors_RMN, torch.nan)


def _factor(matrix_MN: Tensor, least: float) -> Tensor:
    """The factor of one matrix, without directions whose singular value is at most ``least`` times the largest."""
    u, s, vh = torch.linalg.svd(matrix_MN, full_matrices=False)
    return (u * (s > least * s[:1])) @ vh


def normalize_columns(matrices_RMN: Tensor, least_R: Tensor) -> Tensor:
    """g <- g / max(|g|, c) for each column g of N, of M numbers.

    Args:
        matrices_RMN: One matrix for each run.
        least_R: c, of shape (R,), or (1,) for one number for all runs.
    """
    norms_R1N = torch.linalg.vector_norm(matrices_RMN, dim=1, keepdim=True)
    return matrices_RMN / torch.maximum(norms_R1N, spread(least_R, norms_R1N))


class _Matrices:
    """Which gradients are those of matrices that a filter changes, and their form.

    Args:
        option: Full name of the option that holds the patterns.
        patterns: Name patterns; None for the maps that are not the head's.
    """

    def __init__(self, option: str, patterns: list[str] | None) -> None:
        self._option, self._patterns = option, patterns
        self._chosen: set[str] | None = None

    def choose(self, shapes: Mapping[str, Sequence[int]], told: Told) -> set[str]:
        """Their names, chosen once.

        Args:
            shapes: The shape of every parameter, which leads with R, by name.
            told: Parts that the network tells.

        Raises:
            UserError: If a pattern matches no matrix, or there is none.
        """
        if self._chosen is None:
            own = {name: shape[1:] for name, shape in shapes.items() if len(shape) > 2 and shape[1] > 1}
            if self._patterns is None:
                self._chosen = {name for name, shape in own.items() if is_hidden_map(name, shape, told)}
            else:
                self._chosen = choose_names(self._option, own, self._patterns)
            require_some(self._option, self._chosen, own)
        return self._chosen

    def change(self, gradients: dict[str, Tensor], told: Told, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """All gradients, of which those of the matrices are changed as (R, in, out)."""
        chosen = self.choose({name: gradient.shape for name, gradient in gradients.items()}, told)
        changed = {}
        for name, gradient in gradients.items():
            wide = name.startswith(OF_MODULES)
            if name in chosen:
                new = change(gradient.flatten(2).mT if wide else gradient)
                gradient = (new.mT if wide else new).reshape(gradient.shape)
            changed[name] = gradient
        return changed


class Egalitarian(GradientFilter):
    """Egalitarian gradient descent: G <- (G G^T)^(-1/2) G = U V^T, so that all directions are learned at one speed.

    It has nothing to set. In the source L2 is part of G (list the filter ``L2`` before this one), and as long as
    validation accuracy exceeds 95 % the plain gradient is used, L2 included: ``evaluation.threshold: 0.95`` and
    ``model.interventions: [{at: grokked, filters: "off", set: {weight_decay: 1e-4}}]``, since L2 goes off with the
    filters (there it is on again below 95 %, here not). Each step decomposes each matrix, some 10 ms for 194 x 512
    numbers on a core of a CPU, and is not captured as a CUDA graph. In reduced precision, errors in the directions of
    small singular values are brought to 1 too; use 32-true.

    Source: Saheb Pasand and Dohmatob, arXiv 2510.04930; see ``polar_factor`` for rank-deficient gradients.

    Args:
        matrices: Name patterns of the matrices. Such as "layers.*.feedforward.*.weight"; default: those of all linear
            maps but the head's.

    Raises:
        UserError: If a pattern matches no matrix.
    """

    def __init__(self, matrices: list[str] | None = None) -> None:
        self._matrices = _Matrices("model.filters: Egalitarian.matrices", matrices)

    def check_network(self, shapes: Mapping[str, Sequence[int]]) -> None:
        super().check_network(shapes)
        self._matrices.choose(shapes, self.parts)

    @torch.no_grad()
    def __call__(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor], step: Tensor, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        return self._matrices.change(gradients, self.parts, polar_factor)


class NormalizeColumns(GradientFilter):
    """The simple form of egalitarian gradient descent: each neuron's incoming gradient is divided by its norm.

    g <- g / max(|g|, c), where g is the gradient of all weights into one output of a linear map: a column of the
    source's matrices, which its code keeps as (in x out).

    Source: Saheb Pasand and Dohmatob, arXiv 2510.04930.

    Args:
        least: Least divisor c. One number, or one for each run.
        matrices: Name patterns of the matrices. Such as "layers.*.feedforward.*.weight"; default: those of all linear
            maps but the head's.

    Raises:
        UserError: If a number is out of range, or a pattern matches no matrix.
    """

    capturable = True

    def __init__(self, least: float | list[float] = 0.01, matrices: list[str] | None = None) -> None:
        self._matrices = _Matrices("model.filters: NormalizeColumns.matrices", matrices)
        check_range("model.filters: NormalizeColumns.least", least, above=True)
        self.least = least

    @property
    def hyperparameters(self) -> dict[str, PerRun]:
        return {"least": self.least}

    def check_network(self, shapes: Mapping[str, Sequence[int]]) -> None:
        super().check_network(shapes)
        self._matrices.choose(shapes, self.parts)

    @torch.no_grad()
    def __call__(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor], step: Tensor, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        return self._matrices.change(
            gradients, self.parts, lambda part: normalize_columns(part, per_run(self.least, part))
        )
