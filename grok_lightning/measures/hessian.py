"""Extreme eigenvalues of the Hessian of the training loss."""

from collections.abc import Callable

import torch
from torch import Tensor

from grok_lightning.errors import UserError
from grok_lightning.measures.landscape import Landscape, LandscapeMeasure
from grok_lightning.randomness import derive_keys, gaussian

SMALLEST = 1e-12  # of a remainder in relation to the matrix: what is left of it is rounding


def lanczos(product: Callable[[Tensor], Tensor], start_RP: Tensor, iterations: int) -> Tensor:
    """Extreme eigenvalues of a symmetric matrix for each run, by Lanczos' method.

    Nothing is orthogonalized again, which takes no memory for the basis: eigenvalues at the ends then come out several
    times, but right (Paige, "Error analysis of the Lanczos algorithm for tridiagonalizing a symmetric matrix", 1976).

    Args:
        product: Multiplies each run's matrix by its vector, (R, P) to (R, P), float64.
        start_RP: The vectors to begin with.
        iterations: Number of products.

    Returns:
        (3, R): the largest and the smallest, and an upper bound of the distance from the largest to an eigenvalue. NaN
        where the matrix is not finite.
    """
    norm_R = torch.linalg.vector_norm(start_RP, dim=1)
    vector, before = start_RP / norm_R[:, None], torch.zeros_like(start_RP)
    diagonals, remainders = [], [torch.zeros_like(norm_R)]
    for _ in range(iterations):
        image = product(vector) - remainders[-1][:, None] * before
        diagonals.append((image * vector).sum(1))
        image = image - diagonals[-1][:, None] * vector
        remainders.append(torch.linalg.vector_norm(image, dim=1))
        before, vector = vector, image / remainders[-1].clamp(min=torch.finfo(image.dtype).tiny)[:, None]
    found = [
        _extremes(diagonal, remainder)
        for diagonal, remainder in zip(
            torch.stack(diagonals, dim=1).cpu(), torch.stack(remainders[1:], dim=1).cpu(), strict=True
        )
    ]
    return torch.stack(found, dim=1).to(start_RP.device)


def _extremes(diagonal: Tensor, remainder: Tensor) -> Tensor:
    """Those of the tridiagonal matrix, up to where a vector lay in the space of those before it."""
    if not bool(diagonal.isfinite().all() and remainder.isfinite().all()):
        return diagonal.new_full((3,), torch.nan)
    ended = (remainder <= SMALLEST * diagonal.abs().amax()).nonzero()
    size = int(ended[0]) + 1 if len(ended) else len(diagonal)
    beside = remainder[: size - 1]
    matrix = diagonal[:size].diag() + beside.diag(1) + beside.diag(-1)
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values[-1], values[0], remainder[size - 1] * vectors[-1, -1].abs()])


class Hessian(LandscapeMeasure, every=2000):
    """Largest and smallest eigenvalue of the Hessian of the loss on training rows, by Lanczos' method.

    See ``lanczos``. The largest is the sharpness: gradient descent with rate r becomes unstable above 2 / r (Cohen and
    others, arXiv 2103.00065). ``hessian/error`` bounds its distance from an eigenvalue; more iterations make it
    smaller. Rows and the first vector are the same at every evaluation of a run.

    Cost: 20 products with the Hessian on 512 rows in float64, each of two passes forward and back.

    Args:
        iterations: Number of products with the Hessian.
        rows: Training rows. null: all of them, which costs accordingly more.
    """

    second = True

    def __init__(self, iterations: int = 20, rows: int | None = 512) -> None:
        for name, value in (("iterations", iterations), ("rows", rows)):
            if value is not None and value < 1:
                raise UserError(f"measures.Hessian.{name} is {value}; it must be at least 1")
        self.iterations, self.rows = iterations, rows

    def compute(self, landscape: Landscape) -> dict[str, Tensor]:
        rows_RB, at = landscape.draw(self.rows, "hessian"), landscape.weights_RP
        start_RP = gaussian(derive_keys(landscape.seeds, "measures", "first vector"), 0, at)
        found = lanczos(lambda vectors: landscape.hessian_product(at, rows_RB, vectors), start_RP, self.iterations)
        return dict(zip(("hessian/largest", "hessian/smallest", "hessian/error"), found, strict=True))
